"""Split virtqueue: follow the available ring.

Ref: VIRTIO 1.4, 2.7.6 "The Virtqueue Available Ring", 2.7.10 "Available Buffer Notification Suppression", 2.9 "Driver
Notifications".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadPort, WritePort
from ..lib.queue import Queue
from .elements import Elements, element
from .rows import QueueRows
from .store import Room
from .table import QueueTable

__all__ = ["RingEntry", "AvailFetch"]

#: Byte offsets in either ring, after flags.
IDX, RING = 2, 4


class RingEntry(data.Struct):
    """One entry of an available ring. ``last`` ends the read it came with, ``error`` is valid with it."""
    queue: unsigned(16)
    head:  unsigned(16)
    last:  unsigned(1)
    error: unsigned(1)


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
    index, ring : Out(ReadPort), event : Out(WritePort)
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
            "event":       Out(WritePort(width)),
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
        queues = max(2, self.num_queues)
        queue_shape = range(queues)

        m.submodules.table = table = QueueTable(
            num_queues=self.num_queues, fields=("size", "queue_device"))
        # seen: idx as last read. next: first entry not asked for.
        row_layout = data.StructLayout({"seen": 16, "next": 16})
        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=row_layout)

        m.submodules.told = told = memory.Memory(shape=16, depth=queues, init=[])  # idx, by notification data
        told_w = told.write_port()
        told_r = told.read_port(transparent_for=[told_w])  # as old as ``has_told``, else it says what was long ago

        m.submodules.polled = polled = Queue(queue_shape, 8)
        m.submodules.armed_q = armed_q = Queue(queue_shape, 8)
        # What has been asked for has its place: no answer ever waits for this machine, which may itself wait for a read.
        m.submodules.index_cut = index_cut = Elements(width=self.width, shape=16)
        m.submodules.index_words = index_words = Queue(element(16), 8)
        connect(m, flipped(self.index.beat), index_cut.i)
        connect(m, index_cut.o, index_words.i)

        # Requests for attention, a bit per queue.
        to_poll  = Signal(self.num_queues)
        to_fetch = Signal(self.num_queues)
        has_told = Signal(self.num_queues)
        armed    = Signal(self.num_queues)  # avail_event says what we last saw
        unset    = Signal(self.num_queues)  # flags of the used ring are not known to be 0
        polling  = Signal(self.num_queues)  # a read of idx is under way, or the write of these flags

        fetchable, pollable = Signal(self.num_queues), Signal(self.num_queues)
        m.d.comb += [
            fetchable.eq(to_fetch & ~self.stopped & ~unset),
            pollable.eq(to_poll & ~self.stopped & ~polling),
        ]

        queue = Signal(queue_shape)
        turn  = Signal(queue_shape)
        choice, choice_fetch = Signal(queue_shape), Signal()
        wanting = Signal(self.num_queues)
        m.d.comb += wanting.eq(fetchable | pollable)
        round_robin(m, wanting, turn, choice)
        m.d.comb += choice_fetch.eq(fetchable.bit_select(choice, 1))

        size, row = table.row.size, rows.row
        mask = Signal(16)
        m.d.comb += [
            table.queue.eq(queue),
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(queue),
            rows.new.eq(row),
            mask.eq(size - 1),
            told_w.addr.eq(self.kick_queue),
            told_w.data.eq(self.kick_next),
            told_w.en.eq(self.kick_valid),
            told_r.addr.eq(queue),
            self.fail_queue.eq(queue),
        ]

        idx, idx_error = Signal(16), Signal()
        late, jumped, moved = Signal(), Signal(), Signal()   # what was read, beside what is known
        behind = Signal(16)
        new     = Signal(16)
        want    = Signal(16)
        granted = Signal(16)
        # What a notification said, how many are new by that, and how many were known to be.
        told_idx, told_new, known = Signal(16), Signal(16), Signal(16)
        m.d.comb += [new.eq(row.seen - row.next), behind.eq(row.seen - idx)]

        room = 4 * self.max_batch
        starting = Signal()                    # the write is of flags and idx, not of avail_event
        m.submodules.asked = asked = Queue(data.StructLayout({"queue": queue_shape, "count": 16}), 8)
        m.submodules.entries = entries = Queue(RingEntry, room)
        reserved = Signal(range(room + 1))
        fits, whole = Signal(), Signal()       # there is room for what is granted; it is all that is new

        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                with m.If(index_words.o.valid & polled.o.valid):
                    m.d.comb += [index_words.o.ready.eq(1), polled.o.ready.eq(1)]
                    m.d.sync += [
                        queue.eq(polled.o.p),
                        idx.eq(index_words.o.p.data),
                        idx_error.eq(index_words.o.p.error),
                    ]
                    m.next = "LOOK-UP INDEX"
                with m.Elif(wanting.any() & polled.i.ready & asked.i.ready):
                    m.d.sync += [queue.eq(choice), turn.eq(choice)]
                    with m.If(choice_fetch):
                        m.next = "LOOK-UP RING"
                    with m.Else():
                        m.next = "LOOK-UP POLL"

            with m.State("LOOK-UP INDEX"):
                m.next = "COMPARE INDEX"
            with m.State("COMPARE INDEX"):
                m.d.sync += [
                    late.eq(self.notification_data & ~idx_error & (behind != 0) & (behind <= size) & ~behind[15]),
                    jumped.eq(idx_error | ((idx - row.next)[:16] > size)),
                    moved.eq(idx != row.next),
                ]
                m.next = "INDEX"
            with m.State("INDEX"):
                m.d.sync += polling.bit_select(queue, 1).eq(0)
                m.next = "IDLE"
                with m.If(late):
                    pass  # a notification has overtaken this look; half way round, it is a whole ring of new entries
                with m.Elif(jumped):
                    m.d.comb += self.fail_valid.eq(1)
                with m.Elif(moved):
                    m.d.comb += [rows.write.eq(1), rows.new.seen.eq(idx)]
                    m.d.sync += [
                        to_fetch.bit_select(queue, 1).eq(1),
                        armed.bit_select(queue, 1).eq(0),
                    ]
                with m.Elif(self.event_idx & ~armed.bit_select(queue, 1)):
                    m.next = "ARM"

            with m.State("ARM"):
                # 2.7.10: avail_event is the index after which the driver has to notify. The poll that follows waits
                # for this write to have left, so that driver and device cannot miss each other.
                m.d.comb += [
                    self.event.req.valid.eq(armed_q.i.ready),
                    armed_q.i.valid.eq(self.event.req.ready),
                ]
                with m.If(armed_q.i.ready & self.event.req.ready):
                    m.d.sync += armed.bit_select(queue, 1).eq(~starting)
                    m.next = "ARM DATA"
            with m.State("ARM DATA"):
                m.d.comb += self.event.data.valid.eq(1)
                m.d.sync += starting.eq(0)
                with m.If(self.event.data.ready):
                    m.next = "IDLE"

            with m.State("LOOK-UP POLL"):
                m.d.sync += starting.eq(unset.bit_select(queue, 1))
                m.next = "ADDRESS POLL"
            with m.State("ADDRESS POLL"):
                m.next = "POLL"
                with m.If(starting):
                    # 2.7.10.2: flags is 0 or 1, and 0 with EVENT_IDX. 2.7.8: idx starts at 0, as ``seen`` does.
                    m.d.sync += [
                        to_poll.bit_select(queue, 1).eq(0),
                        polling.bit_select(queue, 1).eq(1),
                    ]
                    m.next = "ARM"
            with m.State("POLL"):
                m.d.comb += self.index.req.valid.eq(1)
                with m.If(self.index.req.ready):
                    m.d.comb += polled.i.valid.eq(1)
                    m.d.sync += [
                        to_poll.bit_select(queue, 1).eq(0),
                        polling.bit_select(queue, 1).eq(1),
                    ]
                    m.next = "IDLE"

            with m.State("LOOK-UP RING"):
                m.next = "RING"
            with m.State("RING"):
                # As many as are new, up to the end of the ring and to the largest read.
                to_end = Signal(16)
                m.d.comb += to_end.eq(size - (row.next & mask))
                m.d.sync += [told_idx.eq(told_r.data), told_new.eq(told_r.data - row.next), known.eq(new)]
                with m.If((new <= to_end) & (new <= self.max_batch)):
                    m.d.sync += want.eq(new)
                with m.Elif(to_end <= self.max_batch):
                    m.d.sync += want.eq(to_end)
                with m.Else():
                    m.d.sync += want.eq(self.max_batch)
                with m.If(has_told.bit_select(queue, 1)):
                    m.d.sync += has_told.bit_select(queue, 1).eq(0)
                    m.next = "COMPARE TOLD"
                with m.Elif(new == 0):
                    m.d.sync += to_fetch.bit_select(queue, 1).eq(0)
                    m.next = "IDLE"
                with m.Else():
                    m.next = "ROOM"
            with m.State("COMPARE TOLD"):
                m.d.sync += moved.eq((told_new <= size) & (told_new > known))
                m.next = "TOLD"
            with m.State("TOLD"):
                # As good as a read of idx. One that is late, or lies, is as good as a notification without data.
                m.next = "LOOK-UP RING"
                with m.If(moved):
                    m.d.comb += [rows.write.eq(1), rows.new.seen.eq(told_idx)]
                    m.d.sync += armed.bit_select(queue, 1).eq(0)
                with m.Else():
                    m.d.sync += to_poll.bit_select(queue, 1).eq(1)
            with m.State("ROOM"):
                m.d.comb += self.o_room.valid.eq(1)
                m.d.sync += [granted.eq(self.grant), fits.eq(0)]
                with m.If(self.o_room.ready):
                    with m.If(self.grant == 0):
                        m.d.sync += to_fetch.bit_select(queue, 1).eq(0)  # tried again when places become free
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "READ RING"
            with m.State("READ RING"):
                m.d.sync += [fits.eq(reserved + granted <= room), whole.eq(granted == new)]
                m.d.comb += self.ring.req.valid.eq(fits)
                with m.If(self.ring.req.valid & self.ring.req.ready):
                    m.d.comb += [
                        asked.i.valid.eq(1),
                        rows.write.eq(1),
                        rows.new.next.eq(row.next + granted),
                    ]
                    with m.If(whole):
                        # All that was known is on its way: look for more before the driver has to say so.
                        m.d.sync += [
                            to_fetch.bit_select(queue, 1).eq(0),
                            to_poll.bit_select(queue, 1).eq(1),
                        ]
                    m.next = "IDLE"

        # Addresses come from registers: long sums are slow, and so is the choice between those who ask.
        m.d.sync += [
            self.ring.req.p.addr.eq(RING + ((row.next & mask) << 1)),
            # avail_event follows the used ring's elements (2.7.8).
            self.event.req.p.addr.eq(table.row.queue_device + Mux(starting, 0, RING + (size << 3))),
        ]
        m.d.comb += [
            # Alone, without flags: a ring need be aligned to 2 only (2.7), and nothing cuts an aligned half word.
            self.index.req.p.addr.eq(IDX),
            self.index.req.p.len.eq(2),
            *[part.eq(Area.DRIVER) for part in (self.index.req.p.area, self.ring.req.p.area)],
            *[part.eq(queue) for part in (self.index.req.p.queue, self.ring.req.p.queue)],
            polled.i.p.eq(queue),
            self.o_room.p.queue.eq(queue),
            self.o_room.p.want.eq(want),
            self.ring.req.p.len.eq(granted << 1),
            asked.i.p.queue.eq(queue),
            asked.i.p.count.eq(granted),
            armed_q.i.p.eq(queue),
            self.event.req.p.len.eq(Mux(starting, 4, 2)),
            self.event.data.p.data.eq(row.seen),
            self.event.data.p.last.eq(1),
            armed_q.o.ready.eq(self.event.done),
        ]

        m.d.comb += rows.held.eq(~state.ongoing("IDLE"))
        under_way = [part.level != 0 for part in (polled, armed_q, asked, entries)]
        m.d.comb += self.busy.eq(~state.ongoing("IDLE") | fetchable.any() | (to_poll & ~self.stopped).any()
                                 | Cat(under_way).any())

        # A nudge wins over a state that clears the same bit in the same cycle.
        for k in range(self.num_queues):
            with m.If(self.look[k] & ~polling[k]):
                m.d.sync += to_poll[k].eq(1)
        with m.If(self.event.done):
            m.d.sync += [to_poll.bit_select(armed_q.o.p, 1).eq(1), unset.bit_select(armed_q.o.p, 1).eq(0)]
            with m.If(unset.bit_select(armed_q.o.p, 1)):
                m.d.sync += polling.bit_select(armed_q.o.p, 1).eq(0)
        with m.If(self.kick_valid):
            with m.If(self.notification_data):
                m.d.sync += [
                    has_told.bit_select(self.kick_queue[:len(queue)], 1).eq(1),
                    to_fetch.bit_select(self.kick_queue[:len(queue)], 1).eq(1),
                ]
            with m.Else():
                m.d.sync += to_poll.bit_select(self.kick_queue[:len(queue)], 1).eq(1)
        with m.If(self.setup_valid):
            # A driver may have added buffers, and notified, before it was ready.
            m.d.sync += [
                to_poll.bit_select(self.setup.queue[:len(queue)], 1).eq(1),
                unset.bit_select(self.setup.queue[:len(queue)], 1).eq(1),
                armed.bit_select(self.setup.queue[:len(queue)], 1).eq(0),
                has_told.bit_select(self.setup.queue[:len(queue)], 1).eq(0),
            ]
        with m.If(self.freed_valid):
            m.d.sync += to_fetch.bit_select(self.freed_queue[:len(queue)], 1).eq(1)

        m.d.comb += [table.setup_valid.eq(self.setup_valid), table.setup.eq(self.setup)]

        # Answers: entries with their queue; the order of the requests says whose they are.
        m.submodules.ring_cut = ring_cut = Elements(width=self.width, shape=16)
        connect(m, flipped(self.ring.beat), ring_cut.i)
        connect(m, entries.o, flipped(self.o))
        come = Signal(range(self.max_batch + 1))
        m.d.comb += [
            entries.i.valid.eq(ring_cut.o.valid & asked.o.valid),
            ring_cut.o.ready.eq(entries.i.ready & asked.o.valid),
            entries.i.p.queue.eq(asked.o.p.queue),
            entries.i.p.head.eq(ring_cut.o.p.data),
            entries.i.p.last.eq(ring_cut.o.p.last),
            entries.i.p.error.eq(ring_cut.o.p.error),
            asked.o.ready.eq(entries.i.valid & entries.i.ready & entries.i.p.last),
        ]
        with m.If(entries.i.valid & entries.i.ready):
            m.d.sync += come.eq(Mux(entries.i.p.last, 0, come + 1))
        # A read that fails brings fewer entries than were reserved: the account is settled with its last.
        m.d.sync += reserved.eq(reserved + Mux(asked.i.valid, granted, 0) - (self.o.valid & self.o.ready)
                                - Mux(asked.o.ready, asked.o.p.count - come - 1, 0))
        return m
