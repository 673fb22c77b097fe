"""The Tcl of a build, run by tclsh with stand-ins that know Vivado's names: what it does, and that a wrong name fails."""

import re

import pytest

from ringnic.boards.table import BOARDS
from ringnic.host.build.ip import ip_properties
from ringnic.host.build.script import VERSIONS

CASES = [(board.name, lanes) for board in BOARDS.values() if board.buildable
         for lanes in (1, 2, 4) if lanes <= len(board.pcie.lanes)]


@pytest.mark.parametrize("name, lanes", CASES)
def test_every_board(project, run_tcl, name, lanes):
    folder = project(name, lanes)
    done = run_tcl(folder)
    assert (done.returncode, done.stderr) == (0, "")
    facts = (folder / "facts.txt").read_text().splitlines()
    board = BOARDS[name]
    assert facts[:1 + lanes] == ["vivado 2023.2", *[
        f"lane {at} {lane.channel} {' '.join((*lane.rx, *lane.tx))}" for at, lane in enumerate(board.pcie.lanes[:lanes])]]
    assert "cell MSIX_CAP_NEXTPTR 8'hA8" in facts and "cell EXT_CFG_CAP_PTR 6'h2A" in facts
    images = {f"ringnic_{name}{kind}.bin" for kind in ("", "_fallback", "_update")}
    assert {path.name for path in folder.glob("*.bin")} == (images if board.configuration.fallback else {f"ringnic_{name}.bin"})


def break_(folder, file, old, new):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("file, old, new, says", [
    ("ip.tcl", "MSIx_Enabled", "MSIX_Enabled", "does not have a property 'CONFIG.MSIX_Enabled'"),
    ("ip.tcl", "Link_Speed {5.0_GT/s}", "Link_Speed {5_GT/s}", "'5_GT/s' is not a valid value"),
    ("ip.tcl", "Bar0_Enabled {true}", "Bar0_Enabled {1}", "'1' is not a valid value"),
    ("ip.tcl", "Device_ID {1041}", "Device_ID {virtio}", "'virtio' is not a valid value"),
    ("ip.tcl", "pcie_7x -version", "pcie_7 -version", "IP not found"),
    ("ip.tcl", "synth_ip $ip\n", "", "the IP has not been synthesised"),
    ("build.tcl", "route_design", "routes_design", 'invalid command name "routes_design"'),
    ("build.tcl", "report_utilization -file", "report_utilization -fiel", "Unknown option '-fiel'"),
    ("build.tcl", "MSIX_CAP_NEXTPTR 8'hA8", "MSIX_CAP_NEXT_PTR 8'hA8", "does not have a property 'MSIX_CAP_NEXT_PTR'"),
    ("build.tcl", "MSIX_CAP_NEXTPTR 8'hA8", "MSIX_CAP_NEXTPTR A8", "'A8' is not a valid value"),
    ("build.tcl", "pipe_lane[0]", "pipe_lane[7]", "0 cells are the transceiver of lane 0, not 1"),
    ("build.tcl", "forget_place {REF_NAME == GTPE2_CHANNEL}\n", "", "Cannot set LOC property"),
    ("build.tcl", "set_property LOC GTPE2_CHANNEL_X0Y7 $lane3\n", "", "no place for"),
    ("ringnic_ax7203_pins.xdc", "get_ports {pcie_rst_n}", "get_ports {pcie_reset_n}", "no ports match pcie_reset_n"),
    ("ringnic_ax7203_pins.xdc", "led[3]", "led[4]", "no ports match led[4]"),
    ("ringnic_ax7203_pins.xdc", "PULLTYPE PULLUP", "PULLUP TRUE", "does not have a property 'PULLUP'"),
    ("ringnic_ax7203_pins.xdc", "CONFIGRATE 50", "CONFIGRATE 51", "'51' is not a valid value"),
    ("ringnic_ax7203_clocks.xdc", "*pclk_mux/O", "*pclk_mix/O", "no pins match"),
    ("ringnic_ax7203_clocks.xdc", "*link_tap/TCK", "*link_tab/TCK", "no pins match"),
    ("ringnic_ax7203_clocks.xdc", "clocks jtag_tck", "clocks jtag_clk", "no clocks match jtag_clk"),
    ("ringnic_ax7203_clocks.xdc", "clocks osc_clk", "clocks oscillator", "no clocks match oscillator"),
    ("ringnic_ax7203_clocks.xdc", "set_max_delay -datapath_only", "set_max_delay", "set_max_delay: without -datapath_only"),
    ("ringnic_ax7203_clocks.xdc", "buffers/txc/C", "buffers/txc/CLK", "no pins match"),
    ("ringnic_ax7203_clocks.xdc", "-clock eth_rx_clk -max", "-clock eth_rxc -max", "no clocks match eth_rxc"),
    ("ringnic_ax7203_clocks.xdc", "-max 3.000", "-maximum 3.000", "Unknown option '-maximum' of set_input_delay"),
    ("ringnic_ax7203_clocks.xdc", "eth_rx_data[3]", "eth_rx_data[4]", "no ports match eth_rx_data[4]"),
    ("ringnic_ax7203_clocks.xdc", "set_input_delay", "set_output_delay", "port:eth_rx_ctl is no output"),
    ("ringnic_ax7203_clocks.xdc", "eth_tx_ctl eth_tx_data[0]", "eth_tx_data[0]", "tx_setup of Ethernet is not timed"),
    ("ringnic_ax7203_clocks.xdc", " -add_delay -min 1.000", " -min 1.000", "rx_setup of Ethernet is not timed"),
    ("build.tcl", "get_timing_paths -setup", "get_timing_path -setup", 'invalid command name "get_timing_path"'),
])
def test_a_wrong_name_fails(project, run_tcl, file, old, new, says):
    folder = project(lanes=4)
    break_(folder, file, old, new)
    done = run_tcl(folder)
    assert done.returncode == 1 and says in done.stderr


