"""Resets under load: bounded, nothing is touched afterwards, and the card works again."""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC
from ringnic.host.driver import NoSpace

LIMIT = 200_000  # cycles
FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF}


def load(rig, rng, frames=20):
    """Frames both ways, of which many are under way when this returns."""
    for _ in range(frames):
        try:
            rig.net.send(rng.randbytes(rng.randrange(60, 1515)))
        except NoSpace:
            pass
        rig.feed(rng.randbytes(rng.randrange(60, 1515)))


def reset_at(rig, rng, moments, flr):
    """Reset so many cycles after the load began; that it ends and that what follows works is seen each time."""
    rig.open(FEATURES, queue_size=32)
    for moment in moments:
        load(rig, rng)
        rig.bus.run(moment)
        rig.reset(flr)
        assert rig.engine.run_until(idle=True, limit=LIMIT) < LIMIT  # what is on the wire passes by
        rig.wire()
        rig.restart()
    rig.works()
    rig.check_dma()


@pytest.mark.clause("RST-1", "RST-2", "CC-6")
@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_reset_at_every_moment(rig, rng, flr):
    """From the first notification on, through fetch, data and write-back, until all is done."""
    reset_at(rig, rng, range(1, 1600, 11), flr)


@pytest.mark.clause("RST-1", "RST-2", "CC-6")
@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_reset_over_a_slow_link(far_rig, rng, flr):
    """Answers are under way for long, overtake one another and come in pieces."""
    reset_at(far_rig, rng, range(1, 3000, 67), flr)


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_reset_of_an_idle_card(rig, flr):
    rig.open(FEATURES)
    for _ in range(3):
        rig.reset(flr)
        rig.reset(flr)
        rig.restart()
        rig.works()
    rig.check_dma()


def test_bus_master_off_stops_all_dma(rig, rng):
    net = rig.open(FEATURES)
    load(rig, rng)
    net.transport.function.set_bus_master(False)
    rig.bus.run(5000)
    rig.check_dma()
    rig.bus.run(5000)
    assert not rig.engine.accesses()
    net.transport.function.set_bus_master(True)
    rig.recover()


def test_status_reset_keeps_what_is_not_virtio(rig):
    net = rig.open(FEATURES)
    rig.engine.run_until(idle=True)  # Transactions Pending is a status too
    before = [rig.bus.config_read(at, 4) for at in range(0, 256, 4)]
    rig.reset()
    assert [rig.bus.config_read(at, 4) for at in range(0, 256, 4)] == before
    assert net.transport.status == 0


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_counters_survive_a_reset(rig, flr):
    net = rig.open(FEATURES)
    rig.works()
    rig.reset(flr)
    rig.restart()
    assert net.counters()["tx_frames"] == 20 and net.counters()["rx_frames"] == 20
