"""virtio-net receive: what is said to the engine of its chains, and of which queue.

Ref: VIRTIO 1.4, 5.1.2 "Virtqueues", 5.1.9.5.5 "Automatic receive steering in multiqueue mode".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import Take, TakeOp
from ..lib.queue import Queue

__all__ = ["TakeOffer", "Pairs"]


class TakeOffer(wiring.Component):
    """Offer operations on ``take``, from registers; a TAKE every three cycles. A COMMIT goes with the next TAKE of its pair, or
    alone if none is to follow at once.

    A TAKE may wait until chains that were taken before have come, so the frames that get those must not wait for it: their
    COMMITs have their place here.

    Parameters
    ----------
    pairs : int
    ahead : int
        Chains on their way at most, while a TAKE is offered.

    Members
    -------
    i : In(stream)
        A TAKE or REWIND of the receive queue of ``pair``; ``valid`` may follow ``available`` in the same cycle.
    commit : In(1), count : In(16), pair : In(range(pairs))
        Strobe, while ``fits``: so many chains more of the pair are kept.
    fits : Out(1)
        There is a place for it: always, if chains are on their way.
    take : Out(stream(Take))
    idle : Out(1)
        Nothing is due or offered.
    """
    def __init__(self, *, pairs, ahead):
        self.pairs = pairs
        self.ahead = ahead
        super().__init__({
            "i":      In(stream.Signature(data.StructLayout({"op": TakeOp, "pair": range(pairs)}))),
            "commit": In(1),
            "count":  In(16),
            "pair":   In(range(pairs)),
            "fits":   Out(1),
            "take":   Out(stream.Signature(Take)),
            "idle":   Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        take = self.take
        due, of = Signal(16), Signal(range(self.pairs))    # chains to commit, and whose
        commits, joins = Signal(), Signal()                # alone; with a TAKE
        # Those of other pairs, in order, that come behind. With those there are more than ``ahead`` only if no chain is pending.
        m.submodules.later = later = Queue(data.StructLayout({"pair": range(self.pairs), "count": 16}), max(2, self.ahead))
        first = Signal()                                   # none is there yet, or of the same pair only
        m.d.comb += [
            first.eq(((due == 0) | (self.pair == of)) & (later.level == 0) if self.pairs > 1 else 1),
            self.fits.eq(first | later.i.ready),
            later.i.valid.eq(self.commit & ~first),
            later.i.p.pair.eq(self.pair),
            later.i.p.count.eq(self.count),
            later.o.ready.eq(due == 0),
            self.idle.eq(~take.valid & (due == 0) & (later.level == 0)),
            joins.eq(self.i.valid & (self.i.p.op == TakeOp.TAKE) & (self.i.p.pair == of)),
            commits.eq((due != 0) & (~take.valid | take.ready) & ~joins),
            # What a TAKE or REWIND leaves available is seen in the cycle after it; a COMMIT changes nothing of it.
            self.i.ready.eq(~commits & ((self.i.p.op == TakeOp.TAKE) | (later.level == 0))
                            & (~take.valid | (take.ready & (take.p.op == TakeOp.COMMIT)))),
        ]
        m.d.sync += due.eq(Mux(commits | (self.i.valid & self.i.ready), 0, due) + Mux(self.commit & first, self.count, 0))
        with m.If(self.commit & first):
            m.d.sync += of.eq(self.pair)
        with m.If(later.o.valid & later.o.ready):
            m.d.sync += [due.eq(later.o.p.count), of.eq(later.o.p.pair)]
        with m.If(take.ready):
            m.d.sync += take.valid.eq(0)
        with m.If(commits):
            m.d.sync += [take.valid.eq(1), take.p.op.eq(TakeOp.COMMIT), take.p.queue.eq(of << 1), take.p.count.eq(due)]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [take.valid.eq(1), take.p.op.eq(self.i.p.op), take.p.queue.eq(self.i.p.pair << 1), take.p.count.eq(due)]
        return m


class Pairs(wiring.Component):
    """Which queue pairs can be served.

    Parameters
    ----------
    num_queues, pairs : int

    Members
    -------
    enabled, available : In(num_queues), active : In(range(pairs + 1))
    pair : In(range(pairs))
        The one of which is said:
    here : Out(1), ready : Out(1)
        It is active and its queue is enabled; a chain of it is available.
    any : Out(1), first : Out(range(pairs))
        Whether one is here; the first one that is, as of the cycle before.
    """
    def __init__(self, *, num_queues, pairs):
        self.pairs = pairs
        super().__init__({
            "enabled":   In(num_queues),
            "available": In(num_queues),
            "active":    In(range(pairs + 1)),
            "pair":      In(range(pairs)),
            "here":      Out(1),
            "ready":     Out(1),
            "any":       Out(1),
            "first":     Out(range(pairs)),
        })

    def elaborate(self, platform):
        m = Module()
        usable, available = Signal(self.pairs), Signal(self.pairs)
        m.d.comb += [
            usable.eq(Cat(self.enabled[2 * k] & (self.active > k) for k in range(self.pairs))),
            available.eq(Cat(self.available[2 * k] for k in range(self.pairs))),
            self.here.eq(usable.bit_select(self.pair, 1)),
            self.ready.eq(available.bit_select(self.pair, 1)),
            self.any.eq(usable.any()),
        ]
        for k in reversed(range(self.pairs)):
            with m.If(usable[k]):
                m.d.sync += self.first.eq(k)
        return m
