"""``ringnic monitor``: what a card is doing, while its driver or a guest has it, told by its own counters.

Nothing is written to the card, and no register is read that a read changes.
"""

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import ceil
import time

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...hdl.spec.bar import (BUILD_ID_OFFSET, COMMON_OFFSET, CONTROL_OFFSET, COUNTERS, COUNTERS_MAGIC, COUNTERS_OFFSET,
                             DEVICE_OFFSET, GMII_CONTROLS)
from ...hdl.spec.net import VIRTIO_NET_S_LINK_UP
from ...hdl.spec.virtio import Common, Status
from ..counters import read_counters
from ..errors import note
from ..guest.registers import ALL_ONES, NoDemo, demo_registers, find_demo
from ..progress import working
from ..results import write_json
from .link import Link, read_link
from .sysfs import VFIO_PCI, SlotError
from .window import Unreadable, answered, bar_0

__all__ = ["DROPS", "ERRORS", "FLOW", "DemoCard", "History", "Sample", "SlotCard", "run_monitor", "take", "view"]

INTERVAL = 1.0               # seconds
LOOK = 0.2                   # seconds
MINUTE = 60                  # samples
RECENT = 10                  # samples: as long as a counter of errors that has moved is red
RECENT_STATES = 3            # of the link training
BARS, BARS_ASCII, BAR_COLUMNS = "▁▂▃▄▅▆▇█", "_.:-=+*#", 20
KEPT = "; a kernel keeps a guest's registers to the guest unless it was started with iomem=relaxed"
NET_STATUS_DW = 4            # of the device configuration, MAC and status: the upper half is status (5.1.4)

FLOW = {
    "tx_frames": "Frames from the driver", "rx_frames": "Frames to the driver", "mac_tx_frames": "Frames out on the wire",
    "kicks": "Notified by the driver", "notifications": "Notified the driver", "dma_read_tlps": "DMA reads, TLPs",
    "dma_write_tlps": "DMA writes, TLPs",
}
BYTES = {"tx_bytes": "Bytes from {}", "rx_bytes": "Bytes to {}"}   # the kernel's, by its interface
# By their own names, which documents and reports use too.
DROPS = ("tx_dropped", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "rx_dropped_down", "mac_rx_overflow",
         "mac_rx_pause", "mac_rx_control")
ERRORS = ("mac_rx_bad_fcs", "mac_rx_runt", "mac_rx_giant", "queue_errors", "dma_read_errors", "dma_timeouts", "cpl_unexpected",
          "requests_unsupported", "tlps_malformed")


@dataclass
class Sample:
    """What a card says at a moment, ``time``, in seconds. ``counters``: by name, and the kernel's bytes where it counts them.

    ``link``: what has become of the link to the host, if the card tells.
    """
    time: float
    build_id: int
    status: int
    num_queues: int
    link_up: bool
    loopback: bool
    counters: dict = field(default_factory=dict)
    link: Link | None = None


def take(read, now):
    """Return a :class:`Sample` of a RingNIC whose BAR 0 is read by ``read(offset)``; :exc:`Unreadable` if it is none."""
    def alive():
        if answered(read(COUNTERS_OFFSET)) != COUNTERS_MAGIC:
            raise Unreadable("it has no page of counters: it is no RingNIC, or not enabled")
    alive()
    if (count := read(COUNTERS_OFFSET + 4)) != len(COUNTERS):
        raise Unreadable(f"it has {count} counters and this program knows {len(COUNTERS)}: use the program of the card's build")
    sample = Sample(
        time=now, counters=read_counters(read), build_id=read(BUILD_ID_OFFSET),
        status=read(COMMON_OFFSET + Common.DEVICE_STATUS) & 0xff,
        num_queues=read(COMMON_OFFSET + (Common.NUM_QUEUES & ~3)) >> 8 * (Common.NUM_QUEUES & 3) & 0xffff,
        link_up=bool(read(DEVICE_OFFSET + NET_STATUS_DW) >> 16 & VIRTIO_NET_S_LINK_UP),
        loopback=bool(read(CONTROL_OFFSET) >> GMII_CONTROLS.index("loopback") & 1), link=read_link(read))
    alive()
    return sample


