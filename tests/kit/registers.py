"""What drives and answers ports for registers."""

from .streams import never, receive, send

__all__ = ["read", "serve", "write"]


async def write(ctx, port, addr, value, be=0xf):
    """Write the bytes ``be`` of the DW at ``addr``."""
    await send(ctx, port.req, {"addr": addr, "write": 1, "be": be, "data": value})


async def read(ctx, port, addr, be=0xf, late=0):
    """Return the DW at ``addr``; the answer has to stay for ``late`` cycles."""
    await send(ctx, port.req, {"addr": addr, "write": 0, "be": be, "data": 0})
    for _ in range(late):
        await ctx.tick()
    return await receive(ctx, port.resp)


async def serve(ctx, port, registers, idle=never, seen=lambda req: None):
    """Answer from the dict ``registers`` of DWs, for ever: requests and answers wait as long as ``idle()``."""
    while True:
        while idle():
            await ctx.tick()
        req = await receive(ctx, port.req)
        seen(req)
        old = registers.get(req.addr, 0)
        if req.write:
            mask = sum(0xff << 8 * k for k in range(4) if req.be >> k & 1)
            registers[req.addr] = old & ~mask | req.data & mask
        else:
            await send(ctx, port.resp, old, idle)
