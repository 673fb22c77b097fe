"""Which packed queues want something of the stage that reads their rings, and whose turn it is.

Ref: VIRTIO 1.4, 2.8.10 "Event Suppression Structure Format", 2.9 "Driver Notifications".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin

__all__ = ["PackedTurns"]


class PackedTurns(wiring.Component):
    """Keep, a bit per queue, what is to be done; choose a queue of which something is, in turn.

    A queue that was set up has its event written first, and is read when that has left: until then the driver may find anything
    in its place. From then on it is read when somebody asks for it and no read of it is under way, and its event is written
    when it has gone empty and the driver does not know where the device waits.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: a queue begins. A driver may have added buffers, and notified, before it was ready: it is looked at by itself.
    kick_valid : In(1), kick_queue : In(16), look : In(num_queues)
        Strobes: read a ring; with ``look`` unless that is under way.
    freed_valid : In(1), freed_queue : In(16)
        Strobe: the store has room for a queue to which it granted nothing.
    stopped : In(num_queues)
        Bit per queue: it is not chosen.
    any : Out(1), choice : Out(range(num_queues))
        Something is to be done, and of which queue: the first one behind ``queue``.
    reading : Out(1)
        A read of some queue is under way, or its first event.
    queue : In(range(num_queues))
        Of which ``begins``, ``tells`` and ``hungry`` speak, and the strobes that follow.
    begins : Out(1), tells : Out(1)
        Its event is to be written: for the first time; or now.
    tell : In(1), told : In(1)
        Strobes: that is going to be done; and its write was accepted.
    hungry : Out(1), lacks : In(1), granted : In(1), refused : In(1)
        Room that becomes free for it is heard of from ``lacks`` to the strobe that says so; and until ``granted``, if some was
        granted. After ``refused`` it waits for that strobe, or does not, if that has been.
    asked : In(1)
        Strobe: a read was asked for.
    left_valid : In(1), left_queue : In(16)
        Strobe: the event of a queue has left for the host. Look once more: a buffer may have been added before the driver saw it.
    result_valid : In(1), result_queue : In(16), again : In(1), empty : In(1), taken : In(1)
        Strobe: a read has been judged. Read on; or the ring has gone empty, and the driver is to know (neither, if the queue
        failed). With ``taken`` it does not know where the device waits now.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        queue = range(max(2, num_queues))
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "look":        In(num_queues),
            "freed_valid": In(1),
            "freed_queue": In(16),
            "stopped":     In(num_queues),
            "any":         Out(1),
            "choice":      Out(queue),
            "reading":     Out(1),
            "queue":       In(queue),
            "begins":      Out(1),
            "tells":       Out(1),
            "tell":        In(1),
            "told":        In(1),
            "hungry":      Out(1),
            "lacks":       In(1),
            "granted":     In(1),
            "refused":     In(1),
            "asked":       In(1),
            "left_valid":  In(1),
            "left_queue":  In(16),
            "result_valid": In(1),
            "result_queue": In(16),
            "again":       In(1),
            "empty":       In(1),
            "taken":       In(1),
        })

    def elaborate(self, platform):
        m = Module()
        to_fetch = Signal(self.num_queues)
        to_tell  = Signal(self.num_queues)
        fetching = Signal(self.num_queues)  # a read is under way, or the write that comes before the first
        hungry   = Signal(self.num_queues)  # there may be more than there was room for
        armed    = Signal(self.num_queues)  # the driver knows where we wait
        unset    = Signal(self.num_queues)  # it does not even know that we do
        ready    = Signal(self.num_queues)
        m.d.comb += [
            ready.eq((to_fetch | to_tell) & ~self.stopped & ~fetching),
            self.any.eq(ready.any()),
            self.reading.eq(fetching.any()),
        ]
        round_robin(m, ready, self.queue, self.choice)

        def of(bits, queue=self.queue):
            return bits.bit_select(queue[:len(self.queue)], 1)
        m.d.comb += [
            self.begins.eq(of(unset)),
            self.tells.eq(of(unset) | of(to_tell)),
            self.hungry.eq(of(hungry)),
        ]
        with m.If(self.tell):
            m.d.sync += of(to_tell).eq(0)
            with m.If(self.begins):
                m.d.sync += [of(to_fetch).eq(0), of(fetching).eq(1)]
        with m.If(self.told):
            m.d.sync += of(armed).eq(1)
        with m.If(self.lacks):
            m.d.sync += of(hungry).eq(1)
        with m.If(self.granted):
            m.d.sync += of(hungry).eq(0)
        with m.If(self.refused):
            # Of places that became free beside this request, or since, it has been told already.
            m.d.sync += of(to_fetch).eq(~self.hungry)
        with m.If(self.asked):
            m.d.sync += [of(to_fetch).eq(0), of(fetching).eq(1)]
        judged = self.result_queue
        with m.If(self.result_valid):
            m.d.sync += of(fetching, judged).eq(0)
            with m.If(self.taken):
                m.d.sync += of(armed, judged).eq(0)
            with m.If(self.again):
                m.d.sync += of(to_fetch, judged).eq(1)
            with m.If(self.empty & (self.taken | ~of(armed, judged))):
                m.d.sync += of(to_tell, judged).eq(1)

        # A nudge wins over what clears the same bit in the same cycle.
        for k in range(self.num_queues):
            with m.If(self.look[k] & ~fetching[k]):
                m.d.sync += to_fetch[k].eq(1)
        left, freed, setup = self.left_queue, self.freed_queue, self.setup_queue
        with m.If(self.left_valid):
            m.d.sync += [of(to_fetch, left).eq(1), of(unset, left).eq(0)]
            with m.If(of(unset, left)):
                m.d.sync += of(fetching, left).eq(0)
        with m.If(self.freed_valid & of(hungry, freed)):
            m.d.sync += [of(to_fetch, freed).eq(1), of(hungry, freed).eq(0)]
        with m.If(self.kick_valid):
            m.d.sync += of(to_fetch, self.kick_queue).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += [
                of(to_fetch, setup).eq(1),
                of(to_tell, setup).eq(0),
                of(unset, setup).eq(1),
                of(hungry, setup).eq(0),
                of(armed, setup).eq(0),
            ]
        return m
