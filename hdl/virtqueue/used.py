"""Split virtqueue: give buffers back through the used ring.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup, Used
from ..lib.dma import WritePort
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_USED_ELEM_SIZE, VirtqUsedElem
from .rows import QueueRows
from .suppress import Published
from .table import QueueTable

__all__ = ["UsedWriter"]


class UsedWriter(wiring.Component):
    """Collect used entries a queue and write them many to a TLP, then the index once.

    A batch leaves when the device has nothing else in hand (``flush``), when ``batch`` entries wait, or at the latest
    two ticks of ``hold_cycles`` after its first entry. The index never moves in the middle of a packet (``more``).

    Parameters
    ----------
    width : int
        Bits per beat, 32 or a power of two above.
    num_queues, ports : int
    batch : int
        Entries a batch, at most: a power of two.
    hold_cycles : int
        Cycles of one tick.

    Members
    -------
    i : array of In(stream(Used))
    write : Out(WritePort)
    o : Out(stream(Published))
        Offered after the write of the index has left.
    setup_valid, setup : see :class:`QueueTable`
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, ports, batch=32, hold_cycles=256):
        self.width = width
        self.num_queues = num_queues
        self.ports = ports
        self.batch = batch
        self.hold_cycles = hold_cycles
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(Used)).array(ports),
            "write":       Out(WritePort(width)),
            "o":           Out(stream.Signature(Published)),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        queues = max(2, self.num_queues)
        queue_shape = range(queues)
        slot_bits = (self.batch - 1).bit_length()
        lanes = self.width // 32            # 32-bit halves of elements a beat
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size", "queue_device"))

        # All are ring indices, modulo 2**16. staged: next entry to collect. complete: end of the last whole packet.
        # written: entries up to here are in the ring. published: used.idx as the host has it.
        row_layout = data.StructLayout({"staged": 16, "complete": 16, "written": 16, "published": 16})
        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=row_layout)
        m.submodules.staging = staging = memory.Memory(shape=VirtqUsedElem, depth=queues * self.batch, init=[])
        stage_w, stage_r = staging.write_port(), staging.read_port()

        # Writes under way: index writes are told from ring writes when they are done.
        m.submodules.pending = pending = Queue(data.StructLayout({"is_index": 1, "published": Published}), 8)
        m.submodules.done = done = Queue(Published, 8)
        m.d.comb += [
            done.i.valid.eq(self.write.done & pending.o.p.is_index),
            done.i.p.eq(pending.o.p.published),
            pending.o.ready.eq(self.write.done),
            self.o.valid.eq(done.o.valid),
            self.o.p.eq(done.o.p),
            done.o.ready.eq(self.o.ready),
        ]
        in_done = Signal(range(17))  # index writes that ``done`` has room for
        m.d.sync += in_done.eq(in_done + (pending.i.valid & pending.i.ready & pending.i.p.is_index)
                               - (self.o.valid & self.o.ready))

        to_flush, dirty, aged = (Signal(self.num_queues, name=name) for name in ("to_flush", "dirty", "aged"))
        tick = Signal(range(self.hold_cycles))
        m.d.sync += tick.eq(Mux(tick == self.hold_cycles - 1, 0, tick + 1))

        queue, turn = Signal(queue_shape), Signal(range(max(2, self.ports)))
        used = Signal(Used)
        choice = Signal(range(max(2, self.ports)))
        waiting = Signal(self.ports)
        flush_choice = Signal(queue_shape)
        m.d.comb += waiting.eq(Cat(port.valid for port in self.i))
        for k in reversed(range(self.ports)):
            with m.If(waiting[k]):
                m.d.comb += choice.eq(k)
        for k in reversed(range(self.ports)):
            with m.If(waiting[k] & (k > turn)):
                m.d.comb += choice.eq(k)
        for k in reversed(range(self.num_queues)):
            with m.If(to_flush[k]):
                m.d.comb += flush_choice.eq(k)

        row = rows.row
        waiting_entries, to_end, count = Signal(16), Signal(16), Signal(range(self.batch + 1))
        ring_index, mask = Signal(16), Signal(16)
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(queue),
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(queue),
            rows.new.eq(row),
            stage_w.addr.eq(Cat(row.staged[:slot_bits], queue)),
            stage_w.data.id.eq(used.chain.id),
            stage_w.data.len.eq(used.len),
            waiting_entries.eq(row.staged - row.written),
            mask.eq(table.row.size - 1),
            ring_index.eq(row.written & mask),
            to_end.eq(table.row.size - ring_index),
        ]

        slot = Signal(slot_bits)
        left = Signal(range(self.batch + 1))
        beat = Signal(self.width)
        part = Signal(range(max(2, lanes)))
        request, is_index = self.write.req, Signal()
        m.d.comb += [
            request.p.addr.eq(table.row.queue_device + Mux(is_index, 2, 4 + (ring_index << 3))),
            request.p.len.eq(Mux(is_index, 2, count * VIRTQ_USED_ELEM_SIZE)),
            pending.i.p.is_index.eq(is_index),
            pending.i.p.published.queue.eq(queue),
            pending.i.p.published.old.eq(row.published),
            pending.i.p.published.new.eq(row.complete),
            stage_r.addr.eq(Cat(slot, queue)),
        ]

        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                with m.If(to_flush.any()):
                    m.d.sync += queue.eq(flush_choice)
                    m.next = "LOOK-UP FLUSH"
                for k, port in enumerate(self.i):
                    with m.If(~to_flush.any() & waiting[k] & (choice == k)):
                        m.d.comb += port.ready.eq(1)
                        m.d.sync += [queue.eq(port.p.queue), used.eq(port.p), turn.eq(k)]
                        m.next = "LOOK-UP"

            with m.State("LOOK-UP"):
                m.next = "STAGE"
            with m.State("STAGE"):
                m.d.comb += [
                    stage_w.en.eq(1),
                    rows.write.eq(1),
                    rows.new.staged.eq(row.staged + 1),
                ]
                m.d.sync += dirty.bit_select(queue, 1).eq(1)
                with m.If(~used.more):
                    m.d.comb += rows.new.complete.eq(row.staged + 1)
                with m.If((waiting_entries == self.batch - 1) | (used.flush & ~used.more)):
                    m.d.sync += to_flush.bit_select(queue, 1).eq(1)
                m.next = "IDLE"

            with m.State("LOOK-UP FLUSH"):
                m.d.sync += [
                    to_flush.bit_select(queue, 1).eq(0),
                    dirty.bit_select(queue, 1).eq(0),
                    aged.bit_select(queue, 1).eq(0),
                ]
                m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.sync += [
                    count.eq(Mux(waiting_entries > to_end, to_end, waiting_entries)),
                    slot.eq(row.written),
                ]
                with m.If(waiting_entries != 0):
                    m.next = "RING"
                with m.Elif(row.complete != row.published):
                    m.next = "INDEX"
                with m.Else():
                    m.next = "IDLE"
            with m.State("RING"):
                m.d.comb += [
                    request.valid.eq(pending.i.ready),
                    pending.i.valid.eq(request.ready),
                ]
                m.d.sync += [left.eq(count), part.eq(0)]
                with m.If(request.ready & pending.i.ready):
                    m.d.comb += [
                        rows.write.eq(1),
                        rows.new.written.eq(row.written + count),
                    ]
                    m.next = "FILL"
            # A beat is filled with elements, or an element takes two beats; one cycle a memory read.
            with m.State("FILL"):
                m.next = "ELEMENT"
            with m.State("ELEMENT"):
                self._element(m, lanes, stage_r.data, slot, left, beat, part)
            with m.State("INDEX"):
                # 2.7.8.2: the elements before the index; both go through this one ordered port.
                m.d.comb += [
                    is_index.eq(1),
                    request.valid.eq(pending.i.ready & (in_done < 8)),
                    pending.i.valid.eq(request.ready & (in_done < 8)),
                ]
                with m.If(request.ready & pending.i.ready & (in_done < 8)):
                    m.d.comb += [
                        rows.write.eq(1),
                        rows.new.published.eq(row.complete),
                    ]
                    m.d.sync += beat.eq(row.complete)
                    m.next = "INDEX DATA"
            with m.State("INDEX DATA"):
                m.d.comb += [
                    self.write.data.valid.eq(1),
                    self.write.data.p.data.eq(beat),
                    self.write.data.p.last.eq(1),
                ]
                with m.If(self.write.data.ready):
                    m.next = "IDLE"

        m.d.comb += self.busy.eq(~state.ongoing("IDLE") | dirty.any() | to_flush.any() | waiting.any()
                                 | (pending.level != 0) | (done.level != 0))
        with m.If(tick == 0):
            m.d.sync += aged.eq(dirty)
            for k in range(self.num_queues):
                with m.If(dirty[k] & aged[k]):
                    m.d.sync += to_flush[k].eq(1)
        return m

    def _element(self, m, lanes, elem, slot, left, beat, part):
        out = self.write.data
        if lanes == 1:
            m.d.comb += [
                out.valid.eq(1),
                out.p.data.eq(Mux(part[0], elem.len, elem.id)),
                out.p.last.eq(part[0] & (left == 1)),
            ]
            with m.If(out.ready):
                m.d.sync += part.eq(~part)
                with m.If(part[0]):
                    m.d.sync += [left.eq(left - 1), slot.eq(slot + 1)]
                    m.next = "FILL"
                    with m.If(left == 1):
                        m.next = "LOOK-UP FLUSH"
        else:
            per_beat = lanes // 2
            whole = Signal(self.width)
            full = Signal()
            m.d.comb += [
                whole.eq(beat),
                full.eq((part == per_beat - 1) | (left == 1)),
                out.valid.eq(full),
                out.p.data.eq(whole),
                out.p.last.eq(left == 1),
            ]
            for k in range(per_beat):
                with m.If(part == k):
                    m.d.comb += whole[64 * k:64 * k + 64].eq(elem)
            with m.If(out.ready | ~full):
                m.d.sync += [
                    beat.eq(Mux(full, 0, whole)),
                    part.eq(Mux(full, 0, part + 1)),
                    left.eq(left - 1),
                    slot.eq(slot + 1),
                ]
                m.next = "FILL"
                with m.If(left == 1):
                    m.next = "LOOK-UP FLUSH"
