"""Which split queues want something of the stage that reads their rings, and whose turn it is.

Ref: VIRTIO 1.4, 2.7.10 "Available Buffer Notification Suppression", 2.9 "Driver Notifications".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from .named import Named

__all__ = ["AvailTurns"]


class AvailTurns(wiring.Component):
    """Keep for each split queue what is to be done; choose a queue of which something is, in turn.

    A queue that was set up has its used ring begun first: until that has left nothing is read. From then on idx is read when
    somebody asks for it and no such read is under way; and entries are when there may be new ones, and room for them.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: a queue begins. A driver may have added buffers, and notified, before it was ready: it is looked at by itself.
    kick_valid : In(1), kick_queue : In(16), kick_next : In(16), notification_data : In(1)
        Strobe: available buffer notification, and idx that it names if that feature was negotiated. Without, idx is read.
    look : In(num_queues)
        Strobe for each queue: read idx, unless that is under way.
    freed_valid : In(1), freed_queue : In(16)
        Strobe: the store has room for a queue to which it granted nothing.
    stopped : In(num_queues)
        Bit per queue: it is not chosen.
    any : Out(1), choice : Out(range(num_queues)), fetches : Out(1)
        Something is to be done, and of which queue: the first one behind ``last``; entries come before idx.
    waits : Out(1)
        The same of queues whose idx is being read, too.
    last : In, queue : In(range(num_queues))
        The queue that was chosen last; and the one of which all that follows speaks.
    begins : Out(1), armed : Out(1)
        Its used ring is to be begun; the driver knows up to which idx buffers were seen.
    told : Out(1), told_idx : Out(16)
        A notification has named this idx. The latter is there in the cycle after that in which ``queue`` is.
    polls : In(1), answered : In(1)
        Strobes: what was asked for, idx or the beginning of a used ring, is under way; the answer has come.
    poll : In(1), fetch : In(1), rest : In(1), moved : In(1), heard : In(1)
        Strobes: read idx. Read entries; do not, until somebody asks for it. idx has moved, and the driver does not know. What a
        notification named is being looked at.
    event_valid : In(1)
        Strobe: what the driver is to know was handed over; a used ring is not begun before it has left.
    left_valid : In(1), left_queue : In(16)
        Strobe: that has left for the host. Look once more: a buffer may have been added before the driver saw it.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        queue = range(max(2, num_queues))
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "kick_next":   In(16),
            "notification_data": In(1),
            "look":        In(num_queues),
            "freed_valid": In(1),
            "freed_queue": In(16),
            "stopped":     In(num_queues),
            "any":         Out(1),
            "choice":      Out(queue),
            "fetches":     Out(1),
            "waits":       Out(1),
            "last":        In(queue),
            "queue":       In(queue),
            "begins":      Out(1),
            "armed":       Out(1),
            "told":        Out(1),
            "told_idx":    Out(16),
            "polls":       In(1),
            "answered":    In(1),
            "poll":        In(1),
            "fetch":       In(1),
            "rest":        In(1),
            "moved":       In(1),
            "heard":       In(1),
            "event_valid": In(1),
            "left_valid":  In(1),
            "left_queue":  In(16),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.named = named = Named(num_queues=self.num_queues)
        to_poll  = Signal(self.num_queues)
        to_fetch = Signal(self.num_queues)
        armed    = Signal(self.num_queues)
        unset    = Signal(self.num_queues)  # flags of the used ring are not known to be 0
        polling  = Signal(self.num_queues)  # a read of idx is under way, or the write of these flags
        fetchable, pollable = Signal(self.num_queues), Signal(self.num_queues)

        def of(bits, queue=self.queue):
            return bits.bit_select(queue[:len(self.queue)], 1)
        m.d.comb += [
            *[getattr(named, name).eq(getattr(self, name)) for name in (
                "setup_queue", "kick_queue", "kick_next", "queue")],
            named.setup_valid.eq(self.setup_valid),
            named.kick_valid.eq(self.kick_valid & self.notification_data),
            named.clear.eq(self.heard),
            self.told.eq(named.valid),
            self.told_idx.eq(named.next),
            fetchable.eq(to_fetch & ~self.stopped & ~unset),
            pollable.eq(to_poll & ~self.stopped & ~polling),
            self.any.eq((fetchable | pollable).any()),
            self.fetches.eq(fetchable.bit_select(self.choice, 1)),
            self.waits.eq((fetchable | (to_poll & ~self.stopped)).any()),
            self.begins.eq(of(unset)),
            self.armed.eq(of(armed)),
        ]
        round_robin(m, fetchable | pollable, self.last, self.choice)
        with m.If(self.polls):
            m.d.sync += [of(to_poll).eq(0), of(polling).eq(1)]
        with m.If(self.answered):
            m.d.sync += of(polling).eq(0)
        with m.If(self.poll):
            m.d.sync += of(to_poll).eq(1)
        with m.If(self.fetch | self.rest):
            m.d.sync += of(to_fetch).eq(self.fetch)
        with m.If(self.moved | self.event_valid):
            m.d.sync += of(armed).eq(~self.moved & ~self.begins)

        # A nudge wins over what clears the same bit in the same cycle.
        for k in range(self.num_queues):
            with m.If(self.look[k] & ~polling[k]):
                m.d.sync += to_poll[k].eq(1)
        left, kick, setup = self.left_queue, self.kick_queue, self.setup_queue
        with m.If(self.left_valid):
            m.d.sync += [of(to_poll, left).eq(1), of(unset, left).eq(0)]
            with m.If(of(unset, left)):
                m.d.sync += of(polling, left).eq(0)
        with m.If(self.kick_valid):
            with m.If(self.notification_data):
                m.d.sync += of(to_fetch, kick).eq(1)
            with m.Else():
                m.d.sync += of(to_poll, kick).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += [
                of(to_poll, setup).eq(1),
                of(unset, setup).eq(1),
                of(armed, setup).eq(0),
            ]
        with m.If(self.freed_valid):
            m.d.sync += of(to_fetch, self.freed_queue).eq(1)
        return m
