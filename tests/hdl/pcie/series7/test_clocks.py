"""The choice of the clock of the lanes, and the clocks that there are to choose from."""

from amaranth.back import verilog
from amaranth.sim import Simulator
import pytest
import re

from ringnic.hdl.pcie.series7 import clocks
from ringnic.hdl.pcie.series7.clocks import PclkSelect, PipeClocks
from ringnic.hdl.spec.pcie_7x import LINKS

from ....kit.boxes import box, instance, source


def chosen(lanes, wanted, cycles=4):
    """What is chosen a few cycles after each of ``wanted``."""
    dut, found = PclkSelect(lanes=lanes), []

    async def bench(ctx):
        for lanes_want in wanted:
            ctx.set(dut.wanted, lanes_want)
            await ctx.tick("pclk").repeat(cycles)
            found.append(ctx.get(dut.fast))
    sim = Simulator(dut)
    sim.add_clock(4e-9, domain="pclk")
    sim.add_testbench(bench)
    sim.run()
    return found


@pytest.mark.parametrize("lanes, wanted, fast", [
    (1, [0, 1, 0], [0, 1, 0]), (2, [1, 3, 2, 0], [0, 1, 1, 0]),
    # Not before the last lane, and back with the last one (PG054: a change of speed is one of all lanes).
    (4, [0b0001, 0b0111, 0b1111, 0b0111, 0b1000, 0b0000, 0b1000], [0, 0, 1, 1, 1, 0, 0])])
def test_choice(lanes, wanted, fast):
    assert chosen(lanes, wanted) == fast


def test_the_slow_clock_first():
    """Every link begins at 2.5 GT/s."""
    assert chosen(4, [0b1111], cycles=1) == [0]


@pytest.mark.parametrize("lanes", LINKS)
def test_clocks(lanes):
    dut = PipeClocks(lanes=lanes)
    text = verilog.convert(dut, ports=[getattr(dut, name) for name in dut.signature.members], emit_src=False)
    divider = {name: float(value) for name, value in re.findall(r"\.(CLKOUT\d_DIVIDE\w*)\((?:32'd)?([\d.]+)\)", text)}
    assert [1000 / divider[name] for name in ("CLKOUT0_DIVIDE_F", "CLKOUT1_DIVIDE", "CLKOUT2_DIVIDE", "CLKOUT3_DIVIDE")] == [
        125, 250, LINKS[lanes].user1_mhz, LINKS[lanes].user2_mhz]
    # By Amaranth's own buffer the multiplexer would have a parameter that yosys does not know.
    assert "SIM_DEVICE" not in text and "BUFGCTRL pclk_mux (" in text  # the constraints know it by that name


def test_multiplexer(monkeypatch):
    """I0 is the slow clock, by S0, and I1 the fast one, by S1; both enables are on, and neither clock is ignored (UG472)."""
    for name in ("Mmcm", "PclkSelect"):
        monkeypatch.setattr(clocks, name, box(getattr(clocks, name)))
    dut = PipeClocks(lanes=1)
    text = verilog.convert(dut, ports=[getattr(dut, name) for name in dut.signature.members], emit_src=False)
    mux, mmcm, select = (instance(text, name) for name in ("BUFGCTRL", "box_Mmcm", "box_PclkSelect"))
    assert [mux[name] for name in ("CE0", "CE1", "IGNORE0", "IGNORE1")] == ["1'h1", "1'h1", "1'h0", "1'h0"]
    assert (source(text, mux["I0"]), source(text, mux["I1"])) == (source(text, mmcm["o_slow"]), source(text, mmcm["o_fast"]))
    assert source(text, mux["S1"]) == source(text, select["fast"])
    assert re.search(rf"assign {re.escape(source(text, mux['S0']))} += ~ {select['fast']} ?;", text)
    assert source(text, "pclk") == source(text, mux["O"]) and source(text, "dclk") == source(text, mmcm["o_slow"])
    for port, net in (("pclk_sel", select["wanted"]), ("userclk1", mmcm["o_user1"]), ("userclk2", mmcm["o_user2"]),
                      ("locked", mmcm["locked"])):
        assert source(text, port) == source(text, net), port
