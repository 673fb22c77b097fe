"""Transmit and receive share the link by bytes of frames."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.dma import DMA_LEN_WIDTH

__all__ = ["CLAIM", "Balance"]

CLAIM = 8


class Balance(wiring.Component):
    """Hold one way back for as long as the other wants the link and has had less of it.

    Frames that are sent and frames that are received pass the link in different directions, but the requests for the former and
    the writes of the latter share one stream of TLPs. The requests are short, so if both merely took turns, more would be sent
    than is received. The lead of a way is clamped to ``CLAIM * limit`` bytes. A way that wants something but gets nothing, for
    example because the host does not answer its reads, holds the other back for ``patience`` cycles at most.

    Parameters
    ----------
    limit : int
        Bytes by which a way may be ahead, a power of two.
    patience : int
        Cycles.

    Members
    -------
    asked : In(1).array(2), length : In(DMA_LEN_WIDTH).array(2)
        Strobe: the transfer of so many bytes was asked for.
    wants : In(1).array(2)
        There is something to ask for.
    hold : Out(1).array(2)
        Ask for nothing. Of the two at most one is high, and in the cycle before the other way wanted something.
    """
    def __init__(self, *, limit=1024, patience=1024):
        if limit < 2 or limit & (limit - 1):
            raise ValueError(f"The limit must be a power of 2 of at least 2, not {limit!r}")
        self.limit = limit
        self.patience = patience
        super().__init__({
            "asked":  In(1).array(2),
            "length": In(DMA_LEN_WIDTH).array(2),
            "wants":  In(1).array(2),
            "hold":   Out(1).array(2),
        })

    def elaborate(self, platform):
        m = Module()
        claim = CLAIM * self.limit
        ahead = Signal(range(-claim, claim + 1))   # bytes by which the first is ahead
        moved = [Signal(DMA_LEN_WIDTH, name=f"moved{k}") for k in range(2)]
        after = Signal(signed(DMA_LEN_WIDTH + 2))
        m.d.comb += after.eq(ahead + moved[0] - moved[1])
        stood = [Signal(range(self.patience + 1), name=f"stood{k}") for k in range(2)]
        for asked, wants, cycles in zip(self.asked, self.wants, stood):
            with m.If(asked | ~wants):
                m.d.sync += cycles.eq(0)
            with m.Elif(cycles != self.patience):
                m.d.sync += cycles.eq(cycles + 1)
        m.d.sync += [
            *[moved[k].eq(Mux(self.asked[k], self.length[k], 0)) for k in range(2)],
            ahead.eq(Mux(after > claim, claim, Mux(after < -claim, -claim, after))),
            self.hold[0].eq((ahead >= self.limit) & self.wants[1] & (stood[1] != self.patience)),
            self.hold[1].eq((ahead <= -self.limit) & self.wants[0] & (stood[0] != self.patience)),
        ]
        return m