class SlotCard:
    """A card in a slot of this machine, as the kernel lets us see it."""
    def __init__(self, function):
        self.function = function
        self.title = f"{function}"

    def sample(self, now):
        function = self.function
        if not function.exists():
            raise Unreadable("it is off the bus: `echo 1 > /sys/bus/pci/rescan` as root looks for it")
        with ExitStack() as stack:
            try:
                read = stack.enter_context(bar_0(function))
            except Unreadable as reason:
                raise Unreadable(f"{reason}{KEPT if function.driver == VFIO_PCI and function.holders() else ''}") from None
            sample = take(read, now)
        for name in BYTES:
            counts = [self._statistic(interface, name) for interface in function.interfaces()]
            if counts and None not in counts:
                sample.counters[name] = sum(counts)
        return sample

    def _statistic(self, interface, name):
        count = self.function.machine.read(f"/sys/class/net/{interface}/statistics/{name}")
        return int(count) if count else None

    def place(self):
        """Where the card is and who has it, for people and for programs."""
        function = self.function
        speed, width, most_speed, most_width = function.link()
        interfaces = function.interfaces()
        queues = [len([queue for queue in function.machine.list(f"/sys/class/net/{name}/queues") if queue.startswith("rx-")])
                  for name in interfaces]
        return {"address": function.address, "driver": function.driver, "interfaces": interfaces,
                "queue_pairs": sum(queues) or None,
                "link": {"speed": speed, "width": width, "max_speed": most_speed, "max_width": most_width}}


class NotEnabled(Unreadable):
    """No driver has enabled the card so far."""


class DemoCard:
    """A simulated card of a running demo, or of `ringnic serve`: that at a socket, or else the last one."""
    title = "the simulated card"

    def __init__(self, socket=None):
        self._path = find_demo(socket)

    def sample(self, now):
        with demo_registers(self._path) as read:
            if read(COUNTERS_OFFSET) == ALL_ONES:
                raise NotEnabled("waiting for a driver that enables it")
            return take(read, now)

    def place(self):
        return {"address": None, "driver": None, "interfaces": [], "queue_pairs": None, "link": None}


class History:
    """The samples of the last minute. One that counts less than the one before is of a card that began anew."""
    def __init__(self):
        self.samples = deque(maxlen=MINUTE + 1)

    def add(self, sample):
        if self.samples and any(value < self.last.counters.get(name, 0) for name, value in sample.counters.items()):
            self.samples.clear()
        self.samples.append(sample)

    @property
    def last(self):
        return self.samples[-1] if self.samples else None

    def rates(self, name):
        """What was counted a second between any two samples, the latest last."""
        known = [(sample.time, sample.counters[name]) for sample in self.samples if name in sample.counters]
        return [(value - before) / (at - since) for (since, before), (at, value) in zip(known, known[1:]) if at > since]

    def moved(self, name):
        """Whether a counter has moved of late."""
        return any(self.rates(name)[-RECENT:])


def _bars(rates, ascii_only):
    """Draw rates, the latest at the right end, in pieces of the minute whose height is the highest rate in them."""
    step, bars = MINUTE // BAR_COLUMNS, BARS_ASCII if ascii_only else BARS
    pieces = [max(rates[max(0, end - step):end]) for end in range(len(rates), 0, -step)][:BAR_COLUMNS][::-1]
    top = max(pieces, default=0)
    if not top:
        return Text((bars[0] * len(pieces)).rjust(BAR_COLUMNS), "dim")
    # What moved at all is higher than what did not.
    return Text("".join(bars[ceil(piece / top * (len(bars) - 1))] for piece in pieces).rjust(BAR_COLUMNS), "cyan")


def _flow(history, place, ascii_only):
    table = Table(box=None, expand=False, pad_edge=False)
    for heading, how in (("", {}), ("a second", {"justify": "right"}), ("in all", {"justify": "right"}), ("the last minute", {})):
        table.add_column(heading, header_style="dim", no_wrap=True, **how)
    rows = {**FLOW, **{name: label.format("/".join(place["interfaces"])) for name, label in BYTES.items()}}
    for name, label in rows.items():
        if name not in history.last.counters:
            continue
        rates, total = history.rates(name), history.last.counters[name]
        rate, total = ((decimal(round(rates[-1])) if rates else "-", decimal(total)) if name in BYTES else
                       (f"{rates[-1]:,.0f}" if rates else "-", f"{total:,}"))
        table.add_row(label, rate, total, _bars(rates, ascii_only))
    return table


def _worries(history):
    """Drops and pauses at the left, errors at the right: dim while 0, red while they move."""
    table = Table(box=None, expand=False, pad_edge=False)
    for heading, justify in (("Drops, pauses", "left"), ("", "right"), ("   Errors", "left"), ("", "right")):
        table.add_column(heading, justify=justify, no_wrap=True)
    sides = []
    for group, indent in ((DROPS, ""), (ERRORS, "   ")):
        cells = []
        for name in group:
            count = history.last.counters[name]
            style = "bold red" if history.moved(name) else "" if count else "dim"
            cells.append((Text(indent + name, style), Text(f"{count:,}", style)))
        sides.append(cells)
    for k in range(max(map(len, sides))):
        table.add_row(*(cell for cells in sides for cell in (cells[k] if k < len(cells) else ("", ""))))
    return table


