"""Facts about a PHY's management registers, and about the RGMII.

Ref: IEEE 802.3, 22.2.4 "Management functions", 28.2.4 "Management function requirements", 40.5.1.1 "1000BASE-T use of registers
during Auto-Negotiation"; Reduced Gigabit Media Independent Interface (RGMII) version 2.0 (2002-04-01).
"""

from amaranth.lib import data, enum

__all__ = ["Bmcr", "Bmsr", "FULL_1000", "HALF_1000", "LinkSpeed", "LinkState", "MDC_MAX_HZ", "MDIO_PREAMBLE_BITS", "MDIO_READ",
           "MDIO_START", "MDIO_TURNAROUND_WRITE", "MDIO_WRITE", "PHY_ADDRESSES", "Phy", "TECHNOLOGIES"]

# The management frame (22.2.4.5 "Management frame structure"): 32 ones, then these fields, the first bit on the left.
MDIO_PREAMBLE_BITS    = 32
MDIO_START            = 0b01
MDIO_READ             = 0b10
MDIO_WRITE            = 0b01
MDIO_TURNAROUND_WRITE = 0b10
PHY_ADDRESSES         = 32
MDC_MAX_HZ            = 2_500_000  # 22.2.2.13 "MDC (management data clock)": periods of at least 400 ns


class Phy:
    """Numbers of registers (table 22-6)."""
    CONTROL               = 0   # BMCR
    STATUS                = 1   # BMSR
    ADVERTISEMENT         = 4
    PARTNER_ABILITY       = 5
    MASTER_SLAVE_CONTROL  = 9
    MASTER_SLAVE_STATUS   = 10
    MMD_CONTROL           = 13  # 45.2 by way of clause 22: annex 22D
    MMD_DATA              = 14


class Bmcr:
    """Bits of the control register (table 22-7)."""
    SPEED_1000  = 6    # "speed selection (MSB)"
    FULL_DUPLEX = 8
    AN_ENABLE   = 12
    SPEED_100   = 13   # "speed selection (LSB)"


class Bmsr:
    """Bits of the status register (table 22-8). Link status latches low: a zero stays until it has been read."""
    LINK        = 2
    AN_COMPLETE = 5


# Bits 5 to 8 of the registers 4 and 5 (28.2.1.2, annex 28B.2): 10BASE-T half and full duplex, 100BASE-TX half and full duplex.
TECHNOLOGIES = slice(5, 9)
# Bits of register 9, "MASTER-SLAVE control", and of register 10, "MASTER-SLAVE status" (table 40-3): half, full duplex.
HALF_1000 = {Phy.MASTER_SLAVE_CONTROL: 8, Phy.MASTER_SLAVE_STATUS: 10}
FULL_1000 = {Phy.MASTER_SLAVE_CONTROL: 9, Phy.MASTER_SLAVE_STATUS: 11}


class LinkSpeed(enum.Enum, shape=2):
    """Mbit/s, as the in-band status codes them (RGMII 2.0, 3.4.1)."""
    MBPS_10   = 0
    MBPS_100  = 1
    MBPS_1000 = 2


class LinkState(data.Struct):
    """In the order of the in-band status, bit 0 first (RGMII 2.0, 3.4.1): what RXD shows between frames."""
    up:    1
    speed: 2    # of LinkSpeed; 3 is reserved
    full:  1
