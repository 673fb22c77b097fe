"""Vivado's reports as they are, good and bad, and what is made of them."""

import pytest

from ringnic.boards.table import BOARDS
from ringnic.host.build.judge import (
    ReportError, configuration, judge, timing_summary, unconstrained, utilization, vivado_errors)
from ringnic.host.build.project import image_files

AX7203 = BOARDS["ax7203"]

# Of Vivado 2019.1: fewer columns than today.
OLD_UTILIZATION = """
+-------------------------+------+-------+-----------+-------+
|        Site Type        | Used | Fixed | Available | Util% |
+-------------------------+------+-------+-----------+-------+
| Slice LUTs*             | 6340 |     0 |     63400 | 10.00 |
| Slice Registers         | 1268 |     0 |    126800 |  1.00 |
+-------------------------+------+-------+-----------+-------+
+-------------------+------+-------+-----------+-------+
|     Site Type     | Used | Fixed | Available | Util% |
+-------------------+------+-------+-----------+-------+
| Block RAM Tile    | 13.5 |     0 |       135 | 10.00 |
+-------------------+------+-------+-----------+-------+
+----------------+------+-------+-----------+-------+
|    Site Type   | Used | Fixed | Available | Util% |
+----------------+------+-------+-----------+-------+
| DSPs           |    0 |     0 |       240 |  0.00 |
+----------------+------+-------+-----------+-------+
"""


def built(project, run_tcl, fault="", name="ax7203", lanes=1):
    """The verdict on what the stand-in leaves."""
    folder = project(name, lanes)
    assert run_tcl(folder, FAULT=fault).returncode == 0
    return judge(BOARDS[name], folder, lanes=lanes, images=image_files(BOARDS[name]))


def test_a_good_build(project, run_tcl):
    verdict = built(project, run_tcl, lanes=4)
    assert verdict.problems == [] and verdict.warnings == []
    assert verdict.vivado == "2023.2"
    assert verdict.timing == {"wns_ns": 0.456, "tns_ns": 0, "whs_ns": 0.031, "ths_ns": 0, "wpws_ns": 1.1, "tpws_ns": 0,
                              "no_clock": 0, "unconstrained_internal_endpoints": 0, "loops": 0}
    # What RGMII 2.0 leaves, if the FPGA itself costs nothing: see the stand-in.
    assert verdict.pads == {"rx_setup": 1, "rx_hold": 1, "tx_setup": 0.8, "tx_hold": 0.8}
    assert verdict.utilization["luts"] == {"used": 25360, "available": 63400, "percent": 40}
    assert verdict.utilization["rams"] == {"used": 40.5, "available": 135, "percent": 30}
    assert verdict.lanes == [[lane.channel, *lane.rx, *lane.tx] for lane in AX7203.pcie.lanes]
    assert verdict.capabilities["MSIX_CAP_NEXTPTR"] == "8'hA8"
    assert [(image["file"], image["offset"]) for image in verdict.images] == [
        ("ringnic_ax7203.bin", 0), ("ringnic_ax7203.bit", None), ("ringnic_ax7203_fallback.bin", 0),
        ("ringnic_ax7203_update.bin", 0x80_0000)]
    assert verdict.report()["images"] == verdict.images


@pytest.mark.parametrize("fault, problem", [
    ("negative slack", "timing is not met: the worst setup slack is -0.123 ns"),
    ("negative hold", "timing is not met: the worst hold slack is -0.011 ns"),
    ("no clock", "12 registers have no clock that is constrained"),
    ("unconstrained", "7 paths inside are not constrained"),
    ("forgets MSIX_CAP_NEXTPTR", "the block has MSIX_CAP_NEXTPTR = 8'h00, and 8'hA8 is needed: drivers would not find the "
                                 "capabilities of virtio"),
    ("forgets EXT_CFG_CAP_PTR", "the block has EXT_CFG_CAP_PTR = 8'h00, and 6'h2A is needed: drivers would not find the "
                                "capabilities of virtio"),
    ("unplaced", "lane 0 is at D11 C11 D5 C5, and the board has it at GTPE2_CHANNEL_X0Y5 D11 C11 D5 C5"),
])
def test_a_bad_build(project, run_tcl, fault, problem):
    assert built(project, run_tcl, fault).problems == [problem]


@pytest.mark.parametrize("check", ["setup", "hold"])
def test_pads_that_miss(project, run_tcl, check):
    """The bitstream is one for a first look all the same."""
    verdict = built(project, run_tcl, f"pads {check}")
    assert verdict.problems == [] and verdict.pads[f"rx_{check}"] == -0.21
    assert verdict.warnings == [f"at the pads of Ethernet {what} data miss {check} by 0.21 ns: frames may be lost at 1 Gbit/s "
                                "(docs/boards/bring-up.md)" for what in ("received", "sent")]


def test_pads_that_are_not_timed(project, run_tcl):
    with pytest.raises(ReportError, match="^facts.txt does not say what rx_setup of Ethernet has to spare$"):
        built(project, run_tcl, "pads untimed")


