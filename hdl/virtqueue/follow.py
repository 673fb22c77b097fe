"""Follow the chains of all ports, a descriptor at a time.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.8.6 "Next Flag: Descriptor Chaining".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.buffers import QueueSetup, Segment
from ..lib.dma import Area
from ..spec.virtio import MAX_TABLE, VirtqDescF
from .ahead import HEAD_BITS, Layouts
from .judge import Judge, Source
from .reads import single_read
from .table import QueueTable

__all__ = ["Follow"]

INDEX_BITS = 17  # of entries of a table: ``next`` has 16 bits, and a limit is one more


class Follow(wiring.Component):
    """Give out the segments of each port's chains, in the order of its heads.

    A pipeline for all ports, of three steps: choose a port and read its next row (PICK), take the row and what is known of the
    chain (READ), judge the descriptor (JUDGE). A step that finds its port's segment not taken yet has no effect and is done
    again, at once or, when another step comes, from the beginning, so that no port waits for the device of another. One port
    gives a segment, or loads a head that names a table, every two cycles, all together one a cycle: the next row of a port is
    read while this one is judged, and is dropped if the verdict is not the usual one. The answer of a single read is judged two
    cycles after it has come.

    Parameters
    ----------
    num_queues, ports, max_ahead : int
        See :class:`.ahead.Layouts`.
    max_table : int
        Descriptors that a chain may have in an indirect table whatever its Queue Size is.

    Members
    -------
    setup_valid : In(1), setup : In(QueueSetup)
        See :class:`.table.QueueTable`.
    indirect, packed : In(1)
        INDIRECT_DESC, RING_PACKED were negotiated.
    heads, entries, place, row, over
        See :class:`.ahead.Ahead`, whose ports these are.
    first_head : Out(HEAD_BITS).array(ports), first_entry : Out(Layouts.position).array(ports)
        Those before are not wanted any more.
    answer_valid : In(1), answer : In(Layouts.entry)
        Strobe: Ahead takes the last element of the answer to a ``single`` read.
    single : Out(stream(single_read(Layouts)))
    o : Out(stream(Segment)).array(ports)
        Registers.
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: a segment with ``error`` is there in the next cycle.
    busy : Out(1)
        A chain or a segment is not given out.
    """
    def __init__(self, *, num_queues, ports, max_ahead, max_table=MAX_TABLE):
        self.num_queues = num_queues
        self.ports = ports
        self.max_table = max_table
        self.layouts = layouts = Layouts(num_queues=num_queues, ports=ports, max_ahead=max_ahead)
        super().__init__({
            "setup_valid":  In(1),
            "setup":        In(QueueSetup),
            "indirect":     In(1),
            "packed":       In(1),
            "heads":        In(HEAD_BITS).array(ports),
            "entries":      In(layouts.position).array(ports),
            "place":        Out(layouts.place),
            "row":          In(layouts.row),
            "over":         In(1),
            "first_head":   Out(HEAD_BITS).array(ports),
            "first_entry":  Out(layouts.position).array(ports),
            "answer_valid": In(1),
            "answer":       In(layouts.entry),
            "single":       Out(stream.Signature(single_read(layouts))),
            "o":            Out(stream.Signature(Segment)).array(ports),
            "fail_valid":   Out(1),
            "fail_queue":   Out(16),
            "busy":         Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        port = self.layouts.port
        #: Of each chain: entries of its table; the entry after the one to judge; how many may follow that one; where those end
        #: that were read ahead.
        context = data.StructLayout({
            "limit": INDEX_BITS, "index": INDEX_BITS, "left": INDEX_BITS, "capped": 1, "in_table": 1, "in_ring": 1,
            "writable": 1, "queue": self.layouts.row["queue"].shape, "end": self.layouts.position})
        self._step = step = data.StructLayout({"port": port, "source": Source})
        self.sources = Array(Signal(Source, name=f"source_{k}") for k in range(self.ports))  # of each port's next descriptor
        self.arrived = Signal(self.ports)     # the answer of its single read is there
        self.pending = Signal(self.ports)     # its single read is to be asked for
        self.reads, self.read = Signal(), Signal(step, name="read_step")
        self.judges, self.judged = Signal(), Signal(step, name="judge_step")
        self.known, self.new = Signal(context), Signal(context)
        self.desc = Signal(data.StructLayout({name: self.layouts.row[name].shape
                                              for name in ("addr", "len", "flags", "next", "over", "error", "id", "count")}))
        m.submodules.judge = self.judge = Judge()
        m.submodules.contexts = contexts = memory.Memory(shape=context, depth=max(2, self.ports), init=[])
        self.acts = Signal()                  # the step of JUDGE has an effect
        self.foresees, self.foreseen, self.as_foreseen = Signal(), Signal(Source), Signal()

        self._pick(m)
        sizes = self._read(m, contexts.read_port(domain="comb"))
        index, within, far = self._count(m, sizes.row.size)
        self._judge(m, contexts.write_port(), within)
        self._ask(m, index, far)
        m.d.comb += self.busy.eq(Cat(*[heads != first for heads, first in zip(self.heads, self.first_head)],
                                     *[o.valid for o in self.o]).any())
        return m

    def _pick(self, m):
        """Choose a port, and read its next row."""
        position = self.layouts.position
        offers, turn, pick = Signal(self.ports), Signal(self.layouts.port), Signal(self.layouts.port)
        places, sources = [], []
        for k in range(self.ports):
            in_read = self.reads & (self.read.port == k)
            in_judge = self.judges & (self.judged.port == k)
            steps = in_judge & (self.judged.source == Source.ENTRY)
            source, place = Signal(Source, name=f"next_{k}"), Signal(self.layouts.place, name=f"place_{k}")
            # Signed: entries of a chain that failed may be left out before they have come.
            entries, heads = Signal(signed(position.width), name=f"entries_{k}"), Signal(HEAD_BITS, name=f"heads_{k}")
            m.d.comb += [
                source.eq(Mux(in_judge, self.foreseen, self.sources[k])),
                entries.eq(self.entries[k] - self.first_entry[k]),
                heads.eq(self.heads[k] - self.first_head[k]),
                place.port.eq(k),
                place.table.eq(source == Source.ENTRY),
                place.position.eq(Mux(place.table, self.first_entry[k] + steps, (self.first_head[k] + in_judge)[:HEAD_BITS - 1])),
            ]
            there = Signal(name=f"there_{k}")
            with m.Switch(source):
                with m.Case(Source.HEAD):
                    m.d.comb += there.eq(heads > in_judge)
                with m.Case(Source.ENTRY):
                    m.d.comb += there.eq(entries > steps)
                with m.Case(Source.SINGLE):
                    m.d.comb += there.eq(self.arrived[k])
                with m.Case(Source.NONE):
                    m.d.comb += there.eq(1)
            m.d.comb += offers[k].eq(there & ~in_read & (~in_judge | self.foresees))
            places.append(place)
            sources.append(source)
        round_robin(m, offers, turn, pick)
        again = self.judges & (self.judged.port == pick)
        m.d.comb += self.place.eq(Array(Value.cast(place) for place in places)[pick])
        m.d.sync += [
            self.reads.eq(offers.any() & (~again | self.as_foreseen)),
            self.read.port.eq(pick),
            self.read.source.eq(Array(sources)[pick]),
        ]
        with m.If(offers.any()):
            m.d.sync += turn.eq(pick)

    def _read(self, m, context):
        """Take a row and the context of its chain; or the answer of a single read, and the row is read again. Return the sizes of
        queues; the row of a head's queue is there when it is judged."""
        row, answer = self.row, self.answer
        is_head = (self.read.source == Source.HEAD) & ~self.answer_valid
        m.submodules.sizes = sizes = QueueTable(num_queues=self.num_queues, fields=("size",))
        answered, flags = Signal(), Signal(3)
        comes = self.reads | self.answer_valid   # else a step without effect is done again at once
        m.d.comb += [
            context.addr.eq(Mux(self.answer_valid, answer.port, self.read.port)),
            sizes.setup_valid.eq(self.setup_valid),
            sizes.setup.eq(self.setup),
            flags.eq(Mux(self.packed, answer.desc.next[:3], Value.cast(answer.desc.flags)[:3])),
            sizes.queue.eq(Mux(self.reads, row.queue, self.known.queue)),
            self.judge.over.eq(Mux(answered, self.over, self.desc.over)),
            self.judge.none_left.eq(self.known.left == 0),
        ]
        m.d.sync += [
            self.judges.eq(comes | (self.judges & ~self.acts)),
            answered.eq(0),
            self.desc.over.eq(self.judge.over),
        ]
        with m.If(comes):
            m.d.sync += self._loads(context, answered, flags)
        with m.If(is_head & comes):
            m.d.sync += [
                *[self.known[name].eq(0) for name in ("in_table", "in_ring", "writable")],
                *[self.known[name].eq(row[name]) for name in ("queue", "end")],
                self.desc.error.eq(0),
            ]
        return sizes

    def _loads(self, context, answered, flags):
        """What JUDGE works on: a row, or an answer."""
        row, answer = self.row, self.answer
        return [
            self.judged.port.eq(context.addr),
            self.judged.source.eq(Mux(self.answer_valid, Source.SINGLE, self.read.source)),
            answered.eq(self.answer_valid),
            self.known.eq(context.data),
            self.desc.addr.eq(Mux(self.answer_valid, answer.desc.addr, row.addr)),
            self.desc.len.eq(Mux(self.answer_valid, answer.desc.len, row.len)),
            self.desc.next.eq(Mux(self.answer_valid, answer.desc.next, row.next)),
            self.desc.flags.eq(Mux(self.answer_valid, flags, row.flags)),
            self.desc.error.eq(Mux(self.answer_valid, answer.error, row.error)),
            *[self.desc[name].eq(row[name]) for name in ("over", "id", "count")],
        ]

    def _count(self, m, size):
        """Find what the context is for the next descriptor: return the index of that one, whether it is one of its table, and
        whether that is an indirect one."""
        known, new, desc, judge = self.known, self.new, self.desc, self.judge
        is_head = self.judged.source == Source.HEAD
        table_starts = Signal()
        limit, index, after = Signal(INDEX_BITS), Signal(INDEX_BITS), Signal(INDEX_BITS)
        entries, most, left, capped = Signal(28), Signal(INDEX_BITS), Signal(28), Signal()
        m.d.comb += [
            table_starts.eq(judge.starts & ~judge.ring),
            limit.eq(Mux(is_head, size, known.limit)),
            # A chain may have as many descriptors as the queue; in a table, ``max_table`` if that is more. Which is looked for
            # up to the first one that is too many.
            most.eq(Mux(limit > self.max_table, limit, self.max_table)),
            entries.eq(Mux(judge.ring, desc.count, desc.len[4:])),
            capped.eq(entries[INDEX_BITS:].any() | (entries[:INDEX_BITS] > most)),
            left.eq(Mux(judge.starts, entries, Mux(is_head, limit, known.left)) - 1),
            after.eq(Mux(judge.ring, desc.next, known.index) + 1),
            index.eq(Mux(table_starts, 0, Mux(self.packed, known.index, desc.next))),
            new.limit.eq(limit),
            new.index.eq(after),
            new.left.eq(left),
            new.capped.eq(Mux(is_head, 1, known.capped)),
            new.in_table.eq(known.in_table | judge.starts),
            new.in_ring.eq(known.in_ring | judge.ring),
            new.writable.eq(known.writable | (~judge.starts & ((desc.flags & VirtqDescF.WRITE) != 0))),
            new.queue.eq(known.queue),
            new.end.eq(known.end),
        ]
        with m.If(new.in_ring & (after == limit)):
            m.d.comb += new.index.eq(0)
        with m.If(judge.starts):
            m.d.comb += new.capped.eq(capped)
            with m.If(capped):
                m.d.comb += new.left.eq(most)
        with m.If(table_starts):
            m.d.comb += [new.index.eq(1), new.limit.eq(Mux(entries[16:].any(), 1 << 16, entries))]
        return index, table_starts | (index < limit), new.in_table & ~new.in_ring

    def _judge(self, m, context, within):
        """Give out the segment, and say where the next descriptor of the chain comes from."""
        known, desc, judge, port = self.known, self.desc, self.judge, self.judged.port
        source, next_source = self.judged.source, Signal(Source)
        queue_bits = len(known.queue)
        halted = Signal(self.num_queues)       # queues of which a chain failed; 2.7.9, 2.8.8: order
        read_ahead = Signal()                  # there are more entries of those that were read ahead for this chain
        ends, acts = Signal(), self.acts
        m.d.comb += [
            judge.indirect.eq(self.indirect),
            judge.packed.eq(self.packed),
            judge.source.eq(source),
            judge.halted.eq(halted.bit_select(known.queue, 1) & (source == Source.HEAD)),
            *[getattr(judge, name).eq(known[name]) for name in ("in_table", "in_ring", "capped")],
            *[getattr(judge, name).eq(desc[name]) for name in ("flags", "len", "error")],
            read_ahead.eq((Array(self.first_entry)[port] + (source == Source.ENTRY))[:len(known.end)] != known.end),
            ends.eq(judge.fails | ~(judge.starts | judge.has_next)),
            acts.eq(self.judges & ~Cat(o.valid for o in self.o).bit_select(port, 1)),
            # What will be, if no rule is broken and no table is out of order.
            self.foreseen.eq(Mux(read_ahead & ((source == Source.HEAD) | ((source == Source.ENTRY) & judge.has_next)),
                                 Source.ENTRY, Source.HEAD)),
            self.foresees.eq((self.foreseen == Source.ENTRY) | ~judge.has_next),
            self.as_foreseen.eq(acts & (self.foreseen == next_source)),
            context.en.eq(acts),
            context.addr.eq(port),
            context.data.eq(self.new),
            self.fail_valid.eq(acts & judge.fails),
            self.fail_queue.eq(known.queue),
        ]
        with m.If(ends):
            m.d.comb += next_source.eq(Source.HEAD)
        with m.Elif(read_ahead & (judge.starts | ((source == Source.ENTRY) & (self.packed | (desc.next == known.index))))):
            m.d.comb += next_source.eq(Source.ENTRY)
        with m.Else():
            m.d.comb += next_source.eq(Mux(within, Source.SINGLE, Source.NONE))

        for k, o in enumerate(self.o):
            with m.If(o.ready):
                m.d.sync += o.valid.eq(0)
            with m.If(self.judges & (source == Source.SINGLE) & (port == k)):
                m.d.sync += self.arrived[k].eq(~acts)
            with m.If(acts & (port == k)):
                m.d.sync += [
                    self.sources[k].eq(next_source),
                    o.valid.eq(judge.fails | ~judge.starts),
                    o.p.addr.eq(desc.addr),
                    o.p.len.eq(desc.len),
                    o.p.write.eq((desc.flags & VirtqDescF.WRITE) != 0),
                    o.p.chain.writable.eq(self.new.writable),
                    o.p.last.eq(ends),
                    o.p.error.eq(judge.fails),
                ]
                with m.If(source == Source.HEAD):
                    m.d.sync += [o.p.queue.eq(known.queue), o.p.chain.id.eq(desc.id), o.p.chain.count.eq(desc.count)]
                with m.If(ends):
                    m.d.sync += [self.first_head[k].eq(self.first_head[k] + 1), self.first_entry[k].eq(known.end)]
                with m.Elif(source == Source.ENTRY):
                    m.d.sync += self.first_entry[k].eq(self.first_entry[k] + 1)
                with m.If(next_source == Source.SINGLE):
                    m.d.sync += self.pending[k].eq(1)
        with m.If(self.fail_valid):
            m.d.sync += halted.bit_select(known.queue, 1).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += halted.bit_select(self.setup.queue[:queue_bits], 1).eq(0)

    def _ask(self, m, index, far):
        """Ask for single descriptors: of a port, one at a time."""
        port, ports = self.layouts.port, 1 << Shape.cast(self.layouts.port).width
        # In the first half of the rows nothing is ever written: there begin the queues' own tables.
        m.submodules.bases = bases = memory.Memory(shape=64, depth=2 * ports, init=[])
        wanted = data.StructLayout({"index": INDEX_BITS, "far": 1, "queue": self.new.queue.shape()})
        m.submodules.wants = wants = memory.Memory(shape=wanted, depth=ports, init=[])
        base_w, base_r = bases.write_port(), bases.read_port(domain="comb")
        want_w, want_r = wants.write_port(), wants.read_port(domain="comb")
        pick = Signal(port)
        round_robin(m, self.pending, self.single.p.port, pick)
        m.d.comb += [
            base_w.en.eq(self.acts & self.judge.starts),
            base_w.addr.eq(Cat(self.judged.port, 1)),
            base_w.data.eq(self.desc.addr),
            want_w.en.eq(self.acts),
            want_w.addr.eq(self.judged.port),
            want_w.data.index.eq(index),
            want_w.data.far.eq(far),
            want_w.data.queue.eq(self.known.queue),
            want_r.addr.eq(pick),
            base_r.addr.eq(Cat(pick, want_r.data.far)),
        ]
        with m.If(~self.single.valid | self.single.ready):
            m.d.sync += [
                self.single.valid.eq(self.pending.any()),
                self.single.p.port.eq(pick),
                self.single.p.addr.eq(base_r.data + (want_r.data.index << 4)),
                self.single.p.area.eq(Mux(want_r.data.far, Area.NONE, Area.DESC)),
                self.single.p.queue.eq(want_r.data.queue),
            ]
            with m.If(self.pending.any()):
                m.d.sync += self.pending.bit_select(pick, 1).eq(0)
