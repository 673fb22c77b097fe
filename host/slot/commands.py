"""Commands for a card in a slot: ``devices``, ``bind``, ``unbind``, ``flash``."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..options import out_file

__all__ = ["app", "carried_out"]

app = typer.Typer()

Bdf = Annotated[str, typer.Argument(metavar="BDF", help="Address of the card, such as 01:00.0; `ringnic devices` shows it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done, as lines of shell for root.")]


def _say(line):
    """Tell of an action; what follows it may come from another program."""
    print(line, flush=True)


def carried_out(work):
    """Do ``work(machine)`` and end with its exit status; errors of the slot are one line."""
    from rich.console import Console
    from ..guest.process import INTERRUPTED, ends_as_exceptions
    from .sysfs import Machine, SlotError
    try:
        with ends_as_exceptions():
            status = work(Machine())
    except SlotError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"{error}", style="red", markup=False)
        status = 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    raise typer.Exit(status)


@app.command()
def devices(report: Annotated[Optional[Path], out_file("Write what was found to this file, as JSON.")] = None):
    """Show the cards in this machine, and what is in the way of giving them to a guest. Root sees more."""
    def work(machine):
        from .devices import run_devices
        return run_devices(machine, report)
    carried_out(work)


@app.command()
def bind(
    bdf: Bdf,
    persist: Annotated[bool, typer.Option("--persist", help="At each start of the machine, too: write a udev rule.")] = False,
    user: Annotated[Optional[str], typer.Option(metavar="NAME", help="This user may then use the card without being "
                                                                     "root.")] = None,
    dry_run: DryRun = False,
):
    """Give a card to vfio-pci, so that a guest can have it. `ringnic unbind` brings back what was before."""
    def work(machine):
        from .bind import bind
        if not bind(machine, bdf, _say, persist=persist, user=user, dry_run=dry_run):
            _say(f"# {bdf} has vfio-pci already: nothing to do")
        elif not dry_run:
            _say(f"# {bdf} is ready for a guest: ringnic guest {bdf}; back to what it was: ringnic unbind {bdf}")
        return 0
    carried_out(work)


@app.command()
def unbind(bdf: Bdf, dry_run: DryRun = False):
    """Put a card back as it was before `ringnic bind`."""
    def work(machine):
        from .bind import unbind
        if not unbind(machine, bdf, _say, dry_run=dry_run):
            _say(f"# {bdf} is not with vfio-pci: nothing to do")
        return 0
    carried_out(work)


@app.command()
def flash(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="Name of the board, such as versa_ecp5_5g; a wrong one "
                                                             "lists all.")],
    bitstream: Annotated[Path, typer.Argument(metavar="BITSTREAM", help="The file to program it with.")],
    volatile: Annotated[bool, typer.Option("--volatile", help="Into the FPGA only, until the power goes; default: into its "
                                                              "flash.")] = False,
    bdf: Annotated[Optional[str], typer.Option(metavar="BDF", help="Address of the board, which is taken off the bus meanwhile; "
                                                                   "none: it is in no slot of this machine.")] = None,
    cable: Annotated[Optional[str], typer.Option(metavar="NAME", help="JTAG cable, as `openFPGALoader --list-cables` calls "
                                                                      "it.")] = None,
    dry_run: DryRun = False,
):
    """Program a board, off the PCI bus meanwhile, and give it back to the driver that had it."""
    def work(machine):
        from .flash import flash
        flash(machine, board, bitstream, _say, bdf=bdf, volatile=volatile, cable=cable, dry_run=dry_run)
        return 0
    carried_out(work)
