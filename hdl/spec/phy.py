"""What common PHYs have to be told so that their RGMII adds the clock delays that a board needs.

A setup is a sequence of ``(register, mask, value)``: the bits of ``mask`` become those of ``value``, all others stay; with a mask
of all ones the register is written without being read. None of it resets the PHY.

Each function takes ``rx`` and ``tx``: whether the PHY delays RXC and TXC. Registers and bits are those that the drivers of Linux
(``drivers/net/phy``) use; they have not been tried on a board yet.
"""

from .mii import Phy

__all__ = ["WHOLE", "ksz9031", "marvell_88e1512", "rtl8211e", "rtl8211f"]

WHOLE = 0xffff


def rtl8211e(*, rx, tx):
    """Realtek RTL8211E: extension page 0xa4, register 0x1c; bit 13 lets the bits 12 (TX) and 11 (RX) count instead of the
    straps. Source: ``realtek.c``, ``rtl8211e_config_init``, after its change "fix rtl8211e rx/tx delay config" (2020)."""
    return ((0x1f, WHOLE, 0x0007), (0x1e, WHOLE, 0x00a4), (0x1c, 0x3800, 0x2000 | tx << 12 | rx << 11), (0x1f, WHOLE, 0x0000))


def rtl8211f(*, rx, tx):
    """Realtek RTL8211F: page 0xd08, register 0x11 bit 8 (TX), register 0x15 bit 3 (RX). Source: ``realtek.c``,
    ``rtl8211f_config_init``."""
    return ((0x1f, WHOLE, 0x0d08), (0x11, 0x0100, tx << 8), (0x15, 0x0008, rx << 3), (0x1f, WHOLE, 0x0000))


def marvell_88e1512(*, rx, tx):
    """Marvell 88E1510/1512/1518: page 2, register 21, bit 5 (RX), bit 4 (TX). Source: ``marvell.c``,
    ``m88e1121_config_aneg_rgmii_delays``. The bits take effect with the PHY's next software reset, which is not done here: the
    hardware reset's default is both delays on, so the setup is of use only where a boot loader changed it before."""
    return ((22, WHOLE, 2), (21, 0x0030, rx << 5 | tx << 4), (22, WHOLE, 0))


def ksz9031(*, rx, tx):
    """Micrel KSZ9031: pad skews in MMD 2, steps of 60 ps; the PHY alone delays RXC by 1.2 ns and TXC not at all.

    Registers 4 (control), 5 (RXD), 6 (TXD), 8 (clocks). Source: ``micrel.c``, ``ksz9031_config_rgmii_delay``: RXC later by 0.6 ns
    for 1.8 ns; TXD earlier by 0.42 ns and TXC later by 0.96 ns for 1.38 ns; without delays the skews undo the 1.2 ns."""
    rx_pad, rx_clock = (0x7, 0x19) if rx else (0xc, 0x00)
    tx_pad, tx_clock = (0x0, 0x1f) if tx else (0x7, 0x0f)
    skews = {4: rx_pad << 4 | tx_pad, 5: rx_pad * 0x1111, 6: tx_pad * 0x1111, 8: tx_clock << 5 | rx_clock}
    steps = []
    for register, value in skews.items():
        # Annex 22D: address, then data without post increment, of device 2.
        steps += [(Phy.MMD_CONTROL, WHOLE, 0x0002), (Phy.MMD_DATA, WHOLE, register),
                  (Phy.MMD_CONTROL, WHOLE, 0x4002), (Phy.MMD_DATA, WHOLE, value)]
    return tuple(steps)
