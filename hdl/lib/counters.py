"""Event counters that a person can read over the BAR, and what can be switched there."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..spec.bar import CONTROL_OFFSET, COUNTERS_HEADER_SIZE, COUNTERS_MAGIC, REG_ADDR_WIDTH
from .reg import RegPort, WordPort

__all__ = ["Counters"]

HEADER_DWS = COUNTERS_HEADER_SIZE // 4
CONTROL_DW = CONTROL_OFFSET % 0x1000 // 4
PAGE_DWS = 1024
PHASES = 4  # cycles the scanner spends on one counter
# Of shift registers that step through all states but one: length, and the bit whose complement is fed back with the last one's.
TAPS = {3: 1, 4: 2, 5: 2, 6: 4, 7: 5, 9: 4, 10: 6, 11: 8}


class Counters(wiring.Component):
    """Count one-cycle strobes, 64 bits each, none lost.

    Each event moves a shift register of a few bits per counter on by a state; a scanner looks up how many steps that were, and
    adds them to a memory, one counter after the other, so a value lags by at most ``4 * len(names) + 8`` cycles. A read takes up
    to 6 cycles, and after a reset waits for the first round of the scanner, which clears the memory. The halves of a value are
    read one by one: a reader that cares reads high, low and high again.

    Parameters
    ----------
    names : sequence of str
        Counters in the order of their registers.
    build_id : int
        32 bits to be read back.
    controls : sequence of str
        What the host may switch, from bit 0 of the control register on; at most 32.
    tail : int
        DWs at the end of the page that come from elsewhere, more than 1 if any.

    Members
    -------
    events : In(data.StructLayout({name: 1}))
        High for one cycle per event.
    controls : Out(data.StructLayout({name: 1})), clear : In(1)
        As written last, and 0 after a cycle of ``clear``; there only with ``controls``.
    tail : Out(WordPort(tail))
        Source of the last DWs; there only with ``tail``.
    regs : In(RegPort(REG_ADDR_WIDTH))
        The offset in the page counts, the page does not. DWs: magic, number of counters, build id, control, then low and
        high of each counter; 0 up to the ``tail``. Only control can be written, as a whole DW; other writes vanish.
    """
    def __init__(self, names, *, build_id=0, controls=(), tail=0):
        self.names = tuple(names)
        self.tail_words = tail
        self.build_id = build_id
        self.control_names = tuple(controls)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"Counters need distinct names, at least one, not {names!r}")
        if HEADER_DWS + 2 * len(self.names) + tail > PAGE_DWS:
            raise ValueError(f"Counters must fit one 4 KiB page, and {len(self.names)} do not")
        if build_id not in range(1 << 32):
            raise ValueError(f"Build id must have 32 bits, not {build_id!r}")
        if len(self.control_names) > 32:
            raise ValueError(f"Controls must fit one DW, and {len(self.control_names)} do not")
        super().__init__({
            "events": In(data.StructLayout({name: 1 for name in self.names})),
            "regs":   In(RegPort(REG_ADDR_WIDTH)),
            **({"controls": Out(data.StructLayout({name: 1 for name in self.control_names})), "clear": In(1)}
               if self.control_names else {}),
            **({"tail": Out(WordPort(tail))} if tail else {}),
        })

    def elaborate(self, platform):
        m = Module()
        count = len(self.names)
        depth = HEADER_DWS + 2 * count
        bits = min(bits for bits in TAPS if (1 << bits) - 2 >= PHASES * count)
        steps = {0: 0}                    # a state to how many steps lead to it
        while len(steps) < (1 << bits) - 1:
            steps[_step(bits, list(steps)[-1])] = len(steps)
        table = 1 << (depth - 1).bit_length()
        m.submodules.memory = memory = Memory(shape=32, depth=table + (1 << bits), init=[
            COUNTERS_MAGIC, count, self.build_id, *[0] * (table - 3), *(steps.get(state, 0) for state in range(1 << bits))])
        read, write = memory.read_port(), memory.write_port()

        index = Signal(range(count))
        following = Signal(count, init=1 << 1 % count)  # the one after ``index``
        gathers = Signal()
        state, carried = Signal(bits), Signal(bits)
        value = Signal(32)                # as read, a cycle later: the block RAM is slow
        total, addend = Signal(33), Signal(bits)
        carry = Signal()
        clearing = Signal(init=1)         # a reset does not reach into the memory: the first round starts from 0
        m.d.sync += value.eq(Mux(clearing, 0, read.data))
        m.d.comb += [total.eq(value + addend), write.data.eq(total)]
        events = Signal.like(self.events)  # they come from everywhere
        m.d.sync += events.eq(self.events)
        pending = [Signal(bits, name=f"pending_{name}") for name in self.names]
        for k, name in enumerate(self.names):
            # What is carried leaves, what happens in this very cycle stays: the state after 0 is 1.
            with m.If(gathers & following[k]):
                m.d.sync += pending[k].eq(events[name])
            with m.Elif(events[name]):
                m.d.sync += pending[k].eq(Cat(pending[k][-1] == pending[k][TAPS[bits]], pending[k]))

        req, resp = self.regs.req, self.regs.resp
        reading = Signal()
        answered = Signal()
        serving = Signal()
        word = Signal(10)
        m.d.comb += req.ready.eq(~reading)
        with m.If(req.valid & req.ready):
            m.d.sync += [reading.eq(~req.payload.write), word.eq(req.payload.addr[2:12])]
        answer = Mux(word < depth, read.data, 0)
        if self.control_names:
            controls = self.controls.as_value()
            with m.If(req.valid & req.ready & req.payload.write & req.payload.be.all()
                      & (req.payload.addr[2:12] == CONTROL_DW)):
                m.d.sync += controls.eq(req.payload.data)
            with m.If(self.clear):
                m.d.sync += controls.eq(0)
            answer = Mux(word == CONTROL_DW, controls, answer)
        if self.tail_words:
            m.d.comb += self.tail.word.eq(word)
            answer = Mux(word >= PAGE_DWS - self.tail_words, self.tail.value, answer)
        m.d.comb += resp.valid.eq(answered)
        with m.If(resp.valid & resp.ready):
            m.d.sync += [reading.eq(0), answered.eq(0)]

        with m.FSM():
            with m.State("START"):
                m.d.comb += read.addr.eq(table)
                m.next = "LOW"
            with m.State("LOW"):
                m.d.comb += read.addr.eq(HEADER_DWS + (index << 1))
                m.d.sync += carried.eq(read.data)
                m.next = "HIGH"
            with m.State("HIGH"):
                m.d.comb += read.addr.eq(HEADER_DWS + (index << 1) + 1)
                m.next = "ADD-LOW"
            with m.State("ADD-LOW"):
                m.d.comb += [
                    addend.eq(carried),
                    write.addr.eq(HEADER_DWS + (index << 1)),
                    write.en.eq(1),
                    read.addr.eq(word),
                    gathers.eq(1),
                ]
                m.d.sync += [
                    carry.eq(total[32]),
                    serving.eq(reading & ~answered & ~clearing),
                    state.eq(reduce(or_, (Mux(mine, its, 0) for mine, its in zip(following, pending)))),
                    following.eq(following.rotate_left(1)),
                ]
                m.next = "ADD-HIGH"
            with m.State("ADD-HIGH"):
                m.d.comb += [
                    addend.eq(carry),
                    write.addr.eq(HEADER_DWS + (index << 1) + 1),
                    write.en.eq(1),
                    read.addr.eq(table + state),
                ]
                with m.If(serving):
                    m.d.sync += [
                        answered.eq(1),
                        resp.payload.eq(answer),
                    ]
                m.d.sync += index.eq(index + 1)
                with m.If(index == count - 1):
                    m.d.sync += [index.eq(0), clearing.eq(0)]
                m.next = "LOW"
        return m


def _step(bits, state):
    """The state of a shift register of so many bits that follows ``state``."""
    fed = (state >> bits - 1) == (state >> TAPS[bits] & 1)
    return (state << 1 | fed) & (1 << bits) - 1
