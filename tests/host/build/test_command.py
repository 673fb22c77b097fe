"""``ringnic build``: what it leaves, what it says, exit statuses; with a stand-in for Vivado, and without."""

import json
import os
from pathlib import Path
import shutil

import pytest
from typer.testing import CliRunner

from ringnic.boards.table import BOARDS
from ringnic.host.build import command
from ringnic.host.build.command import BuildError, parse_mac
from ringnic.host.cli import app

from ...kit.ports import port_list


VERILOG = command._verilog   # in whose place the tests have the ports of the card only


def ports_of(board, *, lanes, **_options):
    """The ports of the card in place of its Verilog, which takes a while to make."""
    return port_list(board, lanes)


@pytest.fixture
def ringnic(tmp_path, monkeypatch):
    """Runs the command in an empty folder, without Vivado unless a test brings one."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("ringnic.host.build.command._verilog", ports_of)
    monkeypatch.setattr("ringnic.host.build.command.build_id", lambda *facts: 0x1234)
    return lambda *argv: CliRunner().invoke(app, ["build", *argv])


def left(*kinds):
    """Files in ``build``, hidden ones too."""
    return sorted(str(path.relative_to("build")) for path in Path("build").rglob("*"))


PROJECT = ["ax7203", *[f"ax7203/{name}" for name in (
    "build.tcl", "ip.tcl", "project.json", "ringnic_ax7203.v", "ringnic_ax7203_clocks.xdc", "ringnic_ax7203_pins.xdc")]]
WRITING = "ringnic: Writing the Verilog ...\n"
SAYS_WHERE = ("build/ax7203: no bitstream yet; where Vivado 2019.1 to 2025.2 is, run `vivado -mode batch -source build.tcl` in "
              "it, then `ringnic build ax7203 --judge` here\n")


@pytest.mark.parametrize("options, status", [(("--project",), 0), ((), 2)])
def test_without_vivado(ringnic, options, status):
    done = ringnic("ax7203", *options)
    assert done.exit_code == status and done.stderr == f"{WRITING}ringnic: {SAYS_WHERE}"
    assert left() == PROJECT
    manifest = json.loads(Path("build/ax7203/project.json").read_text())
    assert (manifest["board"], manifest["part"], manifest["lanes"]) == ("ax7203", "xc7a200tfbg484-2", 1)
    assert manifest["build_id"] == "00001234"
    assert "MAC address made of the FPGA's serial number" in " ".join(done.output.split())


def test_with_vivado(ringnic, vivado):
    done = ringnic("ax7203", "--mac", "02:00:00:00:00:07", "--lanes", "2")
    assert done.exit_code == 0, done.output
    assert done.output.endswith("build/ax7203/ringnic_ax7203.bit and .bin are ready: ringnic flash ax7203\n")
    assert "MAC address 02:00:00:00:00:07" in " ".join(done.output.split()) and "timing is unproven" in done.stderr
    report = json.loads(Path("build/ax7203/report.json").read_text())
    assert report["problems"] == [] and report["vivado"] == "2023.2" and report["mac_address"] == "02:00:00:00:00:07"
    assert report["utilization"]["luts"]["percent"] == 40 and report["configuration"]["limit_ms"] == 100
    assert {"ax7203/ringnic_ax7203.bit", "ax7203/ringnic_ax7203.bin", "ax7203/vivado.log"} <= set(left())
    assert not any(name.startswith(".") for name in left())


def test_vivado_is_not_asked_for_a_project(ringnic, vivado):
    vivado(fault="fails in synth_design")
    assert ringnic("ax7203", "--project").exit_code == 0 and left() == PROJECT


@pytest.mark.parametrize("fault, says", [
    ("negative slack", ["this bitstream will not do; the reports are in build/ax7203.failed:",
                        "timing is not met: the worst setup slack is -0.123 ns"]),
    ("forgets MSIX_CAP_NEXTPTR", ["this bitstream will not do; the reports are in build/ax7203.failed:",
                                  "the block has MSIX_CAP_NEXTPTR = 8'h00, and 8'hA8 is needed: drivers would not find the "
                                  "capabilities of virtio"]),
    ("refuses Link_Speed", ["Vivado failed; its log is build/ax7203.failed/vivado.log, and it says:",
                            "ERROR: [IP_Flow 19-3461] Value '5.0_GT/s' is out of the range for parameter 'Link_Speed'."]),
    ("changes Device_ID", ["Vivado failed; its log is build/ax7203.failed/vivado.log, and it says:",
                           "RINGNIC: the IP has Device_ID = other, not 1041: another version of the IP?"]),
    ("fails in route_design", ["Vivado failed; its log is build/ax7203.failed/vivado.log, and it says:",
                               "ERROR: [Fault 1-1] route_design: it did"]),
    ("no bitstream", ["Vivado's reports are not what was expected: no ringnic_ax7203.bin in ", ": No such file or directory"]),
])
def test_a_build_that_fails_leaves_what_was_there(ringnic, vivado, fault, says):
    assert ringnic("ax7203").exit_code == 0
    before = {name: Path("build", name).read_bytes() for name in left() if Path("build", name).is_file()}
    vivado(fault=fault)
    done = ringnic("ax7203", "--pairs", "2")
    assert done.exit_code == 1
    for line in says:
        assert line in done.stderr
    assert {name: Path("build", name).read_bytes() for name in before} == before
    assert {name.partition("/")[0] for name in left()} == {"ax7203", "ax7203.failed"}


def test_a_run_elsewhere(ringnic, vivado, monkeypatch):
    assert ringnic("ax7203", "--judge").stderr == "ringnic: there is no project in build/ax7203: ringnic build ax7203 --project\n"
    assert ringnic("ax7203", "--project").exit_code == 0
    assert "no facts.txt in build/ax7203" in ringnic("ax7203", "--judge").stderr
    assert os.system("cd build/ax7203 && vivado -mode batch -source build.tcl") == 0
    done = ringnic("ax7203", "--judge")
    assert done.exit_code == 0 and json.loads(Path("build/ax7203/report.json").read_text())["problems"] == []
    vivado(fault="no clock")
    assert os.system("cd build/ax7203 && vivado -mode batch -source build.tcl") == 0
    done = ringnic("ax7203", "--judge")
    assert done.exit_code == 1 and "12 registers have no clock that is constrained" in done.stderr
    Path("build/ax7203/ip.tcl").write_text("")
    assert ringnic("ax7203", "--judge").stderr == (
        "ringnic: ip.tcl in build/ax7203 changed since the project was written: what was built is not known\n")


@pytest.mark.parametrize("version, says", [
    ("2018.3", "is version 2018.3; projects are for 2019.1 to 2025.2: put one of these on PATH, or use --project\n"),
    ("2031.1", "is version 2031.1; projects are for 2019.1 to 2025.2: put one of these on PATH, or use --project\n"),
    ("x", "is version 0; projects are for 2019.1 to 2025.2: put one of these on PATH, or use --project\n")])
def test_a_wrong_version(ringnic, vivado, version, says):
    vivado(version=version)
    done = ringnic("ax7203")
    assert (done.exit_code, Path("build").exists()) == (1, False) and done.stderr.endswith(says)


@pytest.mark.parametrize("argv, says", [
    (("ax7023",), "no board is called 'ax7023'; did you mean ax7203?\n"),
    (("captain",), "no board is called 'captain'; did you mean captain_75t or captain_100t?\n"),
    (("zzz",), "no board is called 'zzz'; `ringnic build --list` shows them\n"),
    (("versa_ecp5_5g",), f"versa_ecp5_5g cannot be built for: {BOARDS['versa_ecp5_5g'].lacks[0]}\n"),
    (("captain_75t", "--lanes", "4"), "captain_75t has 1 lanes, not 4\n"),
    (("ax7203", "--mac", "1"), "'1' is no MAC address: it looks like 02:12:34:56:78:9a\n"),
])
def test_one_clear_line(ringnic, argv, says):
    done = ringnic(*argv)
    assert (done.exit_code, done.stderr, Path("build").exists()) == (1, f"ringnic: {says}", False)


@pytest.mark.parametrize("argv", [(), ("ax7203", "--lanes", "3"), ("ax7203", "--pairs", "0"), ("--list", "ax7203"),
                                  ("ax7203", "--project", "--judge"), ("ax7203", "--features", "none_such")])
def test_options_that_make_no_sense(ringnic, argv):
    assert ringnic(*argv).exit_code == 2 and not Path("build").exists()


def test_a_card_that_cannot_be(ringnic, monkeypatch):
    def refuse(board, **options):
        raise ValueError("Card must be smaller")
    monkeypatch.setattr(command, "_verilog", VERILOG)
    monkeypatch.setattr("ringnic.sim.board.board_verilog", refuse)
    done = ringnic("ax7203", "--project")
    assert (done.exit_code, done.stderr) == (1, f"{WRITING}ringnic: no card for ax7203: Card must be smaller\n")


def test_no_permission(ringnic, tmp_path):
    Path("build").write_text("a file")
    done = ringnic("ax7203", "--project")
    assert done.exit_code == 1 and done.stderr == f"ringnic: cannot write to {Path('build').absolute()}: File exists\n"


def test_the_list(ringnic):
    done = ringnic("--list")
    assert done.exit_code == 0
    assert all(name in done.output for name in BOARDS) and "no build" in " ".join(done.output.split())


@pytest.mark.parametrize("text, address", [("02:12:34:56:78:9a", 0x02123456789a), ("FE-00-00-00-00-01", 0xfe0000000001)])
def test_mac_addresses(text, address):
    assert parse_mac(text) == address


@pytest.mark.parametrize("text, says", [
    ("00:12:34:56:78:9a", "00:12:34:56:78:9a belongs to a maker of cards: a locally administered address begins with 02 "
                          "instead of 00"),
    ("03:12:34:56:78:9a", "03:12:34:56:78:9a is the address of a group of stations: the last bit of its first byte has to be 0"),
    ("02:12:34:56:78", "'02:12:34:56:78' is no MAC address: it looks like 02:12:34:56:78:9a"),
])
def test_mac_addresses_that_will_not_do(text, says):
    with pytest.raises(BuildError) as caught:
        parse_mac(text)
    assert str(caught.value) == says


def test_an_interruption_leaves_nothing(ringnic, vivado, monkeypatch):
    assert ringnic("ax7203").exit_code == 0
    before = left()

    def interrupted(self, folder):
        (folder / "half").write_text("done")
        raise KeyboardInterrupt
    monkeypatch.setattr("ringnic.host.build.vivado.Vivado.run", interrupted)
    assert ringnic("ax7203", "--pairs", "2").exit_code != 0
    assert left() == before and shutil.which("vivado")
