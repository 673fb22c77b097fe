"""Prefetched chain heads of every queue: one memory, one set of pointers a queue.

The store is the one place that knows how many descriptors a queue has ready, so it hands out room to the fetch
stage and chains to the devices, one operation at a time.
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.buffers import QueueSetup, Take, TakeOp
from .rows import PipelinedRows

__all__ = ["Head", "HeadWrite", "Room", "TakenHead", "HeadStore", "port_head", "push_of"]


class Head(data.Struct):
    """First descriptor of a chain, as read from the descriptor table; all of it is untrusted, but ``id`` of a split queue.

    Of a packed queue a chain of several descriptors is NEXT, with ``next`` the slot of the first and ``len`` their number. Every
    other head takes one entry of the ring.
    """
    id:    unsigned(16)
    addr:  unsigned(64)
    len:   unsigned(32)
    flags: unsigned(3)
    next:  unsigned(16)


class Room(data.Struct):
    """Ask for ``want`` places (1 to the prefetch depth) of ``queue``."""
    queue: unsigned(16)
    want:  unsigned(16)


class TakenHead(data.Struct):
    queue: unsigned(16)
    head:  Head


def HeadWrite(depth):
    """Write ``head`` in the cycle of ``valid``, to a place of ``queue``: places count from 0 at its set-up, modulo ``depth``."""
    return wiring.Signature({"valid": Out(1), "queue": Out(16), "place": Out(range(depth)), "head": Out(Head)})


def push_of(num_queues, depth):
    """The next ``count`` heads of ``queue``, 1 to ``depth``, have been written."""
    return data.StructLayout({"queue": range(max(2, num_queues)), "count": range(depth + 1)})


def port_head(ports):
    """A head, and the port that has taken it."""
    return data.StructLayout({"port": range(max(2, ports)), "taken": TakenHead})


class HeadStore(wiring.Component):
    """Keep up to ``depth`` heads a queue: one operation a cycle, whatever its queue.

    The requesters are served in turn. An operation is chosen in the cycle in which it is offered, and served in the next. So a
    requester that is alone is served every second cycle; all ports together have a head every second cycle if it is taken
    ``soon``, else every third. What is offered has to come early: the choice and the look-up follow in the same cycle.

    A set-up happens before or after an operation, never in the middle of one: an operation that meets the set-up of its queue is
    served after it, and finds the queue empty. What was pushed before is never handed out again.

    Heads are written to places that are reserved, and not pushed yet, in any order, and beside any operation; a PUSH says that
    the first of those places are written.

    Parameters
    ----------
    num_queues, ports : int
    depth : int
        Heads a queue, a power of two of at least 2.
    batch : int
        The value of ``least`` if nothing drives it.

    Members
    -------
    setup_valid, setup : see :class:`PipelinedRows`
    i_room : In(stream(Room)), grant : Out
        ``grant`` is valid in the cycle of the transfer: places now reserved, 0 to ``want``.
    least : In(range(depth + 1))
        A request for room that cannot be met in full is met in part only from this many places on, so that a nearly full queue
        is not refilled one descriptor a read; or when the device has taken all there was. Not 0, and does not change.
    write : In(HeadWrite(depth))
        Nothing is written to a place that is pushed and not committed.
    i_push : In(stream(push_of(num_queues, depth)))
        Offer these heads to TAKEs. If there are not as many places reserved, the PUSH does nothing.
    i_take : array of ports
        See :class:`ringnic.hdl.lib.buffers.TakeOp`. A TAKE waits until there is something to take.
    room : In(ports)
        Bit per port: there is room behind ``o_head`` for three heads. A TAKE of a port without waits, so that those of others do
        not wait behind its head. A register.
    o_head : Out(stream(port_head(ports)))
    soon : In(1)
        A head that is offered in the next cycle is taken in it.
    available : Out(num_queues)
        Bit per queue: a TAKE has something to take.
    freed_valid : Out(1), freed_queue : Out(16)
        Strobe, in the cycle after an operation of a device: the last request for room of that queue was granted nothing, and
        would be granted something now.
    busy : Out(1)
        A head is on its way out.
    """
    def __init__(self, *, num_queues, ports, depth, batch):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Prefetch depth must be a power of 2 of at least 2, not {depth!r}")
        if batch not in range(1, depth + 1):
            raise ValueError(f"A request may be met in part from 1 to {depth} places on, not from {batch!r}")
        self.num_queues = num_queues
        self.ports = ports
        self.depth = depth
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i_room":      In(stream.Signature(Room)),
            "grant":       Out(16),
            "least":       In(range(depth + 1), init=batch),
            "write":       In(HeadWrite(depth)),
            "i_push":      In(stream.Signature(push_of(num_queues, depth))),
            "i_take":      In(stream.Signature(Take)).array(ports),
            "room":        In(ports, init=(1 << ports) - 1),
            "soon":        In(1),
            "o_head":      Out(stream.Signature(port_head(ports))),
            "available":   Out(num_queues),
            "freed_valid": Out(1),
            "freed_queue": Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        depth_bits = (self.depth - 1).bit_length()
        count = depth_bits + 1
        # ``spare``: free places, less the depth. ``lacks``: free places from which the last request for room, which was granted
        # nothing, is granted something; 0 if it was granted.
        row_layout = data.StructLayout({
            "reserved": count, "pushed": count, "taken": count, "committed": count, "spare": count, "lacks": count})
        queues = max(2, self.num_queues)

        m.submodules.rows = rows = PipelinedRows(num_queues=self.num_queues, shape=row_layout)
        m.submodules.heads = heads = memory.Memory(shape=Head, depth=queues * self.depth, init=[])
        head_w, head_r = heads.write_port(), heads.read_port()

        # One requester is chosen, its queue's row is looked up, and in the next cycle the row is written back.
        n = 2 + self.ports
        streams = [self.i_room, self.i_push, *self.i_take]
        requests, acts = Signal(n), Signal(n)
        takes = Cat((take.p.op == TakeOp.TAKE) | (take.p.op == TakeOp.KEEP) for take in self.i_take)
        read, blocked = Signal(), Signal()   # the head memory has been read; it must not be read for another TAKE
        head = self.o_head
        turn, pick = Signal(range(n)), Signal(range(n))
        # Between two TAKEs pushes are served, so their turn says nothing of whose TAKE is next. As of the cycle before, for no
        # TAKE follows another at once.
        asks, defers = Signal(self.ports), Signal(self.ports)
        last_take, next_take = Signal(range(max(2, self.ports))), Signal(range(max(2, self.ports)))
        round_robin(m, asks, last_take, next_take)
        m.d.comb += asks.eq(Cat(port.valid for port in self.i_take) & takes & self.room)
        m.d.sync += defers.eq(Mux(asks.any(), ~(1 << next_take), 0))
        for k in range(self.ports):
            with m.If(requests.any() & (pick == 2 + k) & takes[k]):
                m.d.sync += last_take.eq(k)
        m.d.comb += requests.eq(Cat(port.valid for port in streams) & ~acts & Cat(
            C(0b11, 2),
            *[~is_take | (has_room & ~blocked & ~defer) for is_take, has_room, defer in zip(takes, self.room, defers)]))
        # A TAKE needs the register in front of the walker; what was taken before has left by then.
        m.d.comb += blocked.eq((acts[2:] & takes).any() | (read & ~self.soon) | (head.valid & ~head.ready))
        round_robin(m, requests, turn, pick)
        m.d.comb += [
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(Array(port.p.queue[:len(rows.queue)] for port in streams)[pick]),
            rows.new.eq(rows.row),
        ]
        m.d.sync += acts.eq(0)
        with m.If(requests.any()):
            m.d.sync += [turn.eq(pick), acts.bit_select(pick, 1).eq(1)]

        at, row = rows.at, rows.row
        m.d.comb += [
            head_w.en.eq(self.write.valid),
            head_w.addr.eq(Cat(self.write.place, self.write.queue[:len(at)])),
            head_w.data.eq(self.write.head),
            head_r.addr.eq(Cat(row.taken[:depth_bits], at)),
            # What is written is not pushed yet. Said like this, synthesis needs no logic for the case that it is read.
            head_r.en.eq(~(head_w.en & (head_w.addr == head_r.addr))),
        ]
        # The walker sees a register, for a block RAM is slow.
        m.d.sync += read.eq(0)
        with m.If(head.ready):
            m.d.sync += head.valid.eq(0)
        with m.If(read):
            m.d.sync += [head.valid.eq(1), head.p.taken.head.eq(head_r.data)]

        fits, has_head = Signal(), Signal()
        after = Signal(count)           # of ``taken``, if one is taken
        in_hand = Signal(count)         # taken, and not kept
        # Chains that are kept; of a queue that was set up in between there may be fewer than a device says.
        oldest = [Mux(take.p.count > in_hand, in_hand, take.p.count)[:count] for take in self.i_take]
        kept = Signal(count)
        m.d.comb += [
            rows.new.committed.eq(row.committed + kept),
            rows.new.spare.eq(row.spare + kept),
            in_hand.eq(row.taken - row.committed),
            fits.eq((row.reserved - row.pushed)[:count] >= self.i_push.p.count),
            has_head.eq(row.taken != row.pushed),
            after.eq(row.taken + 1),
        ]
        with m.If(acts.any() & ~rows.meets):
            m.d.comb += rows.write.eq(1)
            with m.If(acts[0]):
                self._reserve(m, row, rows.new)
            with m.If(acts[1]):
                m.d.comb += self.i_push.ready.eq(1)
                with m.If(fits):
                    m.d.comb += rows.new.pushed.eq(row.pushed + self.i_push.p.count)
                    m.d.sync += self.available.bit_select(at, 1).eq(1)
            for k, take in enumerate(self.i_take):
                with m.If(acts[2 + k]):
                    m.d.comb += take.ready.eq(~takes[k] | has_head)
                    with m.If(takes[k] & has_head):
                        m.d.comb += rows.new.taken.eq(after)
                        m.d.sync += [
                            self.available.bit_select(at, 1).eq(after != row.pushed),
                            read.eq(1),
                            head.p.port.eq(k),
                            head.p.taken.queue.eq(at),
                        ]
                    with m.Switch(take.p.op):
                        with m.Case(TakeOp.TAKE):
                            m.d.comb += kept.eq(Mux(has_head, oldest[k], 0))
                        with m.Case(TakeOp.KEEP):
                            m.d.comb += kept.eq(Mux(has_head, (after - row.committed)[:count], 0))
                        with m.Case(TakeOp.COMMIT):
                            m.d.comb += kept.eq(oldest[k])
                        with m.Case(TakeOp.REWIND):
                            m.d.comb += rows.new.taken.eq(row.committed)
                            m.d.sync += self.available.bit_select(at, 1).eq(row.committed != row.pushed)

        with m.If(self.setup_valid):
            m.d.sync += self.available.bit_select(self.setup.queue[:len(at)], 1).eq(0)
        self._tell(m, Cat(take.ready for take in self.i_take).any(), at, rows.new)
        m.d.comb += self.busy.eq(acts.any() | read | head.valid)
        return m

    def _reserve(self, m, row, new):
        """Answer the request for room."""
        free, want = Signal(len(row.spare)), self.i_room.p.want
        m.d.comb += [
            free.eq(row.spare ^ self.depth),
            self.i_room.ready.eq(1),
            new.reserved.eq(row.reserved + self.grant),
            new.spare.eq(row.spare - self.grant),
            new.lacks.eq(0),
        ]
        with m.If(free >= want):
            m.d.comb += self.grant.eq(want)
        # What a device holds without COMMIT may be all there is: then it is waiting for these.
        with m.Elif((free >= self.least) | ((row.taken == row.reserved) & (free != 0))):
            m.d.comb += self.grant.eq(free)
        with m.Else():
            m.d.comb += new.lacks.eq(Mux(want > self.least, self.least, want))

    def _tell(self, m, acted, at, new):
        """Tell of room that is worth asking for again. As of the cycle after the operation: sums are slow."""
        moved, freed, all_taken = Signal(), Signal(len(new.spare)), Signal()
        lacks = Signal.like(freed)
        m.d.sync += [
            moved.eq(acted),
            self.freed_queue.eq(at),
            freed.eq(new.spare ^ self.depth),
            all_taken.eq(new.taken == new.reserved),
            lacks.eq(new.lacks),
        ]
        m.d.comb += self.freed_valid.eq(moved & (lacks != 0) & ((freed >= lacks) | (all_taken & (freed != 0))))
