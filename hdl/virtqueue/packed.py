"""Packed virtqueue: follow the descriptor ring.

Ref: VIRTIO 1.4, 2.8 "Packed Virtqueues", 2.8.10 "Event Suppression Structure Format", 2.9 "Driver Notifications".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadPort, WritePort
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, RingEvent, VirtqEventSuppress
from .marks import Marks
from .rows import QueueRows
from .scan import Fetch, Scan, Scanned
from .store import Push, Room
from .suppress import Published
from .table import QueueTable

__all__ = ["PackedFetch"]

MIN_PACE = 4  # descriptors: a cache line


class PackedFetch(wiring.Component):
    """Read descriptors from where the ring goes on, judge them, and look again as long as all of them were available.

    Before a queue is looked at for the first time its event suppression structure asks for notifications: memory may hold
    anything, and a driver that finds DISABLE there never notifies. That first look needs no notification.

    One read a queue, up to 8 of different queues, are outstanding. How much is read doubles each time that all of it was
    available, halves when a part was, and falls to a cache line when nothing was. A queue that has gone empty is told so in
    its event suppression structure (with EVENT_IDX) and then looked at once more, because the driver may have added a buffer
    before it saw that. ``look`` has the same effect as a notification from the driver.

    Parameters
    ----------
    width, num_queues : int
    max_batch : int
        Descriptors a read, at most: a power of two of at least 4.

    Members
    -------
    setup_valid, setup : see :class:`QueueTable`
    kick_valid : In(1), kick_queue : In(16), kick_next : In(16)
        Strobe: available buffer notification, and with NOTIFICATION_DATA where the driver says it will go on.
    look : In(num_queues)
        Strobe for each queue: read where its ring goes on, unless that is under way.
    event_idx, notification_data : In(1)
        Negotiated features.
    passed_valid : In(1), passed : In(Published)
        See :class:`Marks`.
    stopped : In(num_queues)
        Bit per queue: leave it alone.
    ring : Out(ReadPort), event : Out(WritePort)
    o_room : Out(stream(Room)), grant : In, freed_valid : In, freed_queue : In
        See :class:`HeadStore`.
    o : Out(stream(Push))
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: a read failed, or a chain that cannot be.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, max_batch):
        if max_batch < MIN_PACE or max_batch & (max_batch - 1):
            raise ValueError(f"Largest read must be a power of 2 of at least {MIN_PACE} descriptors, not {max_batch!r}")
        self.width = width
        self.num_queues = num_queues
        self.max_batch = max_batch
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "kick_next":   In(16),
            "look":        In(num_queues),
            "event_idx":   In(1),
            "notification_data": In(1),
            "passed_valid": In(1),
            "passed":      In(Published),
            "stopped":     In(num_queues),
            "ring":        Out(ReadPort(width)),
            "event":       Out(WritePort(width)),
            "o_room":      Out(stream.Signature(Room)),
            "grant":       In(16),
            "freed_valid": In(1),
            "freed_queue": In(16),
            "o":           Out(stream.Signature(Push)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        queues = max(2, self.num_queues)
        queue_shape = range(queues)
        counts = range(self.max_batch + 1)
        m.submodules.table = table = QueueTable(
            num_queues=self.num_queues, fields=("size", "queue_device"))
        # slot, flip: next descriptor, and the wrap counter's complement, so that all zero is the start. start, chain: the
        # chain that it goes on with. sure: so many from here were seen available. granted: places in the store. pace: how
        # far to look.
        row_layout = data.StructLayout({
            "slot": 16, "flip": 1, "start": 16, "chain": 16, "sure": counts, "granted": 16, "pace": counts})
        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=row_layout)
        m.submodules.told = told = memory.Memory(shape=16, depth=queues, init=[])  # by notification data
        told_w = told.write_port()
        told_r = told.read_port(transparent_for=[told_w])  # as old as ``has_told``, else it says what was long ago
        m.submodules.marks = marks = Marks(num_queues=self.num_queues)
        m.submodules.scan = scan = Scan(width=self.width, max_batch=self.max_batch)
        m.submodules.asked = asked = Queue(Fetch, 8)
        m.submodules.results = results = Queue(Scanned, 8)
        m.submodules.armed_q = armed_q = Queue(queue_shape, 8)
        connect(m, asked.o, scan.i)
        connect(m, flipped(self.ring.beat), scan.beat)
        connect(m, scan.o, flipped(self.o))
        connect(m, scan.o_result, results.i)

        to_fetch = Signal(self.num_queues)
        fetching = Signal(self.num_queues)  # a read is under way, or the write that comes before the first
        hungry   = Signal(self.num_queues)  # there may be more than there was room for
        armed    = Signal(self.num_queues)  # the driver knows where we wait
        unset    = Signal(self.num_queues)  # it does not even know that we do
        has_told = Signal(self.num_queues)
        fetchable = Signal(self.num_queues)
        queue, turn, choice = Signal(queue_shape), Signal(queue_shape), Signal(queue_shape)
        m.d.comb += fetchable.eq(to_fetch & ~self.stopped & ~fetching)
        round_robin(m, fetchable, turn, choice)

        row, size = rows.row, table.row.size
        result = Signal(Scanned)
        limit, ahead, want, count = Signal(counts), Signal(counts), Signal(counts), Signal(counts)
        told_slot, told_flip = told_r.data[:15], ~told_r.data[15]
        distance, in_ring, believed = Signal(17), Signal(), Signal()
        sure, pace = Signal(counts), Signal(counts)
        missing, short, granted, places = Signal(counts), Signal(), Signal(16), Signal(16)  # in the store
        to_edge = Signal(counts)
        marked = Signal()
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(queue),
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(queue),
            rows.new.eq(row),
            marks.setup_valid.eq(self.setup_valid),
            marks.setup_queue.eq(self.setup.queue),
            marks.passed_valid.eq(self.passed_valid),
            marks.passed.eq(self.passed),
            marks.queue.eq(queue),
            marks.size.eq(size),
            marks.slot.eq(row.slot),
            marks.flip.eq(row.flip),
            marks.count.eq(want),
            told_w.addr.eq(self.kick_queue),
            told_w.data.eq(self.kick_next),
            told_w.en.eq(self.kick_valid),
            told_r.addr.eq(queue),
            to_edge.eq(self.max_batch - (row.slot & (self.max_batch - 1))),
            pace.eq(Mux(row.pace == 0, MIN_PACE, row.pace)),
            sure.eq(Mux(row.sure > ahead, row.sure, ahead)),
            places.eq(row.granted + granted),
            self.fail_queue.eq(queue),
        ]

        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                with m.If(results.o.valid):
                    m.d.comb += results.o.ready.eq(1)
                    m.d.sync += [queue.eq(results.o.p.queue), result.eq(results.o.p)]
                    m.next = "LOOK-UP RESULT"
                with m.Elif(fetchable.any()):
                    m.d.sync += [queue.eq(choice), turn.eq(choice)]
                    m.next = "LOOK-UP"

            with m.State("LOOK-UP"):
                m.next = "TOLD"
            with m.State("TOLD"):
                # 2.9: what a notification names lies ahead by a ring at most; a late one names what is past.
                m.d.sync += [
                    distance.eq(Mux(told_flip == row.flip, told_slot, told_slot + size) - row.slot),
                    in_ring.eq(self.notification_data & has_told.bit_select(queue, 1) & (told_slot < size)),
                    has_told.bit_select(queue, 1).eq(0),  # unless it is believed: it would be ahead again a lap later
                ]
                m.next = "MEASURE"
                with m.If(unset.bit_select(queue, 1)):
                    m.d.sync += [
                        to_fetch.bit_select(queue, 1).eq(0),
                        fetching.bit_select(queue, 1).eq(1),
                    ]
                    m.next = "ARM"
            with m.State("MEASURE"):
                # Up to the end of the ring; and reads end where the ones after them begin well.
                m.d.sync += [
                    limit.eq(Mux(size - row.slot < to_edge, size - row.slot, to_edge)),
                    ahead.eq(Mux(distance > self.max_batch, self.max_batch, distance)),
                    believed.eq(in_ring & (distance <= size) & (distance != 0)),
                ]
                m.next = "BELIEVE"
            with m.State("BELIEVE"):
                with m.If(believed):
                    m.d.sync += has_told.bit_select(queue, 1).eq(1)
                with m.Else():
                    m.d.sync += ahead.eq(0)
                m.next = "WANT"
            with m.State("WANT"):
                with m.If((sure > pace) & (sure < limit)):
                    m.d.sync += want.eq(sure)
                with m.Elif((sure <= pace) & (pace < limit)):
                    m.d.sync += want.eq(pace)
                with m.Else():
                    m.d.sync += want.eq(limit)
                m.d.comb += rows.write.eq(1)
                m.d.comb += rows.new.sure.eq(sure)
                m.next = "LOOK-UP ROOM"
            with m.State("LOOK-UP ROOM"):
                m.d.sync += [missing.eq(want - row.granted), short.eq(row.granted < want)]
                m.next = "ROOM"
            with m.State("ROOM"):
                m.d.comb += self.o_room.valid.eq(short)
                m.d.sync += [
                    marked.eq(marks.marked),   # not later: a read that is offered may be older than what leaves now
                    granted.eq(self.grant),
                    count.eq(want),
                ]
                with m.If(~short):
                    m.next = "READ"
                with m.Elif(self.o_room.ready):
                    # From now on places that become free are heard of.
                    m.d.sync += hungry.bit_select(queue, 1).eq(1)
                    m.next = "GRANT"
            with m.State("GRANT"):
                m.d.comb += [rows.write.eq(1), rows.new.granted.eq(places)]
                m.d.sync += count.eq(Mux(places < want, places, want))
                with m.If(places == 0):
                    # Of places that became free beside this request, or since, it has been told already.
                    m.d.sync += to_fetch.bit_select(queue, 1).eq(~hungry.bit_select(queue, 1))
                    m.next = "IDLE"
                with m.Else():
                    m.d.sync += hungry.bit_select(queue, 1).eq(0)
                    m.next = "LOOK-UP READ"
            with m.State("LOOK-UP READ"):
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += [
                    self.ring.req.valid.eq(asked.i.ready),
                    asked.i.valid.eq(self.ring.req.ready),
                ]
                with m.If(self.ring.req.ready & asked.i.ready):
                    m.d.sync += [
                        to_fetch.bit_select(queue, 1).eq(0),
                        fetching.bit_select(queue, 1).eq(1),
                    ]
                    m.next = "IDLE"

            with m.State("LOOK-UP RESULT"):
                m.d.sync += fetching.bit_select(queue, 1).eq(0)
                m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += [
                    rows.write.eq(1),
                    rows.new.slot.eq(result.slot),
                    rows.new.flip.eq(result.flip),
                    rows.new.start.eq(result.start),
                    rows.new.chain.eq(result.chain),
                    rows.new.sure.eq(result.sure),
                    rows.new.granted.eq(row.granted - result.pushed),
                    rows.new.pace.eq(Mux((result.taken | (result.sure != 0)) & (pace >= 2 * MIN_PACE), pace >> 1, MIN_PACE)),
                ]
                with m.If(result.full):
                    m.d.comb += rows.new.pace.eq(Mux(pace == self.max_batch, pace, pace << 1))
                with m.If(result.taken):
                    m.d.sync += armed.bit_select(queue, 1).eq(0)
                m.next = "IDLE"
                with m.If(result.failed):
                    m.d.comb += self.fail_valid.eq(1)
                with m.Elif(result.whole | (result.sure != 0)):
                    # Look for more before the driver has to say so; take what could not be trusted at first sight.
                    m.d.sync += to_fetch.bit_select(queue, 1).eq(1)
                with m.Elif(self.event_idx & (result.taken | ~armed.bit_select(queue, 1))):
                    m.next = "ARM"
            with m.State("ARM"):
                # The look that follows waits for this write to have left, so that driver and device cannot miss each other.
                m.d.comb += [
                    self.event.req.valid.eq(armed_q.i.ready),
                    armed_q.i.valid.eq(self.event.req.ready),
                ]
                with m.If(armed_q.i.ready & self.event.req.ready):
                    m.d.sync += armed.bit_select(queue, 1).eq(1)
                    m.next = "ARM DATA"
            with m.State("ARM DATA"):
                m.d.comb += self.event.data.valid.eq(1)
                with m.If(self.event.data.ready):
                    m.next = "IDLE"

        suppress = Signal(VirtqEventSuppress)
        m.d.sync += self.ring.req.p.addr.eq(row.slot << 4)
        m.d.comb += [
            self.o_room.p.queue.eq(queue),
            self.o_room.p.want.eq(missing),
            self.ring.req.p.area.eq(Area.DESC),
            self.ring.req.p.queue.eq(queue),
            self.ring.req.p.len.eq(count * VIRTQ_DESC_SIZE),
            asked.i.p.queue.eq(queue),
            asked.i.p.size.eq(size),
            asked.i.p.slot.eq(row.slot),
            asked.i.p.flip.eq(row.flip),
            asked.i.p.start.eq(row.start),
            asked.i.p.chain.eq(row.chain),
            asked.i.p.sure.eq(row.sure),
            asked.i.p.marked.eq(marked),
            # 2.8.10: DESC only with EVENT_IDX; without, this is written once and says ENABLE.
            suppress.desc_event_off.eq(row.slot),
            suppress.desc_event_wrap.eq(~row.flip & self.event_idx),
            suppress.desc_event_flags.eq(Mux(self.event_idx, RingEvent.DESC, RingEvent.ENABLE)),
            armed_q.i.p.eq(queue),
            armed_q.o.ready.eq(self.event.done),
            self.event.req.p.addr.eq(table.row.queue_device),
            self.event.req.p.len.eq(VirtqEventSuppress.as_shape().size // 8),
            self.event.data.p.data.eq(suppress),
            self.event.data.p.last.eq(1),
            self.busy.eq(~state.ongoing("IDLE") | fetchable.any() | fetching.any() | self.o.valid | (armed_q.level != 0)
                         | marks.busy),
            rows.held.eq(~state.ongoing("IDLE")),
        ]

        # A nudge wins over a state that clears the same bit in the same cycle.
        for k in range(self.num_queues):
            with m.If(self.look[k] & ~fetching[k]):
                m.d.sync += to_fetch[k].eq(1)
        with m.If(self.event.done):
            m.d.sync += [to_fetch.bit_select(armed_q.o.p, 1).eq(1), unset.bit_select(armed_q.o.p, 1).eq(0)]
            with m.If(unset.bit_select(armed_q.o.p, 1)):
                m.d.sync += fetching.bit_select(armed_q.o.p, 1).eq(0)
        with m.If(self.freed_valid & hungry.bit_select(self.freed_queue[:len(queue)], 1)):
            m.d.sync += [
                to_fetch.bit_select(self.freed_queue[:len(queue)], 1).eq(1),
                hungry.bit_select(self.freed_queue[:len(queue)], 1).eq(0),
            ]
        with m.If(self.kick_valid):
            m.d.sync += [
                to_fetch.bit_select(self.kick_queue[:len(queue)], 1).eq(1),
                has_told.bit_select(self.kick_queue[:len(queue)], 1).eq(1),
            ]
        with m.If(self.setup_valid):
            # A driver may have added buffers, and notified, before it was ready.
            m.d.sync += [
                to_fetch.bit_select(self.setup.queue[:len(queue)], 1).eq(1),
                unset.bit_select(self.setup.queue[:len(queue)], 1).eq(1),
                hungry.bit_select(self.setup.queue[:len(queue)], 1).eq(0),
                armed.bit_select(self.setup.queue[:len(queue)], 1).eq(0),
                has_told.bit_select(self.setup.queue[:len(queue)], 1).eq(0),
            ]
        return m
