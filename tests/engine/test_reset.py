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


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_reset_under_load(rig, rng, flr):
    net = rig.open(FEATURES, queue_size=32)
    for _ in range(12):
        load(rig, rng)
        rig.bus.run(rng.randrange(3000))
        rig.reset(flr)
        assert rig.engine.run_until(idle=True, limit=LIMIT) < LIMIT  # what is on the wire passes by
        rig.wire()
        rig.restart()
    rig.works()
    rig.check_dma()


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_reset_of_an_idle_card(rig, flr):
    net = rig.open(FEATURES)
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
    bars, vectors = rig.bus.config_read(0x10, 4), net.transport.function.msix_vectors
    rig.reset()
    assert rig.bus.config_read(0x10, 4) == bars and vectors == 3
    assert net.transport.status == 0


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_counters_survive_a_reset(rig, flr):
    net = rig.open(FEATURES)
    rig.works()
    rig.reset(flr)
    rig.restart()
    assert net.counters()["tx_frames"] == 20 and net.counters()["rx_frames"] == 20
