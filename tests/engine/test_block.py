"""The card behind a model of the 7-series block: the block keeps the configuration, and all TLPs pass its streams.

The model takes its link down when a rule of its ports is broken or its completion buffer runs over, and no test passes then.
"""

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.pcie import MSIX_ENTRY_SIZE, CapId, Cfg, Pm
from ringnic.hdl.spec.pcie_7x import WINDOW_START
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC
from ringnic.host.slot.link import read_link
from ringnic.sim.engine.engine import Engine, Link

from .conftest import LATEST, PACKED, SPLIT, watched
from .test_bus_master import WHILE, Traffic
from .test_traffic import SIZES, frame

FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC}
STALL = 64   # of 256 cycles, each way
# Nobody has set a larger Max_Payload_Size. Read completions as small and as late as they can be.
NEAR, FAR = Link(mps=128), Link(mps=128, read_latency_ns=4000, jitter_ns=1000, split=1)


@pytest.fixture(params=[(64, SPLIT, NEAR), (128, PACKED | LATEST, NEAR), (128, SPLIT, FAR), (64, PACKED, FAR)],
                ids=["split", "packed_in_order", "split_far", "packed_far"])
def block_rig(request, offered):
    width, ring, link = request.param
    with watched(request, Engine(card="net_7x", width=width, stall=STALL, link=link, features=offered), ring, offered) as rig:
        yield rig


def test_capabilities(block_rig):
    """The list begins in the block, and goes on in its window."""
    bus, found = block_rig.bus, []
    at = bus.config_read(Cfg.CAP_POINTER, 1)
    while at:
        found.append((at, bus.config_read(at, 1)))
        at = bus.config_read(at + 1, 1)
    assert found[:3] == [(0x40, CapId.PM), (0x60, CapId.EXP), (0x9c, CapId.MSIX)]
    assert found[3][0] == WINDOW_START and [kind for _, kind in found[3:]] == [CapId.VENDOR] * 5


def test_the_training_of_the_link(block_rig):
    """The card keeps the way to its link, and when the slot is reset, that the link went down and came back."""
    rig = block_rig
    rig.open(FEATURES)
    way = ["Polling.Active", "Polling.Configuration", "Configuration.Linkwidth.Start (0)", "Configuration.Linkwidth.Accept (0)",
           "Configuration.Lanenum.Wait", "Configuration.Lanenum.Accept", "Configuration.Complete (x4)", "Configuration.Idle",
           "L0", "Recovery.RcvrLock", "Recovery.RcvrCfg", "Recovery.Speed (0)", "Recovery.RcvrLock", "Recovery.RcvrCfg",
           "Recovery.Idle", "L0"]
    found = []
    for _ in range(2):
        found.append(link := read_link(lambda offset: rig.bus.bar_read(BAR_INDEX, offset, 4)))
        assert (link.up, link.gigatransfers, link.lanes, link.clock) == (True, 5.0, 4, True)
        assert [state.name for state in link.states] == way and not any(state.gap for state in link.states)
        rig.reset(flr=True)      # which is a reset of the slot, for the block offers no FLR
        rig.restart()
    assert found[1].count == found[0].count + len(["Detect.Quiet", "Detect.Active", *way])


def test_traffic(block_rig):
    """Frames of all sizes, both ways at once."""
    rig = block_rig
    net = rig.open(FEATURES, queue_size=128)
    frames = [frame(size, tag) for tag in range(4) for size in SIZES]
    rig.send(frames)
    # No faster than buffers come over the slow link, or some would be dropped.
    for at in range(0, len(frames), 4):
        rig.passes_in(frames[at:at + 4])
    rig.expect_wire(frames)
    rig.all_sent()
    counters = net.counters()
    assert counters["tx_frames"] == counters["rx_frames"] == len(frames)
    assert not any(counters[name] for name in ("tx_dropped", "queue_errors", "dma_read_errors", "dma_timeouts", "cpl_unexpected",
                                               "tlps_malformed", "requests_unsupported"))


def test_writes_before_sleep_are_done(block_rig):
    """2.4.1: a configuration write does not pass the posted writes before it, although the block takes it ahead of the card."""
    net = block_rig.open(FEATURES)
    bus, vectors = block_rig.bus, range(2 * net.max_pairs + 2)
    control = next(at for at, kind in net.transport.function.capabilities if kind == CapId.PM) + Pm.PMCSR
    for vector in vectors:
        bus.bar_write(BAR_INDEX, MSIX_TABLE_OFFSET + MSIX_ENTRY_SIZE * vector, 4, 0x1000 * vector)
    bus.config_write(control, 2, 3)
    bus.config_write(control, 2, 0)
    assert [bus.bar_read(BAR_INDEX, MSIX_TABLE_OFFSET + MSIX_ENTRY_SIZE * vector, 4) for vector in vectors] \
        == [0x1000 * vector for vector in vectors]


def test_reset_under_load(block_rig, rng):
    rig = block_rig
    rig.open(FEATURES, queue_size=64)
    for moment in range(1, 1500, 250):
        rig.send([rng.randbytes(rng.randrange(60, 1515)) for _ in range(10)])
        rig.bus.run(moment)
        rig.reset()
        rig.wire()
        rig.restart()
    rig.works()


@pytest.mark.clause("CS-6", "PM-4")
def test_no_request_after_the_completion(block_rig, rng):
    """Which the block sends. The passive checker sees the order; nothing is lost, and all goes on where it was."""
    traffic = Traffic(block_rig, rng)
    for turn in range(24):
        traffic.load()
        block_rig.bus.run(rng.randrange(WHILE))
        traffic.power(3) if turn % 2 else traffic.master(0)
        block_rig.bus.run(500)
        block_rig.check_dma()
        traffic.power(0) if turn % 2 else traffic.master(1)
    traffic.settle()
    assert block_rig.monitor.observed["CS-6"] >= 20
