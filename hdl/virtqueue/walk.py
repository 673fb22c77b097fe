"""Follow descriptor chains and indirect tables, split and packed.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.7.5.3 "Indirect Descriptors", 2.8.7 "Indirect Flag:
Scatter-Gather Support".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup, Segment
from ..lib.dma import ReadPort
from ..lib.pack import Packer
from ..lib.queue import Queue
from ..spec.virtio import MAX_TABLE, VIRTQ_DESC_SIZE, VirtqDesc, VirtqDescF
from .elements import Elements, element
from .store import TakenHead
from .table import QueueTable

__all__ = ["Walk"]


class Walk(wiring.Component):
    """Turn heads into segments, in order. Behind a chain that fails, its queue's chains fail until it is set up again.

    A chain of one descriptor costs nothing but its three cycles. An indirect table is read ahead, in one read, while
    earlier chains are still being given out, and gives a segment every two cycles as long as its entries follow one another as
    drivers write them; so does a chain in a packed ring. Everything else (chains in the descriptor table, tables in
    another order or longer than ``max_ahead``) is followed one dependent read at a time. Beats are always taken: a table is
    asked for only when there is room for all of it.

    A driver must not make a chain longer than Queue Size, even in an indirect table (2.7.5.3.1, 2.8.19). Linux does so when its
    scatter-gather lists are longer than a small queue, and other devices accept it. Here a chain may have up to Queue Size
    descriptors in the queue's own table or ring, and up to ``max_table`` (or Queue Size, if that is more) in an indirect table.

    Parameters
    ----------
    width, num_queues : int
    max_ahead : int
        Entries of an indirect table read ahead, at most.
    max_table : int
        Descriptors that a chain may have in an indirect table whatever its Queue Size is.

    Members
    -------
    i : In(stream(TakenHead)), o : Out(stream(Segment))
    table, single : Out(ReadPort)
        Reads of whole tables, and of single descriptors.
    indirect, packed : In(1)
        INDIRECT_DESC, RING_PACKED were negotiated.
    setup_valid, setup : see :class:`QueueTable`
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe, with the segment that carries ``error``: index past the table, chain longer than allowed, nested,
        empty or odd indirect table, NEXT beside INDIRECT, INDIRECT not negotiated, buffer or table that runs past the end
        of the address space, or a failed read.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, max_ahead=32, max_table=MAX_TABLE):
        self.width = width
        self.num_queues = num_queues
        self.max_ahead = max_ahead
        self.max_table = max_table
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "indirect":    In(1),
            "packed":      In(1),
            "i":           In(stream.Signature(TakenHead)),
            "table":       Out(ReadPort(width)),
            "single":      Out(ReadPort(width)),
            "o":           Out(stream.Signature(Segment)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        room = 2 * self.max_ahead
        queue_bits = (max(2, self.num_queues) - 1).bit_length()
        ahead_shape = range(self.max_ahead + 1)

        # Heads in order, each with the number of table entries that were asked for ahead of it (0: none).
        m.submodules.order = order = Queue(data.StructLayout({"head": TakenHead, "ahead": ahead_shape}), 16)
        m.submodules.words = words = Elements(width=self.width, shape=VirtqDesc)
        m.submodules.ahead = ahead = Queue(element(VirtqDesc), room)
        # A table may begin at any address (2.7.5.3 asks for no alignment), and then a beat ends anywhere in an entry.
        m.submodules.table_bytes = table_bytes = Packer(width=self.width)
        connect(m, flipped(self.table.beat), table_bytes.i)
        connect(m, table_bytes.o, words.i)
        connect(m, words.o, ahead.i)

        # Ask. A table that breaks a rule is not asked for; the answering side comes to the same verdict. A chain in a packed
        # ring is a table as well, from its first slot to the end of the ring.
        m.submodules.rings = rings = QueueTable(num_queues=self.num_queues, fields=("size", "queue_desc"))
        head = self.i.p.head
        is_table, is_ring = Signal(), Signal()
        entries, to_end = Signal(28), Signal(16)
        most = Signal(ahead_shape)
        asks = Signal()
        count = Signal(ahead_shape)
        reserved = Signal(range(room + 1))
        fits  = Signal()                       # there is room for ``count`` entries
        asked, dropped = Signal(), Signal()
        m.d.comb += [
            rings.setup_valid.eq(self.setup_valid),
            rings.setup.eq(self.setup),
            rings.queue.eq(self.i.p.queue),
            is_ring.eq(self.packed & head.flags[0]),
            # Whether a table in the last 4 GiB of the address space runs past the end is found when it is judged.
            is_table.eq(self.indirect & (head.flags[2] & ~head.flags[0]) & (head.len[4:] != 0) & (head.len[:4] == 0)
                        & ~head.addr[32:].all()),
            to_end.eq(rings.row.size - head.next),
            entries.eq(Mux(is_ring, head.count, head.len >> 4)),
            most.eq(Mux(is_ring & (to_end < self.max_ahead), to_end, self.max_ahead)),
            order.i.p.head.eq(self.i.p),
            order.i.p.ahead.eq(Mux(asks, count, 0)),
            self.table.req.p.len.eq(count * VIRTQ_DESC_SIZE),
        ]
        with m.FSM(name="ask"):
            with m.State("LOOK-UP"):
                with m.If(self.i.valid):
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += [
                    asks.eq(is_table | is_ring),
                    count.eq(Mux(entries > most, most, entries)),
                    self.table.req.p.addr.eq(Mux(is_ring, rings.row.queue_desc + (head.next << 4), head.addr)),
                    fits.eq(0),
                ]
                m.next = "ASK"
            with m.State("ASK"):
                m.d.sync += fits.eq(reserved + count <= room)
                m.d.comb += [
                    self.table.req.valid.eq(asks & fits & order.i.ready),
                    asked.eq(self.table.req.valid & self.table.req.ready),
                    order.i.valid.eq(asked | ~asks),
                    self.i.ready.eq(asked | (~asks & order.i.ready)),
                ]
                with m.If(self.i.ready):
                    m.next = "LOOK-UP"

        # Answer.
        m.submodules.queues = queues = QueueTable(num_queues=self.num_queues, fields=("size", "queue_desc"))
        m.submodules.one = one = Elements(width=self.width, shape=VirtqDesc)
        m.submodules.single_bytes = single_bytes = Packer(width=self.width)
        connect(m, flipped(self.single.beat), single_bytes.i)
        connect(m, single_bytes.o, one.i)
        now = order.o.p.head
        ahead_left = Signal(ahead_shape)
        in_table = Signal()                    # following an indirect table, or a chain in a packed ring
        in_ring  = Signal()                    # the latter
        in_order = Signal()                    # and so far the entry read ahead was always the next one
        base     = Signal(64)                  # of the table that is followed
        limit    = Signal(28)                  # its entries
        left     = Signal(28)                  # of them, those that this chain has not fetched
        index    = Signal(28)                  # entry that is next
        within   = Signal()                    # it is one of them
        length   = Signal(17)                  # descriptors of this chain, with the one to judge, in this table
        too_long = Signal()
        desc     = Signal(VirtqDesc)           # the one to judge
        fetched, fetch = Signal(VirtqDesc), Signal()  # the one that will be
        low_end  = Signal(33)                  # where it would end, were its address one of 32 bits
        at_top   = Signal()                    # it begins in the last 4 GiB
        over     = Signal()                    # it runs past the end of the address space; to end there is allowed
        failed   = Signal()                    # it could not be read, or is behind one that failed
        halted   = Signal(self.num_queues)     # queues of which a chain failed
        writable = Signal()                    # one before it was
        has_next, has_table, wrong = Signal(), Signal(), Signal()
        m.d.comb += [
            queues.setup_valid.eq(self.setup_valid),
            queues.setup.eq(self.setup),
            queues.queue.eq(now.queue),
            has_next.eq((desc.flags & VirtqDescF.NEXT) != 0),
            has_table.eq((desc.flags & VirtqDescF.INDIRECT) != 0),
            over.eq(at_top & low_end[32] & (low_end[:32] != 0)),
            # A loop is a chain that is longer than its table (2.7.5.2).
            wrong.eq((has_table & (has_next | in_table | ~self.indirect)) | (in_table & has_next & (left == 0))),
            too_long.eq((length > queues.row.size) & ~(in_table & (length <= self.max_table))),
            self.o.p.queue.eq(now.queue),
            self.o.p.chain.id.eq(now.head.id),
            self.o.p.chain.count.eq(now.head.count),
            self.o.p.chain.writable.eq(writable | self.o.p.write),
            self.o.p.addr.eq(desc.addr),
            self.o.p.len.eq(desc.len),
            self.o.p.write.eq((desc.flags & VirtqDescF.WRITE) != 0),
            self.fail_queue.eq(now.queue),
            self.busy.eq((order.level != 0) | self.i.valid),
        ]
        with m.If(self.packed):
            # 2.8.7: the entries of a table follow one another, and of their flags only WRITE means something.
            m.d.comb += [
                has_next.eq(in_table & (left != 0)),
                wrong.eq(has_table & Mux(in_table, in_ring, ~self.indirect)),
            ]
            with m.If(in_table & ~in_ring):
                m.d.comb += has_table.eq(0)

        with m.If(fetch):
            m.d.sync += [
                desc.eq(fetched),
                low_end.eq(fetched.addr[:32] + fetched.len),
                at_top.eq(fetched.addr[32:].all()),
            ]
        with m.FSM(name="state"):
            with m.State("HEAD"):
                m.d.comb += [
                    fetch.eq(1),
                    *[fetched[name].eq(now.head[name]) for name in ("addr", "len", "flags", "next")],
                ]
                m.d.sync += [
                    ahead_left.eq(order.o.p.ahead),
                    in_table.eq(0),
                    in_ring.eq(0),
                    length.eq(1),
                    failed.eq(halted.bit_select(now.queue[:queue_bits], 1)),  # 2.7.9, 2.8.8: order
                    writable.eq(0),
                ]
                with m.If(order.o.valid):
                    m.next = "JUDGE"
                    with m.If(self.packed & now.head.flags[0]):
                        m.next = "RING"
            with m.State("RING"):
                m.d.sync += [
                    base.eq(queues.row.queue_desc),
                    limit.eq(queues.row.size),
                    left.eq(now.head.count),
                    index.eq(now.head.next),
                    in_table.eq(1),
                    in_ring.eq(1),
                    in_order.eq(1),
                ]
                m.next = "AHEAD"
            with m.State("JUDGE"):
                with m.If(failed | wrong | over | too_long):
                    m.next = "FAIL"
                with m.Elif(has_table):
                    m.d.sync += [
                        base.eq(desc.addr),
                        limit.eq(desc.len >> 4),
                        left.eq(desc.len >> 4),
                        index.eq(0),
                        length.eq(1),
                        in_table.eq(1),
                        in_order.eq(1),
                    ]
                    with m.If((desc.len[:4] != 0) | (desc.len == 0)):
                        m.next = "FAIL"
                    with m.Elif(ahead_left != 0):
                        m.next = "AHEAD"
                    with m.Else():
                        m.next = "ASK"
                with m.Else():
                    m.d.comb += [
                        self.o.valid.eq(1),
                        self.o.p.last.eq(~has_next),
                    ]
                    with m.If(self.o.ready):
                        m.d.sync += [length.eq(length + 1), writable.eq(writable | self.o.p.write)]
                        with m.If(~self.packed):
                            m.d.sync += index.eq(desc.next)
                        with m.If(~has_next):
                            m.next = "FLUSH"
                            with m.If(ahead_left == 0):
                                m.d.comb += order.o.ready.eq(1)
                                m.next = "HEAD"
                        with m.Elif(in_table & in_order & (ahead_left != 0) & (self.packed | (desc.next == index))):
                            m.next = "AHEAD"
                        with m.Else():
                            m.d.sync += [
                                in_order.eq(0),
                                base.eq(Mux(in_table, base, queues.row.queue_desc)),
                                limit.eq(Mux(in_table, limit, queues.row.size)),
                            ]
                            m.next = "ASK"
            with m.State("AHEAD"):
                # ``index`` names the entry after the one taken here, so that NEXT is compared with it above.
                with m.If(ahead.o.valid):
                    m.d.comb += [ahead.o.ready.eq(1), dropped.eq(1), fetch.eq(1), self._descriptor(fetched, ahead.o.p.data)]
                    m.d.sync += [
                        failed.eq(failed | ahead.o.p.error),
                        ahead_left.eq(ahead_left - 1),
                        left.eq(left - 1),
                        index.eq(Mux(in_ring & (index + 1 == limit), 0, index + 1)),
                    ]
                    with m.If(ahead.o.p.last):
                        m.d.sync += ahead_left.eq(0)
                    m.next = "JUDGE"
            with m.State("ASK"):
                m.d.sync += [
                    self.single.req.p.addr.eq(base + (index << 4)),
                    within.eq(index < limit),
                ]
                m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.single.req.valid.eq(within)
                with m.If(~within):
                    m.next = "FAIL"
                with m.Elif(self.single.req.ready):
                    m.d.sync += [
                        left.eq(left - 1),
                        index.eq(Mux(in_ring & (index + 1 == limit), 0, index + 1)),
                    ]
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [one.o.ready.eq(1), fetch.eq(1), self._descriptor(fetched, one.o.p.data)]
                m.d.sync += failed.eq(one.o.p.error)
                with m.If(one.o.valid & one.o.p.last):
                    m.next = "JUDGE"
            with m.State("FAIL"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.last.eq(1),
                    self.o.p.error.eq(1),
                ]
                with m.If(self.o.ready):
                    m.d.comb += self.fail_valid.eq(1)
                    m.d.sync += halted.bit_select(now.queue[:queue_bits], 1).eq(1)
                    m.next = "FLUSH"
            with m.State("FLUSH"):
                # Entries read ahead that the chain did not use.
                with m.If(ahead_left == 0):
                    m.d.comb += order.o.ready.eq(1)
                    m.next = "HEAD"
                with m.Elif(ahead.o.valid):
                    m.d.comb += [ahead.o.ready.eq(1), dropped.eq(1)]
                    m.d.sync += ahead_left.eq(Mux(ahead.o.p.last, 0, ahead_left - 1))
        with m.If(self.setup_valid):
            m.d.sync += halted.bit_select(self.setup.queue[:queue_bits], 1).eq(0)
        m.d.comb += self.single.req.p.len.eq(VIRTQ_DESC_SIZE)

        # A read that fails early returns fewer entries than were reserved: the account is settled with its last.
        give_back = Signal(range(room + 1))
        m.d.sync += give_back.eq(Mux(dropped, Mux(ahead.o.p.last, ahead_left, 1), 0))
        m.d.sync += reserved.eq(reserved + Mux(asked, count, 0) - give_back)
        return m

    def _descriptor(self, desc, read):
        """A packed descriptor has its flags where a split one has ``next`` (2.8.13)."""
        return [
            desc.eq(read),
            desc.flags.eq(Mux(self.packed, read.next, read.flags)),
        ]
