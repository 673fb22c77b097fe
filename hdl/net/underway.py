"""virtio-net receive: chains from their TAKE until they are kept or taken back.

Ref: VIRTIO 1.4, 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import Take, TakeOp
from .takes import Pairs, TakeOffer

__all__ = ["Underway"]


class Underway(wiring.Component):
    """Take chains ahead, and know of each whose it is: they come in the order of the TAKEs.

    Parameters
    ----------
    num_queues, pairs, ahead, slots : int
        See :class:`.provide.Provide`.

    Members
    -------
    take : Out(stream(Take))
    enabled, available : In(num_queues), active : In(range(pairs + 1))
        See :class:`.takes.Pairs`.
    pair : In(range(pairs)), strays : In(1)
        Whose chains the oldest frame gets; it is not the frame's own pair.
    apart : In(1)
        Chains are taken for one pair at a time.
    served : In(1)
        The oldest frame has its chains, if it has enough.
    at : Out(range(ahead + 1)), there : In(1), at_pair : In(range(pairs))
        The first frame for which none was taken: see :func:`.waiting.WindowPort`.
    delivering : In(range(2 * slots + 1))
        See :class:`.provide.Provide`.
    may_take : In(1), asked : Out(1)
        A chain more is taken, if the queue has one and there is a frame for it, and room for the segments of all frames that may
        come to have theirs; one is, in this cycle.
    ended : In(1)
        Strobe: a chain has come.
    pending : Out(range(ahead + 1)), mine : Out(1)
        Taken, and not come; the next one of them is of ``pair``.
    chains : Out(16)
        In hand, all for the oldest frame.
    others : Out(1)
        Something that came is of other pairs, and is to be taken back.
    commit : In(1), fits : Out(1)
        The chains in hand are kept; only while ``fits``.
    rewind : In(1), rewound : Out(1)
        What was taken of one pair is taken back: of one of the others first, then what is in hand; it was, in this cycle.
    here, ready : Out(1)
        See :class:`.takes.Pairs`: of the pair for whose frame a chain is taken next.
    any : Out(1), first : Out(range(pairs))
        See there.
    idle : Out(1)
        Nothing is offered on ``take``.
    holds : Out(1)
        Chains are in hand or on their way, or something is offered.
    """
    def __init__(self, *, num_queues, pairs, ahead, slots):
        self.num_queues = num_queues
        self.pairs = pairs
        self.ahead = ahead
        self.slots = slots
        super().__init__({
            "take":       Out(stream.Signature(Take)),
            "enabled":    In(num_queues),
            "available":  In(num_queues),
            "active":     In(range(pairs + 1)),
            "pair":       In(range(pairs)),
            "strays":     In(1),
            "apart":      In(1),
            "served":     In(1),
            "at":         Out(range(ahead + 1)),
            "there":      In(1),
            "at_pair":    In(range(pairs)),
            "delivering": In(range(2 * slots + 1)),
            "may_take":   In(1),
            "asked":      Out(1),
            "ended":      In(1),
            "pending":    Out(range(ahead + 1)),
            "mine":       Out(1),
            "chains":     Out(16),
            "others":     Out(1),
            "commit":     In(1),
            "fits":       Out(1),
            "rewind":     In(1),
            "rewound":    Out(1),
            "here":       Out(1),
            "ready":      Out(1),
            "any":        Out(1),
            "first":      Out(range(pairs)),
            "idle":       Out(1),
            "holds":      Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.offer  = offer  = TakeOffer(pairs=self.pairs, ahead=self.ahead)
        m.submodules.queues = queues = Pairs(num_queues=self.num_queues, pairs=self.pairs)
        connect(m, offer.take, flipped(self.take))
        pair, chains = self.pair, self.chains
        order = [Signal(range(self.pairs), name=f"order{k}") for k in range(self.ahead)]   # whose they are that are on their way
        others, back = Signal(self.pairs), Signal(range(self.pairs))
        left, takes = Signal.like(self.pending), Signal()
        m.d.comb += [
            *[getattr(queues, name).eq(getattr(self, name)) for name in ("enabled", "available", "active")],
            *[getattr(self, name).eq(getattr(queues, name)) for name in ("here", "ready", "any", "first")],
            queues.pair.eq(Mux(self.strays, pair, self.at_pair)),
            self.at.eq(self.pending + self.served),
            takes.eq(self.may_take & self.here & self.ready & self.there
                     & Mux(self.strays, self.at == 0, ~self.apart | (self.at_pair == pair))
                     & (self.delivering + self.at < self.slots)),
            self.mine.eq(order[0] == pair),
            self.asked.eq(takes & offer.i.ready),
            left.eq(self.pending - self.ended),
            offer.i.valid.eq(takes | self.rewind),
            offer.i.p.op.eq(Mux(self.rewind, TakeOp.REWIND, TakeOp.TAKE)),
            offer.i.p.pair.eq(Mux(self.rewind, Mux(self.others, back, pair), queues.pair)),
            offer.commit.eq(self.commit),
            offer.count.eq(chains),
            offer.pair.eq(pair),
            self.fits.eq(offer.fits),
            self.idle.eq(offer.idle),
            self.rewound.eq(self.rewind & offer.i.ready),
            self.others.eq(others.any()),
            self.holds.eq(~offer.idle | (self.pending != 0) | (chains != 0) | self.others),
        ]
        m.d.sync += self.pending.eq(left + self.asked)
        for k in reversed(range(self.pairs)):
            with m.If(others[k]):
                m.d.comb += back.eq(k)
        with m.If(self.ended):
            m.d.sync += [one.eq(behind) for one, behind in zip(order, order[1:])]
            with m.If(self.mine):
                m.d.sync += chains.eq(chains + 1)
            with m.Else():
                m.d.sync += others.bit_select(order[0], 1).eq(1)
        with m.If(self.asked):
            with m.Switch(left):
                for k, one in enumerate(order):
                    with m.Case(k):
                        m.d.sync += one.eq(queues.pair)
        with m.If(self.rewound & self.others):
            m.d.sync += others.eq(others & (others - 1))
        with m.If(self.commit | (self.rewound & ~self.others)):
            m.d.sync += chains.eq(0)
        return m
