"""A guest with a card of one's choice, and what may be at the other end of its cable."""

from contextlib import ExitStack, contextmanager
from functools import cache
import os
from pathlib import Path
import tempfile
from threading import Timer

import pytest
from rich.console import Console
from scapy.layers.dns import DNS, DNSRR
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from ringnic.hdl.spec.net import DEFAULT_MTU
from ringnic.hdl.spec.virtio import VIRTIO_F_RING_PACKED
from ringnic.host.guest.assets import find_kernel, find_qemu, find_tools
from ringnic.host.guest.cable import plugged
from ringnic.host.features import parse
from ringnic.host.guest.card import DROPS, card_features, rtl_card
from ringnic.host.guest.demo import DHCP, FAULTS, Steps, guest_steps, ping_command
from ringnic.host.guest.initramfs import build_initramfs
from ringnic.host.guest.network import GATEWAY, socket_network, user_network
from ringnic.host.guest.qemu import start_guest
from ringnic.host.guest.report import Report


class ReferenceCard:
    """A card that is known to be good: QEMU's own virtio-net, at the same seam as ours."""
    def __init__(self, network, theirs):
        self._network = network
        self.pass_fds = (theirs.fileno(),)
        self.qemu_options = ["-netdev", f"dgram,id=net,local.type=fd,local.str={theirs.fileno()}",
                             "-device", "virtio-net-pci,netdev=net,disable-legacy=on,romfile="]
        self.fileno, self.send, self.recv = network.fileno, network.send, network.recv

    def fill(self, report):
        report.counters = {"drops": 0}

    @staticmethod
    def progress():
        return 0  # unknown: its packets are not ours to count


@contextmanager
def make_reference_card(_socket_path, **_options):
    with socket_network() as (network, theirs):
        yield ReferenceCard(network, theirs)


@pytest.fixture
def reference_card():
    return make_reference_card


class Echo:
    """A network of one peer that answers ARP, pings of any length, and who asks for an address by any name: it has its own.

    ``lengths`` are those of the frames it got. ``delays``: seconds by which the next answers are late; later ones are not.
    """
    address = "192.168.77.1"
    mac = "02:00:00:00:00:01"

    def __init__(self):
        self.lengths = []
        self.delays = []
        self._timer = None
        self._answers = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self):
        return self._fd

    def close(self):
        if self._timer:
            self._timer.cancel()
        os.close(self._fd)

    def send(self, frame):
        self.lengths.append(len(frame))
        packet = Ether(frame)
        if ARP in packet and packet[ARP].op == 1 and packet[ARP].pdst == self.address:
            answer = ARP(op=2, hwsrc=self.mac, psrc=self.address, hwdst=packet.src, pdst=packet[ARP].psrc)
        elif ICMP in packet and packet[ICMP].type == 8:
            ip, icmp = packet[IP], packet[ICMP]
            answer = IP(src=ip.dst, dst=ip.src) / ICMP(type=0, id=icmp.id, seq=icmp.seq) / bytes(icmp.payload)
        elif DNS in packet and packet[DNS].qr == 0:
            ip, udp, query = packet[IP], packet[UDP], packet[DNS]
            found = [DNSRR(rrname=query.qd[0].qname, rdata=self.address)] if query.qd[0].qtype == 1 else []
            answer = IP(src=ip.dst, dst=ip.src) / UDP(sport=53, dport=udp.sport) / DNS(id=query.id, qr=1, qd=query.qd, an=found)
        else:
            return
        frame = bytes(Ether(src=self.mac, dst=packet.src) / answer)
        if self.delays and (delay := self.delays.pop(0)):
            self._timer = Timer(delay, self._answer, [frame])
            self._timer.start()
        else:
            self._answer(frame)

    def _answer(self, frame):
        self._answers.append(frame)
        os.eventfd_write(self._fd, 1)

    def recv(self):
        if self._answers:
            return self._answers.pop(0)
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        return None


@cache
def make_initramfs(kernel, modules=()):
    return build_initramfs(find_kernel(kernel), find_tools(), modules)