def test_a_gmii(project, run_tcl):
    """IEEE 802.3, 35.5.2.3: what 2.0 and 0 ns of 8 leave, and what 2.5 and 0.5 ns of 4; see the stand-in."""
    verdict = built(project, run_tcl, name="kc705")
    assert verdict.pads == {"rx_setup": 2, "rx_hold": 0, "tx_setup": 1.5, "tx_hold": 3.5} and verdict.problems == []


def test_a_board_without_ethernet(project, run_tcl):
    verdict = built(project, run_tcl, "pads untimed", "nitefury")
    assert verdict.pads == {} and verdict.problems == []


def test_images_that_do_not_fit(project, run_tcl):
    """Two of 9 MiB in 16, the second from 8 on."""
    assert built(project, run_tcl, "large").problems == [
        "ringnic_ax7203_fallback.bin has 9437184 bytes, and the image behind it begins at 8388608",
        "ringnic_ax7203_update.bin has 9437184 bytes, too many for a flash of 16 MiB from 8388608 on"]


def test_a_lane_that_is_nowhere(project, run_tcl):
    folder = project()
    run_tcl(folder)
    facts = folder / "facts.txt"
    facts.write_text("\n".join(line for line in facts.read_text().splitlines() if not line.startswith("lane")))
    verdict = judge(AX7203, folder, lanes=1, images=image_files(AX7203))
    assert verdict.problems == ["the transceiver of lane 0 is not placed"]


def test_a_lane_on_another_channel(project, run_tcl):
    folder = project()
    script = folder / "build.tcl"
    script.write_text(script.read_text().replace("X0Y5 $lane0", "X0Y7 $lane0"))
    run_tcl(folder)
    verdict = judge(AX7203, folder, lanes=1, images=image_files(AX7203))
    assert verdict.problems == [
        "lane 0 is at GTPE2_CHANNEL_X0Y7 D9 C9 D7 C7, and the board has it at GTPE2_CHANNEL_X0Y5 D11 C11 D5 C5"]


@pytest.mark.parametrize("name", ["facts.txt", "timing.rpt", "checks.rpt", "utilization.rpt", "ringnic_ax7203.bin"])
def test_a_report_that_is_missing(project, run_tcl, name):
    folder = project()
    run_tcl(folder)
    (folder / name).unlink()
    with pytest.raises(ReportError, match=f"^no {name} in .*: No such file or directory$"):
        judge(AX7203, folder, lanes=1, images=image_files(AX7203))


@pytest.mark.parametrize("read, text", [
    (timing_summary, ""), (timing_summary, "    WNS(ns)      TNS(ns)\n    -------      -------\n         NA           NA\n"),
    (unconstrained, "2. checking loops (0)\n"), (utilization, "| Slice LUTs | 1 |\n"), (utilization, "")])
def test_a_report_that_says_nothing(read, text):
    """Nothing is taken for good because it is not there."""
    with pytest.raises(ReportError):
        read(text)


def test_the_oldest_form_of_the_utilization():
    assert utilization(OLD_UTILIZATION) == {
        "luts": {"used": 6340, "available": 63400, "percent": 10}, "ffs": {"used": 1268, "available": 126800, "percent": 1},
        "rams": {"used": 13.5, "available": 135, "percent": 10}, "dsps": {"used": 0, "available": 240, "percent": 0}}


@pytest.mark.parametrize("name, size, found", [
    # A full bitstream of an A100T at 66 MHz and 4 wires takes 116 ms, of a K325T 347 ms (UG470, "Bitstream Length").
    ("captain_100t", 30_606_304 // 8, {"ms": 115.9, "mhz": 66}), ("kc705", 91_548_896 // 8, {"ms": 693.6, "mhz": 33}),
    ("acorn_cle215", 77_845_216 // 8, {"ms": None, "mhz": None, "needed_mhz": 194.6})])
def test_time_to_load(name, size, found):
    whole = configuration(BOARDS[name], size)
    assert {key: whole[key] for key in found} == found and whole["bits"] == 8 * size and whole["limit_ms"] == 100


def test_what_is_said_of_the_time_to_load(project, run_tcl):
    assert built(project, run_tcl, "large", name="captain_75t").warnings == [
        "the FPGA takes 286 ms to load itself, and the host may look for it after 100 ms: a warm restart may be needed after the "
        "power comes on"]
    assert built(project, run_tcl, name="nitefury").warnings == [
        "the FPGA loads by the board's own clock, whose frequency is not known: it takes 0 MHz to be there within 100 ms"]


def test_errors_of_a_log():
    log = "INFO: [x] y\nERROR: [IP_Flow 19-3461] Value '7'.\n  ERROR in a sentence\nRINGNIC: no\nCRITICAL WARNING: z\n"
    assert vivado_errors(log) == ["ERROR: [IP_Flow 19-3461] Value '7'.", "RINGNIC: no"]
