"""How every command speaks of errors and of progress: on standard error, in a line, ``ringnic: what is wrong; what to do``."""

from contextlib import contextmanager

__all__ = ["complain", "naming", "note", "told"]


def told(error):
    """Return what an exception says, in words for people: of one of the system, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    return str(error)


def _say(text, style=None):
    from rich.console import Console  # where there is nothing to say, it is not loaded
    Console(stderr=True).print(f"ringnic: {text}", style=style, markup=False, highlight=False, soft_wrap=True)


def complain(error):
    """Print what is wrong: a text or an exception."""
    _say(told(error), "red")


def note(text):
    """Print what is going on."""
    _say(text)


@contextmanager
def naming(path):
    """Within the block, an error of the system that names no file is about ``path``: a full disk, for one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
