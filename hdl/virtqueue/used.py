"""Give buffers back to the driver: collect them, and write them many at a time.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.7.9 and 2.8.8 "In-order use of descriptors", 2.8.9 "Multi-buffer
requests".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.buffers import ChainId, QueueSetup, Used
from ..lib.dma import WritePort, write_beat
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE
from .pacing import Pacing
from .rows import QueueRows
from .suppress import Published
from .table import QueueTable
from .used_elements import UsedElements

__all__ = ["UsedWriter"]

Entry = data.StructLayout({"chain": ChainId, "len": 32})


class UsedWriter(wiring.Component):
    """Collect used chains a queue, write them many to a TLP, and tell :class:`Suppress`.

    A chain is collected in two cycles. An entry is laid out in one, or in as many as it has beats; a write is asked for when
    all of its data is here: from its first beat on they come one a cycle, so it keeps no other write waiting. That of a lone
    chain is asked for 7 cycles after the chain was given, with IN_ORDER 8; and one more for each further beat of an entry.

    When a batch leaves is decided by :class:`Pacing`; at the latest when ``batch`` chains wait. The driver sees a packet
    (``more``) whole or not at all: split, its last write is the index; packed, it is the first descriptor, which hides the ones
    behind it. With IN_ORDER a batch of chains with nothing to report is one entry.

    Parameters
    ----------
    width : int
        Bits per beat, 32 or a power of two above.
    num_queues, ports : int
    batch : int
        Chains a batch, and a packet, at most: a power of two.
    hold_cycles : int
        As of :class:`Pacing`.

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
    setup_valid, setup : see :class:`QueueTable`
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
        queues = max(2, self.num_queues)
        queue_shape = range(queues)
        slot_bits = (self.batch - 1).bit_length()
        counts = range(self.batch + 1)
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size", "queue_desc", "queue_device"))

        # Counts modulo 2**16. staged: chains collected. complete: end of the last whole packet. written: chains that the
        # driver has (split: used.idx). slot, flip: entry of a packed ring for the next used descriptor, and the complement of
        # its wrap counter. slots: entries of the ring that the collected chains take. Of those, ``apart``: some take more than
        # one; ``parts``: some packet has several chains; ``reports``: some have a length, or a device-writable buffer.
        row_layout = data.StructLayout({
            "staged": 16, "complete": 16, "written": 16, "slot": 16, "flip": 1, "slots": 16 + slot_bits, "apart": 1, "parts": 1,
            "reports": 1})
        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=row_layout)
        m.submodules.staging = staging = memory.Memory(shape=Entry, depth=queues * self.batch, init=[])
        stage_w, stage_r = staging.write_port(), staging.read_port()

        # Writes under way: the last of a batch is told from the others when it is done.
        m.submodules.pending = pending = Queue(data.StructLayout({"ends": 1, "published": Published}), 8)
        m.submodules.done = done = Queue(Published, 8)
        in_done = Signal(range(17))  # batches that ``done`` has room for
        m.d.comb += [
            done.i.valid.eq(self.write.done & pending.o.p.ends),
            done.i.p.eq(pending.o.p.published),
            pending.o.ready.eq(self.write.done),
            self.o.valid.eq(done.o.valid),
            self.o.p.eq(done.o.p),
            done.o.ready.eq(self.o.ready),
        ]
        m.d.sync += in_done.eq(in_done + (pending.i.valid & pending.i.ready & pending.i.p.ends)
                               - (self.o.valid & self.o.ready))

        m.submodules.pacing = pacing = Pacing(num_queues=self.num_queues, hold_cycles=self.hold_cycles)
        # Something is to be flushed; exact in IDLE but for what has become due in the cycle before by its age.
        flushes = Signal()
        m.d.sync += flushes.eq(pacing.due.any())

        queue, used = Signal(queue_shape), Signal(Used)
        waiting, collects = Signal(self.ports), Signal()
        turn, choice = Signal(range(max(2, self.ports))), Signal(range(max(2, self.ports)))
        flush_turn, flush_choice = Signal(queue_shape), Signal(queue_shape)
        m.d.comb += waiting.eq(Cat(port.valid for port in self.i))
        round_robin(m, waiting, turn, choice)
        round_robin(m, pacing.due, flush_turn, flush_choice)

        row, size = rows.row, table.row.size
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(queue),
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(Mux(collects, Array(port.p.queue[:len(queue)] for port in self.i)[choice], queue)),
            rows.begins.eq(collects),
            rows.new.eq(row),
            stage_w.addr.eq(Cat(row.staged[:slot_bits], queue)),
            stage_w.data.chain.eq(used.chain),
            stage_w.data.len.eq(used.len),
            pacing.queue.eq(queue),
            pacing.ends.eq(used.flush & ~used.more),
            pacing.full.eq((row.staged - row.written)[:16] >= self.batch - 1),
            pacing.hurry.eq(self.hurry),
        ]

        # The batch that is being written, run by run. A run is one write of neighbours.
        take   = Signal(slot_bits)                 # the chain that is next
        left   = Signal(counts)                    # chains from there on
        ahead  = Signal(slot_bits)                 # the one that is looked up while this run is laid out
        slot, flip, moved = Signal(16), Signal(), Signal(16 + slot_bits)  # entry of the ring for it, and how many were passed
        count  = Signal(counts)                    # chains of this run
        to_lay = Signal(counts)                    # of them, those that have not been laid out
        room   = Signal(16)                        # entries up to the end of the ring
        first  = Signal(Entry)                     # what is written last, if ``hidden``
        hidden, single = Signal(), Signal()        # ``single``: one entry stands for all
        fits = Signal()                            # what was collected takes no more entries than the ring has
        at_first, is_index = Signal(), Signal()    # this is the write of ``first``, of the index
        step, after = Signal(16), Signal(17)       # entries that this run passes; where that leads
        wraps, new_slot = Signal(), Signal(16)
        run_slot = Signal(16)
        run_flip = Signal()
        entry = Signal(Entry)                      # that is handed on
        address = Signal(64)
        request, data_out = self.write.req, self.write.data
        m.submodules.elements = elements = UsedElements(width=self.width)
        # Beats of the run that is laid out, and of those that have been asked for: a write never waits for its data.
        run_beats = -(-self.batch * VIRTQ_DESC_SIZE * 8 // self.width)
        m.submodules.out = out = Queue(write_beat(self.width), max(2, run_beats))
        sending = Signal(range(9))                 # writes that have been asked for, whose data has not left
        m.d.comb += [
            at_first.eq(hidden & (left == 0)),
            room.eq(size - slot),
            after.eq(slot + step),
            wraps.eq(after >= size),
            new_slot.eq(Mux(wraps, after - size, after)),
            stage_r.addr.eq(Cat(take, queue)),
            stage_r.en.eq(1),
            run_slot.eq(Mux(at_first, row.slot, slot)),
            request.p.addr.eq(address),
            request.p.len.eq(Mux(is_index, 2, Mux(self.packed, count * VIRTQ_DESC_SIZE, count * VIRTQ_USED_ELEM_SIZE))),
            pending.i.p.ends.eq(is_index | (self.packed & (at_first | (~hidden & (left == count))))),
            pending.i.p.published.queue.eq(queue),
            # Where it began; below 0 if that was before the end of the ring.
            pending.i.p.published.old.eq(Mux(self.packed, Mux(wraps, slot - moved - size, slot - moved), row.written)),
            pending.i.p.published.new.eq(Mux(self.packed, new_slot, row.complete)),
            pending.i.p.published.wrap.eq(~(flip ^ wraps)),
            pending.i.p.published.apart.eq(row.apart | single),
            elements.packed.eq(self.packed),
            elements.i.p.id.eq(entry.chain.id),
            elements.i.p.len.eq(entry.len),
            elements.i.p.flip.eq(run_flip),
            elements.i.p.last.eq(to_lay == 1),
            out.i.valid.eq(elements.o.valid),
            out.i.p.eq(elements.o.p),
            elements.o.ready.eq(out.i.ready),
        ]

        m.d.sync += address.eq(Mux(self.packed, table.row.queue_desc + (run_slot << 4),
                                   table.row.queue_device + Mux(is_index, 2, 4 + (run_slot << 3))))

        offer, accepted = Signal(), Signal()
        m.d.comb += [
            request.valid.eq(offer & pending.i.ready & (in_done < 8)),
            accepted.eq(request.valid & request.ready),
            pending.i.valid.eq(accepted),
            data_out.p.eq(out.o.p),
            data_out.valid.eq(out.o.valid & (sending != 0)),
            out.o.ready.eq(data_out.ready & (sending != 0)),
        ]
        m.d.sync += sending.eq(sending + accepted - (data_out.valid & data_out.ready & data_out.p.last))

        def measure_run():
            with m.If(at_first):
                m.d.sync += step.eq(0)
            with m.Elif(single):
                m.d.sync += step.eq(row.slots)
            with m.Elif(self.packed & row.apart):
                m.d.sync += step.eq(stage_r.data.chain.count)
            with m.Else():
                m.d.sync += step.eq(count)

        def pass_run():
            m.d.sync += [slot.eq(new_slot), flip.eq(flip ^ wraps), moved.eq(moved + step)]

        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                with m.If(flushes):
                    m.d.sync += [queue.eq(flush_choice), flush_turn.eq(flush_choice)]
                    m.next = "LOOK-UP FLUSH"
                with m.Elif(waiting.any()):
                    m.d.comb += collects.eq(1)
                    m.next = "STAGE"
                for k, port in enumerate(self.i):
                    with m.If(collects & (choice == k)):
                        m.d.comb += port.ready.eq(1)
                        m.d.sync += [queue.eq(port.p.queue), used.eq(port.p), turn.eq(k)]

            with m.State("STAGE"):
                m.d.comb += [
                    stage_w.en.eq(1),
                    rows.write.eq(1),
                    rows.new.staged.eq(row.staged + 1),
                    rows.new.slots.eq(row.slots + used.chain.count),
                    rows.new.apart.eq(row.apart | (used.chain.count != 1)),
                    rows.new.parts.eq(row.parts | used.more),
                    rows.new.reports.eq(row.reports | used.chain.writable | (used.len != 0)),
                ]
                m.d.comb += pacing.given.eq(1)
                with m.If(~used.more):
                    m.d.comb += rows.new.complete.eq(row.staged + 1)
                m.next = "IDLE"
                with m.If(pacing.prompt):  # at once: other queues that are due have their turn before the next chain is collected
                    m.d.sync += flush_turn.eq(queue)
                    m.next = "LOOK-UP FLUSH"

            with m.State("LOOK-UP FLUSH"):
                m.d.comb += pacing.taken.eq(1)
                m.d.sync += [hidden.eq(0), moved.eq(0)]
                m.next = "FLUSH"
                with m.If(self.in_order):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += fits.eq(row.slots <= size)
                m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.sync += [
                    take.eq(row.written),
                    left.eq(row.complete - row.written),
                    slot.eq(Mux(self.packed, row.slot, row.written & (size - 1)[:16])),
                    flip.eq(row.flip),
                    single.eq(0),
                ]
                m.d.sync += count.eq(1)
                with m.If(row.complete == row.written):
                    m.next = "IDLE"
                with m.Elif(self.in_order & ~row.reports & (row.complete == row.staged) & fits):
                    # 2.7.9, 2.8.8: the id of the last, where the first would be. Only a driver that makes chains available
                    # in slots that are not its own has more than fit, and one step leads out of the ring then.
                    m.d.sync += [single.eq(1), take.eq(row.complete - 1), left.eq(1)]
                    m.next = "RUN"
                with m.Elif(self.packed & row.parts):
                    m.next = "LOOK-UP FIRST"
                with m.Else():
                    m.next = "RUN"
            with m.State("LOOK-UP FIRST"):
                m.next = "STEP FIRST"
            with m.State("STEP FIRST"):
                measure_run()
                m.next = "FIRST"
            with m.State("FIRST"):
                # 2.8.9: the first descriptor of a packet is marked used last. It may as well hide the packets behind it.
                m.d.sync += [first.eq(stage_r.data), hidden.eq(1), take.eq(take + 1), left.eq(left - 1)]
                pass_run()
                m.next = "RUN"

            with m.State("RUN"):
                with m.If(at_first | (self.packed & row.apart)):
                    m.d.sync += count.eq(1)
                with m.Elif(left < room):
                    m.d.sync += count.eq(left)
                with m.Else():
                    m.d.sync += count.eq(room)
                m.d.sync += ahead.eq(take + 1)
                m.next = "STEP"
            with m.State("STEP"):
                measure_run()
                m.d.comb += stage_r.addr.eq(Cat(ahead, queue))
                m.d.sync += [
                    entry.eq(Mux(at_first, first, stage_r.data)), run_flip.eq(Mux(at_first, row.flip, flip)),
                    to_lay.eq(count), ahead.eq(ahead + 1),
                ]
                m.next = "LAY OUT"
            with m.State("LAY OUT"):
                # A look-up ahead: one entry a cycle.
                m.d.comb += [elements.i.valid.eq(1), stage_r.addr.eq(Cat(ahead, queue)), stage_r.en.eq(elements.i.ready)]
                with m.If(elements.i.ready):
                    m.d.sync += [entry.eq(stage_r.data), to_lay.eq(to_lay - 1), ahead.eq(ahead + 1)]
                    with m.If(to_lay == 1):
                        m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += offer.eq(1)
                with m.If(accepted):
                    pass_run()
                    with m.If(at_first):
                        m.d.sync += hidden.eq(0)
                    with m.Else():
                        m.d.sync += [left.eq(left - count), take.eq(take + count)]
                    with m.If(~at_first & ((left != count) | hidden)):
                        m.next = "RUN"
                    with m.Elif(self.packed):
                        m.next = "DONE"
                    with m.Else():
                        m.next = "INDEX"
            with m.State("INDEX"):
                # 2.7.8.2: the elements before the index; both go through this one ordered port.
                m.d.comb += [
                    is_index.eq(1),
                    out.i.valid.eq(1),
                    out.i.p.data.eq(row.complete),
                    out.i.p.last.eq(1),
                ]
                with m.If(out.i.ready):
                    m.next = "REQUEST INDEX"
            with m.State("REQUEST INDEX"):
                m.d.comb += [is_index.eq(1), offer.eq(1)]
                with m.If(accepted):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [
                    pacing.written.eq(1),
                    rows.write.eq(1),
                    rows.new.written.eq(row.complete),
                    rows.new.slot.eq(slot),
                    rows.new.flip.eq(flip),
                    rows.new.slots.eq(row.slots - moved),
                ]
                with m.If(row.complete == row.staged):
                    m.d.comb += [rows.new.apart.eq(0), rows.new.parts.eq(0), rows.new.reports.eq(0)]
                m.next = "IDLE"

        m.d.comb += [rows.held.eq(~state.ongoing("IDLE") | collects), self.untold.eq(pacing.waits)]
        with m.If(~state.ongoing("IDLE")):
            m.d.comb += self.untold.bit_select(queue, 1).eq(1)
        m.d.comb += self.busy.eq(~state.ongoing("IDLE") | pacing.waits.any() | pacing.due.any() | waiting.any()
                                 | (pending.level != 0) | (done.level != 0))
        return m
