"""The bundles: no port twice, each in the direction that the adapter sees."""

from amaranth.lib.wiring import In, Out

from ringnic.hdl.pcie.series7.ports import CONFIG, RX, TRACE, TX, ports


def test_bundles_are_disjoint():
    names = (*RX, *TX, *CONFIG, *TRACE)
    assert len(names) == len(set(names)) == len(ports(names, width=64).members)


def test_directions_and_widths():
    members = ports((*RX, *TX), width=64).members
    assert members["m_axis_rx_tdata"] == In(64) and members["m_axis_rx_tready"] == Out(1)
    assert members["s_axis_tx_tkeep"] == Out(8) and members["fc_pd"] == In(12)
