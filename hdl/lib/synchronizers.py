"""Synchronizers as Vivado wants them marked."""

from amaranth import *

__all__ = ["MarkedSynchronizers"]

MARK = {"ASYNC_REG": "TRUE"}


class MarkedSynchronizers:
    """A platform for :func:`amaranth.back.verilog.convert` that marks the registers of all synchronizers.

    UG912, "ASYNC_REG": marked registers are placed side by side, so that one that is metastable has time to settle, and none is
    optimized away or made a part of a shift register. Other tools ignore the mark.

    Ref: Amaranth, :class:`amaranth.lib.cdc.FFSynchronizer` and :class:`amaranth.lib.cdc.AsyncFFSynchronizer`, which ask their
    platform for these methods.
    """
    def get_ff_sync(self, sync):
        m = Module()
        stages = [Signal(sync.i.shape(), name=f"stage{k}", init=sync._init, reset_less=sync._reset_less, attrs=MARK)
                  for k in range(sync._stages)]
        for before, stage in zip([sync.i, *stages], stages):
            m.d[sync._o_domain] += stage.eq(before)
        m.d.comb += sync.o.eq(stages[-1])
        return m

    def get_async_ff_sync(self, sync):
        m = Module()
        m.domains.asynchronous = domain = ClockDomain(async_reset=True, local=True)
        stages = [Signal(name=f"stage{k}", init=1, attrs=MARK) for k in range(sync._stages)]
        for before, stage in zip([C(0, 1), *stages], stages):
            m.d.asynchronous += stage.eq(before)
        m.d.comb += [
            domain.clk.eq(ClockSignal(sync._o_domain)),
            domain.rst.eq(sync.i if sync._edge == "pos" else ~sync.i),
            sync.o.eq(stages[-1]),
        ]
        return m
