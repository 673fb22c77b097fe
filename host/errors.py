"""How every command speaks of errors and of progress: on standard error, in a line, ``ringnic: what is wrong; what to do``."""

from contextlib import contextmanager, suppress
import sys

__all__ = ["complain", "naming", "note", "told"]


def told(error):
    """Return what an exception says, in words for people: of one of the system, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    return str(error)


def complain(error):
    """Print what is wrong: a text or an exception."""
    from rich.console import Console  # where there is nothing to complain of, it is not loaded
    Console(stderr=True).print(f"ringnic: {told(error)}", style="red", markup=False, highlight=False, soft_wrap=True)


def note(text):
    """Print what is going on, if anybody listens. Any thread may call it."""
    with suppress(OSError):
        print(f"ringnic: {text}", file=sys.stderr, flush=True)


@contextmanager
def naming(path):
    """Within the block, an error of the system that names no file is about ``path``: a full disk, for one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
