"""Places in the reorder buffer to answers, and answers to their clients."""

import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import connect

from ringnic.hdl.pcie.dma_drain import Answers, Drain
from ringnic.hdl.pcie.dma_seams import tag_info

from ...kit import streams
from ...kit.simulation import Simulation
from ...kit.simulator import Simulator

TAGS, SLOT, CLIENTS = 8, 128, 2


def request(offset, length, last):
    return {"word": 0, "offset": offset, "end": offset + length, "last": last}


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
    m.submodules.deliver = deliver = Answers(width, CLIENTS)
    connect(m, dut.o, deliver.i)
    m.submodules.buffer = buffer = Memory(shape=width, depth=dut.rows, init=[
        int.from_bytes(content[at:at + size], "little") for at in range(0, len(content), size)])
    read = buffer.read_port()
    info = [Signal(tag_info(SLOT), name=f"info_{k}") for k in range(TAGS)]
    bad, head = Signal(TAGS), [Signal(range(TAGS), name=f"head_{k}") for k in range(CLIENTS)]
    m.d.comb += [read.addr.eq(dut.row), read.en.eq(dut.row_en), dut.row_data.eq(read.data),
                 dut.look.info.eq(Array(info)[dut.look.tag]), dut.look.failed.eq(bad.bit_select(dut.look.tag, 1)),
                 dut.head.eq(Array(head)[dut.client])]
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
                length = rng.randint(1, SLOT - offset)
                infos[tag] = request(offset, length, k == count - 1)
                failed[tag] = rng.random() < 0.15
                error |= failed[tag]
                if not error:
                    body += content[SLOT * tag + offset:SLOT * tag + offset + length]
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
                    ctx.set(head[client], tags[0] if tags else 0)
                _, _, pop, client, free, tag, error, busy = await ctx.tick().sample(
                    dut.pop, dut.client, dut.look.free, dut.look.free_tag, dut.error, dut.busy | deliver.busy)
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
            port, body = deliver.beats[client], b""
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
            ctx.set(dut.look.info, request(0, 8, last))
            ctx.set(dut.look.failed, failed)
            ctx.set(dut.ready, 1)
            await ctx.tick()
            ctx.set(dut.ready, 0)
            for _ in range(6):
                _, _, valid, beat = await ctx.tick().sample(dut.o.valid, dut.o.p.beat)
                if valid:
                    return beat.error
            return None
        ctx.set(dut.o.ready, 1)
        assert await give(1, 0) is None
        assert await give(0, 1) == 1    # the failed one was of this request
        assert await give(1, 0) is None
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        assert await give(0, 1) == 0
    sim.add_testbench(testbench)
    sim.run()


def test_a_row_a_cycle():
    """Two cycles behind the row, whosever it is; and none is lost or given twice when a client stops taking for a while."""
    dut, rows = Answers(64, 3), [(k % 3, 0x1111 * k) for k in range(30)]
    simulation, got = Simulation(dut), []

    async def feed(ctx):
        for client, value in rows:
            await streams.send(ctx, dut.i, {"client": client, "offset": 0, "beat": {"data": value, "count": 8}})

    async def take(ctx):
        cycle, stops = 0, {12, 13, 14, 20}
        while len(got) < len(rows):
            for beat in dut.beats:
                ctx.set(beat.ready, cycle not in stops)
            _, _, *values = await ctx.tick().sample(*(signal for beat in dut.beats for signal in (beat.valid, beat.p.data)))
            valid = values[::2]
            assert sum(valid) <= 1
            if any(valid) and cycle not in stops:
                client = valid.index(1)
                got.append((client, values[2 * client + 1]))
            cycle += 1
        assert cycle == 2 + len(rows) + len(stops)
    simulation.run(feed, take)
    assert got == rows


def test_what_is_discarded_needs_no_client():
    dut = Answers(64, 2)

    async def main(ctx):
        for _ in range(4):
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.busy) and not ctx.get(dut.i.ready)
        ctx.set(dut.discard, 1)
        await ctx.tick().repeat(4)
        assert not ctx.get(dut.busy)
    Simulation(dut, forget=dut.discard).run(main)
