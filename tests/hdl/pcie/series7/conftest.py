"""The other side of the block's streams, from PG054's text.

DWs are numbers, the first in the lowest bits; ``tkeep`` has a bit for each byte.
"""

from ....kit import streams

__all__ = ["accept", "dws", "offer"]


def dws(tlp):
    return [int.from_bytes(tlp[at:at + 4], "big") for at in range(0, len(tlp), 4)]


async def offer(ctx, block, tlp, *, hit=1, idle=streams.never):
    """Offer a received TLP on the 64-bit stream; ``hit`` is the mask of BARs that its address is in."""
    words = dws(tlp)
    for at in range(0, len(words), 2):
        while idle():
            await ctx.tick()
        pair = words[at:at + 2]
        ctx.set(block.m_axis_rx_tdata, pair[0] | (pair[1] if len(pair) > 1 else 0xa5a5_a5a5) << 32)
        ctx.set(block.m_axis_rx_tkeep, 0xff if len(pair) > 1 else 0x0f)
        ctx.set(block.m_axis_rx_tlast, at + 2 >= len(words))
        ctx.set(block.m_axis_rx_tuser, hit << 2)
        ctx.set(block.m_axis_rx_tvalid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(block.m_axis_rx_tready)
        ctx.set(block.m_axis_rx_tvalid, 0)


async def accept(ctx, block, found, idle=streams.never):
    """Call ``found(tlp)`` for each TLP on the 64-bit transmit stream, for ever."""
    tlp = b""
    while True:
        ready = not idle()
        ctx.set(block.s_axis_tx_tready, ready)
        _, _, valid, data, keep, last, user = await ctx.tick().sample(
            block.s_axis_tx_tvalid, block.s_axis_tx_tdata, block.s_axis_tx_tkeep, block.s_axis_tx_tlast, block.s_axis_tx_tuser)
        if valid and ready:
            assert user == 0 and (keep == 0xff or (last and keep == 0x0f))
            tlp += (data & 0xffff_ffff).to_bytes(4, "big") + (data >> 32).to_bytes(4, "big")
            if last:
                found(tlp if keep == 0xff else tlp[:-4])
                tlp = b""
