"""The demo: a stock Linux guest uses the card, and every claim about it is checked while one watches."""

from contextlib import contextmanager
from random import Random
import re
import threading
import time

from rich.markup import escape

from ...hdl.spec.virtio import VIRTIO_F_RING_PACKED
from ..features import names
from ..progress import working
from .qemu import GuestError
from .report import mbit_s
from .transfer import Transfer, serve

__all__ = ["DHCP", "FAULTS", "PINGS", "Steps", "check_counters", "expect", "guest_steps", "negotiated", "ping_command",
           "wait_for"]

PINGS = 100
LOST_SECONDS = 60    # The guest's clock runs on while the card is simulated, so a shorter limit would call slow packets lost.
LINK_SECONDS = 60
LOOK_SECONDS = 0.1
DHCP = "udhcpc -i eth0 -s /etc/udhcpc.sh -f -q -n -t 30"
_DEVICE = "/sys/class/net/eth0"


class Steps:
    """Steps shown live: a spinner for the one at work, a line for each that is done. ``seconds``: what they took, by title."""
    def __init__(self, console):
        self._console = console
        self.seconds = {}

    @contextmanager
    def __call__(self, title):
        """Show a step; the block may call what it gets with a text on how far it is; the last one stays."""
        detail = ""
        start = time.monotonic()
        terminal = self._console.is_terminal
        with working(self._console, title) as show:
            def update(text):
                nonlocal detail
                detail = text
                show(text)
            try:
                yield update
            except BaseException:
                self._console.print(f"[red]✗[/] {escape(title)}  [dim]{escape(detail)}[/]", highlight=False,
                                    soft_wrap=not terminal)
                raise
            finally:
                self.seconds[title] = round(self.seconds.get(title, 0) + time.monotonic() - start, 2)
        self._console.print(f"[green]✓[/] {escape(title)}  [dim]{escape(detail)}[/]", highlight=False, soft_wrap=not terminal)


def expect(condition, what):
    """Raise :exc:`GuestError` with ``what`` unless the condition holds."""
    if not condition:
        raise GuestError(what)


def _driver(guest, report, update):
    """Which driver has the card, and what the card says it is."""
    lines = guest.run(
        f"d=$(readlink -f {_DEVICE}/device/..) && cat $d/vendor $d/device && readlink $d/driver && "
        f"readlink {_DEVICE}/device/driver && uname -r", check=False)[1]
    expect(len(lines) == 5, "No network interface appeared in the guest")
    vendor, device, bus_driver, driver, report.kernel = lines
    report.pci_id = f"{int(vendor, 16):04x}:{int(device, 16):04x}"
    report.driver = driver.rpartition("/")[2]
    update(f"{report.driver} ({bus_driver.rpartition('/')[2]}) on {report.pci_id}, Linux {report.kernel}")
    expect(report.pci_id == "1af4:1041", f"The card is {report.pci_id}, not a virtio-net device 1af4:1041")
    expect(report.driver == "virtio_net", f"The card's driver is {report.driver}, not virtio_net")


def negotiated(guest, report, update):
    """What driver and card have agreed upon, by the guest's word: a bit is a character, bit 0 first."""
    bits, pairs = guest.run(f"cat {_DEVICE}/device/features && ls -d {_DEVICE}/queues/rx-* | wc -l")
    found = {number for number, bit in enumerate(bits) if bit == "1"}
    report.ring = "packed" if VIRTIO_F_RING_PACKED in found else "split"
    report.features, report.queue_pairs = names(found), int(pairs)
    update(f"{report.ring} rings, {pairs} queue pair{'s' * (pairs != '1')}, {len(found)} features")


def _link_up(guest, update):
    [mac] = guest.run(f"ip link set eth0 up && cat {_DEVICE}/address")
    update(f"MAC address {mac}")
    expect(wait_for(lambda: guest.run(f"cat {_DEVICE}/carrier") == ["1"], guest.patience(LINK_SECONDS)), "The card shows no link")


def ping_command(count, peer, options=""):
    """Return a command of the guest's shell that pings ``peer``, at most ``count`` times, until an answer does not come.

    It writes a line with ``time=`` for each answer. Each ping is a process, because a process that has had an answer waits for
    the last one for two round trips only, whatever ``-W`` says: a machine that stands still for a second would lose it.
    """
    return f"for i in $(seq {count}); do ping -c 1 -W {LOST_SECONDS} {options} {peer} || break; done | grep time="


def _ping(guest, report, peer, count, update):
    guest.run(ping_command(5, peer), check=False)  # ARP, caches and the translated code warm up

    def on_line(line):
        if match := re.search(r"time=([\d.]+) ms", line):
            report.ping_rtt_ms.append(float(match[1]))
            update(f"{len(report.ping_rtt_ms)} of {count}, {float(match[1]):.2f} ms")
    guest.run(ping_command(count, peer), on_line=on_line, check=False)
    report.ping_sent = min(count, len(report.ping_rtt_ms) + 1)  # none follows one that was lost
    update(f"{report.ping_sent} sent, {report.ping_lost} lost" +
           (f", median {report.ping_rtt_ms_median:.2f} ms" if report.ping_rtt_ms else ""))
    expect(report.ping_lost == 0, f"Ping {report.ping_sent} of {count} got no answer within {LOST_SECONDS} s")


