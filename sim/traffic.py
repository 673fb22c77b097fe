"""Traffic that keeps a simulated card busy: a driver that takes no time, and a wire that always has a frame."""

from collections import deque
from math import ceil
import random
import struct

from ..hdl.net.device import frame_memory
from ..hdl.spec.ethernet import HEADER_BYTES
from ..hdl.spec.net import VIRTIO_NET_HDR_SIZE
from ..host.driver.net import NoSpace, VirtioNet

__all__ = ["SETTLED", "STALL", "Traffic", "WatchedNet", "datagram"]

SLICE = 100              # cycles between looks of the driver
STALL = 2_000_000        # cycles after which a case has failed
SETTLED = 5000           # cycles after which nothing is under way any more
# What is in the card's memory for frames, and on its way to it, when another one is sent. One leaves as fast as the next comes.
WAITING_FRAMES, WAITING_SHARE = 128, 3 / 4
MARK, MARK_BYTES = 2048, 8  # so far apart, so many bytes of a receive buffer are 0 until a frame comes, which has others there
UDP = struct.Struct(">6s6sH BBHHHBBH4s4s HHHH")
NUM_BUFFERS = struct.Struct("<H")
NUM_BUFFERS_AT = VIRTIO_NET_HDR_SIZE - NUM_BUFFERS.size


def datagram(size, flow, outward):
    """An Ethernet frame of ``size`` bytes, without FCS, of a flow that the card can tell from others; ``outward`` or back."""
    macs = [b"\x52\x54\0\0\0\1", b"\x52\x54\0\x52\x4e\1"]
    addresses, ports = [b"\x0a\0\0\2", b"\x0a\0\0\1"], [5000, 6000 + flow]
    if not outward:
        for both in (macs, addresses, ports):
            both.reverse()
    header = UDP.pack(*macs, 0x0800, 0x45, 0, size - HEADER_BYTES, 0, 0, 64, 17, 0, *reversed(addresses), *reversed(ports),
                      size - 34, 0)
    return header + random.Random(size).randbytes(size - len(header))


class WatchedNet(VirtioNet):
    """The golden driver, and how many frames lie in its receive buffers, told of or not.

    A frame that lies there has left the card's memory, or begun to; a busy card tells the driver of it with others, later.
    """
    def _start(self, **options):
        self._posted = [deque() for _ in range(options["pairs"])]  # slots that the device has, in the order in which it uses them
        self.delivered, self._latest = 0, []   # and the slots of the last one
        super()._start(**options)

    def refill(self, slots, pair=0):
        for slot in slots:
            at, end = slot * self.rx_slot, (slot + 1) * self.rx_slot
            NUM_BUFFERS.pack_into(self.rx_memory.view, at + NUM_BUFFERS_AT, 0)
            for mark in range(at, end - MARK_BYTES, MARK):
                self.rx_memory.view[mark:mark + MARK_BYTES] = bytes(MARK_BYTES)
            if slot in self._latest:
                self._latest = []
        self._posted[pair].extend(slots)
        super().refill(slots, pair)

    def watch(self):
        """Count what was delivered since the last call into :attr:`delivered`: the device writes num_buffers (5.1.9.4)."""
        for slots in self._posted:
            while slots:
                count, = NUM_BUFFERS.unpack_from(self.rx_memory.view, slots[0] * self.rx_slot + NUM_BUFFERS_AT)
                if not count:
                    break
                self.delivered += 1
                self._latest = [slots.popleft() for _ in range(count)]

    def rest(self, size):
        """About how many bytes of the frame that was delivered last, which has ``size`` bytes, are still in the card."""
        places = [(k * self.rx_slot + at, slot * self.rx_slot + at)
                  for k, slot in enumerate(self._latest) for at in range(0, self.rx_slot - MARK_BYTES, MARK)]
        return MARK * sum(not any(self.rx_memory.view[mark:mark + MARK_BYTES]) for place, mark in places
                          if 0 < place <= VIRTIO_NET_HDR_SIZE + size - MARK_BYTES)


class Traffic:
    """Keeps a card busy with frames of one size, on all pairs of queues, and counts what gets through.

    Parameters
    ----------
    engine : Engine
    net : WatchedNet
    direction : "tx", "rx" or "both"
    size : int
        Bytes of a frame, without FCS.

    Attributes
    ----------
    received : list
        Frames that the driver has got, by pair.
    """
    def __init__(self, engine, net, direction, size):
        self.engine, self.net = engine, net
        self.pairs = range(net.pairs)
        self.out = [datagram(size, pair, True) for pair in self.pairs]
        self.back = [datagram(size, pair, False) for pair in self.pairs]
        for pair in self.pairs:                # 5.1.6.5.5: the card learns a flow's pair when it transmits
            self.net.send(self.out[pair], pair=pair)
        engine.run(SETTLED)
        self.sends = direction in ("tx", "both")
        self.receives = direction in ("rx", "both")
        self.offered, self.received = 0, [0 for _ in self.pairs]
        self.size = size
        self.most = int(WAITING_SHARE * frame_memory(engine.width))    # bytes
        self.window = min(WAITING_FRAMES, ceil(self.most / size))      # frames that are under way

    def _has_room(self):
        frames = self.offered - self.net.delivered
        return frames < self.window and frames * self.size + self.net.rest(self.size) < self.most

    def step(self):
        """Top up driver and wire, run a little."""
        for pair in self.pairs if self.sends else ():
            queued = 0
            try:
                while True:
                    self.net.send(self.out[pair], kick=False, pair=pair)
                    queued += 1
            except NoSpace:
                pass
            if queued:
                self.net.tx_queues[pair].kick()
        if self.receives:
            self.net.watch()
            while self._has_room() and self.engine.send_frame(self.back[self.offered % len(self.pairs)]):
                self.offered += 1
            for pair in self.pairs:
                self.received[pair] += len(self.net.receive(pair))
        self.engine.run(SLICE)
        while self.engine.recv_frame() is not None:
            pass

    def until(self, goal):
        """Go on until ``goal`` packets have passed each way that is used. Return the engine's counts, and the packets sent and
        delivered so far, whether the driver was told of them or not. Raises :exc:`TimeoutError`."""
        start = self.engine.stats()["cycles"]
        while True:
            stats, delivered = self.engine.stats(), self.net.delivered
            if (not self.sends or stats["frames_out"] >= goal) and (not self.receives or delivered >= goal):
                return stats, stats["frames_out"], delivered
            if stats["cycles"] - start > STALL:
                raise TimeoutError(f"No {goal} packets in {STALL} cycles: {stats}")
            self.step()
