"""The numbers as IEEE 802.3, RGMII 2.0 and linux/mii.h have them."""

from amaranth.lib import data

from ringnic.hdl.spec import mii


def test_registers():
    # linux/mii.h: MII_BMCR, MII_BMSR, MII_ADVERTISE, MII_LPA, MII_CTRL1000, MII_STAT1000, MII_MMD_CTRL, MII_MMD_DATA
    phy = mii.Phy
    assert (phy.CONTROL, phy.STATUS, phy.ADVERTISEMENT, phy.PARTNER_ABILITY, phy.MASTER_SLAVE_CONTROL, phy.MASTER_SLAVE_STATUS,
            phy.MMD_CONTROL, phy.MMD_DATA) == (0, 1, 4, 5, 9, 10, 13, 14)


def test_bits():
    # BMCR_SPEED1000, BMCR_FULLDPLX, BMCR_ANENABLE, BMCR_SPEED100; BMSR_LSTATUS, BMSR_ANEGCOMPLETE
    bmcr = mii.Bmcr
    assert [1 << bit for bit in (bmcr.SPEED_1000, bmcr.FULL_DUPLEX, bmcr.AN_ENABLE, bmcr.SPEED_100)] == [
        0x0040, 0x0100, 0x1000, 0x2000]
    assert (1 << mii.Bmsr.LINK, 1 << mii.Bmsr.AN_COMPLETE) == (0x0004, 0x0020)
    # ADVERTISE_10HALF, _10FULL, _100HALF, _100FULL; ADVERTISE_1000HALF, _1000FULL; LPA_1000HALF, _1000FULL
    assert [1 << bit for bit in range(16)[mii.TECHNOLOGIES]] == [0x0020, 0x0040, 0x0080, 0x0100]
    assert [1 << bit for bit in (*mii.HALF_1000.values(), *mii.FULL_1000.values())] == [0x0100, 0x0400, 0x0200, 0x0800]
    assert (set(mii.HALF_1000), set(mii.FULL_1000)) == ({9, 10}, {9, 10})


def test_management_frame():
    """IEEE 802.3, table 22-12."""
    assert (mii.MDIO_PREAMBLE_BITS, mii.MDIO_START, mii.MDIO_READ, mii.MDIO_WRITE, mii.MDIO_TURNAROUND_WRITE) == (32, 1, 2, 1, 2)
    assert mii.PHY_ADDRESSES == 32 and 1e9 / mii.MDC_MAX_HZ == 400


def test_inband_status():
    """RGMII 2.0, 3.4.1: RXD[0] link, RXD[2:1] clock of 2.5, 25, 125 MHz, RXD[3] full duplex."""
    layout = data.Layout.cast(mii.LinkState)
    assert {name: (field.offset, field.width) for name, field in layout} == {"up": (0, 1), "speed": (1, 2), "full": (3, 1)}
    assert [(speed.name, speed.value) for speed in mii.LinkSpeed] == [("MBPS_10", 0), ("MBPS_100", 1), ("MBPS_1000", 2)]
