"""A queue that is set up again has nothing of its former life, whatever is under way in that cycle or around it.

Ref: VIRTIO 1.4, 2.6.1.1.1 "Device Requirements: Virtqueue Reset".

Two queues, of which the proof is about any one; the other is set up and used as well, and makes no difference.
"""

import pytest

from amaranth import *
from amaranth.lib import data

from ringnic.hdl.lib.buffers import TakeOp
from prove import broken
from test_segments import PARTS, made, part_with, receive, segment

BOTH = 2


def sets_up(p, dut, queue, setup_queue):
    """Set any queue up in any cycle; return whether it is ``queue``."""
    p.m.d.comb += [dut.setup_valid.eq(p.free(name="sets_up")), setup_queue.eq(p.free(range(BOTH), "setup_queue"))]
    return dut.setup_valid & (setup_queue == queue)


# Rows

ROWS = "class QueueRows("   # nothing is broken


def keeps_rows(p, line=ROWS, instead=ROWS):
    """A row shows what was written last, and zero if its queue was set up since, or nothing was. A write after a set-up that came
    between it and its look-up does nothing, no matter how long that took.
    """
    dut = p.add(broken("ringnic.hdl.virtqueue.rows", line, instead).QueueRows(
        num_queues=BOTH, shape=data.StructLayout({"value": 2})))
    m = p.m
    queue = p.const(range(BOTH), "queue")
    meets = sets_up(p, dut, queue, dut.setup_queue)
    # The caller looks up in one cycle, and writes in the next, or holds the queue and writes in later ones.
    looks, goes_on, writes = p.free(name="looks"), p.free(name="goes_on"), p.free(name="writes")
    named, at = p.free(range(BOTH), "named"), Signal(range(BOTH))
    looked, holds, slow = Signal(), Signal(), Signal()
    begins, apart = looks & ~looked & ~holds, ~p.past(holds)
    m.d.comb += [
        dut.begins.eq(begins & (p.free(name="says_so") | ~apart)),
        dut.queue.eq(Mux(looked | holds, at, named)),
        dut.held.eq((begins & slow) | holds),
        dut.write.eq(writes & (looked | holds)),
        dut.new.value.eq(p.free(2, "new")),
        slow.eq(p.free(name="slow")),
    ]
    m.d.sync += [looked.eq(begins & ~slow), holds.eq((begins & slow) | (holds & goes_on)), at.eq(dut.queue)]
    value, lost = Signal(2), Signal()
    with m.If(dut.write & (at == queue) & ~lost & ~meets):
        m.d.sync += value.eq(dut.new.value)
    with m.If(meets):
        m.d.sync += value.eq(0)
    m.d.sync += lost.eq(dut.held & ((lost & ~begins) | (meets & (dut.queue == queue))))
    begun = p.past(C(1))
    p.check(~begun | (p.past(dut.queue) != queue) | (dut.row.value == p.past(Mux(meets, 0, value))))
    p.cover(dut.write & (at == queue) & lost)
    p.cover((dut.row.value != 0) & p.past(p.past(meets)))


def test_rows(formal):
    formal.always(keeps_rows)
    formal.covers(keeps_rows, 8)


@pytest.mark.parametrize("line, instead", [
    ("rows.write.eq(self.write & ~lost)", "rows.write.eq(self.write)"),
    ("self.queue, 1) | meets, 0", "self.queue, 1), 0"),
    ("self.held & (meets | (lost & ~self.begins))", "meets"),
    ("self.held & (meets | (lost & ~self.begins))", "self.held & lost"),
    ("(lost & ~self.begins)", "lost"),
])
def test_broken_rows(formal, line, instead):
    formal.refutes(lambda p: keeps_rows(p, line, instead), 8)


def keeps_pipelined_rows(p, line=ROWS, instead=ROWS):
    """A row that is looked up in any cycle, and may be written in the next, shows what was written last, in the cycle of the
    look-up at the latest; zero if its queue was set up since. A write beside a set-up of its queue does nothing.
    """
    dut = p.add(broken("ringnic.hdl.virtqueue.rows", line, instead).PipelinedRows(
        num_queues=BOTH, shape=data.StructLayout({"value": 2})))
    m = p.m
    queue = p.const(range(BOTH), "queue")
    meets = sets_up(p, dut, queue, dut.setup_queue)
    m.d.comb += [
        dut.queue.eq(p.free(range(BOTH), "named")),
        dut.write.eq(p.free(name="writes")),
        dut.new.value.eq(p.free(2, "new")),
    ]
    value = Signal(2)
    ours = dut.at == queue
    with m.If(dut.write & ours):
        m.d.sync += value.eq(dut.new.value)
    with m.If(meets):
        m.d.sync += value.eq(0)
    begun = p.past(C(1))
    p.check(~begun | (dut.at == p.past(dut.queue)))
    p.check(~begun | ~ours | (dut.row.value == value))
    p.check(dut.meets == (dut.setup_valid & (dut.setup_queue == dut.at)))
    p.cover((dut.row.value == 3) & ours & p.past(dut.write & ours & (dut.row.value == 2)))
    p.cover((dut.row.value != 0) & ours & p.past(dut.write & ours) & p.past(p.past(meets)))


