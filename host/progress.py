"""How far a command is: live on a terminal; elsewhere on standard error, an unbroken line as each step begins and as it ends."""

from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .errors import note

__all__ = ["bar", "working"]


def _begins(console, what):
    if not console.is_terminal and not console.quiet:  # nothing live tells of it
        note(f"{what} ...")


@contextmanager
def working(console, what):
    """Show that ``what`` is done while the block runs; the block may call what it gets with a text on how far that is."""
    _begins(console, what)
    with console.status(escape(what)) as status:
        yield lambda detail: status.update(f"{escape(what)}  [dim]{escape(detail)}[/]")


class _Bar:
    def __init__(self, progress, total):
        self._progress, self._task = progress, progress.add_task("", total=total)

    def begins(self, step, shown=None):
        """A step begins; ``shown``: what the bar says then, if not that."""
        _begins(self._progress.console, step)
        self._progress.update(self._task, description=escape(shown or step))

    def ends(self, text=None):
        """A step has ended; ``text``: how, for where there is no bar."""
        self._progress.update(self._task, advance=1)
        console = self._progress.console
        if text is not None and not console.is_terminal and not console.quiet:
            note(text)

    def shows(self, text=None, **numbers):
        """Have the bar say a text, with markup, or have it at other numbers: ``total``, ``completed``."""
        self._progress.update(self._task, description=text, **numbers)


@contextmanager
def bar(console, total=None, *, counted=True, **options):
    """Yield a bar of steps, ``total`` of them if that is known. ``counted``: it says how many are done; ``options``: of rich."""
    columns = (TextColumn("{task.description}"), BarColumn(), *([MofNCompleteColumn()] if counted else []), TimeElapsedColumn())
    # Without a terminal it would still write an empty line.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal, **options) as progress:
        yield _Bar(progress, total)
