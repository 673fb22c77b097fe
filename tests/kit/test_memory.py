"""Memory: what is where, and what is noticed. DMA ports: every length and alignment, and answers that fail."""

import random

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
import pytest

from ringnic.hdl.lib.dma import ReadPort, WritePort
from tests.kit.memory import LOW, Memory, MemoryBench

TOP = (1 << 64) - 4096


def test_ranges():
    memory = Memory(1)
    first, top = memory.add(0x1000, 0x10), memory.add(TOP, 4096)
    second = memory.add(0x1010, 0x10)
    assert memory.read(0x1008, 16) == bytes(first[8:] + second[:8])
    assert memory.read((1 << 64) - 8, 8) == bytes(top[-8:]) and memory.holds((1 << 64) - 8, 8)
    assert not memory.holds((1 << 64) - 8, 9) and not memory.holds(0xfff, 2) and memory.read(0x101f, 8) == second[15:]
    memory.write(0x100e, b"abcd")
    assert (bytes(first[14:]), bytes(second[:2])) == (b"ab", b"cd")
    with pytest.raises(AssertionError, match="^there is memory at 0x1018"):
        memory.add(0x1018, 0x10)


@pytest.mark.parametrize("addr, size", [(0xfff, 1), (0x0fff, 2), (0x100f, 2), (0x1010, 1), (0, 4)])
def test_nothing_is_written_beside(addr, size):
    memory = Memory(1)
    memory.add(0x1000, 0x10)
    with pytest.raises(AssertionError, match=f"^write of {size} bytes at {addr:#x}, where nothing may be written"):
        memory.write(addr, bytes(size))


def test_what_was_written_is_claimed():
    memory = Memory(1)
    memory.add(0x1000, 0x10)
    memory.write(0x1002, b"abcd")
    assert memory.claim(0x1002, 3) == b"abc" and memory.written == {0x1005}
    with pytest.raises(AssertionError, match="^of 2 bytes at 0x1004 1 were not written"):
        memory.claim(0x1004, 2)


def test_everywhere():
    memory, same = Memory(1, everywhere=True), Memory(1, everywhere=True)
    start = memory.read(0xffe, 4)
    assert same.read(0xffe, 4) == start and len(set(memory.read(TOP, 64))) > 16
    memory.write(0xfff, b"xy")
    assert memory.read(0xffe, 4) == start[:1] + b"xy" + start[3:]


class Ports(wiring.Component):
    """Nothing but ports, which the test itself drives."""
    width = 64
    read: Out(ReadPort(64))
    write: Out(WritePort(64))

    def elaborate(self, platform):
        return Module()


@pytest.fixture
def bench(rng, seed):
    return MemoryBench(Ports(), rng, seed=seed, pause=0.2)


def reader(bench, requests, answers):
    async def ask(ctx):
        for addr, length in requests:
            await bench.send(ctx, bench.dut.read.req, {"addr": addr, "len": length})
        await bench.until(ctx, lambda: len(answers) == len(requests))
    data = bytearray()

    def beat(beat):
        data.extend(beat.data.to_bytes(8, "little")[:beat.count])
        if beat.last:
            answers.append((bytes(data), beat.error))
            data.clear()
    bench.serve_reads(bench.dut.read)
    bench.background(bench.collect_into, bench.dut.read.beat, beat)
    return ask


def test_reads(bench):
    requests, answers = [(0x1000 + at, length) for at in range(8) for length in (1, 7, 8, 9, 40)] + [(0xffd, 600)], []
    bench.run(reader(bench, requests, answers))
    assert answers == [(bytes(bench.memory[addr:addr + length]), 0) for addr, length in requests] and bench.reads == requests


def test_reads_that_fail(bench):
    bench.fails.add(0x1000)
    requests, answers = [(0x1000, 40), (0x1008, 8), (LOW - 4, 8), (1 << 40, 8), (LOW - 8, 8)], []
    bench.run(reader(bench, requests, answers))
    assert [error for _, error in answers] == [1, 0, 1, 1, 0]


def writer(bench, requests, last=lambda left: left <= 0):
    async def write(ctx):
        for addr, data in requests:
            await bench.send(ctx, bench.dut.write.req, {"addr": addr, "len": len(data)})
            for at in range(0, len(data), 8):
                await bench.send(ctx, bench.dut.write.data, {"data": int.from_bytes(data[at:at + 8].ljust(8, b"\xa5"), "little"),
                                                             "last": last(len(data) - at - 8)})
        await bench.until(ctx, lambda: len(bench.writes) == len(requests))
    bench.serve_writes(bench.dut.write)
    return write


def test_writes(bench):
    requests = [(0x1000 + 64 * n, random.Random(n).randbytes(n)) for n in range(1, 40)]
    before = bytes(bench.memory)
    bench.run(writer(bench, requests))
    for addr, data in requests:
        assert bench.memory[addr - 4:addr + 64] == before[addr - 4:addr] + data + before[addr + len(data):addr + 64]


@pytest.mark.parametrize("requests, last", [
    ([(LOW - 4, bytes(8))], lambda left: left <= 0), ([(0x1000, bytes(16))], lambda left: True),
    ([(0x1000, bytes(8))], lambda left: False)])
def test_writes_that_break_a_rule(bench, requests, last):
    with pytest.raises(AssertionError):
        bench.run(writer(bench, requests, last))
