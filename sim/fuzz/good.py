"""The well-behaved pair of queues: numbered frames both ways by the golden driver's rings, and what came of them."""

from collections import deque
import struct

from ...hdl.spec.net import (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_MRG_RXBUF,
                             VIRTIO_NET_HDR_SIZE, VIRTIO_NET_OK)
from ...hdl.spec.virtio import (MAX_TABLE, VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC,
                                VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, VIRTQ_DESC_SIZE)
from ...host.bus import DmaBuffer
from ...host.driver import PackedVirtqueue, Virtqueue
from ...host.driver.net import Packets
from .descriptor import LONGEST
from .ground import GOOD_RINGS, GOOD_RX, GOOD_TX, ZONE
from .places import NOISE

__all__ = ["BrokenPromise", "GoodPair", "FLOOR"]

UDP = struct.Struct(">6s6sH BBHHHBBH4s4s HHHHI")
# Ethernet and IPv4 address and port of the two ends.
US, THEM = (b"\x52\x54GOOD", b"\x0a\0\0\1", 6000), (b"\x52\x54PEER", b"\x0a\0\0\2", 5000)
OUTWARD, INWARD = THEM[0] + US[0], US[0] + THEM[0]
NUMBER = slice(UDP.size - 4, UDP.size)
FLOOR = 60                   # bytes of the shortest frame
TX_SLOT = 2048
CONTROL_SIZE = 4
RX_PIECES = 20               # of a receive buffer in a table, that a frame may come to
COMMAND = struct.Struct("<BBH")
UNANSWERED = 0xff
MERGED_SLOT = 2048


class BrokenPromise(Exception):
    """A rule of the card's was broken; ``rule`` names it in a word."""
    def __init__(self, rule, text):
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class _Zone:
    """As much of a bus as the golden driver's rings need: memory that the device may read until it is freed.

    Rings and tables are aligned to no more than they have to be. ``salt``: of what was there before. With ``down`` they are
    taken from the zone's end on.
    """
    ALIGN = 16

    def __init__(self, ground, salt, down):
        self.ground = ground
        self._salt = salt % ZONE
        self._down = down
        self._taken = []             # (start, end), in order

    def _place(self, size):
        """Return where so many bytes are free, None if nowhere."""
        edges = [(0, 0), *self._taken, (ZONE, ZONE)]
        gaps = [(before[1] + self.ALIGN - 1 & -self.ALIGN, after[0]) for before, after in zip(edges, edges[1:])]
        for start, end in reversed(gaps) if self._down else gaps:
            if end - start >= size:
                return end - size & -self.ALIGN if self._down else start
        return None

    def has(self, size):
        return self._place(size) is not None

    def alloc(self, size, align=ALIGN):
        at = self._place(size)
        self._taken = sorted([*self._taken, (at, at + size)])
        memory = memoryview(self.ground.memory[GOOD_RINGS])[at:at + size]
        salt = (at + self._salt) % ZONE
        memory[:] = NOISE[salt:salt + size]
        address = self.ground.address(GOOD_RINGS, at)
        self.ground.describe(address, size, False)

        def free(buffer):
            self._taken.remove((at, at + size))
            self.ground.withdraw(GOOD_RINGS, at, size)
        return DmaBuffer(address, memory, free)