def _driver(sample, name):
    """How far the driver is with the device."""
    for flag, text, style in ((Status.DEVICE_NEEDS_RESET, "the card needs a reset", "bold red"),
                              (Status.FAILED, f"{name} gave up", "red"), (Status.DRIVER_OK, f"{name} is at work", "green")):
        if sample.status & flag:
            return Text(text, style)
    return Text("no driver is at work", "yellow")


def _link(link):
    """The PCIe link, and what it could be."""
    if link is None:
        return Text("simulated PCIe link")
    now, most = (f"{(speed or '?').removesuffix(' PCIe')} x{width or '?'}"
                 for speed, width in ((link["speed"], link["width"]), (link["max_speed"], link["max_width"])))
    if link["width"] is None:
        return Text("PCIe link down", "red") if link["max_width"] else Text("PCIe link not told by the kernel", "dim")
    return Text(f"PCIe {now}") if now == most else Text(f"PCIe {now} of {most}", "yellow")


def _training(link):
    """The newest states of the link training, as many as fit one line of a small terminal."""
    heading = f"Link states{' (changed while read)' * link.torn}"
    return Text("; ".join([heading, *map(str, link.states[-RECENT_STATES:])]), "dim", no_wrap=True, overflow="ellipsis")


def view(card, history, trouble=None, ascii_only=False):
    """Return what to show of a card; ``trouble``: why there is no newer sample."""
    sample, place = history.last, card.place()
    banner = [Text(f"{card.title}: {trouble}", "bold red")] if trouble else []
    if sample is None:
        return Group(*banner)
    wire = Text("loopback, the wire is silent", "yellow") if sample.loopback else (
        Text("Ethernet link up", "green") if sample.link_up else Text("Ethernet link down", "red"))
    pairs = f", {place['queue_pairs']} pairs in use by {'/'.join(place['interfaces'])}" if place["queue_pairs"] else ""
    lines = (
        Text.assemble((f"RingNIC {card.title}", "bold"), f", build {sample.build_id:08x}, {sample.num_queues} queues{pairs}"),
        Text.assemble(_link(place["link"]), "; ", wire, "; ", _driver(sample, place["driver"] or "a driver")),
    )
    if sample.link is not None:
        lines = (*lines, _training(sample.link))
    return Group(*banner, *lines, _flow(history, place, ascii_only), "", _worries(history))


def _as_dict(card, history):
    sample = history.last
    rates = {name: rates[-1] for name in sample.counters if (rates := history.rates(name))}
    return {**card.place(), "build_id": f"{sample.build_id:08x}",
            "status": [flag.name for flag in Status if sample.status & flag],
            "num_queues": sample.num_queues, "link_training": sample.link.report if sample.link else None,
            "link_up": sample.link_up, "loopback": sample.loopback, "counters": sample.counters, "per_second": rates}


def _wait(card, console, history):
    """Take the first sample, of a simulated card as soon as it has a driver."""
    with ExitStack() as stack:
        shown = False
        while True:
            try:
                return history.add(card.sample(time.monotonic()))
            except NotEnabled:
                if not shown:
                    shown = stack.enter_context(working(console, f"{card.title}: waiting for a driver that enables it"))
                time.sleep(LOOK)


def _watch(card, console, history, once):
    """Show the card until it is seen twice, or until Ctrl-C."""
    _wait(card, console, history)
    if once:
        time.sleep(INTERVAL)
        history.add(card.sample(time.monotonic()))
        console.print(view(card, history, ascii_only=console.options.ascii_only))
        return
    following = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        trouble = None
        while True:
            live.update(view(card, history, trouble, console.options.ascii_only), refresh=True)
            following = max(following + INTERVAL, time.monotonic())
            time.sleep(max(0, following - time.monotonic()))
            try:
                history.add(card.sample(time.monotonic()))
                trouble = None
            except Unreadable as reason:
                trouble = f"{reason}"


def run_monitor(machine, bdf, report=None, *, demo=False, once=False, console=None):
    """Watch the card at address ``bdf``, or a simulated one; with ``once``, for a second. Return the exit status.

    With ``demo``, ``bdf`` is the socket of a simulated card, None for the last one; when that ends, so does the watch, with 0.

    ``report``: a file for the last sample and the rates, written at the end. :exc:`SlotError` if there is nothing to see.
    """
    console = Console() if console is None else console
    history = History()
    try:
        card = DemoCard(bdf) if demo else SlotCard(machine.function(bdf))
        _watch(card, console, history, once)
    except KeyboardInterrupt:          # how it is ended, as soon as there was something to see
        if once or history.last is None:
            raise
    except NoDemo as reason:
        if history.last is None:
            raise SlotError(f"{reason}") from None
        note(f"{reason}")
    except Unreadable as reason:
        raise SlotError(f"{card.title} cannot be watched: {reason}") from None
    finally:
        if report is not None and history.last is not None:
            found = _as_dict(card, history)
            write_json(report, found, build_id=found["build_id"])
    return 0
