"""The two sides of the reorder buffer, each alone: completions to their places, places to answers."""

import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.lib.memory import Memory

from ringnic.hdl.pcie.dma_reorder import Drain, Placer, tag_info

from ...kit.simulator import Simulator

RID, TAGS, SLOT, CLIENTS = 0x0508, 8, 128, 2


def completion(tag, data, byte_count, lower, *, status=0, rid=RID, tc=0, attr=0, ep=0):
    """A TLP; ``data`` is whole DWs, or None."""
    fmt = 0 if data is None else 2
    dws = [fmt << 29 | 0xa << 24 | tc << 20 | attr >> 2 << 18 | ep << 14 | (attr & 3) << 12 | len(data or b"") // 4,
           status << 13 | byte_count & 0xfff, rid << 16 | tag << 8 | lower & 0x7f]
    return b"".join(dw.to_bytes(4, "big") for dw in dws) + (data or b"")


NOTHING = {"finish": [], "spoil": [], "forget": [], "unexpected": 0, "malformed": 0, "broken": 0,
           "poisoned": 0, "refused": 0, "aborted": 0}


class PlacerBench:
    """A :class:`Placer` with what it looks up: requests of ``infos``, and which tags have had nothing yet."""
    def __init__(self, width, infos, late=0):
        self.dut = dut = Placer(width, TAGS, SLOT, CLIENTS)
        self.width, self.waiting, self.late = width, (1 << len(infos)) - 1, late
        self.buffer = bytearray(TAGS * SLOT)
        self.seen = NOTHING | {"finish": [], "spoil": [], "forget": []}
        self.infos = [Signal(tag_info(CLIENTS, SLOT), init=info, name=f"info_{k}") for k, info in enumerate(infos)]
        m = Module()
        m.submodules.dut = dut
        fresh = Signal(TAGS, init=-1)
        padded = [*self.infos, *[Signal.like(self.infos[0]) for _ in range(TAGS - len(infos))]]
        m.d.comb += [dut.info.eq(Array(padded)[dut.tag]), dut.fresh.eq(fresh.bit_select(dut.tag, 1))]
        with m.If(dut.begin):
            m.d.sync += fresh.bit_select(dut.begin_tag, 1).eq(0)
        self.sim = Simulator(m)
        self.sim.add_clock(8e-9)
        self.sim.add_testbench(self.watch, background=True)

    async def watch(self, ctx):
        dut, lanes = self.dut, self.width // 32
        names = ("finish", "finish_tag", "spoil", "spoil_tag", "forget", "forget_tag",
                 "unexpected", "malformed", "broken")
        signals = [getattr(dut, name) for name in names]
        faults = [name for name, _ in dut.faults.shape()]
        names += (*faults,)
        signals += [dut.faults[name] for name in faults]
        banks = [signal for k in range(lanes) for signal in (dut.row[k], dut.bank_data[k], dut.bank_en[k])]
        while True:
            values = (await ctx.tick().sample(*signals, *banks))[2:]
            now = dict(zip(names, values))
            for name in ("finish", "spoil", "forget"):
                if now[name]:
                    self.seen[name].append(now[f"{name}_tag"])
            for name in ("unexpected", "malformed", *faults):
                self.seen[name] += now[name]
            self.seen["broken"] += now["finish"] and now["broken"]
            for k in range(lanes):
                row, word, enable = values[len(names) + 3 * k:][:3]
                if enable:
                    at = 4 * (row * lanes + k)
                    self.buffer[at:at + 4] = word.to_bytes(4, "little")

    def run(self, tlps, rng=None):
        async def feed(ctx):
            dut, size = self.dut, self.width // 8
            ctx.set(dut.requester_id, RID)
            ctx.set(dut.waiting, self.waiting)
            ctx.set(dut.late, self.late)
            for tlp in tlps:
                for at in range(0, len(tlp), size):
                    while rng and rng.random() < 0.2:
                        await ctx.tick()
                    piece = tlp[at:at + size]
                    ctx.set(dut.cpl.payload, {"data": int.from_bytes(piece.ljust(size, b"\xa5"), "little"),
                                              "dws": len(piece) // 4, "last": at + size >= len(tlp)})
                    ctx.set(dut.cpl.valid, 1)
                    assert ctx.get(dut.cpl.ready)
                    await ctx.tick()
                    ctx.set(dut.cpl.valid, 0)
            for _ in range(4):
                await ctx.tick()
        self.sim.add_testbench(feed)
        self.sim.run()


def request(offset, length, client=0, last=1, word=0):
    return {"client": client, "offset": offset, "word": word, "len": length, "dws": (offset + length + 3) // 4, "last": last}


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_completions_of_all_tags_interleaved(rng, width):
    infos, bodies, trains = [], [], []
    for tag in range(TAGS):
        offset = rng.randrange(4)
        length = rng.randint(1, SLOT - offset)
        word = rng.randrange(32)
        info = request(offset, length, word=word)
        body = rng.randbytes(4 * info["dws"])
        at, train = 0, []
        while at < info["dws"]:
            stop = rng.randint(at + 1, info["dws"])
            begin = max(4 * at, offset)
            train.append(completion(tag, body[4 * at:4 * stop], offset + length - begin, begin + 4 * word))
            at = stop
        infos.append(info)
        bodies.append(body)
        trains.append(train)
    tlps = []
    while any(trains):
        train = rng.choice([train for train in trains if train])
        tlps.append(train.pop(0))
    bench = PlacerBench(width, infos)
    bench.run(tlps, rng)
    assert sorted(bench.seen["finish"]) == list(range(TAGS))
    assert not any(bench.seen[name] for name in bench.seen if name != "finish")
    for tag, body in enumerate(bodies):
        assert bench.buffer[SLOT * tag:SLOT * tag + len(body)] == body


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("case, tlp, seen", [
    ("refused", completion(0, None, 8, 0, status=1), dict(finish=[0], spoil=[0], refused=1)),
    ("refused by a reserved status", completion(0, None, 8, 0, status=7), dict(finish=[0], spoil=[0], refused=1)),
    ("aborted", completion(0, None, 8, 0, status=4), dict(finish=[0], spoil=[0], aborted=1)),
    ("poisoned", completion(0, bytes(8), 8, 0, ep=1), dict(finish=[0], spoil=[0], poisoned=1)),
    ("of another address", completion(0, bytes(8), 8, 4), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("of another byte", completion(0, bytes(8), 8, 1), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("of another traffic class", completion(0, bytes(8), 8, 0, tc=4), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("of other attributes", completion(0, bytes(8), 8, 0, attr=2), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("wrong byte count", completion(0, bytes(8), 12, 0), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("too long", completion(0, bytes(64), 8, 0), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("without data", completion(0, None, 8, 0), dict(finish=[0], spoil=[0], broken=1, unexpected=1)),
    ("shorter than it says", completion(0, bytes(8), 8, 0)[:-4], dict(finish=[0], malformed=1, broken=1)),
    ("longer than it says", completion(0, bytes(8), 8, 0) + bytes(4), dict(finish=[0], malformed=1, broken=1)),
    ("header cut", completion(0, bytes(8), 8, 0)[:8], dict(malformed=1)),
    ("another function's", completion(0, bytes(8), 8, 0, rid=RID ^ 1), dict(unexpected=1)),
    ("tag not asked for", completion(1, bytes(8), 8, 0), dict(unexpected=1)),
    ("tag that does not exist", completion(TAGS, bytes(8), 8, 0), dict(unexpected=1)),
    ("late, the last of it", completion(2, bytes(8), 8, 0), dict(unexpected=1, forget=[2])),
    ("late, more to come", completion(2, bytes(8), 12, 0), dict(unexpected=1)),
    ("late, refused", completion(2, None, 12, 0, status=4), dict(unexpected=1, forget=[2])),
])
def test_verdicts(width, case, tlp, seen):
    """And a good completion after it is taken for what it is."""
    bench = PlacerBench(width, [request(0, 8)], late=4)
    bench.buffer[:] = b"\xee" * len(bench.buffer)
    bench.run([tlp])
    assert bench.seen == NOTHING | seen
    assert bench.buffer[SLOT:] == b"\xee" * (len(bench.buffer) - SLOT)
    if not seen.get("finish"):
        bench = PlacerBench(width, [request(0, 8)], late=4)
        bench.run([tlp, completion(0, b"good day", 8, 0)])
        assert bench.seen["finish"] == [0] and bench.buffer[:8] == b"good day"


def test_id_based_ordering_is_the_completers():
    bench = PlacerBench(64, [request(0, 8)])
    bench.run([completion(0, b"good day", 8, 0, attr=4)])
    assert bench.seen == NOTHING | {"finish": [0]} and bench.buffer[:8] == b"good day"


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_answers_in_order(rng, width, pause):
    """Requests of one to three tags, some failed: each client's in order, of a failed one no more than came before."""
    dut = Drain(width, TAGS, SLOT, CLIENTS)
    size = width // 8
    content = rng.randbytes(TAGS * SLOT)
    rounds, got, freed, errors = 12, [[], []], [], 0
    infos, failed = [None] * TAGS, [0] * TAGS
    m = Module()
    m.submodules.dut = dut
    m.submodules.buffer = buffer = Memory(shape=width, depth=dut.rows, init=[
        int.from_bytes(content[at:at + size], "little") for at in range(0, len(content), size)])
    read = buffer.read_port()
    info = [Signal(tag_info(CLIENTS, SLOT), name=f"info_{k}") for k in range(TAGS)]
    bad = Signal(TAGS)
    m.d.comb += [read.addr.eq(dut.row), read.en.eq(dut.row_en), dut.row_data.eq(read.data),
                 dut.info.eq(Array(info)[dut.tag]), dut.failed.eq(bad.bit_select(dut.tag, 1))]
    sim = Simulator(m)
    sim.add_clock(8e-9)
    expected, lists = [[], []], [[], []]

    def plan():
        """Requests that use every tag once."""
        tags = rng.sample(range(TAGS), TAGS)
        while tags:
            client, count = rng.randrange(CLIENTS), rng.randint(1, min(3, len(tags)))
            body, error = b"", False
            for k in range(count):
                tag = tags.pop()
                offset = rng.randrange(4) if k == 0 else 0
                infos[tag] = request(offset, rng.randint(1, SLOT - offset), client, k == count - 1)
                failed[tag] = rng.random() < 0.15
                error |= failed[tag]
                if not error:
                    body += content[SLOT * tag + offset:SLOT * tag + offset + infos[tag]["len"]]
                lists[client].append(tag)
            expected[client].append((body, error))

    async def feed(ctx):
        nonlocal errors
        for _ in range(rounds):
            plan()
            for tag in range(TAGS):
                ctx.set(info[tag], infos[tag])
            ctx.set(bad, sum(bit << tag for tag, bit in enumerate(failed)))
            busy = True
            for _ in range(2000):
                for client, tags in enumerate(lists):
                    ctx.set(dut.ready[client], bool(tags))
                    ctx.set(dut.head[client], tags[0] if tags else 0)
                _, _, pop, client, free, tag, error, busy = await ctx.tick().sample(
                    dut.pop, dut.pop_client, dut.free, dut.free_tag, dut.error, dut.busy)
                if pop:
                    lists[client].pop(0)
                if free:
                    freed.append(tag)
                errors += error
                if not busy and not any(lists):
                    break
            assert not busy

    def sink(client):
        async def run(ctx):
            port, body = dut.beats[client], b""
            while True:
                ready = rng.random() >= pause
                ctx.set(port.ready, ready)
                _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
                if valid and ready:
                    assert beat.count or beat.error
                    body += beat.data.to_bytes(size, "little")[:beat.count]
                    if beat.last:
                        got[client].append((body, bool(beat.error)))
                        body = b""
        return run
    sim.add_testbench(feed)
    for client in range(CLIENTS):
        sim.add_testbench(sink(client), background=True)
    sim.run()
    assert got == expected
    assert sorted(freed) == sorted([*range(TAGS)] * rounds)
    assert errors == sum(error for answers in expected for _, error in answers)


def test_reset_forgets_the_failure_of_a_request_cut_short():
    dut = Drain(64, TAGS, SLOT, CLIENTS)
    sim = Simulator(dut)
    sim.add_clock(8e-9)

    async def testbench(ctx):
        async def give(failed, last):
            ctx.set(dut.info, request(0, 8, 0, last))
            ctx.set(dut.failed, failed)
            ctx.set(dut.ready, 1)
            await ctx.tick()
            ctx.set(dut.ready, 0)
            for _ in range(6):
                _, _, valid, beat = await ctx.tick().sample(dut.beats[0].valid, dut.beats[0].payload)
                if valid:
                    return beat.error
            return None
        ctx.set(dut.beats[0].ready, 1)
        assert await give(1, 0) is None
        assert await give(0, 1) == 1    # the failed one was of this request
        assert await give(1, 0) is None
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        assert await give(0, 1) == 0
    sim.add_testbench(testbench)
    sim.run()
