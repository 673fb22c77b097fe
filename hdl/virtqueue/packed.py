"""Packed virtqueue: follow the descriptor ring.

Ref: VIRTIO 1.4, 2.8 "Packed Virtqueues", 2.8.10 "Event Suppression Structure Format", 2.9 "Driver Notifications".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadReq
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, RingEvent, VirtqEventSuppress
from .event import DeviceEvent
from .heads import HeadPort
from .marks import Marks
from .packed_turns import PackedTurns
from .reach import MIN_PACE, Reach, Told
from .rows import SharedRows
from .scan import Scan, ring_read, scanned
from .store import Room
from .suppress import Published
from .table import QueueTable

__all__ = ["Outcome", "PackedFetch", "position"]


def position(max_batch):
    """Where a ring goes on: all zero at its start."""
    counts = range(max_batch + 1)
    return data.StructLayout({
        "slot":    16,      # of the next descriptor
        "flip":    1,       # complement of the wrap counter
        "start":   16,      # of the chain that goes on here
        "chain":   16,      # its descriptors so far
        "sure":    counts,  # so many from here were seen available
        "granted": counts,  # places in the store
        "pace":    counts,  # how far to look; 0 is as far as at least
    })


class Outcome(wiring.Component):
    """Say what comes of a read that has been judged: in the same cycle, and it waits for nobody.

    Parameters
    ----------
    max_batch : int

    Members
    -------
    i : In(stream(scanned(max_batch)))
    event_idx : In(1)
        Negotiated feature: the driver is to know where the device waits.
    write : Out(1), queue : Out(16), row : Out(position(max_batch))
        Strobe: ``row`` is where the ring of ``queue`` goes on.
    again, empty, taken, failed : Out(1)
        With ``write``: read on; the ring has gone empty, and the driver is to know; something was taken; the queue is at its end.
    """
    def __init__(self, *, max_batch):
        self.max_batch = max_batch
        super().__init__({
            "i":         In(stream.Signature(scanned(max_batch))),
            "event_idx": In(1),
            "write":     Out(1),
            "queue":     Out(16),
            "row":       Out(position(max_batch)),
            "again":     Out(1),
            "empty":     Out(1),
            "taken":     Out(1),
            "failed":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        result, pace, goes_on = self.i.p, self.i.p.pace, Signal()
        m.d.comb += [
            self.i.ready.eq(1),
            self.write.eq(self.i.valid),
            self.queue.eq(result.queue),
            *[self.row[name].eq(result[name]) for name in ("slot", "flip", "start", "chain", "sure", "granted")],
            self.row.pace.eq(Mux((result.taken | (result.sure != 0)) & (pace >= 2 * MIN_PACE), pace >> 1, MIN_PACE)),
            # Look for more before the driver has to say so; take what could not be trusted at first sight.
            goes_on.eq(result.whole | (result.sure != 0)),
            self.again.eq(~result.failed & goes_on),
            self.empty.eq(~result.failed & ~goes_on & self.event_idx),
            self.taken.eq(result.taken),
            self.failed.eq(self.i.valid & result.failed),
        ]
        with m.If(result.full):
            m.d.comb += self.row.pace.eq(Mux(pace == self.max_batch, pace, pace << 1))
        return m


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
    num_queues : int
    max_batch : int
        Descriptors a read, at most: a power of two of at least 4.
    depth : int
        Of the store: room for two reads.

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
    ring : Out(stream(ReadReq)), heads : Out(HeadPort(depth))
        Reads of descriptors, and their answers.
    event : Out(stream(DeviceEvent)), left_valid : In(1), left_queue : In(16)
        See :class:`EventWriter`.
    o_room : Out(stream(Room)), grant : In, freed_valid : In, freed_queue : In
        See :class:`HeadStore`.
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: a read failed, or a chain that cannot be.
    busy : Out(1)
    """
    def __init__(self, *, num_queues, max_batch, depth):
        if max_batch < MIN_PACE or max_batch & (max_batch - 1):
            raise ValueError(f"Largest read must be a power of 2 of at least {MIN_PACE} descriptors, not {max_batch!r}")
        self.num_queues = num_queues
        self.max_batch = max_batch
        self.depth = depth
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
            "ring":        Out(stream.Signature(ReadReq)),
            "heads":       Out(HeadPort(depth)),
            "event":       Out(stream.Signature(DeviceEvent)),
            "left_valid":  In(1),
            "left_queue":  In(16),
            "o_room":      Out(stream.Signature(Room)),
            "grant":       In(16),
            "freed_valid": In(1),
            "freed_queue": In(16),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        counts = range(self.max_batch + 1)
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size",))
        m.submodules.rows  = rows  = SharedRows(num_queues=self.num_queues, shape=position(self.max_batch))
        m.submodules.turns = turns = PackedTurns(num_queues=self.num_queues)
        m.submodules.told  = told  = Told(num_queues=self.num_queues, max_batch=self.max_batch)
        m.submodules.marks = marks = Marks(num_queues=self.num_queues)
        m.submodules.reach = reach = Reach(max_batch=self.max_batch)
        m.submodules.asked = asked = Queue(ring_read(self.num_queues, self.max_batch), 8)
        m.submodules.scan  = scan  = Scan(num_queues=self.num_queues, max_batch=self.max_batch, depth=self.depth)
        m.submodules.outcome = outcome = Outcome(max_batch=self.max_batch)
        connect(m, asked.o, scan.i)
        connect(m, scan.o_result, outcome.i)
        connect(m, scan.heads, flipped(self.heads))

        queue, row = turns.queue, rows.row
        want, missing, count = reach.want, Signal(counts), Signal(counts)
        short, granted, places, marked = Signal(), Signal(counts), Signal(counts), Signal()
        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                with m.If(turns.any):
                    m.d.sync += queue.eq(turns.choice)
                    m.next = "LOOK-UP"
            with m.State("LOOK-UP"):
                m.next = "TOLD"
            with m.State("TOLD"):
                with m.If(turns.tells):
                    m.d.comb += turns.tell.eq(1)
                    m.next = "ARM"
                with m.Else():
                    m.d.comb += told.asks.eq(1)
                    m.next = "COMPARE TOLD"
            with m.State("COMPARE TOLD"):
                m.next = "BELIEVE"
            with m.State("BELIEVE"):
                m.next = "WANT"
            with m.State("WANT"):
                m.next = "LACK"
            with m.State("LACK"):
                m.d.sync += [missing.eq(want - row.granted), short.eq(row.granted < want)]
                m.next = "ROOM"
            with m.State("ROOM"):
                m.d.comb += self.o_room.valid.eq(short)
                m.d.sync += [
                    marked.eq(marks.marked),   # not later: a read that is offered may be older than what leaves now
                    granted.eq(Mux(short, self.grant, 0)),
                    count.eq(want),
                ]
                with m.If(~short):
                    m.next = "READ"
                with m.Elif(self.o_room.ready):
                    # From now on places that become free are heard of.
                    m.d.comb += turns.lacks.eq(1)
                    m.next = "GRANT"
            with m.State("GRANT"):
                m.d.sync += count.eq(Mux(places < want, places, want))
                with m.If(places == 0):
                    m.d.comb += turns.refused.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += turns.granted.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [
                    self.ring.valid.eq(asked.i.ready),
                    asked.i.valid.eq(self.ring.ready),
                ]
                with m.If(self.ring.ready & asked.i.ready):
                    m.d.comb += turns.asked.eq(1)
                    m.next = "IDLE"
            with m.State("ARM"):
                m.d.comb += self.event.valid.eq(1)
                with m.If(self.event.ready):
                    m.d.comb += turns.told.eq(1)
                    m.next = "IDLE"
        suppress = data.View(VirtqEventSuppress, self.event.p.value)
        m.d.sync += self.ring.p.addr.eq(row.slot << 4)
        m.d.comb += [
            *[part.setup_valid.eq(self.setup_valid) for part in (table, rows, turns, told, marks)],
            *[part.setup_queue.eq(self.setup.queue) for part in (rows, turns, told, marks)],
            table.setup.eq(self.setup),
            *[getattr(turns, name).eq(getattr(self, name)) for name in (
                "kick_valid", "kick_queue", "look", "freed_valid", "freed_queue", "stopped", "left_valid", "left_queue")],
            *[getattr(told, name).eq(getattr(self, name)) for name in (
                "kick_valid", "kick_queue", "kick_next", "notification_data")],
            *[getattr(marks, name).eq(getattr(self, name)) for name in ("passed_valid", "passed")],
            *[part.eq(queue) for part in (
                table.queue, rows.queue, told.queue, marks.queue, asked.i.p.queue, self.ring.p.queue, self.event.p.queue,
                self.o_room.p.queue)],
            *[part.size.eq(table.row.size) for part in (told, marks, reach, asked.i.p)],
            *[part.slot.eq(row.slot) for part in (told, marks, reach, asked.i.p)],
            *[part.flip.eq(row.flip) for part in (told, marks, asked.i.p)],
            marks.count.eq(want),
            reach.pace.eq(Mux(row.pace == 0, MIN_PACE, row.pace)),
            reach.sure.eq(Mux(row.sure > told.ahead, row.sure, told.ahead)),
            places.eq(row.granted + granted),
            self.o_room.p.want.eq(missing),
            self.ring.p.area.eq(Area.DESC),
            self.ring.p.len.eq(count * VIRTQ_DESC_SIZE),
            *[asked.i.p[name].eq(row[name]) for name in ("start", "chain")],
            asked.i.p.sure.eq(reach.sure),
            asked.i.p.granted.eq(places),
            asked.i.p.pace.eq(reach.pace),
            asked.i.p.marked.eq(marked),
            # 2.8.10: DESC only with EVENT_IDX; without, this is written once and says ENABLE.
            suppress.desc_event_off.eq(row.slot),
            suppress.desc_event_wrap.eq(~row.flip & self.event_idx),
            suppress.desc_event_flags.eq(Mux(self.event_idx, RingEvent.DESC, RingEvent.ENABLE)),
            self.event.p.begins.eq(1),
            outcome.event_idx.eq(self.event_idx),
            *[port.eq(outcome.write) for port in (rows.write, turns.result_valid)],
            *[port.eq(outcome.queue) for port in (rows.at, turns.result_queue, self.fail_queue)],
            rows.new.eq(outcome.row),
            *[getattr(turns, name).eq(getattr(outcome, name)) for name in ("again", "empty", "taken")],
            self.fail_valid.eq(outcome.failed),
            self.busy.eq(~state.ongoing("IDLE") | turns.any | turns.reading | scan.busy | marks.busy),
        ]
        return m
