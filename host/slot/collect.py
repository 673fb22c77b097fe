"""``ringnic collect``: all that a first report about a card in a slot needs, in one file.

The file is made to be shown to others. It has no name of the machine, no MAC address and no serial number.
"""

from dataclasses import asdict
from datetime import datetime, timezone
import platform
import re
import time

from rich.console import Console

from ...boards.table import BOARDS
from ...hdl.spec.virtio import Status
from ..checkout import ROOT
from ..errors import complain, note
from ..features import names
from ..nearest import no_board
from ..results import write_json
from . import checks
from .bind import NotPutBack, lent
from .devices import look
from .monitor import take
from .sysfs import Function, SlotError
from .window import Config, Unreadable, bar_0

__all__ = ["SCHEMA", "collect"]

SCHEMA = 1                   # of the file; docs/boards/README.md describes it
HOME = "docs/boards/README.md, \"Tell us what you saw\", says where to send it"
LSPCI = "lspci is not on this machine: apt-get install pciutils"

# What is in no report.
MAC = re.compile(r"\b[0-9a-f]{2}([:-][0-9a-f]{2}){5}\b", re.IGNORECASE)
NAME_OF_MAC = re.compile(r"\benx[0-9a-f]{12}\b")     # an interface that udev has named by its address
SERIAL_NUMBER = re.compile("serial number", re.IGNORECASE)
DUMP_LINE = re.compile(r"([0-9a-f]{2,3}):((?: [0-9a-f]{2}){16})\s*")
EXTENDED, DSN, DSN_BYTES = 0x100, 0x0003, 12         # PCI Express Base 5.0, 7.9.3 "Device Serial Number Extended Capability"


def shared(value):
    """A value of the report as others may see it: texts without MAC addresses, and without the place of this project."""
    if isinstance(value, dict):
        return {name: shared(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shared(one) for one in value]
    if isinstance(value, str):
        text = MAC.sub("[MAC address]", value.replace(str(ROOT), "."))
        return NAME_OF_MAC.sub("[interface]", text)
    return value


def without_serial(dump):
    """Lines of a hexadecimal dump of configuration space, without the bytes of a Device Serial Number."""
    found = {int(line[1], 16): line[2].split() for line in map(DUMP_LINE.fullmatch, dump) if line}
    space = {at + k: byte for at, row in found.items() for k, byte in enumerate(row)}

    def dw(at):
        return int("".join(space.get(at + k, "ff") for k in (3, 2, 1, 0)), 16)
    at, seen = EXTENDED, set()
    while at >= EXTENDED and at not in seen and dw(at) not in (0, 0xffff_ffff):
        seen.add(at)
        if dw(at) & 0xffff == DSN:
            space |= {at + k: "--" for k in range(4, DSN_BYTES)}
        at = dw(at) >> 20 & 0xffc
    return [f"{line[1]}: {' '.join(space[int(line[1], 16) + k] for k in range(16))}" if (line := DUMP_LINE.fullmatch(text)) else
            text for text in dump]


def _pattern(function):
    """Regular expression for what the kernel calls a function: reports of IOMMUs leave out domain 0."""
    domain, _, rest = function.address.partition(":")
    return f"(?:{domain}:)?{re.escape(rest)}" if domain == "0000" else re.escape(function.address)


class Report:
    """What has been found so far; ``missing`` says of what could not be had why.

    Parameters
    ----------
    function : Function
    card : Card
    board : str or None
    """
    def __init__(self, function, card, board):
        self.function, self.machine = function, function.machine
        bridge = function.bridge
        self._port = None if bridge is None else Function(self.machine, bridge)
        self.missing = {}
        # The others are of a moment, or speak of this machine's interfaces and processes.
        facts = {name: value for name, value in asdict(card).items()
                 if name not in ("driver", "interfaces", "link", "features", "in_the_way")}
        self.found = {
            "schema": SCHEMA, "collected": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "board": board,
            "host": {"kernel": self.machine.read("/proc/sys/kernel/osrelease"), "machine": platform.machine(),
                     "processor": self._processor()},
            "card": facts, "before": self._moment("before"), "after": None,
            "lspci": [line for line in self._lspci("-vvv") if not SERIAL_NUMBER.search(line)],
            "config_space": without_serial(self._lspci("-xxxx")),
            "selftest": None, "not_put_back": None,
        }

    def _processor(self):
        lines = (self.machine.read("/proc/cpuinfo") or "").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)

    def _lspci(self, how):
        return self.machine.output(("lspci", "-D", "-nn", how, "-s", self.function.address))

    def _moment(self, when):
        """What changes with time, or with who has the card."""
        function = self.function
        agreed = function.virtio_features()
        return {
            "driver": function.driver, "link": _link(function),
            "port": None if self._port is None else {"address": self._port.address, "link": _link(self._port)},
            "features_agreed": None if agreed is None else names(agreed), **self._registers(when)}

    def _registers(self, when):
        """Status and counters, as :mod:`.monitor` takes them."""
        nothing = {"status": None, "num_queues": None, "ethernet_link_up": None, "loopback": None, "counters": None,
                   "link_training": None}
        try:
            if not checks.answers(self.function):
                raise Unreadable("it does not answer (all ones)")
            with bar_0(self.function) as read:
                sample = take(read, time.monotonic())
        except Unreadable as reason:
            self.missing[f"{when}.counters"] = f"{reason}"
            return nothing
        return {"status": [flag.name for flag in Status if sample.status & flag], "num_queues": sample.num_queues,
                "ethernet_link_up": sample.link_up, "loopback": sample.loopback, "counters": sample.counters,
                "link_training": sample.link.report if sample.link else None}

    def add_selftest(self, found):
        self.found["selftest"] = found

    def end(self, not_put_back=None):
        """Look once more, and return the whole as others may see it."""
        if self.found["selftest"] is not None:
            self.found |= {"after": self._moment("after"), "not_put_back": not_put_back}
        self.found["dmesg"] = self._dmesg()
        return shared(self.found | {"missing": self.missing})

    def _dmesg(self):
        """What the kernel has said of the card, and of the port above it."""
        about = [self.function] if self._port is None else [self.function, self._port]
        pattern = re.compile(f"(?<![0-9a-f:])(?:{'|'.join(map(_pattern, about))})(?![0-9a-f])")
        try:
            return [line for line in self.machine.output(("dmesg",)) if pattern.search(line)]
        except SlotError as reason:
            self.missing["dmesg"] = f"{reason}"
            return None


