"""The command ``monitor``."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..options import out_file
from .commands import carried_out

__all__ = ["app"]

app = typer.Typer()


@app.command()
def monitor(
    bdf: Annotated[Optional[str], typer.Argument(metavar="[BDF]", help="Address of the card, such as 01:00.0; `ringnic devices` "
                                                                       "shows it.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The simulated card of a `ringnic demo` that is running.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Look for a second and end.")] = False,
    report: Annotated[Optional[Path], out_file("Write what was seen last to this file, as JSON, at the end.")] = None,
):
    """Watch a card at work: frames, notifications, DMA, drops and errors, by its own counters. Needs root; ends with Ctrl-C.

    It may be at work for this machine's driver, or for a guest.
    """
    if (bdf is None) == (not demo):
        raise typer.BadParameter("which card? Its address, `ringnic devices` shows it, or --demo for that of a running demo")

    def work(machine):
        from .monitor import run_monitor
        return run_monitor(machine, bdf, report, demo=demo, once=once)
    carried_out(work)
