"""How a wrong command line is told of: in one line, as every other error."""

import sys

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from .errors import complain

__all__ = ["Commands"]


def _words(fault):
    """What is wrong, with the value that it is about and without the names of the classes that found it."""
    text = fault.format_message().replace("Value error, ", "").rstrip(".")
    found = getattr(fault.__cause__, "errors", list)()     # of the library that checks values
    if found and "input" in found[0]:
        text = text.replace("Input should", f"{found[0]['input']!r} should")
    command = fault.ctx.command_path if getattr(fault, "ctx", None) is not None else "ringnic"
    return f"{text}; `{command} -h` shows what there is"


class Commands(TyperGroup):
    """The commands, which end with one line on standard error, and 2, if the command line is wrong."""
    def main(self, *args, standalone_mode=True, **extra):
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            status = super().main(*args, standalone_mode=False, **extra)
        except TyperException as fault:
            if fault.format_message():                     # else there was no command, and the help has been shown
                complain(_words(fault))
            sys.exit(fault.exit_code)
        except typer.Abort:
            complain("given up")
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)
