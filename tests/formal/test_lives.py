"""A queue that is set up again has nothing of its former life, whatever is under way in that cycle or around it.

Ref: VIRTIO 1.4, 2.6.1.1.1 "Device Requirements: Virtqueue Reset".

Two queues, of which the proof is about any one; the other is set up and used as well, and makes no difference.
"""

import pytest

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import connect

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
    ("self.row.eq(Mux(meets, 0, self.now))", "self.row.eq(self.now)"),
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
    """Of a queue comes out what was written last to each of its places, in their order from its set-up on, those taken and not
    committed again after a REWIND; taken <= pushed <= reserved, and never more places than there are. A PUSH of more than is
    reserved does nothing. Who was granted nothing is told as soon as the same request would be granted something, and not before.

    Operations of either queue are offered in any order, set-ups come in any cycle, and so do writes to places that are not
    pushed. Heads are marked, or not.
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
    pushes, of_write, place = p.free(range(DEPTH + 1), "pushes"), p.free(range(BOTH), "of_write"), p.free(range(DEPTH), "place")
    p.assume(pushes != 0)
    push = p.feed(dut.i_push, Cat(of["of_push"], pushes)) & (of["of_push"] == queue)
    m.d.comb += [dut.write.valid.eq(p.free(name="writes")), dut.write.queue.eq(of_write), dut.write.place.eq(place),
                 dut.write.head.id.eq(marks)]
    write = dut.write.valid & (of_write == queue)
    take = p.feed(dut.i_take[0], Cat(op, of["of_take"], C(0, 15), keeps)) & (of["of_take"] == queue)
    out = p.take(dut.o_head)
    m.d.comb += [dut.room.eq(p.free(name="room_behind")), dut.soon.eq(p.free(name="soon"))]
    p.assume(~p.past(dut.soon) | dut.o_head.ready)

    counts = range(2 * DEPTH)
    reserved, pushed, taken, committed = (Signal(counts, name=name) for name in ("reserved", "pushed", "taken", "committed"))
    free = (DEPTH - (reserved - committed))[:len(reserved)]
    # What was written to each place: whether it is marked. Of the head on its way out: whether it is marked, and ours.
    places, is_marked, is_ours = Array(Signal(name=f"place_{k}") for k in range(DEPTH)), Signal(), Signal()
    with m.If(write):
        p.assume((place - pushed)[:len(place)] < DEPTH - (pushed - committed)[:len(pushed)])
        m.d.sync += places[place].eq(marks)
    with m.If(dut.write.valid & ~write):
        # Of the other queue as well, where it matters: no place is written in the cycle in which it is taken.
        p.assume(~marks & ~(dut.i_take[0].ready & (of["of_take"] != queue)))
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
    fits = pushes <= (reserved - pushed)[:len(reserved)]
    with m.If(push & fits):
        m.d.sync += pushed.eq(pushed + pushes)
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
    with m.If(take & (op == TakeOp.REWIND)):
        m.d.sync += taken.eq(committed)
    with m.If(dut.i_take[0].valid & dut.i_take[0].ready & takes):
        m.d.sync += [is_ours.eq(take), is_marked.eq(take & places[taken[:len(place)]])]
    with m.If(meets):
        m.d.sync += [reserved.eq(0), pushed.eq(0), taken.eq(0), committed.eq(0), refused.eq(0)]
    p.check(dut.available.bit_select(queue, 1) == (taken != pushed))
    with m.If(dut.o_head.valid):
        taken_head = dut.o_head.payload.taken
        p.check((taken_head.head.id == is_marked) & ((taken_head.queue == queue) == is_ours))
    p.cover(out & is_marked)
    p.cover(out & is_marked & p.past(write))
    p.cover(push & (pushes == 2) & fits)
    p.cover(push & ~fits & (pushed != reserved))
    p.cover(take & (op == TakeOp.REWIND) & (taken != committed))
    p.cover(take & (op == TakeOp.TAKE) & (keeps == 1) & (in_hand == 1) & places[taken[:len(place)]])
    p.cover(take & (op == TakeOp.COMMIT) & (keeps == 1) & (in_hand == 2) & places[(committed + 1)[:len(place)]])
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
    ("fits.eq((row.reserved - row.pushed)[:count] >= self.i_push.p.count)", "fits.eq(1)"),
    ("fits.eq((row.reserved - row.pushed)[:count] >= self.i_push.p.count)", "fits.eq(row.reserved != row.pushed)"),
    ("row.pushed + self.i_push.p.count", "row.pushed + 1"),
    ("Cat(self.write.place, self.write.queue[:len(at)])", "Cat(self.write.place, at)"),
    ("(head_w.addr == head_r.addr)", "C(1)"),
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


# Heads on their way to the store

JUDGED = "class Heads("


def hands_on(p, line=JUDGED, instead=JUDGED, store=STORE, broken_store=STORE):
    """A TAKE of a queue gets heads that were written and handed on since it was set up, in the order of their places, and none
    twice.

    Verdicts of either queue come in any order, set-ups in any cycle. A verdict is about a place that is reserved, and hands on
    what has been written; so none comes of a queue that was set up before room was granted again. Room is granted again when
    nothing of before waits for the store any more. One head is marked, any; devices KEEP what they take.
    """
    heads = p.add(broken("ringnic.hdl.virtqueue.heads", line, instead).Heads(
        width=128, num_queues=BOTH, depth=DEPTH, waiting=2))
    dut = p.add(broken("ringnic.hdl.virtqueue.store", store, broken_store).HeadStore(
        num_queues=BOTH, ports=1, depth=DEPTH, batch=1))
    m = p.m
    connect(m, heads.write, dut.write)
    connect(m, heads.o, dut.i_push)
    queue = p.const(range(BOTH), "queue")
    meets = sets_up(p, dut, queue, dut.setup.queue)
    of_room, of_take, want = p.free(range(BOTH), "of_room"), p.free(range(BOTH), "of_take"), p.free(2, "want")
    p.assume((want != 0) & (want <= DEPTH))
    room = p.feed(dut.i_room, Cat(of_room, C(0, 15), want)) & (of_room == queue)
    take = p.feed(dut.i_take[0], Cat(C(TakeOp.KEEP, 2), of_take)) & (of_take == queue)
    p.feed(heads.beat, Cat(p.free(128, "data"), C(0, len(Value.cast(heads.beat.payload)) - 128)))
    out = p.take(dut.o_head)
    port, marks, judges = heads.i, p.free(name="marks"), p.free(name="judges")
    of, place, count = p.free(range(BOTH), "of"), p.free(range(DEPTH), "place"), p.free(range(DEPTH + 1), "count")
    m.d.comb += [
        heads.setup_valid.eq(dut.setup_valid), heads.setup.queue.eq(dut.setup.queue),
        port.desc.ready.eq(judges), port.queue.eq(of), port.place.eq(place), port.count.eq(count), port.head.id.eq(marks),
    ]
    verdict = port.desc.valid & judges
    ours = verdict & (of == queue)

    counts = range(2 * DEPTH)
    reserved, ended, taken = (Signal(counts, name=name) for name in ("reserved", "ended", "taken"))
    written, now_written = Signal(DEPTH), Signal(DEPTH)     # of the places behind those that are handed on
    used_up, there, where, is_marked, former = Signal(), Signal(), Signal(counts), Signal(), Signal()
    at = (ended + place)[:len(ended)]
    p.assume(~verdict | ~marks | (ours & ~used_up))
    with m.If(ours):
        p.assume((place < (reserved - ended)[:len(reserved)]) & (count <= (reserved - ended)[:len(reserved)]))
        p.assume((now_written | ~((1 << count) - 1)[:DEPTH]).all())
        m.d.comb += now_written.eq(written | (1 << place))
        m.d.sync += [ended.eq(ended + count), written.eq(now_written >> count), used_up.eq(used_up | marks)]
        with m.If(marks | (there & (where == at))):
            m.d.sync += [there.eq(marks), where.eq(at)]
    # What waits for the store when the queue is set up; and a verdict of the other queue, which is as careful.
    m.d.sync += former.eq((former | meets) & (heads.busy | verdict))
    p.assume(~room | ~former)
    other = Signal(counts)                                  # places of it that are reserved and not written
    granted = dut.i_room.valid & dut.i_room.ready & ~room
    p.assume(~verdict | ours | ((other != 0) & (place == 0) & (count == 1)))
    m.d.sync += other.eq(Mux(dut.setup_valid & ~meets, 0, other + Mux(granted, dut.grant, 0) - (verdict & ~ours)))
    former_other = Signal()
    m.d.sync += former_other.eq((former_other | (dut.setup_valid & ~meets)) & (heads.busy | verdict))
    p.assume(~granted | ~former_other)

    with m.If(room):
        m.d.sync += reserved.eq(reserved + dut.grant)
    with m.If(take):
        p.check(taken != ended)
        m.d.sync += taken.eq(taken + 1)
        with m.If(there & (where == taken)):
            m.d.sync += there.eq(0)
    with m.If(dut.i_take[0].valid & dut.i_take[0].ready):
        m.d.sync += is_marked.eq(take & there & (where == taken))
    with m.If(meets):
        m.d.sync += [reserved.eq(0), ended.eq(0), taken.eq(0), written.eq(0), there.eq(0)]
    p.check(~dut.o_head.valid | (dut.o_head.payload.taken.head.id == is_marked))
    p.cover(out & is_marked)
    p.cover(out & is_marked & p.past(p.past(ours)) & (ended == 3))
    p.cover(take & p.past(ours) & used_up & ~there)
    p.cover(ours & (count == 2) & heads.busy)
    p.cover(meets & there & heads.busy)
    p.cover(ours & there & (where == at) & ~marks)
    p.cover(take & there & (where == taken) & (taken == 2))


def test_heads_and_store(formal):
    """The first cycles only: for any number of them no verdict is found in time."""
    formal.bounded(hands_on, 12)


def test_heads_and_store_get_everywhere(formal):
    formal.covers(hands_on, 24)


@pytest.mark.parametrize("line, instead", [
    ("ends.setup_valid.eq(self.setup_valid)", "ends.setup_valid.eq(0)"),
    ("ends.new.eq(ends.now + self.i.count)", "ends.new.eq(ends.now + 1)"),
    ("self.write.place.eq(ends.now + self.i.place)", "self.write.place.eq(ends.now)"),
    ("self.write.place.eq(ends.now + self.i.place)", "self.write.place.eq(ends.row + self.i.place)"),
    ("self.write.valid.eq(moves & ~(desc.p.last & desc.p.error))", "self.write.valid.eq(pushes.i.valid)"),
])
def test_broken_heads(formal, line, instead):
    formal.refutes(lambda p: hands_on(p, line, instead), 24)


def test_broken_store_with_heads(formal):
    fits = "fits.eq((row.reserved - row.pushed)[:count] >= self.i_push.p.count)"
    formal.refutes(lambda p: hands_on(p, store=fits, broken_store="fits.eq(1)"), 24)


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
