"""Prefetched chain heads of every queue: one memory, one set of pointers a queue.

The store is the one place that knows how many descriptors a queue has ready, so it hands out room to the fetch
stage and chains to the devices, one operation at a time.
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.buffers import QueueSetup, Take, TakeOp
from .rows import QueueRows

__all__ = ["Head", "Room", "Push", "HeadStore"]


class Head(data.Struct):
    """First descriptor of a chain, as read from the descriptor table; all of it is untrusted, but ``id`` of a split queue.

    Of a packed queue a chain of several descriptors is NEXT, with ``next`` the slot of the first and ``count`` their number.
    """
    id:    unsigned(16)
    addr:  unsigned(64)
    len:   unsigned(32)
    flags: unsigned(3)
    next:  unsigned(16)
    count: unsigned(16)  # entries of the ring that the chain takes


class Room(data.Struct):
    """Ask for ``want`` places (1 to the prefetch depth) of ``queue``."""
    queue: unsigned(16)
    want:  unsigned(16)


class Push(data.Struct):
    queue: unsigned(16)
    head:  Head


class TakenHead(data.Struct):
    queue: unsigned(16)
    head:  Head


class HeadStore(wiring.Component):
    """Keep up to ``depth`` heads a queue. Every operation takes two cycles; they are served in turn.

    A request is seen the cycle after it is offered, so a requester that is alone is served every third cycle.

    A set-up happens before or after an operation, never in the middle of one: an operation that meets the set-up of its queue is
    served after it, and finds the queue empty. What was pushed before is never handed out again.

    Parameters
    ----------
    num_queues, ports : int
    depth : int
        Heads a queue, a power of two of at least 2.
    batch : int
        A request for room that cannot be met in full is met in part only from this many places on, so that a
        nearly full queue is not refilled one descriptor a read; or when the device has taken all there was.

    Members
    -------
    setup_valid, setup : see :class:`QueueRows`
    i_room : In(stream(Room)), grant : Out
        ``grant`` is valid in the cycle of the transfer: places now reserved, 0 to ``want``.
    i_push : In(stream(Push))
        Fill the next reserved place; without one, the head vanishes.
    i_take, o_head : array of ports
        See :class:`ringnic.hdl.lib.buffers.TakeOp`. A TAKE waits until there is something to take.
    available : Out(num_queues)
        Bit per queue: a TAKE has something to take.
    freed_valid : Out(1), freed_queue : Out(16)
        Strobe: places of that queue became free, or its last head was taken: room is worth asking for again.
    busy : Out(1)
        A head is on its way out.
    """
    def __init__(self, *, num_queues, ports, depth, batch):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Prefetch depth must be a power of 2 of at least 2, not {depth!r}")
        self.num_queues = num_queues
        self.ports = ports
        self.depth = depth
        self.batch = batch
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i_room":      In(stream.Signature(Room)),
            "grant":       Out(16),
            "i_push":      In(stream.Signature(Push)),
            "i_take":      In(stream.Signature(Take)).array(ports),
            "o_head":      Out(stream.Signature(TakenHead)).array(ports),
            "available":   Out(num_queues),
            "freed_valid": Out(1),
            "freed_queue": Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        depth_bits = (self.depth - 1).bit_length()
        count = depth_bits + 1
        # ``spare``: free places, less the depth.
        row_layout = data.StructLayout({
            "reserved": count, "pushed": count, "taken": count, "committed": count, "spare": count})
        queues = max(2, self.num_queues)

        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=row_layout)
        m.submodules.heads = heads = memory.Memory(shape=Head, depth=queues * self.depth, init=[])
        head_w, head_r = heads.write_port(), heads.read_port()

        # One requester is chosen, its queue's row is read, and in the next cycle the row is written back.
        # What is offered stays, so requests come from registers: devices take some time to say what they want.
        n = 2 + self.ports
        streams = [self.i_room, self.i_push, *self.i_take]
        offered, requests = Signal(n), Signal(n)
        queues_of = [Signal(range(queues), name=f"queue{k}") for k in range(n)]
        ops = [Signal(TakeOp, name=f"op{k}") for k in range(self.ports)]
        for k, port in enumerate(streams):
            m.d.sync += [offered[k].eq(port.valid & ~port.ready), queues_of[k].eq(port.p.queue)]
        m.d.sync += [op.eq(take.p.op) for op, take in zip(ops, self.i_take)]
        read = Signal(self.ports)   # the head memory has been read for this port
        queue = Signal(range(queues))
        chosen = Signal(range(n))
        at_row = Signal()
        m.d.comb += requests.eq(offered & Cat(
            C(0b11, 2),
            # A TAKE needs a free place at the walker; what the port took before has left by then.
            *[(op != TakeOp.TAKE) | ~(head.valid | read[k]) for k, (op, head) in enumerate(zip(ops, self.o_head))]))
        turn = Signal(range(n))
        pick = Signal(range(n))
        round_robin(m, requests, turn, pick)
        at = Signal(range(queues))      # as looked up
        m.d.comb += [
            queue.eq(Mux(at_row, at, Array(queues_of)[pick])),
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(queue),
            rows.new.eq(rows.row),
        ]
        m.d.sync += at_row.eq(requests.any() & ~at_row)
        with m.If(~at_row):
            m.d.sync += [chosen.eq(pick), at.eq(queue)]
        with m.Else():
            m.d.sync += turn.eq(chosen)

        row = rows.row
        free = Signal(count)
        m.d.comb += [
            free.eq(row.spare ^ self.depth),
            head_w.addr.eq(Cat(row.pushed[:depth_bits], at)),
            head_w.data.eq(self.i_push.p.head),
            head_r.addr.eq(Cat(row.taken[:depth_bits], at)),
            self.freed_queue.eq(at),
        ]
        # The walker sees a register, for a block RAM is slow.
        m.d.sync += read.eq(0)
        for k, head in enumerate(self.o_head):
            with m.If(head.ready):
                m.d.sync += head.valid.eq(0)
            with m.If(read[k]):
                m.d.sync += [head.valid.eq(1), head.p.head.eq(head_r.data)]

        meets, reserves, has_head = Signal(), Signal(), Signal()
        m.d.comb += [
            meets.eq(self.setup_valid & (self.setup.queue[:len(at)] == at)),
            reserves.eq(row.pushed != row.reserved),
            has_head.eq(row.taken != row.pushed),
        ]
        with m.If(at_row & ~meets):
            m.d.comb += rows.write.eq(1)
            with m.Switch(chosen):
                with m.Case(0):
                    with m.If(free >= self.i_room.p.want):
                        m.d.comb += self.grant.eq(self.i_room.p.want)
                    # What a device holds without COMMIT may be all there is: then it is waiting for these.
                    with m.Elif((free >= self.batch) | (row.taken == row.reserved)):
                        m.d.comb += self.grant.eq(free)
                    m.d.comb += [
                        self.i_room.ready.eq(1),
                        rows.new.reserved.eq(row.reserved + self.grant),
                        rows.new.spare.eq(row.spare - self.grant),
                    ]
                with m.Case(1):
                    m.d.comb += self.i_push.ready.eq(1)
                    with m.If(reserves):
                        m.d.comb += [head_w.en.eq(1), rows.new.pushed.eq(row.pushed + 1)]
                        m.d.sync += self.available.bit_select(at, 1).eq(1)
                for k, (take, head) in enumerate(zip(self.i_take, self.o_head)):
                    with m.Case(2 + k):
                        m.d.comb += take.ready.eq((ops[k] != TakeOp.TAKE) | has_head)
                        with m.Switch(ops[k]):
                            with m.Case(TakeOp.TAKE):
                                with m.If(has_head):
                                    m.d.comb += [
                                        rows.new.taken.eq(row.taken + 1),
                                        self.freed_valid.eq((row.taken + 1)[:count] == row.reserved),
                                    ]
                                    m.d.sync += [
                                        self.available.bit_select(at, 1).eq((row.taken + 1)[:count] != row.pushed),
                                        read[k].eq(1),
                                        head.p.queue.eq(at),
                                    ]
                            with m.Case(TakeOp.COMMIT):
                                m.d.comb += [
                                    rows.new.committed.eq(row.taken),
                                    rows.new.spare.eq(row.spare + (row.taken - row.committed)[:count]),
                                    self.freed_valid.eq(row.committed != row.taken),
                                ]
                            with m.Case(TakeOp.REWIND):
                                m.d.comb += rows.new.taken.eq(row.committed)
                                m.d.sync += self.available.bit_select(at, 1).eq(row.committed != row.pushed)

        with m.If(self.setup_valid):
            m.d.sync += self.available.bit_select(self.setup.queue[:len(queue)], 1).eq(0)
        m.d.comb += self.busy.eq(at_row | read.any() | Cat(head.valid for head in self.o_head).any())
        return m
