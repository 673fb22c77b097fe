"""An independent judge of both sides: cocotbext-pcie is the host, cocotbext-eth is on the wire."""

import pytest


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("module", ["enumeration", "traffic", "ethernet"])
def test_bench(simulate, module, width):
    simulate(module, width)
