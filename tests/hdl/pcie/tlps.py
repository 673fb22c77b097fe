"""Raw TLPs, bytes as on the wire, into a stream and out of it."""


def beats(tlp, width):
    """What a part must not look at is no zero."""
    step = width // 8
    for at in range(0, len(tlp), step):
        piece = tlp[at:at + step]
        yield {"data": int.from_bytes(piece.ljust(step, b"\xa5"), "little"), "dws": len(piece) // 4,
               "last": at + step >= len(tlp)}


async def put(ctx, port, tlp, width, idle=lambda: False):
    """Offer one TLP, with a pause before each beat as long as ``idle()``."""
    for beat in beats(tlp, width):
        while idle():
            await ctx.tick()
        ctx.set(port.payload, beat)
        ctx.set(port.valid, 1)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)


async def take(ctx, port, width, found, idle=lambda: False):
    """Append what comes to ``found``, for ever; take nothing in a cycle of ``idle()``. An offer stands, and beats are full."""
    tlp, before = b"", None
    while True:
        ready = not idle()
        ctx.set(port.ready, ready)
        _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
        now = (beat.data, beat.dws, beat.last)
        assert before is None or (valid and now == before), "offer withdrawn"
        before = now if valid and not ready else None
        if valid and ready:
            assert beat.last or beat.dws == width // 32
            tlp += int(beat.data).to_bytes(width // 8, "little")[:4 * beat.dws]
            if beat.last:
                found.append(tlp)
                tlp = b""