@pytest.fixture(scope="session")
def initramfs():
    """Call it with a kernel, and modules besides the usual ones."""
    return make_initramfs


# What a card offers so that a driver uses the one kind of ring or the other.
RINGS = {name: parse(change, card_features()) for name, change in (("split", "-ring_packed"), ("packed", "+ring_packed"))}


@pytest.fixture(scope="session")
def rings():
    return RINGS


class Machine:
    """A guest that has booted, its card and the network behind it."""
    def __init__(self, guest, card, network):
        self.guest, self.card, self.network = guest, card, network
        self.run = guest.run

    @property
    def ring(self):
        """What the guest's driver and the card agreed upon."""
        [bits] = self.run("cat /sys/class/net/eth0/device/features")
        return "packed" if bits[VIRTIO_F_RING_PACKED] == "1" else "split"

    @property
    def pairs(self):
        """Queue pairs that the guest uses."""
        return int(self.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l")[0])

    def statistics(self):
        """The driver's, of `ethtool -S`."""
        return {name.strip(): int(value) for name, value in (
            line.split(":") for line in self.run("ethtool -S eth0") if line.strip()[-1:].isdigit())}

    def interrupts(self):
        """Interrupts of each of the card's vectors that has a name, by name."""
        found = {}
        for line in self.run("grep -h virtio /proc/interrupts"):
            _, *words = line.split()
            found[words[-1].partition("-")[2]] = sum(int(word) for word in words if word.isdigit())
        return found

    def online(self):
        self.run(f"ip link set eth0 up && {DHCP}")

    def ping(self, count, options=""):
        """Pings without an answer, of ``count``; those that come after one of them count, too."""
        return count - len(self.run(ping_command(count, getattr(self.network, "address", GATEWAY), options), check=False)[1])

    def counters(self):
        report = Report()
        self.card.fill(report)
        return report.counters

    def check(self, drops=()):
        """Nothing went wrong that a card counts, but for these kinds of ``drops``."""
        counters = self.counters()
        wrong = {name: counters[name] for name in {*DROPS, *FAULTS} - {*drops} if counters[name]}
        assert not wrong

    def steps(self, size=1 << 20):
        """What the demo does, after the boot."""
        report = Report()
        self.guest.wait_ready = lambda timeout: None
        guest_steps(self.guest, report, Steps(Console(quiet=True)), peer=GATEWAY, listen="127.0.0.1", size=size)
        return report


@pytest.fixture
def boot(offered):
    """Call it for a :class:`Machine`; ``ring``: "split" or "packed", else what ``--features`` says; ``cpus``: as many
    queue pairs are used at first; ``echo``: with :class:`Echo` as network; ``mtu``: that the card offers;
    ``devices``: further QEMU options; ``files``: more of them in the guest, which then has packet sockets, too."""
    with ExitStack() as stack:
        def boot(kernel="6.1", *, ring=None, cpus=1, append="", devices=(), reboots=False, echo=False, mtu=DEFAULT_MTU,
                 files=None):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringnic-")))
            (folder / "initramfs.gz").write_bytes(make_initramfs(kernel) if files is None else build_initramfs(
                find_kernel(kernel), find_tools(), ("af_packet",), files))
            qemu = find_qemu()
            network = Echo() if echo else stack.enter_context(user_network(qemu))
            if echo:
                stack.callback(network.close)
            card = stack.enter_context(rtl_card(folder / "card.sock", seed=0, wave=None, tlp=None,
                                                update=lambda text: None, features=RINGS.get(ring, offered), mtu=mtu))
            stack.enter_context(plugged(card, network))
            guest = stack.enter_context(start_guest(
                qemu, find_kernel(kernel), folder / "initramfs.gz", [*devices, *card.qemu_options],
                append=append, reboots=reboots, cpus=cpus, signs=(card.progress,)))
            guest.wait_ready()
            machine = Machine(guest, card, network)
            if ring is not None:
                assert machine.ring == ring
            return machine
        yield boot
