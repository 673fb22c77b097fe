"""Program the FPGA of a card that may be in this machine's slot.

A function that vanishes under its driver can hang the machine, so it is taken off the bus before and looked for after,
whatever has happened in between.
"""

from contextlib import nullcontext
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import shlex
import time

from ...boards.table import BOARDS
from ..errors import note
from ..nearest import no_board
from . import checks, state
from .actions import Action, Bind, Override, Remove, Rescan, Unbind, way
from .bitstream import built, read_bitstream, wrong_board
from .sysfs import Function, Machine, SlotError, undisturbed
from .window import Unreadable, build_id

__all__ = ["flash"]

NOT_HERE = "none"            # as the address of a board that is in no slot of this machine
COMES_BACK_SECONDS, LOOK_SECONDS = 10, 0.5
BUILDS = Path("build")       # where `ringnic build` leaves its results
INSTALL = {
    "openFPGALoader": "install it: `apt install openfpgaloader`, or from github.com/trabucayre/openFPGALoader for newer boards",
    "openocd": "install it: `apt install openocd`",
}


@dataclass(frozen=True)
class Program(Action):
    """The FPGA, by the board's own tool."""
    machine: Machine
    argv: tuple

    @property
    def shell(self):
        return shlex.join(self.argv)

    def do(self):
        if status := self.machine.run(self.argv):
            raise SlotError(f"{self.argv[0]} failed with exit status {status}: what it said is above; is the cable plugged in, "
                            "may you use it (its udev rules), is it another's meanwhile?")


@dataclass(frozen=True)
class LookFor(Action):
    """A function that the kernel is to find again, when its link has come up."""
    function: Function
    rescan: Rescan

    @property
    def shell(self):
        return f"until [ -e {self.function.folder} ]; do {self.rescan.shell}; sleep {LOOK_SECONDS}; done"

    def do(self):
        deadline = time.monotonic() + COMES_BACK_SECONDS
        self.rescan.do()
        while not (self.function.exists() and checks.answers(self.function)):
            if time.monotonic() > deadline:
                raise SlotError(f"{self.function} did not come back within {COMES_BACK_SECONDS} s: if it is programmed, a warm "
                                "restart finds it (what is in the FPGA survives that); see `dmesg` for why")
            time.sleep(LOOK_SECONDS)
            self.rescan.do()


def _board(name):
    if name not in BOARDS:
        raise SlotError(no_board(name, BOARDS))
    return BOARDS[name]


def _default(board, volatile):
    """The file that `ringnic build` has left for a board."""
    folder = BUILDS / board.name
    suffix = (board.volatile if volatile else board.flash).suffixes[0]
    for name in built(folder):
        if name.endswith(suffix):
            return folder / name
    if board.buildable:
        raise SlotError(f"there is no bitstream in {folder}: ringnic build {board.name}, or say which file")
    raise SlotError(f"`ringnic build` makes none for {board.name}: say which file")


def _offset(board, file, content):
    """Where in the flash a file belongs that `ringnic build` has left; 0 for others. Refuses one that has changed since."""
    facts = built(file.absolute().parent).get(file.name)
    if facts is None or facts["board"] != board.name:
        return 0
    if facts["sha256"] != hashlib.sha256(content).hexdigest():
        raise SlotError(f"the bitstream {file} is not the one that {file.with_name('report.json')} tells of: build it again")
    return facts["offset"] or 0


def _programming(board, file, volatile, cable):
    """Return the argv that programs a board with a file that may well be a bitstream for it."""
    how = board.volatile if volatile else board.flash
    if how is None:
        raise SlotError(f"no way to write the flash of {board.name} is documented: load it until the power goes, with --volatile")
    file = _default(board, volatile) if file is None else file
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise SlotError(f"cannot read the bitstream {file}: {error.strerror}") from None
    if not content:
        raise SlotError(f"the bitstream {file} is empty: build it again")
    if file.suffix not in how.suffixes:
        where = "its FPGA" if volatile else "its flash"
        raise SlotError(f"{file} is no bitstream for {board.name}: what goes into {where} ends in {' or '.join(how.suffixes)}")
    if cable is not None and board.cable is None:
        raise SlotError(f"{board.name} is programmed without --cable: {how.argv[0]} knows its own")
    if (reason := wrong_board(board, read_bitstream(content))) is not None:
        raise SlotError(f"{file} is no bitstream for {board.name}: {reason}")
    words = [word.replace("{cable}", cable or board.cable or "").replace("{file}", os.fspath(file)) for word in how.argv]
    offset = _offset(board, file, content)
    # openFPGALoader's option for where in the flash the file begins.
    return (*words[:-1], "-o", f"{offset}", words[-1]) if offset and not volatile else tuple(words)


