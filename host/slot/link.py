"""What a card says of its link to the host, as lines for people: of the words that the BAR has, and JTAG."""

from dataclasses import dataclass
import re

from rich.console import Console

from ...hdl.spec.bar import LINK_ENTRIES, LINK_MAGIC, LINK_OFFSET, LINK_TICK_NS, LINK_WORDS, LinkEntry, LinkStatus
from ...hdl.spec.pcie_7x import LTSSM
from . import checks
from .sysfs import SlotError
from .window import GONE, Unreadable, answered, bar_0, build_id

__all__ = ["OPENOCD", "Link", "State", "decode", "read_link", "run_link", "scanned"]

#: Prints the words; USER1 of a 7-series FPGA is instruction 2 of 6 bits (UG470, "JTAG Instructions"). ``{}``: what the cable is.
OPENOCD = (f'openocd -f {{}} -f cpld/xilinx-xc7.cfg -c "adapter speed 1000; init; irscan xc7.tap 0x02; '
           f'echo [drscan xc7.tap {{{{*}}}}[lrepeat {LINK_WORDS} 32 0]]; exit"')
TRIES = 4                    # the trace moves on while it is read
TORN = "the record changed while it was read, so the order of the states may be wrong"
HIGHEST_COUNT = 0xfff0       # after which only the number modulo LINK_ENTRIES is known
HEX = re.compile(r"\b(?:[0-9a-fA-F]{8}[ \t]+){%d}[0-9a-fA-F]{8}\b" % (LINK_WORDS - 1))


@dataclass(frozen=True)
class State:
    """A state of the link training. ``longer``: it lasted longer than can be told; ``gap``: perhaps there were others in it."""
    name: str
    seconds: float
    longer: bool
    gap: bool

    def __str__(self):
        least = f"{LINK_TICK_NS / 1000:.0f} us"
        time = f"under {least}" if not self.seconds else _time(self.seconds)
        return f"{self.name}, {'more than ' if self.longer else ''}{time}{', left while JTAG was read' if self.gap else ''}"


@dataclass(frozen=True)
class Link:
    """``count``: states since the FPGA was loaded; ``states``: the last of them, the newest last. ``clock``: the clock of the
    PCI Express block runs. ``torn``: the record changed while it was read, so the states may be of two moments."""
    up: bool
    gigatransfers: float
    lanes: int
    clock: bool
    count: int
    states: tuple
    torn: bool = False

    @property
    def summary(self):
        """One line."""
        if not self.clock:
            return "the clock of the PCI Express block stands: no reference clock from the slot?"
        return f"link up, {self.gigatransfers} GT/s x{self.lanes}" if self.up else "link down"

    @property
    def lines(self):
        """All of it: the summary, then a line for each state, the newest last."""
        if not self.states:
            return [f"{self.summary}; no state was recorded"]
        more = "more than " if self.count > HIGHEST_COUNT else ""
        last = f", the last {len(self.states)}" if self.count > len(self.states) else ""
        since = f"; {more}{self.count} state{'s' * (self.count != 1)} since the FPGA was loaded{last}:"
        return [f"{self.summary}{since}", *(f"  {state}" for state in self.states), *([f"  ({TORN})"] if self.torn else [])]

    @property
    def report(self):
        """The same for programs."""
        return {"up": self.up, "rate": self.gigatransfers, "width": self.lanes, "count": self.count, "torn": self.torn,
                "states": [{"state": state.name, "seconds": state.seconds, "gap": state.gap} for state in self.states]}


def _time(seconds):
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{seconds * factor:.3g} {unit}"


def _state(word):
    ticks = word & (1 << LinkEntry.TICKS.stop) - 1
    code = word >> LinkEntry.STATE.start & 0x3f
    return State(LTSSM.get(code, f"unknown state {code:#04x}"), ticks * LINK_TICK_NS / 1e9,
                 ticks == (1 << LinkEntry.TICKS.stop) - 1, bool(word >> LinkEntry.GAP & 1))


def decode(words, *, torn=False):
    """The :class:`Link` of the words of a card; None if they are none."""
    magic, status, *entries = words
    if magic != LINK_MAGIC:
        return None
    newest, clock = status >> LinkStatus.COUNT.start, bool(status >> LinkStatus.CLOCK & 1)
    # Entry 0 is written from the first cycle of the clock on.
    count = newest + 1 if clock or newest or entries[0] else 0
    numbers = range(max(0, count - LINK_ENTRIES), count)
    return Link(
        up=bool(status >> LinkStatus.UP & 1), gigatransfers=(2.5, 5.0)[status >> LinkStatus.RATE & 1],
        lanes=1 << (status >> LinkStatus.WIDTH.start & 3), clock=clock, count=count, torn=torn,
        states=tuple(_state(entries[number % LINK_ENTRIES]) for number in numbers))


def read_link(read):
    """The :class:`Link` of a card whose BAR 0 is read by ``read(offset)``; None if the card has no record.

    :exc:`Unreadable` if the card does not answer.
    """
    if answered(read(LINK_OFFSET)) != LINK_MAGIC:
        return None
    status = read(LINK_OFFSET + 4)
    for _ in range(TRIES):
        before, entries = answered(status), [read(LINK_OFFSET + 4 * at) for at in range(2, LINK_WORDS)]
        if (status := answered(read(LINK_OFFSET + 4))) == before:
            break
    return decode([LINK_MAGIC, status, *entries], torn=status != before)


def scanned(text):
    """The :class:`Link` that OpenOCD has printed as part of ``text``; None if there is none."""
    return next((link for found in HEX.findall(text) if (link := decode([int(word, 16) for word in found.split()]))), None)


def run_link(machine, bdf, text):
    """Show the :class:`Link` of the card at address ``bdf`` or, if that is None, of ``text`` with what OpenOCD has printed.

    ``text`` is None if nothing was piped. Return the exit status. :exc:`SlotError` if there is nothing to show.
    """
    if bdf is None:
        command = f"{OPENOCD.format('interface/CABLE.cfg')} 2>&1 | ringnic link"
        if text is None:
            raise SlotError(f"give an ADDRESS, or pipe OpenOCD's output: {command}")
        found = scanned(text)
        if found is None:
            raise SlotError("there are no words of a card in what was read. In a shell, with the file of your JTAG cable: "
                            f"{command}")
    else:
        function = machine.function(bdf)
        try:
            if not checks.answers(function):
                raise Unreadable(GONE)
            if build_id(function) is None:
                raise SlotError(f"{function} is no RingNIC")
            with bar_0(function) as read:
                found = read_link(read)
        except Unreadable as reason:
            raise SlotError(f"{function} cannot be read: {reason}") from None
        if found is None:
            raise SlotError(f"{function} has no record: it is not behind a 7-series block, or it was built before there was one")
    console = Console(highlight=False, soft_wrap=True)
    for line in found.lines:
        console.print(line, markup=False)
    return 0