@contextmanager
def _progress(update, size, count):
    """Keep showing ``count()`` of ``size`` bytes while the block runs."""
    over = threading.Event()
    start = time.monotonic()

    def show():
        while not over.wait(0.2):
            update(f"{count() / 2**20:.1f} of {size / 2**20:g} MiB, "
                   f"{mbit_s(count(), time.monotonic() - start):.1f} Mbit/s")
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_for(condition, patience):
    """Wait until ``condition()`` holds; tell whether it does before ``patience`` is used up."""
    while not (holds := condition()) and not patience.over:
        time.sleep(LOOK_SECONDS)
    return holds


def guest_steps(guest, report, steps, *, peer, listen, lease=None, seed=0, size=4 << 20, pings=PINGS, timeout=300):
    """Take a booting guest through all steps, filling ``report``.

    Parameters
    ----------
    guest : Guest
        Just started.
    report : Report
        Filled as far as the run gets.
    steps : Steps
        Where to show them.
    peer : str
        Address that the guest pings and connects to; connections arrive at the host's address ``listen``.
    lease : str or None
        Address and mask length for the guest, else it asks by DHCP.
    seed : int
        Of the file's content.
    size : int
        Bytes to transfer each way.
    pings : int
        How many.
    timeout : float
        Seconds that a boot or a transfer may stand still.

    Raises
    ------
    GuestError
        A step failed or a check did not hold.
    """
    with steps("Boot a stock Linux guest") as update:
        start = time.monotonic()
        guest.wait_ready(timeout)
        update(f"{time.monotonic() - start:.1f} s")
    with steps("Its own virtio driver takes the card") as update:
        _driver(guest, report, update)
    with steps("What they agree upon") as update:
        negotiated(guest, report, update)
    with steps("Link up") as update:
        _link_up(guest, update)
    with steps("Address by DHCP" if lease is None else "Address") as update:
        guest.run(DHCP if lease is None else f"ip addr add {lease} dev eth0")
        report.address = next(iter(guest.run("ip -4 addr show dev eth0 | awk '/inet/ {print $2}'")), None)
        update(report.address or "none")
        expect(report.address, "The guest has no address")
    with steps(f"Ping {peer}") as update:
        _ping(guest, report, peer, pings, update)
    transfer = Transfer(Random(seed).randbytes(size))
    report.transfer_bytes = size
    with serve(transfer, listen):
        with steps("TCP to the guest") as update:
            with _progress(update, size, lambda: transfer.sent):
                guest.run(f"wget -q -O /tmp/file http://{peer}:{transfer.port}/file", timeout=timeout)
                expect(wait_for(transfer.get_done.is_set, guest.patience(timeout)), "The guest left before it had the whole file")
            report.tcp_rx_seconds = transfer.get_seconds
            update(f"{size / 2**20:g} MiB, {report.tcp_rx_mbit_s:.1f} Mbit/s")
        with steps("TCP from the guest") as update:
            with _progress(update, size, lambda: transfer.received):
                head = rf"PUT /file HTTP/1.0\r\nContent-Length: {size}\r\n\r\n"
                guest.run(f"{{ printf '{head}'; cat /tmp/file; }} | nc {peer} {transfer.port}", timeout=timeout)
            expect(transfer.put_seconds is not None, "The file did not come back")
            report.tcp_tx_seconds = transfer.put_seconds
            update(f"{size / 2**20:g} MiB, {report.tcp_tx_mbit_s:.1f} Mbit/s")
    with steps("SHA-256 at all ends") as update:
        report.sha256 = {"host": transfer.digest, "guest": guest.run("sha256sum /tmp/file")[0].split()[0],
                         "returned": transfer.received_digest}
        update(report.sha256["guest"][:16] + "…")
        expect(report.sha256_ok, f"The file changed on the way: {report.sha256}")


# What no run may count: broken rings, DMA that failed or went astray, TLPs against the rules.
FAULTS = ("queue_errors", "dma_faults", "dma_read_errors", "dma_timeouts", "cpl_unexpected", "tlps_malformed", "violations")


def check_counters(report):
    """Check what the card counted.

    Raises
    ------
    GuestError
        Its counters could not be read, or tell of a fault.
    """
    expect(report.counters.get("drops") is not None, "The card's counters could not be read")
    found = {name: report.counters[name] for name in FAULTS if report.counters.get(name)}
    expect(not found, f"The card counted faults: {', '.join(f'{name} {count}' for name, count in found.items())}")