def _may_be_ringnic(function):
    """One that sleeps, is with a guest, or does not answer cannot say what it is: not to be programmed unasked either."""
    if function.vendor_id != checks.VENDOR:
        return False
    try:
        return not checks.answers(function) or build_id(function) is not None
    except Unreadable:
        return True


def _function(machine, bdf):
    """The function of the board, None if the kernel does not see it yet; not one that others of the machine need."""
    if bdf is None:
        if (found := next(filter(_may_be_ringnic, machine.functions()), None)) is not None:
            raise SlotError(f"{found} looks like a RingNIC: say `--bdf {found}` if that is the board, or `--bdf {NOT_HERE}` if "
                            "the board is in no slot of this machine")
        return None
    function = machine.function(bdf)
    if (what := checks.BASE_CLASSES.get(function.class_code >> 16)) is not None:
        raise SlotError(f"{function} is {what}, not the board; `ringnic devices` lists the cards")
    if others := function.slot_members():
        raise SlotError(f"{function} has {', '.join(map(str, others))} beside it on the same card, and RingNIC has one function: "
                        "is it the board?")
    if (reason := checks.in_use(function)) is not None:
        raise SlotError(reason)
    return function


def _bring_back(function, bridge, driver, override, ids, do):
    """Find the function again, and give it to who had it, unless it is another device now."""
    if not function.exists():
        do(LookFor(function, Rescan(function.machine, bridge)))
    if driver is None and override is None or ids != (function.vendor_id, function.device_id):
        return  # the kernel has chosen
    for action in way(function, driver, override):
        do(action)


def _planned(function, program, bridge):
    """All actions, if the kernel gives the function that comes back to a driver of its choice."""
    actions = [*([Unbind(function)] if function.driver else []), Remove(function), program,
               LookFor(function, Rescan(function.machine, bridge))]
    if function.override is not None:
        actions += [Unbind(function), Override(function, function.override)]
        actions += [Bind(function, function.driver)] if function.driver else []
    return actions


def flash(machine, board, bitstream, say, *, bdf=None, volatile=False, cable=None, dry_run=False):
    """Program a board.

    Parameters
    ----------
    board : str
        Name of one of ``BOARDS``.
    bitstream : Path or None
        None: what `ringnic build` has left.
    say : callable
        Told of each action, as a line of shell, before it is done.
    bdf : str or None
        Address of the board's function; ``none``: it is in no slot of this machine; None: not seen yet.
    volatile : bool
        Into the FPGA only; else into its flash.
    cable : str or None
        JTAG adapter, if it is not the board's usual one.
    dry_run : bool
        Only tell.
    """
    board = _board(board)
    program = Program(machine, _programming(board, bitstream, volatile, cable))
    function = None if bdf == NOT_HERE else _function(machine, bdf)
    here = bdf != NOT_HERE
    if not dry_run:
        if not machine.which(program.argv[0]):
            raise SlotError(f"{program.argv[0]} is not on this machine: {INSTALL[program.argv[0]]}")
        if here and not machine.may_write("/sys/bus/pci/rescan"):
            raise SlotError(f"this needs root, to look for the card after: sudo ringnic flash ..., or say `--bdf {NOT_HERE}`")
    note(f"{board.title}, {board.part}: unverified, nobody has run this on one yet (known from {board.source})"
         + (f"; {board.note}" if board.note else ""))
    bridge = None if function is None else function.bridge
    if function is None:
        plan = [program, *([Rescan(machine, None)] if here else [])]
    else:
        plan = _planned(function, program, bridge)
    if dry_run:
        for action in plan:
            say(action.shell)
        return

    def do(action):
        say(action.shell)
        action.do()
    # To program a board elsewhere changes nothing here, and needs no root.
    with state.alone(machine) if here else nullcontext():
        if function is None:
            for action in plan:
                do(action)
            return
        before = bridge, function.driver, function.override, (function.vendor_id, function.device_id)
        failure = None
        try:
            for action in plan[:plan.index(program)]:
                with undisturbed():
                    do(action)
            do(program)
        except BaseException as error:
            failure = error
        with undisturbed():
            try:
                _bring_back(function, *before, do)
            except SlotError as worse:
                raise SlotError(f"{failure}; then {worse}" if isinstance(failure, SlotError) else f"{worse}") from failure
        if failure is not None:
            raise failure
