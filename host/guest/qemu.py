"""Start a guest on a stock QEMU and talk to it over its serial console."""

import codecs
from contextlib import contextmanager
import json
import re
import selectors
import subprocess
import sys
import tempfile
import termios

from .patience import POLL_SECONDS, Patience, processor_seconds
from .process import child

__all__ = ["Console", "Guest", "GuestError", "command_line", "machine", "run_shell", "shared_memory", "start_guest",
           "terminal_kept", "vfio_user_device"]


class GuestError(Exception):
    """The guest did not do what was asked; the message says what, with the end of its console."""


def vfio_user_device(socket_path, slot=None):
    """Return the QEMU options that attach the PCI device served at ``socket_path``, to the bus called ``slot`` if given."""
    bus = {} if slot is None else {"bus": slot}
    return ["-device", json.dumps({**bus,
        "driver": "vfio-user-pci", "socket": {"type": "unix", "path": str(socket_path)},
        # The device is simulated: an answer may take longer than the 5 s after which QEMU gives up for good.
        "x-msg-timeout": 600_000,
        # Wait for each register write: otherwise the guest queues writes faster than the model takes them.
        "x-no-posted-writes": True,
    })]


def shared_memory(megabytes, pages=""):
    """Return the QEMU options of a machine whose memory is in a shared file: a simulated device reads and writes it directly.

    ``pages``: further properties of the memory.
    """
    return ["-object", f"memory-backend-memfd,id=memory,size={megabytes}M,share=on{pages}",
            "-machine", "q35,memory-backend=memory"]


def machine(qemu, boot, devices, *, console, accel="tcg", cpu=None, cpus=1, memory_mb=256, huge_pages=False,
            reboots=False):
    """Return QEMU's argument list for a machine with these devices and no others.

    ``boot`` and ``devices`` are QEMU options. ``cpu``: model of its processors, QEMU's choice if None. ``console``: the serial
    console on standard input and output is a "terminal", in which QEMU's monitor hides behind Ctrl-A, or a "pipe".
    ``huge_pages``: its memory is of pages of 2 MiB. ``reboots``: a guest that reboots comes back, else QEMU ends.
    """
    pages = ",hugetlb=on,hugetlbsize=2M" if huge_pages else ""
    # With a thread for each processor, a boot of Linux 7.3 panicked: a processor still ran the breakpoint of an instruction that
    # another one had patched. One thread for all takes no longer, because a guest waits for the simulated card most of the time.
    accel = "tcg,thread=single" if accel == "tcg" else accel
    return [
        *qemu.argv, "-accel", accel, *([] if cpu is None else ["-cpu", cpu]), "-smp", str(cpus), "-m", f"{memory_mb}M",
        "-nodefaults", "-display", "none", "-nic", "none",
        *([] if reboots else ["-no-reboot"]),
        *shared_memory(memory_mb, pages), *boot, *({"terminal": ["-serial", "mon:stdio"],
                  "pipe": ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]}[console]), *devices,
    ]


def command_line(qemu, kernel, initramfs, device, *, shell=False, append="", **options):
    """Return QEMU's argument list for one of our guests, with one device.

    ``append``: more kernel parameters; ``options`` are those of :func:`machine`.
    """
    # no_timer_check: on a busy machine an emulated timer can be too late for the kernel's patience.
    parameters = f"console=ttyS0 quiet panic=-1 no_timer_check{' ringnic.shell' if shell else ''} {append}".strip()
    return machine(qemu, ["-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", parameters], device,
                   console="terminal" if shell else "pipe", **options)


