"""Every state of every state machine can be reached, and left again: none is dead, and none is a trap.

Inputs are anything in any cycle, so what is shown is that there is a way in and a way out. Three machines are not here: that of
the configuration space, which its reset hides, that of the GMII transmitter, which takes a hundred cycles for a frame, and that
of the loopback, whose FIFO takes as long to fill.
"""

import pytest

from amaranth import *
from amaranth.lib.wiring import In

from ringnic.hdl.entropy.device import EntropyDevice
from ringnic.hdl.lib.counters import Counters
from ringnic.hdl.lib.regbus import RegArbiter
from ringnic.hdl.mac.gmii_receive import GmiiReceive
from ringnic.hdl.net.control import Control
from ringnic.hdl.net.receive import Receive
from ringnic.hdl.net.transmit import Transmit
from ringnic.hdl.pcie.dma_read import Reader
from ringnic.hdl.pcie.dma_write import Writer
from ringnic.hdl.pcie.msix import Msix
from ringnic.hdl.pcie.target import Target
from ringnic.hdl.transport.interrupts import Interrupts
from ringnic.hdl.transport.queues import Queues
from ringnic.hdl.transport.transport import Transport
from ringnic.hdl.virtqueue.avail import AvailFetch
from ringnic.hdl.virtqueue.desc import DescFetch
from ringnic.hdl.virtqueue.packed import PackedFetch
from ringnic.hdl.virtqueue.used import UsedWriter
from ringnic.hdl.virtqueue.walk import Walk
from prove import broken


def states(p, dut):
    p.add(dut, domains={"gmii_rx": "sync", "gmii_tx": "sync"})
    for path, member, value in dut.signature.flatten(dut):
        value = Value.cast(value)
        if member.flow == In and len(value):
            p.m.d.comb += value.eq(p.free(len(value), "_".join(map(str, path))))
    assert p.fsms
    for _, state, encoding in p.fsms:
        was = Signal.like(state, name="was")
        p.m.d.sync += was.eq(state)
        for number in encoding.values():
            p.cover((was == number) & (state != number))


MACHINES = {
    "regarbiter": (lambda: RegArbiter(2, 2), 12),
    "writer": (lambda: Writer(width=32, clients=1), 20),
    "reader": (lambda: Reader(width=32, clients=1, tags=2, slot_bytes=128, timeout_cycles=16), 20),
    "avail": (lambda: AvailFetch(width=32, num_queues=1, max_batch=2), 20),
    "packed": (lambda: PackedFetch(num_queues=1, max_batch=4, depth=4), 24),
    "used": (lambda: UsedWriter(width=32, num_queues=1, ports=1, batch=2, hold_cycles=4), 24),
    "walk": (lambda: Walk(width=32, num_queues=1, ports=1, max_ahead=2), 24),
    "transmit": (lambda: Transmit(
        width=32, num_queues=2, max_frame=64, depth=32, max_chains=2, patience=8, piece=16), 20),
    "receive": (lambda: Receive(
        width=32, num_queues=4, pairs=2, max_frame=16, depth=8, max_packets=2, max_segments=2, patience=4, ahead=2), 24),
    "control": (lambda: Control(width=32, num_queues=3, pairs=1), 24),
    "target": (lambda: Target(width=32), 20),
    "msix": (lambda: Msix(vectors=1, sources=1, width=32), 20),
    "entropy": (lambda: EntropyDevice(width=128), 40),
    "interrupts": (lambda: Interrupts(num_queues=1, msix_vectors=1), 20),
    "queues": (lambda: Queues(num_queues=1, max_queue_size=4, msix_vectors=1), 20),
    "transport": (lambda: Transport(device_features=1 << 32, feature_prerequisites={}, num_queues=1, msix_vectors=1,
                                    config_bytes=4, max_queue_size=4), 45),
    "desc": (lambda: DescFetch(num_queues=1, max_run=2, depth=4), 24),
    "counters": (lambda: Counters(["one"]), 12),
    "gmii_receive": (lambda: GmiiReceive(width=32, max_frame=64), 24),
}


@pytest.mark.parametrize("name", MACHINES)
def test_states(formal, name):
    make, depth = MACHINES[name]
    formal.covers(lambda p: states(p, make()), depth)


@pytest.mark.parametrize("module, line, instead", [
    ("ringnic.hdl.lib.regbus", "with m.If(port.resp.ready):\n                                m.next = \"PICK\"", "pass"),
    ("ringnic.hdl.lib.regbus", "m.next = \"ACCEPT\"", "pass"),
])
def test_a_trap_is_found(formal, module, line, instead):
    Bad = broken(module, line, instead).RegArbiter
    with pytest.raises(AssertionError, match="covers: broken"):
        formal.covers(lambda p: states(p, Bad(2, 2)), 12)
