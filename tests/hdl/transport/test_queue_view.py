"""QueueView: which DW shows what, of a queue that exists and of one that does not."""

import pytest

from ringnic.hdl.spec.virtio import Common
from ringnic.hdl.transport.queue_view import QueueView

from ...kit.simulation import Simulation

STORED, SELECT = 0x89ab_cdef, 5
NONE = 0xffff


def values(exists, vector=1, enabled=0, resetting=0):
    """All DWs that are not 0, by the offset of their register."""
    dut, found = QueueView(msix_vectors=3), {}

    async def main(ctx):
        ctx.set(dut.stored, STORED)
        ctx.set(dut.select, SELECT)
        ctx.set(dut.exists, exists)
        ctx.set(dut.state, {"vector": vector, "enabled": enabled, "resetting": resetting})
        for word in range(64):
            ctx.set(dut.word, word)
            await ctx.tick()
            if value := ctx.get(dut.value):
                found[word * 4] = value
    Simulation(dut).run(main)
    return found


ADDRESSES = {at: STORED for at in range(Common.QUEUE_DESC, Common.QUEUE_NOTIF_CONFIG_DATA, 4)}
SELECTED = {Common.QUEUE_SELECT & ~3: SELECT << 16}


@pytest.mark.parametrize("vector, shown", [(2, 2), (3, NONE)])
@pytest.mark.parametrize("enabled, resetting", [(0, 0), (1, 0), (1, 1)])
def test_a_queue(vector, shown, enabled, resetting):
    assert values(1, vector, enabled, resetting) == {
        **SELECTED, **ADDRESSES,
        Common.QUEUE_SIZE & ~3: shown << 16 | STORED & 0xffff,
        Common.QUEUE_ENABLE & ~3: SELECT << 16 | enabled,
        **({Common.QUEUE_RESET & ~3: 1 << 16} if resetting else {}),
    }


def test_no_queue():
    """4.1.4.3.1: its size is 0."""
    assert values(0, enabled=1, resetting=1) == {**SELECTED, Common.QUEUE_SIZE & ~3: NONE << 16}
