"""Follow the chains of all ports, a descriptor at a time.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.8.6 "Next Flag: Descriptor Chaining".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.buffers import Segment
from ..spec.virtio import MAX_TABLE, VirtqDescF
from .ahead import HEAD_BITS, Layouts
from .judge import Judge, Source
from .reads import single_read
from .singles import Singles
from .table import QueueControl, QueueTable
from .tally import Tally, context_layout, desc_layout

__all__ = ["Follow"]


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
    control : In(QueueControl)
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
            "control":      In(QueueControl),
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
        context, desc = context_layout(self.layouts), desc_layout(self.layouts)
        self._step = step = data.StructLayout({"port": port, "source": Source})
        self.sources = Array(Signal(Source, name=f"source_{k}") for k in range(self.ports))  # of each port's next descriptor
        self.arrived = Signal(self.ports)     # the answer of its single read is there
        self.reads, self.read = Signal(), Signal(step, name="read_step")
        self.judges, self.judged = Signal(), Signal(step, name="judge_step")
        self.known = Signal(context)
        self.desc = Signal(desc)
        m.submodules.judge = self.judge = Judge()
        m.submodules.tally = self.tally = Tally(layouts=self.layouts, max_table=self.max_table)
        m.submodules.singles = self.singles = Singles(layouts=self.layouts, ports=self.ports)
        connect(m, self.singles.o, flipped(self.single))
        m.submodules.contexts = contexts = memory.Memory(shape=context, depth=max(2, self.ports), init=[])
        self.acts = Signal()                  # the step of JUDGE has an effect
        self.foresees, self.foreseen, self.as_foreseen = Signal(), Signal(Source), Signal()

        self._pick(m)
        self._read(m, contexts.read_port(domain="comb"))
        self._judge(m, contexts.write_port())
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
        """Take a row and the context of its chain; or the answer of a single read, and the row is read again."""
        row, answer = self.row, self.answer
        is_head = (self.read.source == Source.HEAD) & ~self.answer_valid
        m.submodules.sizes = sizes = QueueTable(num_queues=self.num_queues, fields=("size",))
        answered, flags = Signal(), Signal(3)
        comes = self.reads | self.answer_valid   # else a step without effect is done again at once
        m.d.comb += [
            context.addr.eq(Mux(self.answer_valid, answer.port, self.read.port)),
            sizes.setup_valid.eq(self.control.setup_valid),
            sizes.setup.eq(self.control.setup),
            flags.eq(Mux(self.control.packed, answer.desc.next[:3], Value.cast(answer.desc.flags)[:3])),
            sizes.queue.eq(Mux(self.reads, row.queue, self.known.queue)),
            self.judge.over.eq(Mux(answered, self.over, self.desc.over)),
            self.judge.none_left.eq(self.known.left == 0),
            self.tally.size.eq(sizes.row.size),    # that of a head's queue is there when it is judged
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
            *[self.desc[name].eq(row[name]) for name in ("over", "id")],
        ]

    def _judge(self, m, context):
        """Give out the segment, and say where the next descriptor of the chain comes from."""
        known, desc, judge, port = self.known, self.desc, self.judge, self.judged.port
        source, next_source = self.judged.source, Signal(Source)
        queue_bits = len(known.queue)
        halted = Signal(self.num_queues)       # queues of which a chain failed; 2.7.9, 2.8.8: order
        read_ahead = Signal()                  # there are more entries of those that were read ahead for this chain
        ends, acts, tally, singles = Signal(), self.acts, self.tally, self.singles
        m.d.comb += [
            tally.packed.eq(self.control.packed), tally.known.eq(known), tally.desc.eq(desc),
            tally.is_head.eq(source == Source.HEAD), tally.ring.eq(judge.ring), tally.starts.eq(judge.starts),
            singles.step.eq(acts), singles.port.eq(port), singles.asks.eq(next_source == Source.SINGLE),
            singles.index.eq(tally.index), singles.far.eq(tally.far), singles.queue.eq(known.queue),
            singles.starts.eq(judge.starts), singles.addr.eq(desc.addr),
            judge.indirect.eq(self.control.indirect),
            judge.packed.eq(self.control.packed),
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
            context.data.eq(tally.new),
            self.fail_valid.eq(acts & judge.fails),
            self.fail_queue.eq(known.queue),
        ]
        with m.If(ends):
            m.d.comb += next_source.eq(Source.HEAD)
        with m.Elif(read_ahead & (judge.starts | ((source == Source.ENTRY)
                                                  & (self.control.packed | (desc.next == known.index))))):
            m.d.comb += next_source.eq(Source.ENTRY)
        with m.Else():
            m.d.comb += next_source.eq(Mux(tally.within, Source.SINGLE, Source.NONE))

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
                    o.p.chain.writable.eq(tally.new.writable),
                    o.p.last.eq(ends),
                    o.p.error.eq(judge.fails),
                ]
                with m.If(source == Source.HEAD):
                    m.d.sync += [
                        o.p.queue.eq(known.queue),
                        o.p.chain.id.eq(desc.id),
                        o.p.chain.count.eq(Mux(judge.ring, desc.len[:16], 1)),
                    ]
                with m.If(ends):
                    m.d.sync += [self.first_head[k].eq(self.first_head[k] + 1), self.first_entry[k].eq(known.end)]
                with m.Elif(source == Source.ENTRY):
                    m.d.sync += self.first_entry[k].eq(self.first_entry[k] + 1)
        with m.If(self.fail_valid):
            m.d.sync += halted.bit_select(known.queue, 1).eq(1)
        with m.If(self.control.setup_valid):
            m.d.sync += halted.bit_select(self.control.setup.queue[:queue_bits], 1).eq(0)