@pytest.mark.parametrize("board", [board for board in BOARDS.values() if board.buildable], ids=lambda board: board.name)
def test_the_pads_of_ethernet(project, board):
    """RGMII 2.0, 3.3 with internal delays: 1.2 ns where data are driven, 1.0 ns where they are taken, at both edges of 8 ns.
    IEEE 802.3, 35.5.2.3 "GMII": setup and hold of 2.5 and 0.5 ns where they are driven, 2.0 and 0 ns where they are taken."""
    folder = project(board.name)
    text = (folder / f"ringnic_{board.name}_clocks.xdc").read_text()
    found = re.findall(r"^set_(\w+)_delay -clock (\w+)(?: (-clock_fall -add_delay))? -(\w+) (\S+) \[get_ports {(.*)}\]$", text,
                       re.MULTILINE)
    rx, tx = (" ".join([f"eth_{way}_ctl", *(f"eth_{way}_data[{bit}]" for bit in range(4))]) for way in ("rx", "tx"))
    expected = [row for fall in ("", "-clock_fall -add_delay") for row in (
        ("input", "eth_rx_clk", fall, "max", "3.000", rx), ("input", "eth_rx_clk", fall, "min", "1.000", rx),
        ("output", "eth_tx_clk", fall, "max", "1.200", tx), ("output", "eth_tx_clk", fall, "min", "-1.200", tx))]
    if board.ethernet and board.ethernet.kind == "gmii":
        data = [" ".join(f"eth_{way}_data[{bit}]" for bit in range(8)) for way in ("rx", "tx")]
        rx, tx = f"eth_rx_dv eth_rx_er {data[0]}", f"eth_tx_en eth_tx_er {data[1]}"
        expected = [("input", "eth_rx_clk", "", "max", "6.000", rx), ("input", "eth_rx_clk", "", "min", "0.000", rx),
                    ("output", "eth_gtx_clk", "", "max", "2.500", tx), ("output", "eth_gtx_clk", "", "min", "-0.500", tx)]
        assert (folder / f"ringnic_{board.name}_pins.xdc").read_text().count("IOB TRUE") == 20
        assert text.index("-name eth_gtx_clk -invert") < text.index("-include_generated_clocks osc_clk")
    assert found == (expected if board.ethernet else [])
    # A clock that is made after the bounds between clocks is in none of them.
    assert "eth_tx_clk" not in text or text.index("-name eth_tx_clk") < text.index("-include_generated_clocks osc_clk")


