"""Split virtqueue: follow the available ring.

Ref: VIRTIO 1.4, 2.7.6 "The Virtqueue Available Ring", 2.7.10 "Available Buffer Notification Suppression", 2.9 "Driver
Notifications".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import ReadPort
from .avail_turns import AvailTurns
from .entries import IndexReads, RingEntry, RingReads
from .event import DeviceEvent
from .rows import QueueRows
from .store import Room
from .table import QueueTable

__all__ = ["IndexJudge", "Batch", "AvailFetch"]

POSITION = data.StructLayout({"seen": 16, "next": 16})  # idx as last believed; the first entry that was not asked for


class IndexJudge(wiring.Component):
    """Judge idx of an available ring, as it was read or as a notification named it, against what is known; a cycle later.

    Members
    -------
    idx : In(16), error : In(1)
        What is judged; with ``error`` the read has failed.
    size, seen, next : In(16)
        Queue Size, idx as it was last believed, and that of the first entry that was not asked for.
    notification_data : In(1)
        Negotiated feature: a notification may have overtaken a read.
    late : Out(1)
        A notification has overtaken it: it is behind ``seen``. Half way round it is not, but a whole ring of new entries.
    jumped : Out(1)
        It cannot be: more entries than the ring has are new, or it could not be read. Unless it is ``late``.
    moved : Out(1)
        It is not ``next``.
    further : Out(1)
        It is beyond ``seen``, and so far ahead as can be.
    """
    idx:     In(16)
    error:   In(1)
    size:    In(16)
    seen:    In(16)
    next:    In(16)
    notification_data: In(1)
    late:    Out(1)
    jumped:  Out(1)
    moved:   Out(1)
    further: Out(1)

    def elaborate(self, platform):
        m = Module()
        behind, new, known = Signal(16), Signal(16), Signal(16)
        m.d.comb += [behind.eq(self.seen - self.idx), new.eq(self.idx - self.next), known.eq(self.seen - self.next)]
        m.d.sync += [
            self.late.eq(self.notification_data & ~self.error & (behind != 0) & (behind <= self.size) & ~behind[15]),
            self.jumped.eq(self.error | (new > self.size)),
            self.moved.eq(self.idx != self.next),
            self.further.eq((new <= self.size) & (new > known)),
        ]
        return m


class Batch(wiring.Component):
    """Decide how many entries one read may bring: as many as are new, up to the end of the ring and to the largest read.

    Parameters
    ----------
    max_batch : int

    Members
    -------
    size, seen, next : In(16)
        Queue Size, idx as it was last believed, and that of the first entry that was not asked for.
    new : Out(16), slot : Out(16)
        How many are new, and where the first of them is.
    want : Out(range(max_batch + 1))
        A cycle later: 0 if none is new.
    """
    def __init__(self, *, max_batch):
        self.max_batch = max_batch
        super().__init__({
            "size": In(16),
            "seen": In(16),
            "next": In(16),
            "new":  Out(16),
            "slot": Out(16),
            "want": Out(range(max_batch + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        to_end = Signal(16)
        m.d.comb += [
            self.new.eq(self.seen - self.next),
            self.slot.eq(self.next & (self.size - 1)),
            to_end.eq(self.size - self.slot),
        ]
        with m.If((self.new <= to_end) & (self.new <= self.max_batch)):
            m.d.sync += self.want.eq(self.new)
        with m.Elif(to_end <= self.max_batch):
            m.d.sync += self.want.eq(to_end)
        with m.Else():
            m.d.sync += self.want.eq(self.max_batch)
        return m


class AvailFetch(wiring.Component):
    """Read idx of queues that need it and then the new ring entries, as many in one read as there is room for.

    One small state machine serves all queues, a few cycles for each read; up to 8 reads of each kind are
    outstanding. Before a queue is looked at for the first time, flags and idx of its used ring are set to 0: memory may hold
    anything, and a driver that finds NO_NOTIFY there never notifies. That first look needs no notification. A queue that
    has gone empty is told so in avail_event (with EVENT_IDX) and then looked at once more, because the driver may have
    added a buffer before it saw that. ``look`` acts as a notification.

    Parameters
    ----------
    width, num_queues : int
    max_batch : int
        Entries a read, at most.

    Members
    -------
    setup_valid, setup : see :class:`QueueTable`
    kick_valid : In(1), kick_queue : In(16), kick_next : In(16)
        Strobe: available buffer notification, and with NOTIFICATION_DATA the idx that it names.
    look : In(num_queues)
        Strobe for each queue: read idx, unless that is under way.
    event_idx, notification_data : In(1)
        Negotiated features.
    stopped : In(num_queues)
        Bit per queue: leave it alone.
    index, ring : Out(ReadPort)
    event : Out(stream(DeviceEvent)), left_valid : In(1), left_queue : In(16)
        See :class:`EventWriter`.
    o_room : Out(stream(Room)), grant : In, freed_valid : In, freed_queue : In
        See :class:`HeadStore`.
    o : Out(stream(RingEntry))
        Entries, in ring order for each queue.
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: idx jumped by more than Queue Size, or could not be read.
    busy : Out(1)
        A queue is waiting for its turn, or for an answer.
    """
    def __init__(self, *, width, num_queues, max_batch):
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
            "stopped":     In(num_queues),
            "index":       Out(ReadPort(width)),
            "ring":        Out(ReadPort(width)),
            "event":       Out(stream.Signature(DeviceEvent)),
            "left_valid":  In(1),
            "left_queue":  In(16),
            "o_room":      Out(stream.Signature(Room)),
            "grant":       In(16),
            "freed_valid": In(1),
            "freed_queue": In(16),
            "o":           Out(stream.Signature(RingEntry)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table   = table   = QueueTable(num_queues=self.num_queues, fields=("size",))
        m.submodules.rows    = rows    = QueueRows(num_queues=self.num_queues, shape=POSITION)
        m.submodules.turns   = turns   = AvailTurns(num_queues=self.num_queues)
        m.submodules.judge   = judge   = IndexJudge()
        m.submodules.batch   = batch   = Batch(max_batch=self.max_batch)
        # What has been asked for has its place: no answer ever waits for this machine, which may itself wait for a read.
        m.submodules.indices = indices = IndexReads(width=self.width, num_queues=self.num_queues)
        m.submodules.entries = entries = RingReads(width=self.width, num_queues=self.num_queues, max_batch=self.max_batch)
        for inner, outer in ((indices.read, self.index), (entries.read, self.ring), (entries.o, self.o)):
            connect(m, inner, flipped(outer))

        queue, row, granted = turns.queue, rows.row, Signal.like(batch.want)
        starting, whole = Signal(), Signal()   # the event is of flags and idx; what is granted is all that is new
        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                m.d.sync += [judge.idx.eq(indices.o.p.idx), judge.error.eq(indices.o.p.error)]
                with m.If(indices.o.valid):
                    m.d.comb += indices.o.ready.eq(1)
                    m.d.sync += queue.eq(indices.o.p.queue)
                    m.next = "LOOK-UP INDEX"
                with m.Elif(turns.any & indices.room):
                    m.d.sync += [queue.eq(turns.choice), turns.last.eq(turns.choice)]
                    with m.If(turns.fetches):
                        m.next = "LOOK-UP RING"
                    with m.Else():
                        m.next = "LOOK-UP POLL"
            with m.State("LOOK-UP INDEX"):
                m.next = "COMPARE INDEX"
            with m.State("COMPARE INDEX"):
                m.next = "INDEX"
            with m.State("INDEX"):
                m.d.comb += turns.answered.eq(1)
                m.next = "IDLE"
                with m.If(judge.late):
                    pass
                with m.Elif(judge.jumped):
                    m.d.comb += self.fail_valid.eq(1)
                with m.Elif(judge.moved):
                    m.d.comb += [rows.write.eq(1), turns.fetch.eq(1), turns.moved.eq(1)]
                with m.Elif(self.event_idx & ~turns.armed):
                    m.next = "ARM"
            with m.State("ARM"):
                # 2.7.10: avail_event is the index after which the driver has to notify. The poll that follows waits
                # for this write to have left, so that driver and device cannot miss each other.
                m.d.comb += [self.event.valid.eq(1), turns.event_valid.eq(self.event.ready)]
                with m.If(self.event.ready):
                    m.d.sync += starting.eq(0)
                    m.next = "IDLE"
            with m.State("LOOK-UP POLL"):
                m.d.sync += starting.eq(turns.begins)
                m.next = "POLL"
                with m.If(turns.begins):
                    m.d.comb += turns.polls.eq(1)
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.next = "ARM"
            with m.State("POLL"):
                m.d.comb += [indices.i.valid.eq(1), turns.polls.eq(indices.i.ready)]
                with m.If(indices.i.ready):
                    m.next = "IDLE"
            with m.State("LOOK-UP RING"):
                m.next = "RING"
            with m.State("RING"):
                m.d.comb += turns.heard.eq(turns.told)
                m.d.sync += [judge.idx.eq(turns.told_idx), judge.error.eq(0)]
                m.next = "ROOM"
                with m.If(turns.told):
                    m.next = "COMPARE TOLD"
                with m.Elif(batch.new == 0):
                    m.d.comb += turns.rest.eq(1)
                    m.next = "IDLE"
            with m.State("COMPARE TOLD"):
                m.next = "TOLD"
            with m.State("TOLD"):
                # As good as a read of idx. One that is late, or lies, is as good as a notification without data.
                m.d.comb += [rows.write.eq(judge.further), turns.moved.eq(judge.further), turns.poll.eq(~judge.further)]
                m.next = "LOOK-UP RING"
            with m.State("ROOM"):
                m.d.comb += self.o_room.valid.eq(1)
                m.d.sync += granted.eq(self.grant)
                with m.If(self.o_room.ready):
                    m.next = "READ RING"
                    with m.If(self.grant == 0):
                        m.d.comb += turns.rest.eq(1)  # tried again when places become free
                        m.next = "IDLE"
            with m.State("READ RING"):
                m.d.comb += entries.i.valid.eq(1)
                with m.If(entries.i.ready):
                    # All that was known is on its way: look for more before the driver has to say so.
                    m.d.comb += [rows.write.eq(1), turns.rest.eq(whole), turns.poll.eq(whole)]
                    m.next = "IDLE"

        m.d.sync += whole.eq(granted == batch.new)
        m.d.comb += [
            *[part.setup_valid.eq(self.setup_valid) for part in (table, rows, turns)],
            *[part.setup_queue.eq(self.setup.queue) for part in (rows, turns)],
            *[getattr(turns, name).eq(getattr(self, name)) for name in (
                "kick_valid", "kick_queue", "kick_next", "notification_data", "look", "freed_valid", "freed_queue", "stopped",
                "left_valid", "left_queue")],
            table.setup.eq(self.setup),
            *[part.eq(queue) for part in (
                table.queue, rows.queue, indices.i.p, entries.i.p.queue, self.event.p.queue, self.o_room.p.queue)],
            self.fail_queue.eq(queue),
            rows.held.eq(~state.ongoing("IDLE")),
            rows.new.seen.eq(Mux(state.ongoing("READ RING"), row.seen, judge.idx)),
            rows.new.next.eq(row.next + Mux(state.ongoing("READ RING"), granted, 0)),
            judge.notification_data.eq(self.notification_data),
            *[part.eq(table.row.size) for part in (judge.size, batch.size, self.event.p.size)],
            # 2.7.10.2: flags is 0 or 1, and 0 with EVENT_IDX. 2.7.8: idx starts at 0, as ``seen`` does.
            *[part.eq(row.seen) for part in (judge.seen, batch.seen, self.event.p.value)],
            *[part.eq(row.next) for part in (judge.next, batch.next)],
            self.o_room.p.want.eq(batch.want),
            entries.i.p.slot.eq(batch.slot),
            entries.i.p.count.eq(granted),
            self.event.p.begins.eq(starting),
            self.busy.eq(~state.ongoing("IDLE") | turns.waits | (indices.busy | entries.busy)),
        ]
        return m
