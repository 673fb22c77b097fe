"""DPDK's testpmd: the card belongs to a program of a guest's user space, through vfio-pci and an IOMMU that translates."""

import os
import re

import pytest

from ringnic.hdl.spec.virtio import VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED
from ringnic.host.features import parse
from ringnic.host.guest.assets import Tools, find_kernel, find_qemu, find_tools
from ringnic.host.guest.card import card_features
from ringnic.host.guest.clients import TESTPMD, TESTPMD_DRIVERS, find_testpmd
from ringnic.host.guest.demo import wait_for
from ringnic.host.guest.initramfs import build_initramfs
from ringnic.host.guest.qemu import start_guest

RINGS = {"split": "-ring_packed", "packed": "+ring_packed"}
SECONDS = 120  # that nothing may move
IOMMU = ("-device", "intel-iommu,intremap=on,caching-mode=on")
CPU = "Nehalem"  # the first with SSE4.2, which Debian's DPDK needs
HUGE_PAGES = 64  # of 2 MiB
# A small pool of buffers: they come round often.
OPTIONS = f"-l 0-1 -n 1 -m 96 --in-memory --no-telemetry {' '.join(f'-d {name}' for name in TESTPMD_DRIVERS)}"
PORT_OPTIONS = "-i --nb-cores=1 --total-num-mbufs=2048 --mbcache=32 --no-mlockall"
PROMPT, ENDED = r"testpmd> $", r"\n@@ \d+ \d+\n"
CARD_MAC = bytes.fromhex("525400524e01")
STATION_MAC = bytes.fromhex("020000000001")
WINDOW = 48  # frames on their way: fewer than testpmd has buffers
FRAMES = 3000
BURST_FRAMES = 2000


class Station:
    """A network of one station: sends the frames of ``outgoing``, never more than ``WINDOW`` without an answer, and keeps what
    comes in ``received``."""
    def __init__(self):
        self.outgoing, self.received = [], []
        self._sent = 0
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self):
        return self._fd

    def close(self):
        os.close(self._fd)

    def start(self, frames):
        """Send these, from now on."""
        self._sent, self.received, self.outgoing = 0, [], frames
        os.eventfd_write(self._fd, 1)

    def send(self, frame):
        self.received.append(frame)
        os.eventfd_write(self._fd, 1)

    def recv(self):
        if self._sent < min(len(self.outgoing), len(self.received) + WINDOW):
            self._sent += 1
            return self.outgoing[self._sent - 1]
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        return None


class Pmd:
    """testpmd at work in a guest, on the card at the PCI address ``bdf``, with the guest's console to itself."""
    def __init__(self, guest, bdf):
        self._guest = guest
        # DPDK loads no driver from below a folder that anyone may write to, and an initramfs is one.
        guest.run("chmod 755 / && mkdir -p /var/run")
        guest.send(f"{TESTPMD} {OPTIONS} -a {bdf} -- {PORT_OPTIONS} </dev/ttyS0")
        self._answer("The start of testpmd")

    def _answer(self, what, end=PROMPT):
        text = self._guest.until(f"{end}|{ENDED}", SECONDS, what)
        if not re.search(end, text):
            self._guest.fail(f"{what}: testpmd ended")
        return text

    def run(self, command):
        """Return what a command says."""
        self._guest.type(f"{command}\n", command)
        return self._answer(command)

    def end(self):
        self._guest.type("quit\n", "quit")
        self._answer("quit", rf"Bye\.\.\.(.|\n)*{ENDED}")

    def counts(self):
        """Packets and bytes received and sent, and those missed, by testpmd's word."""
        text = self.run("show port stats 0")
        return {name: int(re.search(rf"{name}: +(\d+)", text)[1])
                for name in ("RX-packets", "RX-missed", "RX-bytes", "TX-packets", "TX-errors", "TX-bytes")}


