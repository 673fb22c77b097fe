"""An independent judge of both sides: cocotbext-pcie is the host, cocotbext-eth is on the wire."""

import pytest

PCIE = ["pcie_config", "pcie_requests", "pcie_dma", "pcie_interrupts", "pcie_power"]


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("module", ["enumeration", "traffic", "ethernet", *PCIE])
def test_bench(simulate, module, width):
    simulate(module, width)


def test_rgmii(simulate):
    simulate("rgmii", 64, "rgmii")
