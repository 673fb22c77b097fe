"""What PHYs are told, done to registers that hold anything: the bits of the delays change, others do not."""

import itertools

import pytest

from ringnic.hdl.spec import phy

BOTH = list(itertools.product((False, True), repeat=2))


def do(setup, registers, page_register=None):
    """Registers by page after a setup, and the page at its end; with MMD registers as ``(device, register)``."""
    page, ext_page, selected, function = 0, 0, None, 0
    for register, mask, value in setup:
        assert 0 <= register < 32 and not value & ~mask and 0 < mask <= 0xffff
        if register == page_register:
            page = value
        elif page_register == 0x1f and register == 0x1e:
            ext_page = value
        elif register == 13:
            function = value
        elif register == 14 and function >> 14 == 0:
            selected = value
        elif register == 14:
            registers[function & 31, selected] = value
        else:
            place = (page, ext_page, register) if ext_page else (page, register)
            registers[place] = registers.get(place, 0) & ~mask | value
    return page


@pytest.mark.parametrize("rx, tx", BOTH)
@pytest.mark.parametrize("before", [0x0000, 0xffff, 0x1234])
def test_rtl8211f(rx, tx, before):
    """Linux: RTL8211F_TX_DELAY is bit 8 of page 0xd08, register 0x11; RTL8211F_RX_DELAY bit 3 of register 0x15."""
    registers = {(0xd08, 0x11): before, (0xd08, 0x15): before}
    assert do(phy.rtl8211f(rx=rx, tx=tx), registers, 0x1f) == 0
    assert registers == {(0xd08, 0x11): before & ~0x100 | 0x100 * tx, (0xd08, 0x15): before & ~0x8 | 0x8 * rx}


@pytest.mark.parametrize("rx, tx", BOTH)
@pytest.mark.parametrize("before", [0x0000, 0xffff, 0x1234])
def test_rtl8211e(rx, tx, before):
    """Linux: RTL8211E_CTRL_DELAY, _TX_DELAY, _RX_DELAY are the bits 13, 12, 11 of extension page 0xa4, register 0x1c."""
    registers = {(7, 0xa4, 0x1c): before}
    assert do(phy.rtl8211e(rx=rx, tx=tx), registers, 0x1f) == 0
    assert registers == {(7, 0xa4, 0x1c): before & ~0x3800 | 0x2000 | 0x1000 * tx | 0x0800 * rx}


@pytest.mark.parametrize("rx, tx", BOTH)
@pytest.mark.parametrize("before", [0x0000, 0xffff, 0x1046])
def test_88e1512(rx, tx, before):
    """Linux: MII_88E1121_PHY_MSCR_RX_DELAY, _TX_DELAY are the bits 5 and 4 of page 2, register 21."""
    registers = {(2, 21): before}
    assert do(phy.marvell_88e1512(rx=rx, tx=tx), registers, 22) == 0
    assert registers == {(2, 21): before & ~0x30 | 0x20 * rx | 0x10 * tx}


# Linux: RX_ID, RX_CLK_ID and their like: skews of 60 ps; 7 (of 4 bits) and 15 (of 5 bits) add nothing.
@pytest.mark.parametrize("rx, rx_delay_ps", [(False, 0), (True, 1800)])
@pytest.mark.parametrize("tx, tx_delay_ps", [(False, 0), (True, 1380)])
def test_ksz9031(rx, tx, rx_delay_ps, tx_delay_ps):
    registers = {}
    do(phy.ksz9031(rx=rx, tx=tx), registers)
    control, rxd, txd, clock = (registers[2, register] for register in (4, 5, 6, 8))
    rx_pad, tx_pad = control >> 4, control & 15
    assert rxd == int(f"{rx_pad:x}" * 4, 16) and txd == int(f"{tx_pad:x}" * 4, 16)
    rx_clock, tx_clock = clock & 31, clock >> 5
    # The PHY itself delays RXC by 1.2 ns.
    assert 1200 + 60 * (rx_clock - 15) - 60 * (rx_pad - 7) == rx_delay_ps
    assert 60 * (tx_clock - 15) - 60 * (tx_pad - 7) == tx_delay_ps
