"""The command ``selftest``."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .options import out_file

__all__ = ["app"]

app = typer.Typer()


def _bdf(text):
    from .slot.sysfs import SlotError, parse_bdf
    try:
        return parse_bdf(text)
    except SlotError as error:
        raise typer.BadParameter(f"{error}") from None


@app.command()
def selftest(
    bdf: Annotated[str, typer.Argument(metavar="BDF", callback=_bdf, help="Address of the card, such as 01:00.0; it is bound to "
                                       "vfio-pci, as `ringnic bind` does it.")],
    quick: Annotated[bool, typer.Option("--quick", help="One case for each row of the plan.")] = False,
    select: Annotated[str, typer.Option("-k", metavar="EXPR", help="Only tests of these names, as pytest understands it.")] = "",
    report: Annotated[Optional[Path], out_file("Write the rows, what became of them and what was measured to this file, as "
                                               "JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random tests.")] = 0,
):
    """Test the card in a slot: the conformance tests that run in simulation, loopback traffic, speed, recovery from errors.

    Nothing goes out to the wire. The exit status is 0 if every row of the plan passes that a real card can show.
    """
    from .selftest import run_selftest
    raise typer.Exit(run_selftest(bdf, report, quick=quick, select=select, seed=seed))
