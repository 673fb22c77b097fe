"""The other side of the block's streams, from PG054's text.

DWs are numbers, the first in the lowest bits; ``tkeep`` has a bit for each byte.
"""

from ....kit import streams

__all__ = ["accept", "dws", "offer", "offer_straddled", "straddled", "words"]


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


def straddled(packets, high=lambda: True):
    """Beats of the 128-bit receive stream, as ``(data, user)``: a packet begins in the upper half of the beat where the one
    before ends in the lower half, and in that of a beat of its own, if ``high()``. ``packets``: TLPs, each with the BARs that it
    hits.
    """
    beats, halves = [], []    # a half: two numbers, and whether a packet begins and where it ends (0, 1 or None), and its BARs

    def leave():
        data, user = 0, 0
        for upper, (pair, first, end, hit) in enumerate(halves):
            data |= (pair[0] | (pair[1] if len(pair) > 1 else 0xa5a5_a5a5) << 32) << 64 * upper
            user |= (0b10000 | 0b01000 * upper) << 10 if first else 0
            user |= (0b10011 | (2 * upper + end) << 2) << 17 if end is not None else 0
            user = user & ~0x3fc | hit << 2 if first or not upper else user
        beats.append((data, user))
        halves.clear()
    for tlp, hit in packets:
        words = dws(tlp)
        pairs = [words[at:at + 2] for at in range(0, len(words), 2)]
        if len(halves) == 1 and not high():
            leave()
        elif not halves and high():
            halves.append(((0, 0), False, None, 0))
        for k, pair in enumerate(pairs):
            halves.append((pair, k == 0, len(pair) - 1 if k == len(pairs) - 1 else None, hit))
            if len(halves) == 2:
                leave()
    if halves:
        leave()
    return beats


async def offer_straddled(ctx, block, packets, high, idle=streams.never):
    """Offer received TLPs on the 128-bit stream."""
    ctx.set(block.m_axis_rx_tkeep, 0xffff)
    for data, user in straddled(packets, high):
        while idle():
            await ctx.tick()
        ctx.set(block.m_axis_rx_tdata, data)
        ctx.set(block.m_axis_rx_tuser, user)
        ctx.set(block.m_axis_rx_tvalid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(block.m_axis_rx_tready)
        ctx.set(block.m_axis_rx_tvalid, 0)


async def accept(ctx, block, found, idle=streams.never, width=64):
    """Call ``found(tlp)`` for each TLP on the transmit stream, for ever. A packet begins in the lowest DW (PG054)."""
    tlp, lanes = b"", width // 32
    while True:
        ready = not idle()
        ctx.set(block.s_axis_tx_tready, ready)
        _, _, valid, data, keep, last, user = await ctx.tick().sample(
            block.s_axis_tx_tvalid, block.s_axis_tx_tdata, block.s_axis_tx_tkeep, block.s_axis_tx_tlast, block.s_axis_tx_tuser)
        if valid and ready:
            count = keep.bit_length() // 4
            assert user == 0 and keep == (1 << 4 * count) - 1 and (last or count == lanes)
            tlp += b"".join((data >> 32 * k & 0xffff_ffff).to_bytes(4, "big") for k in range(count))
            if last:
                found(tlp)
                tlp = b""


def words(ctx, port):
    """The 18 words of the record of the link training, by a port; the last has number 31."""
    found = []
    for word in range(14, 32):
        ctx.set(port.word, word)
        found.append(ctx.get(port.value))
    return found
