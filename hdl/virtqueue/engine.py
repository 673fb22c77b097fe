"""The ring engine: virtqueues in host memory on one side, chains of buffers on the other.

It knows nothing of networks. Everything is a stream between small stages; each stage keeps what it has to know of a
queue in a memory indexed by queue. Split and packed queues differ in how available buffers are found:

    kick -> AvailFetch -> DescFetch -+
    kick -> PackedFetch -------------+-> HeadStore -> Walk -> segments -> device
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
from ..lib.slice import Slice
from .avail import AvailFetch
from .bounds import Bounds
from .desc import DescFetch
from .event import EventWriter
from .lookout import Lookout
from .packed import PackedFetch
from .store import HeadStore
from .suppress import Suppress
from .used import UsedWriter
from .walk import Walk

__all__ = ["Engine"]

QUIET_CYCLES = 4  # what leaves one stage is in the next by then


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
        m.submodules.desc     = desc     = DescFetch(**sizes, max_run=self.batch)
        m.submodules.packed_fetch = packed = PackedFetch(**sizes, max_batch=self.prefetch // 2)
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

        setup = Signal(QueueSetup)
        setup_valid = Signal()
        to_tell = Signal(2)    # areas whose beginning the DMA does not know yet; the next one is where queue_desc was
        m.d.sync += setup_valid.eq(self.setup_valid)
        with m.If(self.setup_valid):
            m.d.sync += [
                setup.eq(self.setup),
                # 2.7 "Split Virtqueues": alignment 16, 2 and 4. 2.8 "Packed Virtqueues": 16, 4 and 4.
                setup.queue_desc[:4].eq(0),
                setup.queue_driver[0].eq(0),
                setup.queue_device[:2].eq(0),
                to_tell.eq(3),
            ]
            with m.If(self.packed):
                m.d.sync += setup.queue_driver[1].eq(0)
        with m.Elif(to_tell != 0):
            m.d.sync += [
                setup.queue_desc.eq(setup.queue_driver),
                setup.queue_driver.eq(setup.queue_device),
                to_tell.eq(to_tell - 1),
            ]
        m.d.comb += [
            self.areas.valid.eq(to_tell != 0),
            self.areas.p.queue.eq(setup.queue),
            self.areas.p.area.eq(-to_tell),        # DESC, DRIVER, DEVICE
            self.areas.p.addr.eq(setup.queue_desc),
        ]
        m.submodules.bounds = bounds = Bounds()
        judged, judged_queue = Signal(), Signal.like(setup.queue)
        m.d.comb += [bounds.setup.eq(setup), bounds.packed.eq(self.packed)]
        m.d.sync += [judged.eq(setup_valid), judged_queue.eq(setup.queue)]
        for stage in (avail, desc, packed, events, store, used, suppress, walk):
            m.d.comb += [stage.setup_valid.eq(setup_valid), stage.setup.eq(setup)]
        for fetch in (avail, packed):
            m.d.comb += [
                fetch.event_idx.eq(self.event_idx),
                fetch.notification_data.eq(self.notification_data),
                fetch.kick_valid.eq(self.kick_valid),
                fetch.kick_queue.eq(self.kick_queue),
                fetch.kick_next.eq(self.kick_next),
                fetch.look.eq(lookout.look),
                fetch.left_valid.eq(events.left_valid),
                fetch.left_queue.eq(events.left_queue),
                fetch.grant.eq(store.grant),
                fetch.freed_valid.eq(store.freed_valid),
                fetch.freed_queue.eq(store.freed_queue),
            ]
        m.d.comb += [
            packed.passed_valid.eq(used.o.valid & used.o.ready),
            packed.passed.eq(used.o.p),
            used.in_order.eq(self.in_order),
            used.packed.eq(self.packed),
            used.hurry.eq(self.pausing),
            suppress.packed.eq(self.packed),
            suppress.event_idx.eq(self.event_idx),
        ]

        # A queue works from its set-up until it fails or is reset. What was found before a fault of its ring is still handed
        # out; what comes after a malformed chain is not. One that cannot work is told of when the driver is ready (2.1.2).
        working, fails = Signal(self.num_queues), Signal(self.num_queues)
        serving, halts = Signal(self.num_queues), Signal(self.num_queues)
        m.d.sync += [fails.eq(0), halts.eq(0)]
        for stage in (avail, desc, packed, suppress, walk):
            with m.If(stage.fail_valid):
                m.d.sync += fails.bit_select(stage.fail_queue, 1).eq(1)
        with m.If(walk.fail_valid):
            m.d.sync += halts.bit_select(walk.fail_queue, 1).eq(1)
        m.d.sync += [working.eq(working & ~fails), serving.eq(serving & ~halts)]
        refused, tells = Signal(self.num_queues), Signal()
        m.d.comb += tells.eq(self.enable & refused.any())
        with m.If(tells):  # of one in each cycle
            m.d.sync += refused.eq(refused & (refused - 1))
        with m.If(judged & bounds.beyond):
            m.d.sync += refused.bit_select(judged_queue, 1).eq(1)
        with m.If(self.reset_valid):
            m.d.sync += refused.bit_select(self.reset_queue, 1).eq(0)
        for bits in (working, serving):
            with m.If(judged & ~bounds.beyond):
                m.d.sync += bits.bit_select(judged_queue, 1).eq(1)
            with m.If(self.reset_valid):
                m.d.sync += bits.bit_select(self.reset_queue, 1).eq(0)
        everything = self.num_queues
        m.d.comb += [
            self.error.eq((fails & working).any() | tells),
            self.events.queue_errors.eq(self.error),
        ]
        m.d.sync += [
            avail.stopped.eq(~working | (~self.enable | self.pausing | self.packed).replicate(everything)),
            packed.stopped.eq(~working | (~self.enable | self.pausing | ~self.packed).replicate(everything)),
        ]

        m.d.comb += lookout.wants.eq(reduce(or_, (buffers.wants for buffers in self.buffers)))

        # One of the two ways is in use.
        self._either(m, self.packed, packed.o_room, avail.o_room, store.i_room)
        self._either(m, self.packed, packed.o, desc.o, store.i_push)
        self._either(m, self.packed, packed.ring.req, desc.desc.req, self.reads[2].req)
        self._either(m, self.packed, packed.event, avail.event, events.i)
        connect(m, events.write, flipped(self.writes[0]))
        for fetch, beat, chosen in ((packed, packed.ring.beat, self.packed), (desc, desc.desc.beat, ~self.packed)):
            m.d.comb += [
                beat.payload.eq(self.reads[2].beat.payload),
                beat.valid.eq(self.reads[2].beat.valid & chosen),
            ]
        m.d.comb += [
            self.reads[2].beat.ready.eq(Mux(self.packed, packed.ring.beat.ready, desc.desc.beat.ready)),
        ]

        connect(m, avail.o, desc.i)
        connect(m, used.o, suppress.i)
        connect(m, suppress.notify, flipped(self.notify))
        connect(m, used.write, flipped(self.writes[1]))
        for k, port in ((0, avail.index), (1, avail.ring), (3, suppress.read)):
            connect(m, port, flipped(self.reads[k]))
        m.d.comb += [walk.indirect.eq(self.indirect), walk.packed.eq(self.packed)]
        m.d.comb += [store.room.eq(walk.room), store.soon.eq(walk.soon)]
        connect(m, store.o_head, walk.i)
        connect(m, walk.read, flipped(self.reads[4]))
        for k, buffers in enumerate(self.buffers):
            m.d.comb += [
                buffers.enabled.eq(serving & (working | store.available)),
                buffers.available.eq(Mux(self.pausing, 0, store.available & serving)),
                buffers.pause.eq(self.pausing),
                buffers.untold.eq(used.untold),
            ]
            connect(m, flipped(buffers.take), store.i_take[k])
            connect(m, walk.o[k], flipped(buffers.segment))
            # The haste of devices to give chains back shall not reach the writer.
            m.submodules[f"used_{k}"] = given = Slice(Used)
            connect(m, flipped(buffers.used), given.i)
            connect(m, given.o, used.i[k])
            newest = Signal.like(given.i.p.queue)
            with m.If(given.i.valid & given.i.ready):
                m.d.sync += newest.eq(given.i.p.queue)
            with m.If(given.o.valid):
                m.d.comb += buffers.untold.bit_select(given.o.p.queue, 1).eq(1)
            with m.If(~given.i.ready):  # it keeps two
                m.d.comb += buffers.untold.bit_select(newest, 1).eq(1)

        # Queue reset: what is under way, of any queue, comes to its end; there is no other way to know whose it is.
        moving = Cat(*[stage.busy for stage in (avail, desc, packed, events, store, used, suppress, walk)])
        held = Cat(buffers.holds for buffers in self.buffers)
        quiet = Signal(range(QUIET_CYCLES + 1))
        m.d.comb += self.reset_done.eq(self.pausing & (quiet == QUIET_CYCLES))
        with m.If(self.reset_valid):
            m.d.sync += [self.pausing.eq(1), quiet.eq(0)]
        with m.Elif(self.reset_done):
            m.d.sync += self.pausing.eq(0)
        with m.Elif(moving.any() | held.any()):
            m.d.sync += quiet.eq(0)
        with m.Else():
            m.d.sync += quiet.eq(quiet + 1)

        m.d.comb += self.busy.eq(moving.any() | self.pausing | judged | tells)
        return m

    @staticmethod
    def _either(m, choice, one, other, o):
        """Connect stream ``one`` to ``o`` while ``choice`` is high, else ``other``."""
        m.d.comb += [
            o.payload.eq(Mux(choice, Value.cast(one.payload), Value.cast(other.payload))),
            o.valid.eq(Mux(choice, one.valid, other.valid)),
            one.ready.eq(choice & o.ready),
            other.ready.eq(~choice & o.ready),
        ]