def frames(rng, count):
    """Frames of all lengths to the card, no two alike."""
    return [CARD_MAC + STATION_MAC + b"\x88\xb5" + number.to_bytes(4, "big") + rng.randbytes(rng.randint(60, 1514) - 18)
            for number in range(count)]


def swapped(frame):
    """The frame with its two addresses exchanged, as testpmd sends it back."""
    return frame[6:12] + frame[:6] + frame[12:]


def bind(guest):
    """Give the card to vfio-pci; return its PCI address."""
    [bdf] = guest.run("basename $(readlink -f /sys/class/net/eth0/device/..)")
    guest.run(f"cd /sys/bus/pci/devices/{bdf} && echo {bdf} >driver/unbind && echo vfio-pci >driver_override && "
              f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/bind; cd /")
    assert guest.run(f"cat $(readlink -f /sys/bus/pci/devices/{bdf}/iommu_group)/type")[0].startswith("DMA")
    return bdf


@pytest.fixture(params=RINGS)
def rig(request, setup):
    """The guest, its card, the station on the card's cable, and whether the ring is packed."""
    kernel, tools = find_kernel(), find_tools()
    tools = Tools(tools.busybox, {**tools.files, **find_testpmd()})
    initramfs = setup.folder / "initramfs.gz"
    initramfs.write_bytes(build_initramfs(kernel, tools, ("vfio_iommu_type1", "vfio_pci")))
    station = Station()
    setup.callback(station.close)
    card = setup.card(station, parse(RINGS[request.param], card_features()))
    guest = setup.enter(start_guest(
        find_qemu(), kernel, initramfs, [*IOMMU, *card.qemu_options], cpu=CPU, cpus=2, memory_mb=512,
        append=f"intel_iommu=on iommu.passthrough=0 hugepages={HUGE_PAGES}", signs=(card.progress,)))
    guest.wait_ready()
    return guest, card, station, request.param


def test_frames_go_round(setup, rig, rng):
    guest, card, station, ring = rig
    bdf = bind(guest)
    received = transmitted = 0
    for _ in range(2):  # the second time on a card that VFIO has reset
        testpmd = Pmd(guest, bdf)
        features = int(re.search(r"guest_features: 0x([0-9a-f]+)", testpmd.run("show port info 0"))[1], 16)
        assert features >> VIRTIO_F_RING_PACKED & 1 == (ring == "packed")
        assert features >> VIRTIO_F_ACCESS_PLATFORM & 1 and features >> VIRTIO_F_IN_ORDER & 1
        testpmd.run("set fwd macswap")
        testpmd.run("start")
        sent = frames(rng, FRAMES)
        station.start(sent)
        wait_for(lambda: len(station.received) >= len(sent), guest.patience(SECONDS, lambda: len(station.received)))
        testpmd.run("stop")
        assert station.received == [swapped(frame) for frame in sent]
        size = sum(map(len, sent))
        assert testpmd.counts() == {"RX-packets": FRAMES, "RX-missed": 0, "RX-bytes": size,
                                    "TX-packets": FRAMES, "TX-errors": 0, "TX-bytes": size}
        # As many frames as it can send.
        station.start([])
        testpmd.run("clear port stats 0")
        testpmd.run("set fwd txonly")
        testpmd.run("start")
        wait_for(lambda: len(station.received) >= BURST_FRAMES, guest.patience(SECONDS, lambda: len(station.received)))
        testpmd.run("stop")
        counts = testpmd.counts()
        wait_for(lambda: len(station.received) >= counts["TX-packets"], guest.patience(SECONDS, lambda: len(station.received)))
        assert counts["TX-packets"] == len(station.received) >= BURST_FRAMES
        assert counts["TX-bytes"] == sum(map(len, station.received)) and counts["TX-errors"] == 0
        received, transmitted = received + FRAMES, transmitted + FRAMES + counts["TX-packets"]
        counters = setup.check(card)  # later they cannot be read: VFIO switches the card off
        assert (counters["rx_frames"], counters["tx_frames"]) == (received, transmitted)
        testpmd.end()
