"""What the registers of a queue read as.

Ref: VIRTIO 1.4, 4.1.4.3 "Common configuration structure layout".
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VIRTIO_MSI_NO_VECTOR, Common
from .enabling import ADDRESS_WORDS, SIZE_WORD

__all__ = ["ENABLE_WORD", "RESET_WORD", "SELECT_WORD", "QueueView", "state_layout"]

SELECT_WORD = Common.QUEUE_SELECT // 4  # in the upper half
ENABLE_WORD = Common.QUEUE_ENABLE // 4  # queue_notify_off in the upper half
RESET_WORD  = Common.QUEUE_RESET // 4   # in the upper half


def state_layout(msix_vectors):
    """State of a queue; a ``vector`` of ``msix_vectors`` is none."""
    return data.StructLayout({"vector": range(msix_vectors + 1), "enabled": 1, "resetting": 1})


class QueueView(wiring.Component):
    """Show a DW of the common configuration, of one queue, in the same cycle.

    Parameters
    ----------
    msix_vectors : int

    Members
    -------
    word : In(10), value : Out(32)
        DWs of others read 0, but queue_select, in its place.
    select : In(16), exists : In(1)
        Queue_select, and whether there is such a queue.
    stored : In(32), state : In(state_layout(msix_vectors))
        The register of that queue, if ``word`` is of one that is stored, and its state.
    """
    def __init__(self, *, msix_vectors):
        self.msix_vectors = msix_vectors
        super().__init__({
            "word":   In(10),
            "value":  Out(32),
            "select": In(16),
            "exists": In(1),
            "stored": In(32),
            "state":  In(state_layout(msix_vectors)),
        })

    def elaborate(self, platform):
        m = Module()
        value, state = self.value, self.state
        with m.Switch(self.word):
            with m.Case(SELECT_WORD):
                m.d.comb += value[16:].eq(self.select)
            with m.Case(SIZE_WORD):
                # 4.1.4.3.1: queue_size is 0 for a queue that does not exist.
                m.d.comb += value.eq(VIRTIO_MSI_NO_VECTOR << 16)
                with m.If(self.exists):
                    m.d.comb += value[:16].eq(self.stored[:16])
                    with m.If(state.vector != self.msix_vectors):
                        m.d.comb += value[16:].eq(state.vector)
            with m.Case(ENABLE_WORD):
                with m.If(self.exists):
                    m.d.comb += value.eq(Cat(state.enabled, C(0, 15), self.select))
            with m.Case(*ADDRESS_WORDS):
                with m.If(self.exists):
                    m.d.comb += value.eq(self.stored)
            with m.Case(RESET_WORD):
                m.d.comb += value[16].eq(self.exists & state.resetting)
        return m
