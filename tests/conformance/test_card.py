"""What a card in a slot is asked besides the standards' rules: frames through the whole of it, speed by the clock, recovery.

Simulated cards have their MAC for it, in loopback like real ones. Times there are the simulator's.
"""

from statistics import median
import time

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, COUNTERS_MAGIC, COUNTERS_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_STATUS

from .frames import datagram, flow_of, frame

PAIRS = 2
BURST = 20                   # frames, on their way at once
BENCH_FRAMES, BENCH_BYTES, BENCH_SECONDS = 200, 60, 60
ROUND_TRIPS, READS = 10, 100
DROPS = ("tx_dropped", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "mac_rx_bad_fcs", "mac_rx_runt",
         "mac_rx_giant", "mac_rx_overflow")
ERRORS = ("queue_errors", "dma_read_errors", "dma_timeouts", "cpl_unexpected", "tlps_malformed")


def grown(net, before, names):
    """Counters of these that are not what they were."""
    now = net.counters()
    return {name: now[name] - before[name] for name in names if now[name] != before[name]}


def send_all(card, net, frames):
    for one in frames:
        card.until(lambda: net.can_send() or net.reclaim(), "room for a frame")
        net.send(one, kick=False)
    net.tx.kick()


def test_frames_of_all_sizes_come_back(looped, ring, rng):
    """Whole, in order, none lost, and no error counted."""
    net = looped.open(ring | {VIRTIO_NET_F_STATUS})
    assert net.link_up
    before = net.counters()
    sizes = [60, 61, 62, 63, 64, 65, 127, 128, 1512, 1513, 1514, net.max_frame - 1, net.max_frame]
    sizes += [rng.randint(60, 1514) for _ in range(BURST)]
    while sizes:
        frames = [rng.randbytes(sizes.pop()) for _ in range(min(len(sizes), BURST))]
        send_all(looped, net, frames)
        looped.expect_wire(frames)
    assert grown(net, before, DROPS + ERRORS) == {}


@pytest.mark.clause("MQ-B1")
def test_flows_come_back_on_the_pairs_that_sent_them(looped, form):
    net = looped.open(form | {VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ}, pairs=PAIRS)
    for turn in range(2):  # and move when the driver moves them
        for flow in range(PAIRS):
            net.send(datagram(flow, turn, outward=True), pair=(flow + turn) % PAIRS)
        found = {}

        def arrived():
            for pair in range(PAIRS):
                found.update({flow_of(one): pair for one in net.receive(pair)})
            return len(found) == PAIRS
        looped.until(arrived, "a frame of each flow")
        assert found == {(flow, turn): (flow + turn) % PAIRS for flow in range(PAIRS)}


@pytest.mark.parametrize("flr", [True, False], ids=["flr", "status"])
@pytest.mark.parametrize("moment", [0, 30, 300])
def test_reset_in_the_midst_of_traffic(looped, ring, flr, moment):
    """The card lets go of all memory, comes back, and nothing of before comes with it."""
    net = looped.open(ring)
    send_all(looped, net, [frame(60 + 70 * k, k) for k in range(BURST)])
    looped.bus.run(moment)
    (net.flr if flr else net.reset)()
    looped.restart()
    assert not looped.broken()
    looped.rest()
    looped.works()


def test_reading_what_is_not_the_cards(looped, form):
    """A buffer that no translation covers: what stands between card and memory refuses, the card counts it, and works on."""
    net = looped.open(form)
    before = net.counters()
    gone = looped.bus.alloc(4096)
    gone.free()
    net.tx.add_buf([(gone.iova, 100)], [], 0)
    net.tx.kick()
    looped.until(lambda: grown(net, before, ("dma_read_errors", "tx_dropped")), "a word of the failed read")
    looped.rest()
    assert looped.wire.take() == []
    net.reset()
    looped.restart()
    looped.works()


def test_writing_what_is_not_the_cards(looped, form):
    """A receive buffer that no translation covers: what was to be written is lost, nothing else is."""
    net = looped.open(form, fill=False)
    gone = looped.bus.alloc(net.rx_slot)
    gone.free()
    net.rx.add_buf([], [(gone.iova, net.rx_slot)], 0)
    net.rx.kick()
    looped.wire.send(frame(200))
    looped.rest()
    net.reset()
    looped.restart(fill=True)
    looped.works()


def test_bench(looped, record_property):
    """How fast it is, driven by a driver of Python: what is measured is the way there and back, and the host as well."""
    net = looped.open(queue_size=256)
    one = frame(BENCH_BYTES)

    def come_back(count, cycles):
        """Wait for so many frames, looking after so many cycles again."""
        deadline = time.monotonic() + BENCH_SECONDS
        while count > 0:
            if came := len(net.receive()):
                count, deadline = count - came, time.monotonic() + BENCH_SECONDS
            else:
                assert time.monotonic() < deadline, f"{count} frames do not come back"
                looped.bus.run(cycles)
    trips = []
    for _ in range(ROUND_TRIPS):
        began = time.monotonic()
        net.send(one)
        come_back(1, 1)
        trips.append(time.monotonic() - began)
    began = time.monotonic()
    send_all(looped, net, [one] * BENCH_FRAMES)
    come_back(BENCH_FRAMES, 20)
    seconds = time.monotonic() - began
    reads = []
    for _ in range(READS):
        began = time.monotonic()
        assert looped.bus.bar_read(BAR_INDEX, COUNTERS_OFFSET, 4) == COUNTERS_MAGIC
        reads.append(time.monotonic() - began)
    record_property("measured", {"packets_per_second": BENCH_FRAMES / seconds, "round_trip_us": 1e6 * median(trips),
                                 "register_read_us": 1e6 * median(reads)})
