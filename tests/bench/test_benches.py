"""An independent judge of both sides: cocotbext-pcie is the host, cocotbext-eth is on the wire."""

import pytest

PCIE = ["pcie_config", "pcie_requests", "pcie_dma", "pcie_interrupts", "pcie_power"]


# The slowest ones: the engine's tests do the same sooner, with another root complex.
LONG = {("traffic", 64), ("traffic", 128), ("ethernet", 128), ("pcie_dma", 64), ("pcie_dma", 128)}


@pytest.mark.parametrize("module, width", [
    pytest.param(module, width, marks=[pytest.mark.long] if (module, width) in LONG else [])
    for module in ("enumeration", "traffic", "ethernet", *PCIE) for width in (64, 128)])
def test_bench(simulate, module, width):
    simulate(module, width)


@pytest.mark.long
def test_rgmii(simulate):
    simulate("rgmii", 64, "rgmii")
