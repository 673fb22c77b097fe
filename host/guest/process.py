"""Child processes that cannot outlive us."""

from contextlib import contextmanager
import signal
import subprocess

__all__ = ["INTERRUPTED", "child", "ends_as_exceptions"]

INTERRUPTED = 128 + signal.SIGINT  # exit status after Ctrl-C, as a shell has it


@contextmanager
def child(argv, **options):
    """Start a program and kill it on leaving the block. The kernel kills it too should we die without a word.

    Yields the :class:`subprocess.Popen`; ``options`` are its. To be entered by the main thread: the kernel takes the
    end of the thread that started a child for the end of its parent.
    """
    # setpriv (util-linux) sets the parent-death signal and becomes the program, keeping the process id.
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, argv)], **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def ends_as_exceptions():
    """Within the block, SIGTERM and SIGHUP raise SystemExit, so that clean-up runs as it does for Ctrl-C."""
    def leave(number, _frame):
        raise SystemExit(128 + number)
    # What was ignored stays so: nohup means that a terminal may go.
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
