"""Whose design is attached: ports and streams are checked, and what is wrong is said in the user's own names."""

from pathlib import Path
import re

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
import pytest

from ringnic.hdl.pcie.tlp_stream import tlp_beat
from ringnic.sim.attach.endpoint import amaranth_design, verilog_design
from ringnic.sim.attach.rtl import AttachError

SOURCE = Path(__file__).with_name("scrambler.v")
PORTS = {"clk": "input", "rst": "input", "busy": "output",
         "tlp_rx_data": "input [63:0]", "tlp_rx_dws": "input [1:0]", "tlp_rx_last": "input", "tlp_rx_valid": "input",
         "tlp_rx_ready": "output", "tlp_tx_data": "output [63:0]", "tlp_tx_dws": "output [1:0]", "tlp_tx_last": "output",
         "tlp_tx_valid": "output", "tlp_tx_ready": "input"}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Call it with changes to the ports of a module without anything inside; returns its file."""
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))

    def module(*, body="", name="top", **changes):
        ports = {port: kind for port, kind in {**PORTS, **changes}.items() if kind}
        path = tmp_path / "top.v"
        path.write_text(f"module {name}({', '.join(f'{kind} {port}' for port, kind in ports.items())});\n{body}\nendmodule\n")
        return path
    return module


def refused(*arguments, **options):
    with pytest.raises(AttachError) as caught:
        verilog_design(*arguments, **options)
    return str(caught.value)


def test_width_and_what_is_not_connected(module):
    found = verilog_design([module(extra="input [3:0]", pad="inout")], "top")
    assert found.design.width == 64 and not found.never_idle and found.unconnected == ("extra", "pad")
    found = verilog_design([module(busy=None, rst=None, rst_n="input", tlp_rx_data="input [127:0]", tlp_rx_dws="input [2:0]",
                                   tlp_tx_data="output [127:0]", tlp_tx_dws="output [2:0]")], "top")
    assert found.design.width == 128 and found.never_idle and found.unconnected == ()


def test_ports_of_other_names(module):
    path = module(clk=None, pcie_clk="input", rst=None, perst_n="input")
    assert verilog_design([path], "top", names={"clk": "pcie_clk", "rst_n": "perst_n"}).unconnected == ()


def test_parameters_decide_the_width():
    assert [verilog_design([SOURCE], "scrambler", parameters=[("WIDTH", width)]).design.width for width in (32, 512)] == [32, 512]


@pytest.mark.parametrize("changes, names, message", [
    ({"tlp_rx_data": None, "tlp_rxdata": "input [63:0]"}, {}, "no port is called 'tlp_rx_data'; did you mean tlp_rxdata or"),
    ({"clk": None}, {}, "no port is called 'clk'; the ports are busy, rst, tlp_rx_data"),
    ({}, {"clk": "clok"}, "no port is called 'clok'; did you mean clk? (--port clk=NAME names another)"),
    ({}, {"clock": "clk"}, "no role of a port is called 'clock'; did you mean clk?"),
    ({"rst": None}, {}, "there is neither a port rst nor rst_n"),
    ({"tlp_rx_ready": "input"}, {}, "port tlp_rx_ready must be an output and is an input"),
    ({"tlp_rx_data": "input [62:0]"}, {}, "tlp_rx_data has 63 bits; a TLP stream has 32, 64, 128, 256, 512"),
    ({"tlp_tx_data": "output [127:0]"}, {}, "tlp_tx_data must have 64 bits and has 128: the streams are 64 bits"),
    ({"tlp_rx_dws": "input"}, {}, "tlp_rx_dws must have 2 bits and has 1"),
    ({"tlp_tx_valid": "output [1:0]"}, {}, "tlp_tx_valid must have 1 bit and has 2"),
    ({"busy": "output [1:0]"}, {}, "busy must have 1 bit and has 2"),
    ({"tlp_rx_data": "input [7:0][7:0]"}, {}, "tlp_rx_data is no plain vector"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_ports_that_are_not_those_of_an_endpoint(module, changes, names, message):
    assert message in refused([module(**changes)], "top", names=names)


def test_files_and_modules_that_are_not_there(module, tmp_path):
    assert refused([tmp_path / "none.v"], "top") == f"There is no file {tmp_path / 'none.v'}"
    assert refused([module()], "top", includes=[tmp_path / "none"]) == f"There is no folder {tmp_path / 'none'}"
    assert "top-module 'other' was not found" in refused([module()], "other")
    assert "Parameters from the command line were not found in the design: X" in refused([module()], "top", parameters=[("X", 1)])
    assert "is called nic, and so is the simulator's" in refused([module(name="nic")], "nic")


def test_verilators_own_message(module):
    path = module(body="  assign nothing")
    assert re.search(rf"^%Error: {re.escape(str(path))}:3:1: syntax error", refused([path], "top"), re.MULTILINE)


def test_includes_beside_the_file_and_elsewhere(module, tmp_path):
    (tmp_path / "beside.vh").write_text("`define BESIDE wire a;\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.vh").write_text("`define FAR wire b;\n")
    path = module(body='`include "beside.vh"\n`include "far.vh"\n`BESIDE `FAR')
    assert "far.vh" in refused([path], "top")
    one = verilog_design([path], "top", includes=[tmp_path / "elsewhere"]).design
    assert one == verilog_design([path], "top", includes=[tmp_path / "elsewhere"]).design
    (tmp_path / "beside.vh").write_text("`define BESIDE wire c;\n")
    assert one != verilog_design([path], "top", includes=[tmp_path / "elsewhere"]).design, "a build of what it was before"


class Endpoint(wiring.Component):
    """Sends back what it gets."""
    def __init__(self, width=64, payload=tlp_beat):
        super().__init__({"tlp_rx": In(stream.Signature(payload(width))), "tlp_tx": Out(stream.Signature(payload(width)))})

    def elaborate(self, platform):
        m = Module()
        wiring.connect(m, wiring.flipped(self.tlp_rx), wiring.flipped(self.tlp_tx))
        return m


def test_amaranth():
    found = amaranth_design(f"{__name__}:Endpoint", parameters=[("width", 256)])
    assert found.design.width == 256 and found.never_idle


@pytest.mark.parametrize("name, parameters, message", [
    ("endpoint", [], "'endpoint' names no component: MODULE:CLASS"),
    ("no_such_module:Endpoint", [], "no_such_module cannot be imported: No module named 'no_such_module'"),
    (f"{__name__}:Endpiont", [], "no class is called 'Endpiont'; did you mean Endpoint?"),
    (f"{__name__}:Endpoint", [("depth", 1)], "cannot be made: Endpoint.__init__() got an unexpected keyword argument 'depth'"),
    (f"{__name__}:Path", [], "is no amaranth.lib.wiring.Component"),
    (f"{__name__}:Endpoint", [("payload", int)], "the payload of tlp_rx must have the fields data, dws, last"),
    ("ringnic.hdl.lib.slice:Slice", [("shape", 8)], "must have a member tlp_rx: In(stream.Signature(tlp_beat(width)))"),
])
def test_components_that_are_no_endpoint(name, parameters, message):
    with pytest.raises(AttachError) as caught:
        amaranth_design(name, parameters=parameters)
    assert message in str(caught.value)