def test_pipelined_rows(formal):
    formal.always(keeps_pipelined_rows)
    formal.covers(keeps_pipelined_rows, 8)


@pytest.mark.parametrize("line, instead", [
    ("write.en.eq(self.write & ~self.meets)", "write.en.eq(self.write)"),
    ("(self.queue, 1) | (self.setup_valid & (setup_queue == self.queue))", "(self.queue, 1)"),
    ("with m.If(write.en & (self.queue == self.at)):", "with m.If(0):"),
    ("with m.If(write.en & (self.queue == self.at)):", "with m.If(write.en):"),
    ("with m.If(write.en & (self.queue == self.at)):", "with m.If(self.write & (self.queue == self.at)):"),
    ("write.addr.eq(self.at)", "write.addr.eq(self.queue)"),
])
def test_broken_pipelined_rows(formal, line, instead):
    formal.refutes(lambda p: keeps_pipelined_rows(p, line, instead), 8)


# Prefetched heads

STORE, DEPTH = "class HeadStore(", 2


def stores(p, line=STORE, instead=STORE, batch=1):
    """Heads of a queue come out in the order in which they were pushed since it was set up, those taken and not committed again
    after a REWIND, and no other; taken <= pushed <= reserved, and never more places than there are. Who was granted nothing is
    told as soon as the same request would be granted something, and not before.

    Operations of either queue are offered in any order, set-ups come in any cycle. One head is marked, any.
    """
    module = broken("ringnic.hdl.virtqueue.store", line, instead)
    dut = p.add(module.HeadStore(num_queues=BOTH, ports=1, depth=DEPTH, batch=batch))
    m = p.m
    queue = p.const(range(BOTH), "queue")
    meets = sets_up(p, dut, queue, dut.setup.queue)
    of = {name: p.free(range(BOTH), name) for name in ("of_room", "of_push", "of_take")}
    want, op, marks, keeps = p.free(2, "want"), p.free(2, "op"), p.free(name="marks"), p.free(16, "keeps")
    p.assume((want != 0) & (want <= DEPTH))
    takes = (op == TakeOp.TAKE) | (op == TakeOp.KEEP)
    room = p.feed(dut.i_room, Cat(of["of_room"], C(0, 15), want)) & (of["of_room"] == queue)
    head = Cat(marks, C(0, len(Value.cast(dut.i_push.payload.head)) - 1))
    push = p.feed(dut.i_push, Cat(of["of_push"], C(0, 15), head)) & (of["of_push"] == queue)
    take = p.feed(dut.i_take[0], Cat(op, of["of_take"], C(0, 15), keeps)) & (of["of_take"] == queue)
    out = p.take(dut.o_head)
    m.d.comb += [dut.room.eq(p.free(name="room_behind")), dut.soon.eq(p.free(name="soon"))]
    p.assume(~p.past(dut.soon) | dut.o_head.ready)

    counts = range(2 * DEPTH)
    reserved, pushed, taken, committed = (Signal(counts, name=name) for name in ("reserved", "pushed", "taken", "committed"))
    free = (DEPTH - (reserved - committed))[:len(reserved)]
    # The marked head: whether there is one in the queue, and where. Of the head on its way out: whether it is that one.
    used_up, there, where, is_marked, is_ours = Signal(), Signal(), Signal(counts), Signal(), Signal()
    p.assume(~dut.i_push.valid | ~marks | ((of["of_push"] == queue) & ~used_up))
    p.check(~(room | push | take) | ~meets)
    refused = Signal.like(want)     # what was wanted when nothing was granted, last
    granted = lambda want: (free != 0) & ((free >= want) | (free >= batch) | (taken == reserved))
    worth = (refused != 0) & granted(refused)
    with m.If(room):
        p.check((dut.grant <= want) & (dut.grant <= free))
        p.check((dut.grant != 0) == granted(want))
        m.d.sync += [reserved.eq(reserved + dut.grant), refused.eq(Mux(dut.grant == 0, want, 0))]
    told = dut.freed_valid & (dut.freed_queue == queue)
    p.check(~told | worth)
    p.check(~worth | p.past(worth) | told)
    p.cover(told)
    with m.If(push & (pushed != reserved)):
        m.d.sync += pushed.eq(pushed + 1)
        with m.If(marks):
            m.d.sync += [there.eq(1), where.eq(pushed)]
    with m.If(push & marks):
        m.d.sync += used_up.eq(1)
    after, kept = Signal(counts), Signal(counts)   # of ``taken`` and ``committed``
    in_hand = (taken - committed)[:len(taken)]
    m.d.comb += [
        after.eq(taken + takes),
        kept.eq(Mux(op == TakeOp.KEEP, after, committed + Mux(keeps > in_hand, in_hand, keeps))),   # of a TAKE as of a COMMIT
    ]
    with m.If(take & takes):
        p.check(taken != pushed)
        m.d.sync += taken.eq(after)
    with m.If(take & (op != TakeOp.REWIND)):
        m.d.sync += committed.eq(kept)
        with m.If((where - committed)[:len(where)] < (kept - committed)[:len(kept)]):
            m.d.sync += there.eq(0)
    with m.If(take & (op == TakeOp.REWIND)):
        m.d.sync += taken.eq(committed)
    with m.If(dut.i_take[0].valid & dut.i_take[0].ready & takes):
        m.d.sync += [is_ours.eq(take), is_marked.eq(take & there & (where == taken))]
    with m.If(meets):
        m.d.sync += [reserved.eq(0), pushed.eq(0), taken.eq(0), committed.eq(0), there.eq(0), refused.eq(0)]
    p.check(dut.available.bit_select(queue, 1) == (taken != pushed))
    with m.If(dut.o_head.valid):
        taken_head = dut.o_head.payload.taken
        p.check((taken_head.head.id == is_marked) & ((taken_head.queue == queue) == is_ours))
    p.cover(out & is_marked)
    p.cover(out & is_ours & used_up & ~there & p.past(pushed != 0))
    p.cover(take & (op == TakeOp.REWIND) & (taken != committed))
    p.cover(take & (op == TakeOp.TAKE) & (keeps == 1) & (in_hand == 1) & there & (where == taken))
    p.cover(take & (op == TakeOp.COMMIT) & (keeps == 1) & (in_hand == 2) & there & (where == committed + 1))
    p.cover(meets & dut.i_push.valid & (of["of_push"] == queue) & (pushed != 0))
    # An operation just behind the set-up, and of the same queue just behind another.
    p.cover(room & p.past(meets & (reserved != 0)))
    p.cover(push & p.past(take & takes))
    p.cover(take & (op == TakeOp.KEEP) & p.past(push) & p.past(taken == pushed))


