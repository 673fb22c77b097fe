"""What each guest does while its device's accesses are counted: pings, then a file comes in by TCP and goes out again.

Pings come in short rounds, and the median round is reported: a driver that also looks after its card every few seconds (e1000
reads 60 registers of statistics) does so in few of the rounds.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from statistics import median

from ..guest.demo import DHCP, expect, ping_command
from ..guest.network import GATEWAY
from ..guest.qemu import GuestError
from ..guest.transfer import Transfer, serve
from .trace import count

__all__ = ["Counted", "Load", "run_load"]

DEVICE = "/sys/class/net/eth0"
# Packets that the driver sent and received, then its interrupts: a line for each vector.
LOOK = (f"cat {DEVICE}/statistics/tx_packets {DEVICE}/statistics/rx_packets; "
        r"grep -E ' (eth0|virtio[0-9])' /proc/interrupts || true")


@dataclass
class Counted:
    """Of one phase: accesses of each kind, packets that the guest sent and received, interrupts. ``command`` is its number on
    the guest's console."""
    command: int
    tx_packets: int
    rx_packets: int
    interrupts: int
    reads: int = 0
    writes: int = 0
    notifications: int = 0

    def take(self, kinds):
        """Take the accesses, numbers by "read", "write" and "notify"."""
        self.reads, self.writes, self.notifications = kinds["read"], kinds["write"], kinds["notify"]

    @property
    def accesses(self):
        return self.reads + self.writes + self.notifications

    @property
    def per_packet(self):
        return self.accesses / (self.tx_packets + self.rx_packets)

    @property
    def interrupts_per_packet(self):
        return self.interrupts / (self.tx_packets + self.rx_packets)


@dataclass
class Load:
    """What one guest did: rounds of ``pings`` pings each, and ``transfer_bytes`` each way. ``tso``: the driver left it to the
    device to cut TCP into packets."""
    pings: int
    transfer_bytes: int = 0
    driver: str | None = None
    tso: bool | None = None
    rounds: list = field(default_factory=list)
    tcp_in: Counted | None = None
    tcp_out: Counted | None = None

    @property
    def accesses_per_ping(self):
        return median(one.accesses for one in self.rounds) / self.pings

    @property
    def interrupts_per_ping(self):
        return median(one.interrupts for one in self.rounds) / self.pings

    def read_trace(self, phases, regions):
        """Take the accesses to ``regions`` from the phases of a trace; :exc:`GuestError` if it lacks one of ours."""
        for one in (*self.rounds, self.tcp_in, self.tcp_out):
            if one.command not in phases:
                raise GuestError(f"QEMU's trace lacks the end of command {one.command} on the guest's console")
            one.take(count(phases[one.command], regions))


def _look(guest):
    tx, rx, *vectors = guest.run(LOOK)
    return int(tx), int(rx), sum(int(word) for line in vectors for word in line.split()[1:] if word.isdigit())


def _counted(guest, command, timeout, handled):
    before, until = _look(guest), handled()
    guest.run(command, timeout=timeout)
    number, during = guest.commands, handled()
    during.subtract(until)
    one = Counted(number, *(now - then for now, then in zip(_look(guest), before)))
    one.take(during)
    return one


def run_load(guest, driver, update, *, rounds, pings, size, seed, timeout=300, handled=Counter):
    """Take a guest that has booted through all phases; return its :class:`Load`.

    ``driver``: which the device must have; ``size``: bytes to transfer each way; ``timeout``: seconds that a command may stand
    still. ``handled``: returns the accesses so far, numbers by kind; without it there are none until :meth:`Load.read_trace`
    takes them from a trace. Raises :exc:`GuestError` where something does not work.
    """
    load = Load(pings, size)
    load.driver = guest.run(f"basename $(readlink {DEVICE}/device/driver)")[-1]
    expect(load.driver == driver, f"The device's driver is {load.driver}, not {driver}")
    # IPv6 looks for routers and neighbours by itself; what is counted shall be of the pings.
    guest.run(f"echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up && {DHCP}", timeout=timeout)
    load.tso = any("tcp-segmentation-offload: on" in line for line in guest.run("ethtool -k eth0"))
    ping = f"[ $({ping_command(pings, GATEWAY)} | wc -l) = {pings} ]"
    guest.run(ping, timeout=timeout, check=False)  # ARP, caches and the translated code warm up; a slow guest may give up on ARP
    for number in range(rounds):
        update(f"pings, round {number + 1} of {rounds}")
        load.rounds.append(_counted(guest, ping, timeout, handled))
    transfer = Transfer(Random(seed).randbytes(size))
    with serve(transfer):
        update("TCP into the guest")
        load.tcp_in = _counted(guest, f"wget -q -O /tmp/file http://{GATEWAY}:{transfer.port}/file", timeout,
                                handled)
        update("TCP out of the guest")
        head = rf"PUT /file HTTP/1.0\r\nContent-Length: {size}\r\n\r\n"
        load.tcp_out = _counted(guest, f"{{ printf '{head}'; cat /tmp/file; }} | nc {GATEWAY} {transfer.port}", timeout, handled)
    expect(transfer.received_digest == transfer.digest, "The file did not come back, or changed on the way")
    return load
