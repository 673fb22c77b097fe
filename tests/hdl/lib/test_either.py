"""Either: who is chosen has the port, and the other one waits."""

from amaranth.lib import stream

from ringnic.hdl.lib.dma import WritePort
from ringnic.hdl.lib.either import Either

from ...kit.simulation import Simulation


def test_stream():
    dut = Either(stream.Signature(8))

    async def main(ctx):
        ctx.set(dut.o.ready, 1)
        for k, port in enumerate(dut.i):
            ctx.set(port.payload, 10 + k)
        for choice in range(2):
            ctx.set(dut.choice, choice)
            for offered in range(4):
                for k, port in enumerate(dut.i):
                    ctx.set(port.valid, offered >> k & 1)
                await ctx.tick()
                assert ctx.get(dut.o.valid) == offered >> choice & 1 and ctx.get(dut.o.payload) == 10 + choice
                assert [ctx.get(port.ready) for port in dut.i] == [choice == 0, choice == 1]
        ctx.set(dut.o.ready, 0)
        await ctx.tick()
        assert not any(ctx.get(port.ready) for port in dut.i)
    Simulation(dut, forget=dut.choice).run(main)


def test_port():
    """A strobe reaches both."""
    dut = Either(WritePort(64))

    async def main(ctx):
        ctx.set(dut.choice, 1)
        ctx.set(dut.i[1].req.p.addr, 0x1234)
        ctx.set(dut.i[1].req.valid, 1)
        ctx.set(dut.i[0].data.valid, 1)
        ctx.set(dut.o.done, 1)
        await ctx.tick()
        assert ctx.get(dut.o.req.valid) and ctx.get(dut.o.req.p.addr) == 0x1234 and not ctx.get(dut.o.data.valid)
        assert all(ctx.get(port.done) for port in dut.i)
    Simulation(dut).run(main)
