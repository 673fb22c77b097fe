"""The ring engine: virtqueues in host memory on one side, chains of buffers on the other.

It knows nothing of networks. Everything is a stream between small stages; each stage keeps what it has to know of a
queue in a memory indexed by queue. Split and packed queues differ in how available buffers are found:

    kick -> AvailFetch -> DescFetch -+
    kick -> PackedFetch -------------+-> Heads -> HeadStore -> Walk -> segments -> device
    device -> used -> UsedWriter -> Suppress -> notify

What a device wants chains of is looked at without a notification, too, but seldom (:class:`Lookout`).
"""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import BufferPort, QueueSetup, Used
from ..lib.dma import AreaPort, ReadPort, WritePort
from ..lib.either import Either
from ..lib.slice import Register
from .avail import AvailFetch
from .desc import DescFetch
from .event import EventWriter
from .heads import Heads
from .lookout import Lookout
from .packed import PackedFetch
from .pause import Pause
from .setup import SetUp
from .states import QueueStates
from .store import HeadStore
from .suppress import Suppress
from .used import UsedWriter
from .walk import Walk

__all__ = ["Engine"]


class Engine(wiring.Component):
    """Serve ``num_queues`` virtqueues for a device that takes chains on ``ports`` buffer ports.

    Latency of a lone chain, in dependent host reads: split three (ring, descriptor, and what the device reads), packed two
    (descriptor, and what the device reads); split one more (idx) without NOTIFICATION_DATA. A busy queue has none,
    descriptors are there before they are wanted. A failed or malformed queue stops until it, or the device, is reset
    and leaves the others alone.

    Parameters
    ----------
    width : int
        Bits per beat of the DMA ports.
    num_queues, ports : int
    prefetch : int
        Chain heads kept ready a queue, a power of two of at least 8. Of a packed ring up to half as many descriptors are read at
        once, for no other read of that queue is under way meanwhile.
    batch : int
        Largest number of a split ring's entries or descriptors in one read, a power of two.
    used_batch : int
        Largest number of chains given back at once, and of the chains of one packet, a power of two.
    hold_cycles : int
        Used chains of a busy queue are kept for company for one to two times as long, for each queue that is busy: see
        :class:`.pacing.Pacing`. About the time in which the link carries 16 of the smallest packets; a power of two.
    look_cycles : int
        While a device wants chains of a queue, its ring is read once in so many cycles without a notification: a power of
        two.

    Members
    -------
    setup_valid : In(1), setup : In(QueueSetup)
        Strobe, at most one in three cycles: the driver enabled a queue. Alignment that the driver owes is enforced by clearing
        low address bits. A queue with a ring that runs past the end of the address space fails with ``enable``, and is not
        touched before.
    enable : In(1)
        DRIVER_OK: until then nothing is read.
    event_idx, indirect, packed, in_order, notification_data : In(1)
        Negotiated features.
    kick_valid : In(1), kick_queue : In(16), kick_next : In(16)
        Available buffer notification; ``kick_next`` is the upper half of notification data.
    reset_valid : In(1), reset_queue : In(16), reset_done : Out(1)
        Strobe: reset a queue. For a moment all queues pause; with the strobe ``reset_done`` nothing of this one is under
        way, and nothing will be before it is set up again. No other reset is asked for meanwhile.
    pausing : Out(1)
        High from ``reset_valid`` to ``reset_done``.
    notify : Out(stream(16))
        Used buffer notification for a queue.
    error : Out(1)
        Strobe: a queue stopped.
    areas : Out(AreaPort)
        Where each area of a queue begins, told in the three cycles after its set-up.
    reads : array of 5 Out(ReadPort), writes : array of 2 Out(WritePort)
    buffers : array of In(BufferPort)
    busy : Out(1)
        Something is under way that needs clock cycles.
    events : Out
        Strobes for the counters.
    """
    def __init__(self, *, width, num_queues, ports, prefetch, batch, used_batch=64, hold_cycles=256,
                 look_cycles=512):
        self.width = width
        self.num_queues = num_queues
        self.ports = ports
        self.prefetch = prefetch
        self.batch = batch
        self.used_batch = used_batch
        self.hold_cycles = hold_cycles
        self.look_cycles = look_cycles
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "enable":      In(1),
            "event_idx":   In(1),
            "indirect":    In(1),
            "packed":      In(1),
            "in_order":    In(1),
            "notification_data": In(1),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "kick_next":   In(16),
            "reset_valid": In(1),
            "reset_queue": In(16),
            "reset_done":  Out(1),
            "pausing":     Out(1),
            "notify":      Out(stream.Signature(16)),
            "error":       Out(1),
            "areas":       Out(AreaPort),
            "reads":       Out(ReadPort(width)).array(5),
            "writes":      Out(WritePort(width)).array(2),
            "buffers":     In(BufferPort(num_queues)).array(ports),
            "busy":        Out(1),
            "events":      Out(data.StructLayout({"queue_errors": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        sizes = dict(width=self.width, num_queues=self.num_queues)
        m.submodules.avail    = avail    = AvailFetch(**sizes, max_batch=self.batch)
        store_sizes = dict(num_queues=self.num_queues, depth=self.prefetch)
        m.submodules.desc     = desc     = DescFetch(**store_sizes, max_run=self.batch)
        m.submodules.packed_fetch = packed = PackedFetch(**store_sizes, max_batch=self.prefetch // 2)
        m.submodules.heads    = heads    = Heads(**store_sizes, width=self.width)
        m.submodules.events   = events   = EventWriter(**sizes)
        m.submodules.store    = store    = HeadStore(num_queues=self.num_queues, ports=self.ports,
                                                     depth=self.prefetch, batch=self.prefetch // 4)
        m.submodules.used     = used     = UsedWriter(**sizes, ports=self.ports, batch=self.used_batch,
                                                      hold_cycles=self.hold_cycles)
        m.submodules.suppress = suppress = Suppress(**sizes)
        m.submodules.lookout  = lookout  = Lookout(num_queues=self.num_queues, interval=self.look_cycles)
        m.submodules.walk     = walk     = Walk(**sizes, ports=self.ports)

        with m.If(self.packed):
            m.d.comb += store.least.eq(self.prefetch // 2)  # there is one read at a time, which is to bring many
        m.submodules.setup  = setup  = SetUp()
        m.submodules.states = states = QueueStates(num_queues=self.num_queues, stages=5)
        m.submodules.pause  = pause  = Pause()
        m.d.comb += [
            setup.i_valid.eq(self.setup_valid),
            setup.i.eq(self.setup),
            setup.packed.eq(self.packed),
            states.judged.valid.eq(setup.judged),
            states.judged.queue.eq(setup.queue),
            states.beyond.eq(setup.beyond),
        ]
        connect(m, setup.areas, flipped(self.areas))
        for stage in (avail, desc, packed, heads, events, store, used, suppress, walk.control):
            m.d.comb += [stage.setup_valid.eq(setup.o_valid), stage.setup.eq(setup.o)]
        for fetch in (avail, packed):
            for of, names in ((self, ("event_idx", "notification_data", "kick_valid", "kick_queue", "kick_next")),
                              (lookout, ("look",)), (events, ("left_valid", "left_queue")),
                              (store, ("grant", "freed_valid", "freed_queue"))):
                m.d.comb += [getattr(fetch, name).eq(getattr(of, name)) for name in names]
        m.d.comb += [
            packed.passed_valid.eq(used.o.valid & used.o.ready),
            packed.passed.eq(used.o.p),
            used.areas.valid.eq(setup.areas.valid),
            used.areas.p.eq(setup.areas.p),
            used.in_order.eq(self.in_order),
            used.packed.eq(self.packed),
            used.hurry.eq(self.pausing),
            suppress.packed.eq(self.packed),
            suppress.event_idx.eq(self.event_idx),
            walk.control.indirect.eq(self.indirect),
            walk.control.packed.eq(self.packed),
            store.room.eq(walk.room),
            store.soon.eq(walk.soon),
            lookout.wants.eq(reduce(or_, (buffers.wants for buffers in self.buffers))),
        ]

        for fault, stage in zip(states.fails, (avail, desc, packed, suppress, walk)):
            m.d.comb += [fault.valid.eq(stage.fail_valid), fault.queue.eq(stage.fail_queue)]
        m.d.comb += [
            states.halts.valid.eq(walk.fail_valid),
            states.halts.queue.eq(walk.fail_queue),
            states.reset.valid.eq(self.reset_valid),
            states.reset.queue.eq(self.reset_queue),
            states.enable.eq(self.enable),
            self.error.eq(states.error),
            self.events.queue_errors.eq(states.error),
        ]
        m.d.sync += [
            avail.stopped.eq(~states.working | (~self.enable | self.pausing | self.packed).replicate(self.num_queues)),
            packed.stopped.eq(~states.working | (~self.enable | self.pausing | ~self.packed).replicate(self.num_queues)),
        ]

        # One of the two ways is in use.
        ways = {
            "rooms":  (avail.o_room, packed.o_room, store.i_room),
            "heads":  (desc.heads, packed.heads, heads.i),
            "rings":  (desc.desc, packed.ring, flipped(self.reads[2].req)),
            "events": (avail.event, packed.event, events.i),
        }
        for name, (split, ring, o) in ways.items():
            m.submodules[f"either_{name}"] = either = Either(split.signature)
            m.d.comb += either.choice.eq(self.packed)
            connect(m, split, either.i[0])
            connect(m, ring, either.i[1])
            connect(m, either.o, o)
        for o, i in ((avail.o, desc.i), (heads.write, store.write), (heads.o, store.i_push), (store.o_head, walk.i),
                     (used.o, suppress.i)):
            connect(m, o, i)
        connect(m, flipped(self.reads[2].beat), heads.beat)
        connect(m, suppress.notify, flipped(self.notify))
        for k, port in ((0, avail.index), (1, avail.ring), (3, suppress.read), (4, walk.read)):
            connect(m, port, flipped(self.reads[k]))
        for k, port in enumerate((events.write, used.write)):
            connect(m, port, flipped(self.writes[k]))
        for k, buffers in enumerate(self.buffers):
            m.d.comb += [
                buffers.enabled.eq(states.serving & (states.working | store.available)),
                buffers.available.eq(Mux(self.pausing, 0, store.available & states.serving)),
                buffers.pause.eq(self.pausing),
                buffers.untold.eq(used.untold),
            ]
            connect(m, flipped(buffers.take), store.i_take[k])
            connect(m, walk.o[k], flipped(buffers.segment))
            # What devices give back late in a cycle shall not reach the writer, which takes a chain in every second cycle at
            # most and says so early in the cycle.
            m.submodules[f"used_{k}"] = given = Register(Used)
            connect(m, flipped(buffers.used), given.i)
            connect(m, given.o, used.i[k])
            with m.If(given.o.valid):
                m.d.comb += buffers.untold.bit_select(given.o.p.queue, 1).eq(1)

        # Queue reset.
        moving = Cat(*[stage.busy for stage in (avail, desc, packed, heads, events, store, used, suppress, walk)]).any()
        m.d.comb += [
            pause.begin.eq(self.reset_valid),
            pause.moving.eq(moving | Cat(buffers.holds for buffers in self.buffers).any()),
            self.pausing.eq(pause.pausing),
            self.reset_done.eq(pause.done),
            self.busy.eq(moving | self.pausing | setup.judged | states.telling),
        ]
        return m
