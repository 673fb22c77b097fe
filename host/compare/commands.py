"""The command ``ringnic compare``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..options import Accel, out_file
from .devices import ASSIGNED, DEVICES

__all__ = ["app"]

app = typer.Typer()

Name = StrEnum("Name", {name.upper().replace("-", "_"): name for name in DEVICES})


@app.command()
def compare(
    only: Annotated[Optional[list[Name]], typer.Option(help=f"Only this device; may be given more than once. Default: "
                                                            f"all but {ASSIGNED}.")] = None,
    assigned: Annotated[bool, typer.Option("--assigned", help=f"Also {ASSIGNED}: the simulated card passed through by "
                                                              "vfio-pci, in a guest of a guest. Some minutes more.")] = False,
    report: Annotated[Optional[Path], out_file("Write the results to this file, as JSON.")] = None,
    plot: Annotated[Optional[Path], out_file("Draw the results into this file (PNG, SVG or PDF).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random: the file's content, the simulated "
                                              "card's delays.")] = 0,
    accel: Annotated[Accel, typer.Option(help="QEMU's accelerator; auto tries whether kvm works here.")] = Accel.TCG,
):
    """Compare RingNIC with emulated and paravirtual network cards: how many device accesses leave the guest for a packet.

    A stock guest has one device after the other, pings, and transfers a file each way, while QEMU traces every access. The exit
    status is 0 if each figure is as expected. Some minutes.
    """
    from .command import run_compare
    names = list(map(str, only)) if only else [name for name in DEVICES if name != ASSIGNED]
    names = tuple(dict.fromkeys([*names, *([ASSIGNED] if assigned else [])]))
    raise typer.Exit(run_compare(names, report, plot, accel=str(accel), seed=seed))
