"""Per-queue registers of the common configuration structure.

Ref: VIRTIO 1.4, 4.1.4.3 "Common configuration structure layout".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..spec.virtio import VIRTIO_MSI_NO_VECTOR, Common

__all__ = ["Queues"]

SIZE_WORD    = Common.QUEUE_SIZE // 4        # queue_msix_vector in the upper half
ENABLE_WORD  = Common.QUEUE_ENABLE // 4      # queue_notify_off in the upper half
ADDRESS_WORDS = range(Common.QUEUE_DESC // 4, Common.QUEUE_NOTIF_CONFIG_DATA // 4)
SLOTS = 8  # DWs per queue in the memory; a slot is the low bits of the register's DW number, so none is computed


class Queues(wiring.Component):
    """Hold size, vector, addresses and enable bit of every queue, in memories indexed by queue.

    A value is read one cycle after ``word`` and ``queue_select`` are stable. queue_size takes powers of 2 up to the
    largest, any other value keeps the old one; size and addresses of an enabled queue do not change; queue_enable takes 1
    only. A 16-bit register takes writes of both its bytes only.

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
    may_enable : In(1)
        queue_enable is listened to.
    clear : In(1), cleared : Out(1)
        While ``clear`` is high everything goes back to its default, done when ``cleared``.
    busy : Out(1)
        A queue is being enabled: no access is made.
    enabled : Out(num_queues)
    setup_valid : Out(1), setup : Out(QueueSetup)
        High for one cycle when a queue has been enabled, before ``busy`` ends.
    lookup : In(range(num_queues)), vector : Out(range(msix_vectors + 1))
        Vector of a queue, a cycle later; ``msix_vectors`` is none.
    """
    def __init__(self, *, num_queues, max_queue_size, msix_vectors):
        if num_queues not in range(1, 513):
            raise ValueError(f"Number of queues must be from 1 to 512, not {num_queues!r}")
        if max_queue_size not in [1 << n for n in range(16)]:
            raise ValueError(f"Queue size must be a power of 2 from 1 to 32768, not {max_queue_size!r}")
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
            "clear":       In(1),
            "cleared":     Out(1),
            "busy":        Out(1),
            "enabled":     Out(num_queues),
            "setup_valid": Out(1),
            "setup":       Out(QueueSetup),
            "lookup": In(range(num_queues)),
            "vector": Out(range(msix_vectors + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        no_vector = self.msix_vectors
        m.submodules.registers = registers = Memory(shape=32, depth=SLOTS * self.num_queues, init=[])
        m.submodules.vectors = vectors = Memory(shape=range(no_vector + 1), depth=self.num_queues, init=[])
        read, write = registers.read_port(), registers.write_port(granularity=8)
        vector_read, vector_write = vectors.read_port(), vectors.write_port()
        lookup = vectors.read_port()
        m.d.comb += [lookup.addr.eq(self.lookup), self.vector.eq(lookup.data)]

        select = Signal(16)
        queue = Signal(range(self.num_queues))
        exists, enabled = Signal(), Signal()
        m.d.comb += queue.eq(select)
        m.d.sync += [
            exists.eq(select < self.num_queues),
            enabled.eq(self.enabled.bit_select(queue, 1)),
        ]

        slot = Signal(range(SLOTS))
        m.d.comb += [
            read.addr.eq(Cat(slot, queue)),
            write.addr.eq(Cat(self.word[:3], queue)),
            write.data.eq(self.data),
            vector_read.addr.eq(queue),
            vector_write.addr.eq(queue),
            vector_write.data.eq(Mux(self.data[16:] < self.msix_vectors, self.data[16:], no_vector)),
        ]

        with m.Switch(self.word):
            with m.Case(Common.QUEUE_SELECT // 4):
                m.d.comb += self.value[16:].eq(select)
            with m.Case(SIZE_WORD):
                # 4.1.4.3.1: queue_size is 0 for a queue that does not exist.
                m.d.comb += self.value.eq(VIRTIO_MSI_NO_VECTOR << 16)
                with m.If(exists):
                    m.d.comb += self.value[:16].eq(read.data[:16])
                    with m.If(vector_read.data != no_vector):
                        m.d.comb += self.value[16:].eq(vector_read.data)
            with m.Case(ENABLE_WORD):
                with m.If(exists):
                    m.d.comb += self.value.eq(Cat(enabled, C(0, 15), select))
            with m.Case(*ADDRESS_WORDS):
                with m.If(exists):
                    m.d.comb += self.value.eq(read.data)

        size = self.data[:16]
        size_ok = Signal()
        m.d.comb += size_ok.eq((size != 0) & ((size & (size - 1)[:16]) == 0) & (size <= self.max_queue_size))
        starting = Signal()
        with m.If(self.write):
            with m.Switch(self.word):
                with m.Case(Common.QUEUE_SELECT // 4):
                    for lane in (2, 3):
                        with m.If(self.be[lane]):
                            m.d.sync += select.word_select(lane - 2, 8).eq(self.data.word_select(lane, 8))
                with m.Case(SIZE_WORD):
                    m.d.comb += write.en.eq((exists & ~enabled & size_ok & self.be[:2].all()).replicate(2))
                    m.d.comb += vector_write.en.eq(exists & self.be[2:].all())
                with m.Case(ENABLE_WORD):
                    m.d.comb += starting.eq(
                        exists & ~enabled & self.may_enable & self.be[:2].all() & (self.data[:16] == 1))
                with m.Case(*ADDRESS_WORDS):
                    m.d.comb += write.en.eq(Mux(exists & ~enabled, self.be, 0))

        # Enabling reads the registers in the order of their slots from queue_size on, and pushes the addresses, the last
        # six, through one shift register.
        setup_size = Signal(16)
        shift = Signal(32 * len(ADDRESS_WORDS))
        first, last = SIZE_WORD % SLOTS, ADDRESS_WORDS[-1] % SLOTS
        step = Signal(range(SLOTS), init=first)
        came = Signal(range(SLOTS))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += slot.eq(self.word)
                with m.If(starting):
                    m.d.sync += step.eq(first)
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [self.busy.eq(1), slot.eq(step)]
                m.d.sync += [step.eq(step + 1), came.eq(step)]
                with m.If(step == last):
                    m.next = "LAST"
            with m.State("LAST"):
                m.d.comb += self.busy.eq(1)
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [self.busy.eq(1), self.setup_valid.eq(~self.clear)]
                m.d.sync += self.enabled.bit_select(queue, 1).eq(1)
                m.next = "IDLE"
        with m.If(self.busy & ~self.setup_valid):
            m.d.sync += shift.eq(Cat(shift[32:], read.data))
        with m.If(self.busy & (came == first)):
            m.d.sync += setup_size.eq(read.data)
        m.d.comb += [
            self.setup.queue.eq(queue),
            self.setup.size.eq(setup_size),
            Cat(self.setup.queue_desc, self.setup.queue_driver, self.setup.queue_device).eq(shift),
        ]

        index = Signal(range(SLOTS * self.num_queues + 1))
        m.d.comb += self.cleared.eq(index == SLOTS * self.num_queues)
        with m.If(~self.clear):
            m.d.sync += index.eq(0)
        with m.Else():
            m.d.comb += [
                write.addr.eq(index),
                write.data.eq(Mux(index[:3] == first, self.max_queue_size, 0)),
                write.en.eq(Mux(self.cleared, 0, 0xf)),
                vector_write.addr.eq(index >> 3),
                vector_write.data.eq(no_vector),
                vector_write.en.eq(~self.cleared),
            ]
            m.d.sync += [select.eq(0), self.enabled.eq(0), index.eq(index + ~self.cleared)]
        return m
