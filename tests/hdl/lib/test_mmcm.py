"""The parameters of an MMCM: what its clocks are is a matter of these alone."""

from amaranth.back import verilog
import pytest
import re

from ringnic.hdl.lib.mmcm import Mmcm, Output

CLOCKS = {"slow": Output(125), "fast": Output(250), "user": Output(62.5), "late": Output(125, phase=90)}


@pytest.mark.parametrize("parameters, message", [
    (dict(input_mhz=9, outputs=CLOCKS), "Input clock must be a divisor of 1000 MHz from 10 to 500, not 9"),
    (dict(input_mhz=150, outputs=CLOCKS), "Input clock must be a divisor of 1000 MHz from 10 to 500, not 150"),
    (dict(input_mhz=100, outputs={}), "An MMCM has 1 to 7 outputs, not 0"),
    (dict(input_mhz=100, outputs={f"o{k}": Output(125) for k in range(8)}), "An MMCM has 1 to 7 outputs, not 8"),
    (dict(input_mhz=100, outputs={"a": Output(156.25)}), "Output 'a' must be a divisor of 1000 MHz by 1 to 128, not 156.25"),
    (dict(input_mhz=100, outputs={"a": Output(5)}), "Output 'a' must be a divisor of 1000 MHz by 1 to 128, not 5"),
])
def test_constructor(parameters, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Mmcm(**parameters)


@pytest.mark.parametrize("mhz", [50, 100, 200])
def test_clocks(mhz):
    """UG472: f_out = f_in * CLKFBOUT_MULT_F / (DIVCLK_DIVIDE * CLKOUT_DIVIDE); the oscillator runs at 600 to 1200 MHz."""
    dut = Mmcm(input_mhz=mhz, outputs=CLOCKS)
    text = verilog.convert(dut, ports=[dut.i, dut.locked, *(getattr(dut, f"o_{name}") for name in CLOCKS)], emit_src=False)
    found = {name: float(value) for name, value in re.findall(r"\.((?:CLK|DIV)\w+)\((?:32'd)?([\d.]+)\)", text)}
    vco = mhz * found["CLKFBOUT_MULT_F"] / found["DIVCLK_DIVIDE"]
    assert 600 <= vco <= 1200 and found["CLKIN1_PERIOD"] == pytest.approx(1000 / mhz)
    dividers = ["CLKOUT0_DIVIDE_F", *(f"CLKOUT{at}_DIVIDE" for at in (1, 2, 3))]
    assert [vco / found[name] for name in dividers] == [clock.mhz for clock in CLOCKS.values()]
    assert [found[f"CLKOUT{at}_PHASE"] for at in range(4)] == [0, 0, 0, 90]
    assert len(re.findall(r"\bBUFG\b", text)) == len(CLOCKS)
