"""RgmiiReceive: bytes from nibbles and half clocks, and the in-band status. At all speeds, in frames: ``test_rgmii.py``."""

from amaranth.hdl import ClockDomain, Module

from ringnic.hdl.mac.rgmii_receive import RgmiiReceive

from ...kit.simulator import Simulator

CLOCK = 8e-9


def test_inband_status():
    """3.4.1: RXD shows link, speed and duplex while RX_CTL is low on both edges, and that for more than an instant."""
    dut, seen = RgmiiReceive(), []
    top = Module()
    top.domains += ClockDomain("gmii_tx", reset_less=True), ClockDomain("rgmii_rx", reset_less=True)
    top.submodules.dut = dut

    async def show(ctx, *values, ctl=0, clocks=20):
        for k in range(clocks):
            ctx.set(dut.pads_rxd, values[k % len(values)] * 0x11)
            ctx.set(dut.pads_rx_ctl, ctl)
            await ctx.tick("rgmii_rx")
        seen.append(ctx.get(dut.inband.as_value()))

    async def main(ctx):
        await show(ctx, 0b0000)
        await show(ctx, 0b1011)                          # full duplex, 25 MHz, up
        await show(ctx, 0b1101, clocks=7)                # too short
        await show(ctx, 0b1011, clocks=7)
        await show(ctx, 0b1101, 0b1001)                  # never the same
        await show(ctx, 0b1101, ctl=0b11)                # a frame
        await show(ctx, 0b1101, ctl=0b10)                # RX_ER alone: carrier, or an error
        await show(ctx, 0b1101)                          # full duplex, 125 MHz, up
        await show(ctx, 0b0100)                          # half duplex, 125 MHz, down
    sim = Simulator(top)
    sim.add_clock(CLOCK, domain="gmii_tx")
    sim.add_clock(CLOCK, domain="rgmii_rx")
    sim.add_testbench(main)
    sim.run()
    assert seen == [0, 0b1011, 0b1011, 0b1011, 0b1011, 0b1011, 0b1011, 0b1101, 0b0100]
