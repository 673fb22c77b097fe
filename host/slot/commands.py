"""Commands for a card in a slot, in the order in which its owner needs them."""

from pathlib import Path
import sys
from typing import Annotated, Optional

import typer

from ...boards.table import BOARDS
from ..errors import complain, note
from ..options import Accel, need_checkout, out_file

__all__ = ["app"]

app = typer.Typer()

ADDRESS = "Address of the card, such as 01:00.0; `ringnic devices` shows it."
BOUND = f"{ADDRESS} It is bound to vfio-pci: ringnic bind."


def _address(text):
    from .sysfs import SlotError, parse_bdf
    try:
        return parse_bdf(text)
    except SlotError as error:
        raise typer.BadParameter(f"{error}") from None


Bdf = Annotated[str, typer.Argument(metavar="BDF", help=ADDRESS)]
BoundBdf = Annotated[str, typer.Argument(metavar="BDF", callback=_address, help=BOUND)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done, as lines of shell for root.")]


def _say(line):
    """Print the line of shell that an action is; what follows it may come from another program."""
    print(line, flush=True)


def _carried_out(work):
    """Do ``work(machine)`` and end with its exit status; errors of the slot, and of files to write, are one line."""
    from ..guest.process import INTERRUPTED, ends_as_exceptions
    from .sysfs import Machine, SlotError
    try:
        with ends_as_exceptions():
            status = work(Machine())
    except (SlotError, OSError) as error:
        complain(error)
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
    _carried_out(work)


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
            note(f"{bdf} has vfio-pci already: nothing to do")
        elif not dry_run:
            note(f"{bdf} is ready for a guest: ringnic guest {bdf}; back to what it was: ringnic unbind {bdf}")
        return 0
    _carried_out(work)


@app.command()
def unbind(bdf: Bdf, dry_run: DryRun = False):
    """Put a card back as it was before `ringnic bind`."""
    def work(machine):
        from .bind import unbind
        if not unbind(machine, bdf, _say, dry_run=dry_run):
            note(f"{bdf} is not with vfio-pci: nothing to do")
        return 0
    _carried_out(work)


@app.command()
def flash(
    board: Annotated[str, typer.Argument(metavar="BOARD", help=f"One of {', '.join(BOARDS)}.")],
    bitstream: Annotated[Optional[Path], typer.Argument(metavar="BITSTREAM", help="The file to program it with. Default: what "
                                                                                   "`ringnic build BOARD` has left.")] = None,
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
    _carried_out(work)


@app.command()
def selftest(
    context: typer.Context,
    bdf: BoundBdf,
    quick: Annotated[bool, typer.Option("--quick", help="One case for each row of the plan.")] = False,
    select: Annotated[str, typer.Option("-k", metavar="EXPR", help="Only tests of these names, as pytest understands it.")] = "",
    report: Annotated[Optional[Path], out_file("Write the rows, what became of them and what was measured to this file, as "
                                               "JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random tests.")] = 0,
):
    """Test the card in a slot: the conformance tests that run in simulation, loopback traffic, speed, recovery from errors.

    Nothing goes out to the wire. The exit status is 0 if every row of the plan passes that a real card can show.
    """
    need_checkout(context)
    from ..selftest import run_selftest
    raise typer.Exit(run_selftest(bdf, report, quick=quick, select=select, seed=seed))


@app.command()
def collect(
    bdf: Bdf,
    output: Annotated[Path, out_file("The file to write.")] = Path("ringnic-collect.json"),
    board: Annotated[Optional[str], typer.Option(metavar="NAME", help="Which board it is, as `ringnic build --list` calls "
                                                                      "it.")] = None,
    no_selftest: Annotated[bool, typer.Option("--no-selftest", help="Leave out the selftest; whoever has the card keeps "
                                                                    "it.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Of the selftest, one case for each row of the plan.")] = False,
):
    """Put all that a first report about a card needs into one file: `lspci -vvv`, links, counters, selftest, kernel messages.

    For the selftest the card is given to vfio-pci, and then back to whoever had it. There are no MAC addresses, serial numbers
    or names of the machine in the file. The exit status is 0 if the file is complete, whatever the selftest has found.
    """
    def work(machine):
        from .collect import collect
        return collect(machine, bdf, output, note, board=board, selftest=not no_selftest, quick=quick)
    _carried_out(work)


@app.command()
def guest(
    bdf: BoundBdf,
    image: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Boot this disk, qcow2 or raw, not a kernel.")] = None,
    kernel: Annotated[str, typer.Option(help="6.1 or 6.12 (Debian's stock ones), backports (its newest), or the path "
                                             "of a bzImage.")] = "6.1",
    initrd: Annotated[Optional[Path], typer.Option(metavar="FILE", help="With a kernel's path: its initramfs. Default: a "
                                                                        "shell in which the card is up.")] = None,
    append: Annotated[str, typer.Option(help="More kernel parameters.")] = "",
    memory: Annotated[int, typer.Option(help="MiB; all of it is locked, since the card may reach all of it.", min=64)] = 512,
    cpus: Annotated[int, typer.Option(help="Processors; the driver uses as many queue pairs.", min=1, max=256)] = 1,
    huge_pages: Annotated[bool, typer.Option("--huge-pages", help="Memory in pages of 2 MiB.")] = False,
    accel: Annotated[Accel, typer.Option(help="QEMU's accelerator; kvm is what you want where it works, and auto "
                                                 "tries that.")] = Accel.TCG,
    qemu: Annotated[Optional[Path], typer.Option(help="QEMU to use, 7.2 or later. Default: the machine's, if new enough, else "
                                                      "Debian's, fetched.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Only print libvirt's <hostdev> and QEMU's command line.")] = False,
):
    """Start a guest that is given the card itself, by VFIO; its stock driver does the rest.

    The card has to be bound to vfio-pci: ringnic bind. Without a terminal the guest's console is a pipe.
    """
    if image is not None and initrd is not None:
        raise typer.BadParameter("a disk brings its own initramfs", param_hint="--initrd")
    from ..guest.passthrough import GuestOptions, run_guest
    raise typer.Exit(run_guest(GuestOptions(
        bdf=bdf, image=image, kernel=kernel, initrd=initrd, append=append, memory_mb=memory, cpus=cpus, huge_pages=huge_pages,
        accel=accel, qemu=qemu, show=show)))


@app.command()
def link(
    bdf: Annotated[Optional[str], typer.Argument(metavar="[BDF]", help=f"{ADDRESS} Without: what OpenOCD has read by JTAG, on "
                                                                       "standard input.")] = None,
):
    """Show the speed, the width and the last states of a card's PCI Express link, as the card saw them: why it does not train.

    With an address, for root. Of a board that no host finds, by JTAG: without input it says how.
    """
    def work(machine):
        from .link import run_link
        piped = bdf is None and sys.stdin is not None and not sys.stdin.isatty()
        return run_link(machine, bdf, sys.stdin.buffer.read().decode(errors="replace") if piped else None)
    _carried_out(work)


@app.command()
def monitor(
    bdf: Annotated[Optional[str], typer.Argument(metavar="[BDF]", help=ADDRESS)] = None,
    demo: Annotated[bool, typer.Option("--demo", help="A simulated card of yours, of `ringnic demo` or `ringnic serve`: the one "
                                       "at the socket that is given in place of an address, or else the one that was started "
                                       "last.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Look for a second and end.")] = False,
    report: Annotated[Optional[Path], out_file("Write what was seen last to this file, as JSON, at the end.")] = None,
):
    """Watch a card at work: frames, notifications, DMA, drops and errors, by its own counters. Needs root; ends with Ctrl-C.

    It may be at work for this machine's driver, or for a guest.
    """
    if bdf is None and not demo:
        raise typer.BadParameter("which card? Its address, `ringnic devices` shows it, or --demo for that of a running demo")

    def work(machine):
        from .monitor import run_monitor
        return run_monitor(machine, bdf, report, demo=demo, once=once)
    _carried_out(work)
