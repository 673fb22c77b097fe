"""Per-queue registers of the common configuration structure.

Ref: VIRTIO 1.4, 2.6.1 "Virtqueue Reset", 4.1.4.3 "Common configuration structure layout".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..spec.virtio import MAX_QUEUE_SIZE
from .enabling import ADDRESS_WORDS, SIZE_WORD, SLOTS, Enabling
from .queue_view import ENABLE_WORD, RESET_WORD, SELECT_WORD, QueueView, state_layout
from .resets import QueueResets

__all__ = ["Queues"]


class Queues(wiring.Component):
    """Hold size, vector, addresses and state of every queue, in memories indexed by queue; reset one, or all.

    A value is read three cycles after ``queue_select`` was written, two after ``word`` is stable. queue_size takes what
    a ring may have, any other value keeps the old one; size and addresses of an enabled queue do not change;
    queue_enable takes 1 only. A 16-bit register takes writes of both its bytes only.

    A write of 1 to queue_reset of an enabled queue begins its reset, and writes to that queue vanish until it has ended.
    Resets take place one after the other, in the order in which they were asked for; accesses go on meanwhile.

    Parameters
    ----------
    num_queues : int
        1 to 512.
    max_queue_size : int
        Power of 2 up to 32768: what queue_size shows after reset.
    msix_vectors : int
        1 to 2048: a vector above reads back as NO_VECTOR.

    Members
    -------
    word : In(10), write : In(1), be : In(4), data : In(32), value : Out(32)
        Access to a DW of the common configuration; DWs of others read 0, but queue_select, in its place.
    may_enable, may_reset : In(1)
        queue_enable, queue_reset is listened to.
    packed : In(1)
        A ring may have any size up to the largest, else only powers of 2.
    clear : In(1), cleared : Out(1)
        While ``clear`` is high everything goes back to its default, done when ``cleared``.
    busy : Out(1)
        A queue is being enabled: no access is made.
    setup_valid : Out(1), setup : Out(QueueSetup)
        High for one cycle when a queue has been enabled, before ``busy`` ends.
    reset_valid : Out(1), reset_queue : Out(16), reset_done : In(1)
        ``reset_valid`` is high for one cycle: give up that queue, then make ``reset_done`` high for one cycle. Not answered if
        ``clear`` comes first.
    selected : Out(range(num_queues)), exists : Out(1)
        The queue that queue_select names; whether there is one, a cycle after queue_select was written.
    withdraw : Out(1), withdraw_queue : Out(range(num_queues)), withdrawn : In(1)
        ``withdraw`` is high until ``withdrawn``: let no notification of that queue be pending. It is being reset and has not yet
        lost its vector.
    resetting : Out(1)
        A reset has been asked for and has not ended.
    lookup : In(range(num_queues)), vector : Out(range(msix_vectors + 1)), alive : Out(1)
        Of a queue, a cycle later: its vector, ``msix_vectors`` is none; whether it is enabled and not being reset.
    kick_lookup : In(range(num_queues)), kick_alive : Out(1)
        The same for somebody else.
    """
    def __init__(self, *, num_queues, max_queue_size, msix_vectors):
        if num_queues not in range(1, 513):
            raise ValueError(f"Number of queues must be from 1 to 512, not {num_queues!r}")
        if max_queue_size not in [1 << n for n in range(MAX_QUEUE_SIZE.bit_length())]:
            raise ValueError(f"Queue size must be a power of 2 from 1 to {MAX_QUEUE_SIZE}, not {max_queue_size!r}")
        if msix_vectors not in range(1, 2049):
            raise ValueError(f"Number of MSI-X vectors must be from 1 to 2048, not {msix_vectors!r}")
        self.num_queues = num_queues
        self.max_queue_size = max_queue_size
        self.msix_vectors = msix_vectors
        super().__init__({
            "word":  In(10),
            "write": In(1),
            "be":    In(4),
            "data":  In(32),
            "value": Out(32),
            "may_enable":  In(1),
            "may_reset":   In(1),
            "packed":      In(1),
            "clear":       In(1),
            "cleared":     Out(1),
            "busy":        Out(1),
            "setup_valid": Out(1),
            "setup":       Out(QueueSetup),
            "reset_valid": Out(1),
            "reset_queue": Out(16),
            "reset_done":  In(1),
            "selected":    Out(range(num_queues)),
            "exists":      Out(1),
            "withdraw":       Out(1),
            "withdraw_queue": Out(range(num_queues)),
            "withdrawn":      In(1),
            "resetting":   Out(1),
            "lookup":      In(range(num_queues)),
            "vector":      Out(range(msix_vectors + 1)),
            "alive":       Out(1),
            "kick_lookup": In(range(num_queues)),
            "kick_alive":  Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        no_vector = self.msix_vectors
        layout = state_layout(self.msix_vectors)
        m.submodules.registers = registers = Memory(shape=32, depth=SLOTS * self.num_queues, init=[])
        m.submodules.states = states = Memory(shape=layout, depth=self.num_queues, init=[])
        read, write = registers.read_port(), registers.write_port(granularity=8)
        state_write = states.write_port()
        state_read = states.read_port(transparent_for=(state_write,))
        lookup, kick = states.read_port(), states.read_port()
        m.d.comb += [
            lookup.addr.eq(self.lookup),
            self.vector.eq(lookup.data.vector),
            self.alive.eq(lookup.data.enabled & ~lookup.data.resetting),
            kick.addr.eq(self.kick_lookup),
            self.kick_alive.eq(kick.data.enabled & ~kick.data.resetting),
        ]

        select = Signal(16)
        queue = Signal(range(self.num_queues))
        state = state_read.data  # of the selected queue
        exists = Signal()
        m.d.comb += [queue.eq(select), self.selected.eq(queue), self.exists.eq(exists)]
        m.d.sync += exists.eq(select < self.num_queues)

        slot = Signal(range(SLOTS))
        fetched = Signal(32)     # block RAM is slow
        m.d.sync += fetched.eq(read.data)
        m.d.comb += [
            read.addr.eq(Cat(slot, queue)),
            write.addr.eq(Cat(self.word[:3], queue)),
            write.data.eq(self.data),
            state_read.addr.eq(queue),
            state_write.addr.eq(queue),
            state_write.data.eq(state),
        ]

        m.submodules.view = view = QueueView(msix_vectors=self.msix_vectors)
        m.d.comb += [
            view.word.eq(self.word), view.select.eq(select), view.exists.eq(exists),
            view.stored.eq(fetched), view.state.eq(state), self.value.eq(view.value),
        ]

        low, high = self.data[:16], self.data[16:]
        size_ok = Signal()
        # 4.1.4.3.1: a power of 2, unless RING_PACKED has been negotiated.
        m.d.comb += size_ok.eq((low != 0) & (low <= self.max_queue_size) & (self.packed | ((low & (low - 1)[:16]) == 0)))
        starting, asking = Signal(), Signal()
        with m.If(self.write):
            with m.Switch(self.word):
                with m.Case(SELECT_WORD):
                    # 4.1.3.1: a field of 16 bits is written whole; of less nothing is taken.
                    with m.If(self.be[2:].all()):
                        m.d.sync += select.eq(self.data[16:])
                with m.Case(SIZE_WORD):
                    m.d.comb += [
                        write.en.eq((exists & ~state.enabled & size_ok & self.be[:2].all()).replicate(2)),
                        state_write.en.eq(exists & ~state.resetting & self.be[2:].all()),
                        state_write.data.vector.eq(Mux(high < self.msix_vectors, high, no_vector)),
                    ]
                with m.Case(ENABLE_WORD):
                    m.d.comb += starting.eq(exists & ~state.enabled & self.may_enable & self.be[:2].all() & (low == 1))
                with m.Case(*ADDRESS_WORDS):
                    m.d.comb += write.en.eq(Mux(exists & ~state.enabled, self.be, 0))
                with m.Case(RESET_WORD):
                    m.d.comb += [
                        asking.eq(exists & state.enabled & ~state.resetting & self.may_reset & self.be[2:].all() & (high == 1)),
                        state_write.en.eq(asking),
                        state_write.data.resetting.eq(1),
                    ]

        m.submodules.enabling = enabling = Enabling()
        m.d.comb += [
            enabling.start.eq(starting), enabling.queue.eq(queue), enabling.data.eq(read.data),
            self.busy.eq(enabling.busy),
            slot.eq(Mux(self.busy, enabling.slot, self.word)),
            self.setup.eq(enabling.setup),
            self.setup_valid.eq(enabling.done & ~self.clear),
        ]
        with m.If(enabling.done):
            m.d.comb += [state_write.en.eq(1), state_write.data.enabled.eq(1)]

        resets = QueueResets(num_queues=self.num_queues)
        m.submodules.resets = ResetInserter(self.clear)(resets)
        m.d.comb += [
            resets.ask.eq(asking),
            resets.queue.eq(queue),
            self.reset_valid.eq(resets.begin & ~self.clear),
            self.reset_queue.eq(resets.current),
            resets.done.eq(self.reset_done),
            self.withdraw.eq(resets.withdraw),
            self.withdraw_queue.eq(resets.current),
            resets.withdrawn.eq(self.withdrawn),
            resets.free.eq(~self.write & ~self.busy),  # the write ports are
            self.resetting.eq(resets.resetting),
        ]

        # Back to default, a DW a cycle: one queue's, or all.
        index = Signal(range(SLOTS * self.num_queues + 1))
        target = Signal.like(index)
        m.d.comb += [
            self.cleared.eq(index == SLOTS * self.num_queues),
            target.eq(Mux(self.clear, index, Cat(resets.slot, resets.current))),
        ]
        with m.If(self.clear | resets.erasing):
            m.d.comb += [
                write.addr.eq(target),
                write.data.eq(Mux(target[:3] == SIZE_WORD % SLOTS, self.max_queue_size, 0)),
                write.en.eq(Mux(self.clear & self.cleared, 0, 0xf)),
                state_write.addr.eq(target >> 3),
                state_write.data.eq(layout.const({"vector": no_vector})),
                # 4.1.4.3.1: queue_reset and queue_enable show the end, so they go last.
                state_write.en.eq(~(self.clear & self.cleared) & (target[:3] == SLOTS - 1)),
            ]
        with m.If(self.clear):
            m.d.sync += [select.eq(0), index.eq(index + ~self.cleared)]
        with m.Else():
            m.d.sync += index.eq(0)
        return m