@pytest.mark.parametrize("batch", [1, DEPTH])
def test_store(formal, batch):
    formal.always(lambda p: stores(p, batch=batch))
    formal.covers(lambda p: stores(p, batch=batch), 20)


@pytest.mark.parametrize("line, instead", [
    ("with m.If(acts.any() & ~rows.meets):", "with m.If(acts.any()):"),
    ("reserves.eq(row.pushed != row.reserved)", "reserves.eq(1)"),
    ("has_head.eq(row.taken != row.pushed)", "has_head.eq(1)"),
    ("self.setup.queue[:len(at)], 1).eq(0)", "self.setup.queue[:len(at)], 1).eq(1)"),
    ("rows.new.taken.eq(row.committed)", "rows.new.taken.eq(row.taken)"),
    ("(after - row.committed)[:count]", "in_hand"),
    ("kept.eq(Mux(has_head, oldest[k], 0))", "kept.eq(oldest[k])"),
    ("kept.eq(Mux(has_head, oldest[k], 0))", "kept.eq(0)"),
    ("row.committed + kept", "row.taken"),
    ("row.spare + kept", "row.spare + in_hand"),
    ("Mux(take.p.count > in_hand, in_hand, take.p.count)[:count]", "take.p.count[:count]"),
    ("streams) & ~acts & Cat(", "streams) & Cat("),
    ("(head.valid & ~head.ready)", "C(0)"),
    ("((freed >= lacks) | (all_taken & (freed != 0)))", "(freed >= lacks)"),
    ("((freed >= lacks) | (all_taken & (freed != 0)))", "(freed != 0)"),
    ("new.lacks.eq(0)", "new.lacks.eq(row.lacks)"),
    ("new.lacks.eq(Mux(want > self.least, self.least, want))", "new.lacks.eq(want)"),
    ("bit_select(at, 1).eq(row.committed != row.pushed)", "bit_select(at, 1).eq(row.taken != row.pushed)"),
])
def test_broken_store(formal, line, instead):
    formal.refutes(lambda p: stores(p, line, instead, batch=DEPTH if "freed" in line else 1), 24)


# Devices