@pytest.mark.parametrize("board", [board for board in BOARDS.values() if board.buildable], ids=lambda board: board.name)
def test_what_crosses_clocks_is_bounded(project, board):
    """UG903, "Asynchronous Clock Domain Crossings": each way between two of the slot, the board and the wire takes no longer than
    a period of the fastest of them, 125 MHz, so the bits of a Gray-coded pointer arrive within one period of each other."""
    text = (project(board.name) / f"ringnic_{board.name}_clocks.xdc").read_text()
    clocks = r"\[get_clocks -include_generated_clocks (.*?TXOUTCLK}\]|osc_clk|eth_rx_clk)\]"
    found = re.findall(rf"^set_max_delay -datapath_only -from {clocks} -to {clocks} 8\.000$", text, re.MULTILINE)
    assert text.count("set_max_delay") == len(found) == (6 if board.ethernet else 0)
    assert len(set(found)) == len(found) and all(source != target for source, target in found)


@pytest.mark.parametrize("name", ["mode_selection", "Vendor_ID", "MSIx_Table_Offset", "PCI_CFG_Space_Addr", "pipe_mode_sim"])
def test_properties_are_read_back(project, run_tcl, name):
    """The first and the last that are set, and some between."""
    done = run_tcl(project(), FAULT=f"changes {name}")
    value = ip_properties(lanes=1, generation=2, vectors=10)[name]
    assert done.returncode == 1 and f"RINGNIC: the IP has {name} = other, not {value}" in done.stderr


@pytest.mark.parametrize("version, fits", [
    (VERSIONS[0], True), (VERSIONS[1], True), ("2022.2.1", True), ("2024.1_AR12345", True), (f"{VERSIONS[1]}.1", True),
    ("2018.3", False), ("2027.1", False)])
def test_versions(project, run_tcl, version, fits):
    done = run_tcl(project(), VERSION=version)
    assert (done.returncode == 0) == fits
    assert fits or f"RINGNIC: Vivado {version}; this project is for {VERSIONS[0]} to {VERSIONS[1]}" in done.stderr


def test_another_version_of_the_ip(project, run_tcl):
    done = run_tcl(project(), FAULT="no block")
    assert done.returncode == 1 and "RINGNIC: 0 cells are the block for PCI Express, not 1" in done.stderr


def test_properties_are_the_ones_of_the_card():
    """What the block shows to the host is what the card shows with a configuration space of its own (VIRTIO 4.1.2.1, 4.1.2.2)."""
    found = ip_properties(lanes=1, generation=2, vectors=10)
    assert {found[name] for name in ("Vendor_ID", "Subsystem_Vendor_ID")} == {"1AF4"} and found["Device_ID"] == "1041"
    assert (found["MSIx_Table_Size"], found["MSIx_Table_Offset"], found["MSIx_PBA_Offset"]) == ("A", "4000", "5000")
    assert (found["PCI_CFG_Space_Addr"], found["Bar0_Size"], found["User_Clk_Freq"]) == ("2A", "32", "62.5")
    assert (found["Class_Code_Base"], found["Class_Code_Sub"], found["Class_Code_Interface"]) == ("02", "00", "00")
    assert int(found["Subsystem_ID"], 16) >= 0x40 and int(found["Revision_ID"], 16) >= 1


@pytest.mark.parametrize("lanes, generation, link", [
    (1, 1, ("X1", "2.5_GT/s", "4'h1", "64_bit", "62.5")), (1, 2, ("X1", "5.0_GT/s", "4'h2", "64_bit", "62.5")),
    (2, 2, ("X2", "5.0_GT/s", "4'h2", "64_bit", "125")), (4, 2, ("X4", "5.0_GT/s", "4'h2", "128_bit", "125"))])
def test_links(lanes, generation, link):
    found = ip_properties(lanes=lanes, generation=generation, vectors=4)
    names = ("Maximum_Link_Width", "Link_Speed", "Trgt_Link_Speed", "Interface_Width", "User_Clk_Freq")
    assert tuple(found[name] for name in names) == link


def test_no_name_is_set_twice(project):
    text = (project() / "ip.tcl").read_text()
    names = re.findall(r"^    (\w+) \{", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 60
