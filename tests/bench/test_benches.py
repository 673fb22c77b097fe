"""An independent judge of both sides: cocotbext-pcie is the host, cocotbext-eth is on the wire."""

import pytest

PCIE = ["pcie_config", "pcie_requests", "pcie_dma", "pcie_interrupts", "pcie_power"]


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("module", ["enumeration", "traffic", "ethernet", *PCIE])
def test_bench(simulate, module, width):
    simulate(module, width)


def test_open(simulate, request):
    """Each case of pcie_open fails. One that does not is mended, and moves to its companions."""
    with pytest.raises(pytest.fail.Exception):
        simulate("pcie_open", 64)
    cases = dict(request.node.user_properties)["cases"]
    assert [case["case"] for case in cases if case["verdict"] != "failed"] == []
    pytest.xfail(f"{len(cases)} rules of PCI Express are not kept yet")
