"""Every part of the hardware has its test: hdl/<room>/<name>.py and tests/hdl/<room>/test_<name>.py."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

# Files that hold layouts, signatures and parameters only: what they say is tested wherever they are spoken.
SEAMS = {"lib/buffers.py", "lib/device.py", "lib/dma.py", "lib/frame.py", "lib/interrupt.py", "lib/reg.py",
         "pcie/dma_seams.py", "pcie/function_config.py", "pcie/parameters.py", "pcie/tlp_stream.py"}


def parts():
    names = {path.relative_to(ROOT / "hdl") for path in (ROOT / "hdl").rglob("*.py") if path.name != "__init__.py"}
    return {name for name in names if str(name) not in SEAMS}


def test_every_part_has_its_test():
    missing = sorted(f"tests/hdl/{test}" for part in parts()
                     if not (ROOT / "tests/hdl" / (test := part.with_name(f"test_{part.name}"))).exists())
    assert not missing


def test_every_test_has_its_part():
    tests = {path.relative_to(ROOT / "tests/hdl") for path in (ROOT / "tests/hdl").rglob("test_*.py")}
    stray = sorted(str(test) for test in tests if test.with_name(test.name.removeprefix("test_")) not in parts())
    assert not stray


def test_seams_have_no_logic():
    assert [seam for seam in sorted(SEAMS) if "def elaborate" in (ROOT / "hdl" / seam).read_text()] == []
