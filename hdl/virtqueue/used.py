"""Give buffers back to the driver: collect them, and write them many at a time.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.8.13 "The Virtqueue Descriptor Table" (packed).
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup, Used
from ..lib.dma import AreaPort, WritePort
from .suppress import Published
from .used_collect import UsedCollect
from .used_elements import UsedElements
from .used_runs import UsedRuns
from .used_writes import UsedWrites

__all__ = ["UsedWriter"]


class UsedWriter(wiring.Component):
    """Collect used chains a queue, write them many to a TLP, and tell :class:`.suppress.Suppress`::

        i -> UsedCollect -> batch -> UsedRuns -> entries -> UsedElements -> beats -> UsedWrites -> write
                                         +----------------- runs ----------------------+   +----> o

    A chain is collected in two cycles. An entry is laid out in one, or in as many as it has beats; a write is asked for when
    all of its data is here. That of a lone chain is asked for 7 cycles after the chain was offered, with IN_ORDER 8; and one more
    for each further beat of an entry. The driver sees a packet (``more``) whole or not at all.

    Parameters
    ----------
    width : int
        Bits per beat, 32 or a power of two above.
    num_queues, ports : int
    batch : int
        Chains a batch, and a packet, at most: a power of two.
    hold_cycles : int
        As of :class:`.pacing.Pacing`.

    Members
    -------
    i : array of In(stream(Used))
    packed, in_order : In(1)
        Negotiated features.
    hurry : In(1)
        Queues are to come to rest: nothing is kept.
    write : Out(WritePort)
    o : Out(stream(Published))
        Offered after the last write of a batch has left.
    untold : Out(num_queues)
        Bit per queue: chains were given back whose used entries are not all on their way.
    setup_valid, setup : see :class:`.table.QueueTable`
    areas : In(AreaPort)
        Where each area of a queue begins, before a chain of it is given back.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, ports, batch=64, hold_cycles=256):
        self.width = width
        self.num_queues = num_queues
        self.ports = ports
        self.batch = batch
        self.hold_cycles = hold_cycles
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "areas":       In(AreaPort),
            "packed":      In(1),
            "in_order":    In(1),
            "hurry":       In(1),
            "i":           In(stream.Signature(Used)).array(ports),
            "write":       Out(WritePort(width)),
            "o":           Out(stream.Signature(Published)),
            "untold":      Out(num_queues),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        sizes = dict(num_queues=self.num_queues, batch=self.batch)
        m.submodules.collect  = collect  = UsedCollect(**sizes, ports=self.ports, hold_cycles=self.hold_cycles)
        m.submodules.runs     = runs     = UsedRuns(**sizes)
        m.submodules.elements = elements = UsedElements(width=self.width)
        m.submodules.writes   = writes   = UsedWrites(**sizes, width=self.width)
        for mine, port in zip(self.i, collect.i):
            connect(m, flipped(mine), port)
        connect(m, collect.o, runs.i)
        connect(m, runs.staging, collect.staging)
        connect(m, runs.o, elements.i)
        connect(m, runs.run, writes.run)
        connect(m, elements.o, writes.i)
        connect(m, writes.write, flipped(self.write))
        connect(m, writes.o, flipped(self.o))
        connect(m, flipped(self.areas), writes.areas)
        m.d.comb += [
            collect.setup_valid.eq(self.setup_valid),
            collect.setup_queue.eq(self.setup.queue),
            collect.hurry.eq(self.hurry),
            runs.setup_valid.eq(self.setup_valid),
            runs.setup.eq(self.setup),
            runs.packed.eq(self.packed),
            runs.in_order.eq(self.in_order),
            elements.packed.eq(self.packed),
            writes.packed.eq(self.packed),
            self.untold.eq(collect.untold),
            self.busy.eq(collect.busy | writes.busy),
        ]
        return m