def asks_in_time(p, buffers):
    """What is offered on ``take`` is offered with ``holds``, which begins with a TAKE of a queue that was available, and not in a
    pause. So after a queue reset nothing is offered of that queue before it has been set up again.
    """
    take, op = buffers.take, buffers.take.payload.op
    queue = take.payload.queue[:len(buffers.available).bit_length()]
    p.check(~take.valid | buffers.holds)
    begins = buffers.holds & ~p.past(buffers.holds)
    was_available = p.past(Mux(buffers.pause, 0, buffers.available))
    takes = (op == TakeOp.TAKE) | (op == TakeOp.KEEP)
    p.check(~begins | (take.valid & takes & was_available.bit_select(queue, 1)))
    p.cover(take.valid & ((op == TakeOp.COMMIT) | (op == TakeOp.KEEP)))
    p.cover(p.past(buffers.holds) & ~buffers.holds & buffers.pause)


def receive_asks(p, line="class Provide(", instead="class Provide("):
    dut, *_ = receive(p, part_with(line, PARTS), line, instead)
    asks_in_time(p, dut.buffers)
    p.cover(dut.buffers.take.valid & (dut.buffers.take.payload.op == TakeOp.REWIND))


def transmit_asks(p, line="class Transmit(", instead="class Transmit("):
    dut = p.add(made(p, line, instead).Transmit(
        width=32, num_queues=2, max_frame=32, depth=16, max_chains=2, patience=4))
    port, left = dut.buffers.segment, Signal(range(4))   # chains that were taken, and have not been given out
    ends = p.feed(port, segment(queue=C(1, 16), last=p.free(name="last"), error=p.free(name="error"))) & port.payload.last
    p.assume(~port.valid | (left != 0))
    p.m.d.comb += [dut.buffers.pause.eq(p.free(name="pause")), dut.buffers.available.eq(p.free(2, "available")),
                   dut.read.req.ready.eq(1), dut.o.ready.eq(p.free(name="ready"))]
    p.feed(dut.read.beat)
    p.m.d.sync += left.eq(left + (p.take(dut.buffers.take) & (dut.buffers.take.payload.op == TakeOp.KEEP)) - ends)
    p.take(dut.buffers.used)
    asks_in_time(p, dut.buffers)


def control_asks(p, line="class Control(", instead="class Control("):
    dut = p.add(broken("ringnic.hdl.net.control", line, instead).Control(width=32, num_queues=3, pairs=1))
    p.feed(dut.buffers.segment)
    p.m.d.comb += [
        dut.enable.eq(1), dut.queue.eq(2), dut.settled.eq(p.free(name="settled")), dut.buffers.pause.eq(p.free(name="pause")),
        dut.buffers.available.eq(p.free(3, "available")), dut.read.req.ready.eq(1), dut.write.req.ready.eq(1),
        dut.write.data.ready.eq(1),
    ]
    p.feed(dut.read.beat)
    p.take(dut.buffers.take)
    p.take(dut.buffers.used)
    asks_in_time(p, dut.buffers)


def entropy_asks(p, line="class EntropyDevice(", instead="class EntropyDevice("):
    dut = p.add(broken("ringnic.hdl.entropy.device", line, instead).EntropyDevice(width=128))
    buffers, write = dut.host.buffers[0], dut.host.writes[0]
    p.feed(buffers.segment)
    p.feed(dut.i)
    p.m.d.comb += [buffers.pause.eq(p.free(name="pause")), buffers.available.eq(p.free(name="available")),
                   write.req.ready.eq(1), write.data.ready.eq(1)]
    p.take(buffers.take)
    p.take(buffers.used)
    asks_in_time(p, buffers)


DEVICES = {"receive": (receive_asks, 18), "transmit": (transmit_asks, 14), "control": (control_asks, 24),
           "entropy": (entropy_asks, 24)}


@pytest.mark.parametrize("device", DEVICES)
def test_devices(formal, device):
    harness, depth = DEVICES[device]
    # Receive has too many states for a proof of any number of cycles.
    formal.bounded(harness, depth) if device == "receive" else formal.always(harness)
    formal.covers(harness, depth)


@pytest.mark.parametrize("device, line, instead", [
    ("receive", "with m.Elif(chains == 0):", "with m.Elif(0):"),
    ("receive", "holds.eq(~offer.idle | (self.pending", "holds.eq((self.pending"),
    ("transmit", "& places & ~self.buffers.pause):", "& places):"),
    ("transmit", '(in_hand != 0) | ~taking.ongoing("CHOOSE")', "in_hand != 0"),
    ("control", "with m.If(wanted & ~self.buffers.pause):", "with m.If(~self.buffers.pause):"),
    ("entropy", "& ~buffers.pause & (words.level", "& (words.level"),
])
def test_broken_devices(formal, device, line, instead):
    harness, depth = DEVICES[device]
    formal.refutes(lambda p: harness(p, line, instead), depth)
