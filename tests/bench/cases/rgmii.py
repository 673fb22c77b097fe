"""Frames at all speeds of an RGMII, with cocotbext-eth's PHY at the pads; and what the driver hears of the link."""

import random

from rgmii_rig import RgmiiRig
from rig import driven
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from ringnic.hdl.spec.net import DUPLEX_FULL, DUPLEX_UNKNOWN, SPEED_UNKNOWN

CONFIG_VECTOR = 0
DUPLEX = 16          # 5.1.4: its place in the device configuration


def packets(mbps, count, seed):
    """Datagrams of some lengths, one in three with a VLAN tag; the shortest need padding."""
    rng = random.Random(seed)
    for k in range(count):
        load = rng.randbytes((0, 18, 19, 300 if mbps == 10 else 1400, 64, 101)[k % 6])
        tag = Dot1Q(vlan=5) if k % 3 == 2 else None
        frame = Ether(dst="52:54:00:52:4e:01", src="52:54:00:00:00:01")
        yield bytes((frame / tag if tag else frame) / IP(dst="10.0.0.2", src="10.0.0.1") / UDP(sport=5, dport=k) / Raw(load))


def padded(frames):
    return [frame.ljust(60, b"\0") for frame in frames]


def link_of(rig):
    net = rig.net
    return net.link_up, net.speed, net.transport.config_read(DUPLEX, 1)


def wait_for(rig, up):
    """Wait for the configuration change notification of a link that went up or down."""
    rig.until(lambda: rig.net.link_up == up, f"link {'up' if up else 'down'}")
    assert CONFIG_VECTOR in rig.bus.poll_irq()


def exchange(rig, mbps, count):
    out, back = list(packets(mbps, count, mbps)), list(packets(mbps, count, mbps + 1))
    rig.send(out)
    rig.feed(padded(back))
    rig.expect_wire(padded(out))
    rig.expect_received(padded(back))
    rig.all_sent()


@driven(rig=RgmiiRig, clauses=("NC-8", "NC-9"))
def test_all_speeds(rig):
    """10, 100 and 1000 Mbit/s one after the other, on one card, each with its frames, speed and duplex."""
    net = rig.open()
    assert link_of(rig) == (False, SPEED_UNKNOWN, DUPLEX_UNKNOWN)
    for mbps, count in ((1000, 12), (100, 6), (10, 3), (1000, 6)):
        rig.bus.poll_irq()
        rig.plug(mbps)
        wait_for(rig, True)
        assert link_of(rig) == (True, mbps, DUPLEX_FULL)
        exchange(rig, mbps, count)
        # 5.1.4: without a link nobody knows its speed; what is sent then is dropped and counted.
        rig.pull()
        wait_for(rig, False)
        assert link_of(rig) == (False, SPEED_UNKNOWN, DUPLEX_UNKNOWN)
        before = net.counters()["tx_dropped"]
        rig.send(list(packets(mbps, 2, 7)))
        rig.until(lambda: net.counters()["tx_dropped"] == before + 2, "frames dropped")
        assert rig.wire() == []
    assert rig.phy.problems == [] and rig.phy.registers[20] == 0x0050
    assert not any(value for name, value in net.counters().items() if name.startswith("mac_rx"))


@driven(rig=RgmiiRig)
def test_half_duplex_is_no_link(rig):
    rig.open()
    rig.plug(100, "half")
    rig.until(lambda: len(rig.phy.frames) > 100, "looks at the PHY")
    assert link_of(rig) == (False, SPEED_UNKNOWN, DUPLEX_UNKNOWN)
    rig.pull()
    rig.plug(100)
    wait_for(rig, True)
    exchange(rig, 100, 3)


@driven(rig=RgmiiRig)
def test_address_of_the_serial_number(rig):
    """Of the number that the model of DNA_PORT has; the driver and the pauses know the same."""
    net = rig.open()
    remainder = 0x123456789abcdef << 1
    modulus = 1 << 44 | 1 << 43 | 1 << 18 | 1 << 17 | 1
    while remainder.bit_length() > 44:
        remainder ^= modulus << remainder.bit_length() - 45
    expected = (remainder >> 40 << 4 | 2).to_bytes(1, "big") + (remainder & (1 << 40) - 1).to_bytes(5, "big")
    assert net.mac == expected and expected[0] & 3 == 2
    rig.plug(1000)
    wait_for(rig, True)
    pause = bytes.fromhex("525400000001 8808 0001 0001")
    rig.feed([(address + pause).ljust(60, b"\0") for address in (expected, bytes.fromhex("525400524e01"))])
    rig.until(rig.wire_in.idle, "pause frames sent")
    rig.bus.run(200)
    assert (net.counters()["mac_rx_pause"], net.counters()["mac_rx_control"]) == (1, 1)
