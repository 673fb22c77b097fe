"""The port list of the block: what depends on lanes and width, and nothing else does."""

import pytest

from ringnic.hdl.spec.pcie_7x import LINKS, LTSSM, block_ports


def test_number_and_directions():
    ports = block_ports(lanes=4, width=64)
    assert len(ports) == 176
    assert {direction for direction, _ in ports.values()} == {"i", "o"}
    assert ports["s_axis_tx_tdata"] == ("i", 64) and ports["m_axis_rx_tdata"] == ("o", 64)


@pytest.mark.parametrize("name, bits", [
    ("pci_exp_rxp", 4), ("pci_exp_txn", 4), ("pipe_pclk_sel_out", 4), ("s_axis_tx_tkeep", 16), ("m_axis_rx_tdata", 128)])
def test_sizes(name, bits):
    assert block_ports(lanes=4, width=128)[name][1] == bits


def test_what_depends_on_lanes_and_width():
    one, two = block_ports(lanes=1, width=64), block_ports(lanes=2, width=128)
    assert {name for name in one if one[name] != two[name]} == {
        "pci_exp_txp", "pci_exp_txn", "pci_exp_rxp", "pci_exp_rxn", "pipe_rxoutclk_in", "pipe_rxoutclk_out",
        "pipe_pclk_sel_out", "s_axis_tx_tdata", "s_axis_tx_tkeep", "m_axis_rx_tdata", "m_axis_rx_tkeep"}


def test_links_keep_up_with_the_lanes():
    """PG054: the product of width and clock is no less than the lanes bring, 4 Gbit/s each at 5 GT/s after 8b/10b."""
    for lanes, link in LINKS.items():
        assert link.width * link.user2_mhz == 4000 * lanes and link.user1_mhz in (link.user2_mhz, 2 * link.user2_mhz)


@pytest.mark.parametrize("code, name", [
    (0b000000, "Detect.Quiet"), (0b000100, "Polling.Active"), (0b001000, "Polling.Compliance (pattern)"),
    (0b001111, "Configuration.Lanenum.Wait"), (0b010001, "Configuration.Complete (x1)"),
    (0b010100, "Configuration.Complete (x8)"), (0b010110, "L0"), (0b011010, "L1.Idle"), (0b011100, "Recovery.RcvrLock"),
    (0b100000, "Recovery.Idle"), (0b100001, "Hot Reset"), (0b100101, "Disabled"),
    (0b101101, "Timeout to Detect"), (0b110011, "Loopback.Entry (master)")])
def test_states_of_the_link(code, name):
    """PG054, "Physical Layer Interface", pl_ltssm_state: codes of its table, which ends with 110011b."""
    assert LTSSM[code] == name and len(set(LTSSM.values())) == len(LTSSM) == 0b110011 + 1
