"""A card with a MAC and no partner: what it sends comes back, all the way through FCS and two clocks."""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.host.driver import NoSpace
from ringnic.sim.engine.build import sources_digest

FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MRG_RXBUF}
SIZES = (60, 61, 63, 64, 65, 127, 128, 129, 244, 245, 511, 512, 1000, 1513, 1514, 8999, 9000, 60)


def silent(rig):
    """Has nothing been on the wire, ever?"""
    stats = rig.engine.stats()
    return not (stats["frames_out"] or stats["bad_frames"] or rig.wire())


def goes_round(rig, frames):
    rig.send(frames)
    rig.expect_received(frames)
    rig.all_sent()


def test_all_sizes(gmii_rig, rng):
    rig = gmii_rig
    net = rig.open(FEATURES)
    assert not net.link_up
    net.set_loopback(True)
    assert net.link_up
    frames = [rng.randbytes(size) for size in SIZES]
    rig.feed(rng.randbytes(300))                     # nobody hears it
    goes_round(rig, frames)
    goes_round(rig, [rng.randbytes(rng.randrange(60, 1515)) for _ in range(100)])
    rig.send([b"a short one of 20 B."])
    rig.expect_received([b"a short one of 20 B.".ljust(60, b"\0")])
    rig.engine.run_until(idle=True)
    assert silent(rig)
    counters = net.counters()
    sent = len(SIZES) + 101
    assert (counters["tx_frames"], counters["mac_tx_frames"], counters["rx_frames"]) == (sent, sent, sent)
    assert not any(counters[name] for name in counters if name.startswith(("mac_rx", "rx_dropped", "tx_dropped")))


def test_reset_keeps_it_and_flr_ends_it(gmii_rig):
    rig = gmii_rig
    net = rig.open(FEATURES)
    assert net.build_id() == int(sources_digest()[:8], 16)
    net.set_loopback(True)
    rig.reset()
    rig.restart()
    assert net.link_up
    goes_round(rig, [bytes([k]) * (60 + k) for k in range(20)])
    assert silent(rig)
    rig.reset(flr=True)
    rig.restart()
    assert not net.link_up
    rig.engine.set_link(True)
    rig.works()
    net.set_loopback(True)
    goes_round(rig, [bytes([k]) * (60 + k) for k in range(20)])
    net.set_loopback(False)
    rig.works()


def test_resets_in_full_flow_leave_the_wire_silent(gmii_rig, rng):
    """Whatever is on its way when the card is reset, and the way round closed, goes nowhere."""
    rig = gmii_rig
    rig.open(FEATURES, queue_size=32)
    for moment in range(1, 2000, 97):
        rig.net.set_loopback(True)
        try:
            for _ in range(20):
                rig.net.send(rng.randbytes(rng.randrange(60, 1515)))
        except NoSpace:
            pass
        rig.bus.run(moment)
        rig.reset(flr=True)
        assert rig.engine.run_until(idle=True, limit=200_000) < 200_000
        rig.restart()
    assert silent(rig)
    rig.engine.set_link(True)
    rig.works()