def _link(function):
    return dict(zip(("speed", "width", "max_speed", "max_width"), function.link()))


def _card(machine, function, board, command):
    """The :class:`Card` at an address, if it can be reported on, and by this user."""
    if board is not None and board not in BOARDS:
        raise SlotError(no_board(board, BOARDS))
    if (reason := checks.wrong_function(function)) is not None:
        raise SlotError(reason)
    if (card := look(function)) is None or card.ringnic is False:
        raise SlotError(f"{function} is no RingNIC, for it has no counters page: `ringnic devices` shows what there is")
    if not machine.which("lspci"):
        raise SlotError(LSPCI)
    if not Config(function).complete:
        raise SlotError(f"this needs root, to read all of configuration space: sudo ringnic {command}")
    return card


def _selftest(function, console, quick):
    """The selftest's report, or why there is none."""
    from ..selftest import CANNOT_RUN, examine, tell
    try:
        found, outcomes = examine(function.address, console, quick=quick)
    except CANNOT_RUN as error:
        complain(f"no selftest: {error}")
        return {"error": f"{error}"}
    tell(console, found, outcomes)
    return found


def collect(machine, bdf, output, say, *, board=None, selftest=True, quick=False):
    """Write what there is to know about the card at ``bdf`` to the file ``output``; return the exit status.

    With a ``selftest`` the card is with vfio-pci meanwhile, and then again with whoever had it. The status is 0 if the file has
    everything, whatever the selftest has found; 1 if there was no selftest for another reason than that none was wanted.

    Parameters
    ----------
    output : Path
    say : callable
        Told of each change of the machine, as a line of shell, before it is made.
    board : str or None
        Which board it is, if somebody says so.
    quick : bool
        Of the selftest, one case for each row.
    """
    console, function = Console(), machine.function(bdf)
    options = [*(["--board", board] if board else []), *(["--quick"] if quick else []), *([] if selftest else ["--no-selftest"])]
    command = " ".join(["collect", f"{function}", *options])
    card = _card(machine, function, board, command)
    report = Report(function, card, board)
    failure = None
    if selftest:
        try:
            with lent(function, say, command):
                report.add_selftest(_selftest(function, console, quick))
        except NotPutBack as error:
            if report.found["selftest"] is None:
                raise
            failure = error
        except SlotError as error:
            raise SlotError(f"{error}; all but the selftest: ringnic {command} --no-selftest") from None
    found = report.end(None if failure is None else f"{failure}")
    # Not the command as it was given: the file's path may tell who wrote it.
    write_json(output, found, build_id=card.build_id, seed=None if found["selftest"] is None else found["selftest"].get("seed"),
               command=f"ringnic {command}")
    note(f"{output} is written; it has no name of this machine, MAC address or serial number. {HOME}")
    if failure is not None:
        raise failure
    return 1 if "error" in (found["selftest"] or {}) else 0