class Console:
    """What a running guest says on its serial console, and what is typed there.

    Parameters
    ----------
    process : subprocess.Popen
        QEMU, with pipes for standard input and output; or whatever has such, and ``wait()``.
    errors : file
        What QEMU writes its standard error to; read when it ends early.
    signs : sequence of callables
        Of progress, beside the console: see :class:`Patience`.
    work : callable or None
        Returns the processor time of the machine that the guest runs on; by default that of ``process``.
    """
    def __init__(self, process, errors, signs=(), work=None):
        self._process = process
        self._errors = errors
        self.signs = signs
        self.work = work or (lambda: processor_seconds(process.pid))
        self._text = ""

    @property
    def console(self):
        """All console lines so far."""
        return self._text.splitlines()

    def fail(self, what):
        """Raise :exc:`GuestError` with ``what`` and the end of the console."""
        self._errors.seek(0)
        tail = "\n".join([*self._errors.read().splitlines()[-10:], *self.console[-15:]])
        raise GuestError(f"{what}\n{tail}".rstrip())

    def patience(self, timeout, *signs):
        """Return a :class:`Patience` with this guest, beside which further ``signs`` count."""
        return Patience(timeout, (*self.signs, *signs), self.work)

    def output(self, timeout, what):
        """Yield what comes, as text and in pieces as they come; ``timeout`` seconds without progress are too long."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            patience = self.patience(timeout)
            while True:
                if not selector.select(min(POLL_SECONDS, timeout)):
                    if patience.over:
                        self.fail(f"{what}: no answer, and nothing has moved for {timeout:g} s")
                    continue
                patience.restart()
                chunk = self._process.stdout.read1(65536)
                if not chunk:
                    self.fail(f"{what}: QEMU ended with status {self._process.wait()}")
                text = decoder.decode(chunk)
                self._text += text
                yield text

    def until(self, pattern, timeout, what):
        """Return what comes, without carriage returns, up to where ``pattern`` is found in it, and the rest of that piece."""
        said = ""
        for text in self.output(timeout, what):
            said += text.replace("\r", "")
            if re.search(pattern, said):
                return said

    def type(self, text, what):
        """Type ``text``; ``what`` is for the message should the guest have ended."""
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            self.fail(f"{what}: QEMU ended with status {self._process.wait()}")


class Guest(Console):
    """A running guest that takes shell commands; ``commands`` is how many were sent, and so the number of the last one."""
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._pending = ""
        self.commands = 0

    def _lines(self, timeout, what):
        for text in self.output(timeout, what):
            *lines, self._pending = (self._pending + text).split("\n")
            yield from (line.rstrip("\r") for line in lines)

    def wait_ready(self, timeout=300):
        """Wait until the guest has booted, its drivers are loaded, and it takes commands; ``timeout`` seconds without progress
        are too long."""
        for line in self._lines(timeout, "Boot"):
            if line.endswith("@@ ready"):
                return
            if "Kernel panic" in line:
                self.fail("The guest's kernel panicked")

    def send(self, command):
        """Have a shell command line run, and do not wait for it: the last one, for what follows would be taken for its end."""
        self.commands += 1
        self.type(f"{self.commands} {command}\n", f"`{command}`")

    def run(self, command, *, timeout=300, on_line=None, check=True):
        """Run a shell command line in the guest and return its output lines.

        ``on_line`` is called with each line as it comes. A non-zero exit status raises :class:`GuestError`; with
        ``check=False`` the result is ``(status, lines)`` instead. ``timeout`` seconds without progress are too long.
        """
        self.send(command)
        output = []
        for line in self._lines(timeout, f"`{command}`"):
            done = re.fullmatch(rf"@@ {self.commands} (\d+)", line)
            if done:
                break
            if line:
                output.append(line)
                if on_line is not None:
                    on_line(line)
        status = int(done[1])
        if not check:
            return status, output
        if status:
            self.fail(f"`{command}` failed in the guest with status {status}")
        return output


@contextmanager
def start_guest(qemu, kernel, initramfs, device, *, pass_fds=(), signs=(), **options):
    """Yield a :class:`Guest` that has been started but not waited for; it ends with the block.

    ``device`` are QEMU options, ``pass_fds`` files it inherits, ``signs`` those of :class:`Guest`, ``options`` those of
    :func:`command_line`.
    """
    with tempfile.TemporaryFile("w+") as errors:
        argv = command_line(qemu, kernel, initramfs, device, **options)
        with child(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, pass_fds=pass_fds,
                   start_new_session=True) as process:
            yield Guest(process, errors, signs)


@contextmanager
def terminal_kept():
    """Leave the terminal as it was found: a QEMU that is killed cannot."""
    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, ValueError):  # none
        yield
        return
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def run_shell(qemu, kernel, initramfs, device, *, pass_fds=(), signs=(), **options):
    """Give the terminal to a guest until it ends; return QEMU's exit status.

    ``signs`` are called every second: what one raises, such as that a disk is full, ends the guest at once.
    """
    argv = command_line(qemu, kernel, initramfs, device, shell=True, **options)
    with terminal_kept(), child(argv, pass_fds=pass_fds) as process:
        while True:
            try:
                return process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                for sign in signs:
                    sign()
