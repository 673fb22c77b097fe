"""Constant bytes and registers, side by side in one DW, each reset with its module."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ringnic.hdl.lib.reg import RegPort
from ringnic.hdl.pcie.config_image import ConfigImage

from ...kit import registers
from ...kit.simulation import Simulation
from ...kit.streams import pulse


class Space(wiring.Component):
    """Bytes 0x20 to 0x2f; a read is answered in the cycle after its request."""
    cfg:   In(RegPort(12))
    reset: In(1)

    def elaborate(self, platform):
        m, kept = Module(), Module()
        image = ConfigImage(self.cfg, 0x20, 0x30)
        image.put(0x21, 2, 0x1234)
        low = image.register(m, 0x20, 0x0f, init=0x05)
        image.register(kept, 0x20, 0xf000_0000)
        image.register(m, 0x28, 0xffff_ffff)
        read, answer, asked = image.read(m, {0x24: low[:4] << 8, 0x20: Const(1 << 24)}), Signal(32), Signal()
        m.d.comb += [self.cfg.req.ready.eq(~asked), self.cfg.resp.valid.eq(asked), self.cfg.resp.p.eq(answer)]
        m.d.sync += [
            answer.eq(read),
            asked.eq(Mux(asked, ~self.cfg.resp.ready, self.cfg.req.valid & ~self.cfg.req.p.write)),
        ]
        kept.submodules.space = ResetInserter(self.reset)(m)
        return kept


def test_image():
    dut = Space()

    async def body(ctx):
        async def words():
            return [await registers.read(ctx, dut.cfg, at) for at in range(0x1c, 0x34, 4)]
        assert await words() == [0, 0x0112_3405, 0x500, 0, 0, 0]
        await registers.write(ctx, dut.cfg, 0x20, 0xffff_ffff, be=0b0111)
        assert await words() == [0, 0x0112_340f, 0xf00, 0, 0, 0]
        await registers.write(ctx, dut.cfg, 0x20, 0xa5a5_a5a5, be=0b1000)
        await registers.write(ctx, dut.cfg, 0x28, 0x0102_0304, be=0b1010)
        await registers.write(ctx, dut.cfg, 0x2c, 0xffff_ffff)
        assert await words() == [0, 0xa112_340f, 0xf00, 0x0100_0300, 0, 0]
        await pulse(ctx, dut.reset)
        assert await words() == [0, 0xa112_3405, 0x500, 0, 0, 0]
    Simulation(dut, watch_busy=False).run(body)
