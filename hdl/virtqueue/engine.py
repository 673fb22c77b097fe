"""The ring engine: virtqueues in host memory on one side, chains of buffers on the other.

It knows nothing of networks. Everything is a stream between small stages; each stage keeps what it has to know of a
queue in a memory indexed by queue:

    kick -> AvailFetch -> DescFetch -> HeadStore -> Walk -> segments -> device
    device -> used -> UsedWriter -> Suppress -> notify
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import BufferPort, QueueSetup
from ..lib.dma import ReadPort, WritePort
from .avail import AvailFetch
from .desc import DescFetch
from .store import HeadStore
from .suppress import Suppress
from .used import UsedWriter
from .walk import Walk

__all__ = ["Engine"]


class Engine(wiring.Component):
    """Serve ``num_queues`` split virtqueues for a device that takes chains on ``ports`` buffer ports.

    Latency of a lone chain is four dependent host reads (idx, ring, descriptor, and what the device reads); of a
    busy queue none, descriptors are there before they are wanted. A failed or malformed queue stops until reset and
    leaves the others alone.

    Parameters
    ----------
    width : int
        Bits per beat of the DMA ports.
    num_queues, ports : int
    prefetch : int
        Chain heads kept ready a queue, a power of two.
    batch : int
        Largest number of ring entries, descriptors or used entries in one DMA.

    Members
    -------
    setup_valid : In(1), setup : In(QueueSetup)
        Strobe: the driver enabled a queue. Alignment that the driver owes is enforced by clearing low address bits.
    enable : In(1)
        DRIVER_OK: until then nothing is read.
    event_idx, indirect : In(1)
        Negotiated features.
    kick_valid : In(1), kick_queue : In(16)
    notify : Out(stream(16))
        Used buffer notification for a queue.
    error : Out(1)
        Strobe: a queue stopped.
    reads : array of ``4 + 2 * ports`` Out(ReadPort), writes : array of 2 Out(WritePort)
    buffers : array of In(BufferPort)
    busy : Out(1)
        Something is under way that needs clock cycles.
    events : Out
        Strobes for the counters.
    """
    def __init__(self, *, width, num_queues, ports, prefetch=64, batch=32):
        self.width = width
        self.num_queues = num_queues
        self.ports = ports
        self.prefetch = prefetch
        self.batch = batch
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "enable":      In(1),
            "event_idx":   In(1),
            "indirect":    In(1),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "notify":      Out(stream.Signature(16)),
            "error":       Out(1),
            "reads":       Out(ReadPort(width)).array(4 + 2 * ports),
            "writes":      Out(WritePort(width)).array(2),
            "buffers":     In(BufferPort(num_queues)).array(ports),
            "busy":        Out(1),
            "events":      Out(data.StructLayout({"queue_errors": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        sizes = dict(width=self.width, num_queues=self.num_queues)
        m.submodules.avail    = avail    = AvailFetch(**sizes, max_batch=self.batch)
        m.submodules.desc     = desc     = DescFetch(**sizes, max_run=self.batch)
        m.submodules.store    = store    = HeadStore(num_queues=self.num_queues, ports=self.ports,
                                                     depth=self.prefetch, batch=self.batch)
        m.submodules.used     = used     = UsedWriter(**sizes, ports=self.ports, batch=self.batch)
        m.submodules.suppress = suppress = Suppress(**sizes)
        walks = [Walk(**sizes) for _ in range(self.ports)]
        for k, walk in enumerate(walks):
            m.submodules[f"walk_{k}"] = walk

        setup = Signal(QueueSetup)
        setup_valid = Signal()
        m.d.sync += [
            setup_valid.eq(self.setup_valid),
            setup.eq(self.setup),
            # 2.7 "Split Virtqueues": alignment 16, 2 and 4.
            setup.queue_desc[:4].eq(0),
            setup.queue_driver[:1].eq(0),
            setup.queue_device[:2].eq(0),
        ]
        for stage in (avail, desc, store, used, suppress, *walks):
            m.d.comb += [stage.setup_valid.eq(setup_valid), stage.setup.eq(setup)]
        for stage in (avail, suppress):
            m.d.comb += stage.event_idx.eq(self.event_idx)

        stopped = Signal(self.num_queues)
        failing = (avail, desc, suppress, *walks)
        fails = Signal(self.num_queues)
        for stage in failing:
            with m.If(stage.fail_valid):
                m.d.comb += fails.bit_select(stage.fail_queue, 1).eq(1)
        m.d.sync += stopped.eq(stopped | fails)
        m.d.comb += [
            self.error.eq((fails & ~stopped).any()),
            self.events.queue_errors.eq(self.error),
            avail.stopped.eq(stopped | ~self.enable.replicate(self.num_queues)),
            avail.kick_valid.eq(self.kick_valid),
            avail.kick_queue.eq(self.kick_queue),
            avail.grant.eq(store.grant),
            avail.freed_valid.eq(store.freed_valid),
            avail.freed_queue.eq(store.freed_queue),
        ]

        connect(m, avail.o_room, store.i_room)
        connect(m, avail.o, desc.i)
        connect(m, desc.o, store.i_push)
        connect(m, used.o, suppress.i)
        connect(m, suppress.notify, flipped(self.notify))
        connect(m, avail.event, flipped(self.writes[0]))
        connect(m, used.write, flipped(self.writes[1]))
        for k, port in enumerate((avail.index, avail.ring, desc.desc, suppress.read)):
            connect(m, port, flipped(self.reads[k]))
        for k, (walk, buffers) in enumerate(zip(walks, self.buffers)):
            m.d.comb += [
                walk.indirect.eq(self.indirect),
                buffers.available.eq(store.available),
            ]
            connect(m, flipped(buffers.take), store.i_take[k])
            connect(m, store.o_head[k], walk.i)
            connect(m, walk.o, flipped(buffers.segment))
            connect(m, flipped(buffers.used), used.i[k])
            connect(m, walk.table, flipped(self.reads[4 + 2 * k]))
            connect(m, walk.single, flipped(self.reads[5 + 2 * k]))

        m.d.comb += self.busy.eq(Cat(stage.busy for stage in (avail, desc, used, suppress, *walks)).any())
        return m
