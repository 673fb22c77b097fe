"""The entropy card in the engine under the golden driver's transport: the seams below it are not the network's."""

from contextlib import closing
import random

import pytest

from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC,
                                     VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED)
from ringnic.host.driver.pci import PciFunction
from ringnic.host.driver.transport import Transport
from ringnic.sim.bus import EngineBus
from ringnic.sim.engine.engine import Engine, Link

RINGS = {"split": set(), "split in order": {VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA}, "packed": {VIRTIO_F_RING_PACKED},
         "packed in order": {VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA}}
COMMON = {VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC}
ENTROPY = 4
MOST = 64  # bytes that this device writes for one request
REQUESTQ = 0


@pytest.fixture(params=[64, 128], ids=lambda width: f"width{width}")
def engine(request):
    with closing(Engine(card="entropy", width=request.param, link=Link(jitter_ns=200, seed=3))) as engine:
        yield engine
        assert engine.violations() == [] and engine.dma_faults() == []


def opened(engine, ring):
    transport = Transport(PciFunction(EngineBus(engine)))
    assert transport.device_type == ENTROPY and transport.num_queues == 1
    assert transport.negotiate(RINGS[ring] | COMMON) >= RINGS[ring] | COMMON
    transport.function.enable_msix(2)
    queue = transport.setup_queue(REQUESTQ, vector=1)
    transport.driver_ok()
    return transport, queue


def back(engine, queue, count):
    """Run until ``count`` buffers came back."""
    found = []
    for _ in range(2000):
        while (got := queue.get_buf()) is not None:
            found.append(got)
        if len(found) >= count:
            return found
        engine.run(50)
    raise AssertionError(f"{len(found)} of {count} buffers")


@pytest.mark.parametrize("ring", RINGS)
def test_requests_are_filled(engine, ring):
    """Of every size, in pieces anywhere, direct and indirect; nothing around them is touched, and no two are alike."""
    transport, queue = opened(engine, ring)
    rng = random.Random(1)
    for _ in range(4):
        memory = transport.bus.alloc(0x10000)
        at, requests = 0, {}
        for token, total in enumerate((1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200, 1000, 4096)):
            cuts = sorted(rng.randrange(total + 1) for _ in range(rng.randrange(3)))
            pieces = []
            for size in (b - a for a, b in zip([0, *cuts], [*cuts, total])):
                at += rng.randrange(1, 40)
                pieces.append((memory.iova + at, size))
                at += size
            requests[token] = pieces
            queue.add_buf([], pieces, token, indirect=rng.random() < 0.5)
        untouched = bytearray(memory.view)
        queue.kick()
        for token, written in back(engine, queue, len(requests)):
            # 5.4.6.2: the device may write less than there is room for; this one does not go beyond the first buffer.
            addr, size = next(piece for piece in requests.pop(token) if piece[1])
            assert written == min(size, MOST)
            start = addr - memory.iova
            data = bytes(memory.view[start:start + written])
            assert written < 16 or len(set(data)) > 8
            untouched[start:start + written] = data
        assert memory.view == untouched and not requests
        memory.free()


@pytest.mark.parametrize("ring", RINGS)
def test_interrupt_and_reset(engine, ring):
    transport, queue = opened(engine, ring)
    memory = transport.bus.alloc(64)
    assert queue.enable_cb()
    queue.add_buf([], [(memory.iova, 64)], None)
    queue.kick()
    assert transport.bus.wait_irq() == {1}
    assert back(engine, queue, 1) == [(None, 64)]
    transport.reset()
    opened(engine, ring)


def test_noise_is_by_the_seed_of_the_link():
    def drawn(seed):
        with closing(Engine(card="entropy", link=Link(seed=seed))) as engine:
            transport, queue = opened(engine, "split")
            memory = transport.bus.alloc(64)
            queue.add_buf([], [(memory.iova, 64)], None)
            queue.kick()
            back(engine, queue, 1)
            return bytes(memory.view)
    assert drawn(1) == drawn(1) != drawn(2)