class GoodPair:
    """Receive and transmit queue of pair ``pair``, driven as the standard says; frames are numbered in each direction.

    Parameters
    ----------
    ground : Ground
    card : Card
    pair : int
    features : frozenset
    rx_size, tx_size : int
        Entries of the queues.
    control : int or None
        Index of the control queue, if that is ours as well.
    salt : int
        Of what the rings' memory holds before. Rings of an odd one are taken from the end of their zone.

    Attributes
    ----------
    came_back : dict
        Buffers by index of their queue, since :meth:`wish`.
    spread : int
        Entries of the indirect table that each receive buffer is put back in; 0 for none.
    silent : bool
        It puts receive buffers back without a notification, which a driver must not do and some do.
    """
    def __init__(self, ground, card, pair, features, rx_size, tx_size, control=None, salt=0):
        self.ground, self.card, self.engine = ground, card, card.engine
        self._features = features
        self._zone = _Zone(ground, salt * 0x2f35, salt % 2 == 1)
        self._indirect = VIRTIO_F_INDIRECT_DESC in features
        self._pairs = 1
        self.spread = 0
        self.rx, self.tx = self._queue(2 * pair, rx_size), self._queue(2 * pair + 1, tx_size)
        self._control = None if control is None else self._queue(control, CONTROL_SIZE)
        mergeable = VIRTIO_NET_F_MRG_RXBUF in features
        self._slot = MERGED_SLOT if mergeable else LONGEST
        self._packets = Packets(mergeable)
        self._rx_free = list(range(min(rx_size, ZONE // self._slot)))
        self._tx_free = list(range(min(tx_size // 4, ZONE // TX_SLOT)))
        self._sent, self._fed = deque(), deque()      # frames that are under way
        self._numbers = {"tx": 0, "rx": 0}
        self._skipped = {"tx": 0, "rx": 0}   # frames that did not come out where later ones did
        self._tail = self._zone.alloc(MAX_TABLE).iova    # bytes that the device might write, and no frame comes to
        ground.describe(self._tail, MAX_TABLE, True)
        self.silent = False
        self.came_back = {queue.index: 0 for queue in (self.rx, self.tx)}

    def _queue(self, index, size):
        kind = PackedVirtqueue if VIRTIO_F_RING_PACKED in self._features else Virtqueue
        queue = kind(self._zone, index, size, notify=self._notifier(index), event_idx=VIRTIO_F_EVENT_IDX in self._features,
                     in_order=VIRTIO_F_IN_ORDER in self._features, indirect=self._indirect)
        start = queue.memory.iova
        self.ground.withdraw(GOOD_RINGS, start - self.ground.address(GOOD_RINGS), len(queue.memory))
        self.ground.describe(start, queue.used_offset, False)
        self.ground.describe(start + queue.written_offset, len(queue.memory) - queue.written_offset, True)
        self.card.setup_queue(index, size, queue.desc_iova, queue.avail_iova, queue.used_iova)
        return queue

    def _notifier(self, index):
        def notify(following):
            if VIRTIO_F_NOTIFICATION_DATA in self._features:
                self.card.notify(index, following << 16 | index, 4)
            else:
                self.card.notify(index, index, 2)
        return notify

    def start_early(self, size):
        """Give the device receive buffers and a frame of ``size`` bytes before it is live, notify of both, and never again."""
        self._refill()
        self.send(size, ())

    def start(self, pairs, limit):
        """The device is live: give it receive buffers, and have it use so many pairs, if the control queue is ours. It has
        ``limit`` cycles."""
        self._refill()
        self.wish()
        if self._control is None:
            return
        self._pairs = pairs
        if (answer := self._command(0, limit)) != VIRTIO_NET_OK:
            raise BrokenPromise("command", f"to use {pairs} pairs of queues is answered {answer}")

    def command(self, entries, limit):
        """Say once more how many pairs there are, in an indirect table of so many entries, and give the device so many cycles.
        Return the answer; None if there is no command, for want of a queue, the feature or memory."""
        if self._control is None or not self._fits(entries):
            return None
        return self._command(entries, limit)

    def _command(self, entries, limit):
        memory = self._zone.alloc(COMMAND.size + 1)
        memory.view[:] = COMMAND.pack(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, self._pairs) + bytes((UNANSWERED,))
        ack = memory.iova + COMMAND.size
        self.ground.describe(ack, 1, True)
        # The ack is the first byte that the device may write (5.1.9.5); a table's other ones are for an answer that is not given.
        pieces = min(max(1, entries - 1), COMMAND.size)
        cuts = [*range(pieces), COMMAND.size]
        out = [(memory.iova + a, b - a) for a, b in zip(cuts, cuts[1:])]
        rest = max(0, entries - pieces - 1)
        self._control.add_buf(out, [(ack, 1), *self._tails(rest)], None, indirect=entries > 0)
        self._control.kick()
        end = self.engine.stats()["cycles"] + limit
        while True:
            self.ground.look()
            if self._control.get_buf() is not None:
                break
            if self.engine.stats()["cycles"] > end:
                return UNANSWERED
            self.engine.run(50)
        answer = memory.view[COMMAND.size]
        self.ground.withdraw(GOOD_RINGS, ack - self.ground.address(GOOD_RINGS), 1)
        memory.free()
        return answer

    def _fits(self, entries):
        return self._indirect and 0 < entries <= MAX_TABLE and self._zone.has(VIRTQ_DESC_SIZE * entries + ZONE // 8)

    def _tails(self, count):
        return [(self._tail + k, 1) for k in range(count)]

    def _frame(self, way, size):
        number = self._numbers[way]
        self._numbers[way] = number + 1
        (mac, ip, port), (to_mac, to_ip, to_port) = (US, THEM) if way == "tx" else (THEM, US)
        header = UDP.pack(to_mac, mac, 0x0800, 0x45, 0, size - 14, 0, 0, 64, 17, 0, ip, to_ip, port, to_port, size - 34, 0,
                          number)
        at = 61 * number % ZONE
        return header + NOISE[at:at + size - len(header)]

    # What it does

    def send(self, size, cuts, entries=0):
        """Send a frame of ``size`` bytes in up to three pieces, or as many as ``entries`` says, in an indirect table; nothing if
        there is no room. Return whether it was sent."""
        if entries and not self._fits(min(entries, VIRTIO_NET_HDR_SIZE + size)):
            return False
        if not self._tx_free:
            self.ground.look()
            self._reclaim()
            if not self._tx_free:
                return False
        slot = self._tx_free.pop()
        packet = bytes(VIRTIO_NET_HDR_SIZE) + self._frame("tx", size)
        at = TX_SLOT * slot
        self.ground.memory[GOOD_TX][at:at + len(packet)] = packet
        start = self.ground.address(GOOD_TX, at)
        self.ground.describe(start, len(packet), False)
        if entries:
            pieces = min(entries, len(packet))
            edges = [len(packet) * k // pieces for k in range(pieces + 1)]
        else:
            edges = sorted({0, len(packet), *(cut % len(packet) for cut in cuts[:2])})
        self.tx.add_buf([(start + a, b - a) for a, b in zip(edges, edges[1:])], [], slot, indirect=entries > 0)
        self.tx.kick()
        self._sent.append(packet[VIRTIO_NET_HDR_SIZE:])
        return True

    def feed(self, size):
        """Put a frame for this pair on the wire."""
        frame = self._frame("rx", size)
        self.engine.send_frame(frame)
        self._fed.append(frame)

    def kick(self):
        """Notify the device whatever it said: notifications may have been lost on their way."""
        self.rx.notify()
        self.tx.notify()

    def poll(self):
        """Look at everything that came: buffers back, frames on the wire, frames received. Raises :exc:`BrokenPromise`."""
        self.ground.look()
        self._reclaim()
        self.look_at_wire()
        queue, zone = self.rx, self.ground.memory[GOOD_RX]
        while (got := queue.get_buf()) is not None:
            slot, written = got
            at = slot * self._slot
            self._packets.add(bytes(zone[at:at + written]))
            self.ground.withdraw(GOOD_RX, at, self._slot)
            self._rx_free.append(slot)
            self.came_back[queue.index] += 1
        for frame in self._packets.take():
            if frame.startswith(INWARD):
                self._take("rx", self._fed, frame)
        self._refill()

    def look_at_wire(self):
        while (frame := self.engine.recv_frame()) is not None:
            if frame.startswith(OUTWARD):
                self._take("tx", self._sent, frame)

    def _take(self, way, under_way, frame):
        while under_way:
            if under_way.popleft() == frame:
                return
            self._skipped[way] += 1
        raise BrokenPromise("frame", f"{way} frame of {len(frame)} bytes, number {int.from_bytes(frame[NUMBER], 'big')}, was not "
                                     f"sent like this, or came twice or out of order")

    def _reclaim(self):
        while (got := self.tx.get_buf()) is not None:
            slot = got[0]
            self.ground.withdraw(GOOD_TX, slot * TX_SLOT, TX_SLOT)
            self._tx_free.append(slot)
            self.came_back[self.tx.index] += 1

    def _refill(self):
        if not self._rx_free:
            return
        for slot in self._rx_free:
            start = self.ground.address(GOOD_RX, slot * self._slot)
            self.ground.describe(start, self._slot, True)
            pieces = [(start, self._slot)]
            if self.spread and self._fits(self.spread):
                # A frame takes the first ones only: a chain may have more than the card has for one (2.7.4.1).
                first = min(self.spread, RX_PIECES)
                edges = [self._slot * k // first for k in range(first + 1)]
                pieces = [(start + a, b - a) for a, b in zip(edges, edges[1:])] + self._tails(self.spread - first)
            self.rx.add_buf([], pieces, slot, indirect=len(pieces) > 1)
        self._rx_free = []
        if not self.silent:
            self.rx.kick()

    # What is left

    @property
    def sending(self):
        """Frames and transmit buffers that the device still has."""
        return max(len(self._sent), self.tx.num_pending)

    @property
    def receiving(self):
        """Frames for this pair that went in and did not come out."""
        return len(self._fed)

    @property
    def progress(self):
        """Changes while anything comes out or back."""
        return self.sending, self.receiving, dict(self.came_back)

    def lost(self):
        """Return the number of frames that did not come out, by direction, since the last call. Who calls it has given up those
        that are under way."""
        lost = {"tx": self._skipped["tx"] + len(self._sent), "rx": self._skipped["rx"] + len(self._fed)}
        self._sent.clear()
        self._fed.clear()
        self._skipped = dict.fromkeys(self._skipped, 0)
        return lost

    def wish(self):
        """Ask to be told of used buffers, anew. All that came back was taken."""
        self.came_back = dict.fromkeys(self.came_back, 0)
        self.rx.enable_cb()
        self.tx.enable_cb()
