"""The receive interface: PG054, "Receive Interface", "Receiving Inbound Packets"; order, PCI Express Base 5.0, 2.4.1."""

import pytest

from ringnic.hdl.spec.pcie import Cfg, Exp
from ringnic.hdl.spec.pcie_7x import WINDOW_START

from ...kit import tlps
from ...kit.simulation import cycles, until
from .conftest import BAR, EXP, RID, ROOT

BAR_0 = 0x01


def write(rng, at, dws, **fields):
    return tlps.memory(True, BAR + at, dws, rid=ROOT, data=rng.randbytes(4 * dws), **fields)


def read(at, dws=1, **fields):
    return tlps.memory(False, BAR + at, dws, rid=ROOT, **fields)


def completion(rng, dws, tag=0, **fields):
    return tlps.completion(tag, dws, 4 * dws, 0, rng.randbytes(4 * dws), rid=RID, **fields)


def mixed(rng, count):
    """TLPs of every kind that comes to the user, and of every length that matters."""
    makes = [lambda: write(rng, 4 * rng.randrange(64), rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 31, 32])),
             lambda: read(4 * rng.randrange(64), rng.randrange(1, 9), tag=rng.randrange(32)),
             lambda: completion(rng, rng.choice([1, 2, 3, 4, 5, 16, 128])),
             lambda: tlps.completion(3, 0, 4, 0, None, status=1, rid=RID),
             lambda: tlps.config(False, WINDOW_START + 4 * rng.randrange(22), target=RID, rid=ROOT)]
    return [rng.choice(makes)() for _ in range(count)]


def test_order_and_bytes(rig, pauses, rng):
    """DWs are numbers with 64 and 128 bits, headers and data; everything comes in its order, whole."""
    bench, packets = rig(**pauses, limit=20000), mixed(rng, 50)

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(*packets)
        await until(ctx, lambda: len(bench.came) == len(packets), 20000)
        assert [one.tlp for one in bench.came] == packets
        # Only memory requests hit a BAR.
        assert [one.bar for one in bench.came] == [BAR_0 if tlp[0] & 0x1f == 0 else 0 for tlp in packets]
        assert not any(one.poisoned or one.ecrc for one in bench.came)
        assert not ctx.get(dut.overflow)
    bench.run(testbench)


def test_straddle(rig, rng):
    """128 bits: a packet that ends in the lower half of a beat shares it with the next, if that is there: one and the same number
    of beats however packets lie. 64 bits: never."""
    bench = rig(take=False)
    lengths = [2, 3, 1, 2, 4, 3, 2, 2, 5, 1, 6, 7]     # DWs of data behind three of header
    packets = [write(rng, 0, dws) for dws in lengths]

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(*packets)
        await bench.settle(ctx)
        bench.take = True
        await until(ctx, lambda: len(bench.came) == len(packets))
        assert [one.tlp for one in bench.came] == packets
        # By hand: a packet begins in DW 2 where the one before ends in DW 0 or 1.
        expected, at = [], 0
        for dws in lengths:
            expected.append(at == 2)
            end = (at + 3 + dws) % 4
            at = 2 if end in (1, 2) else 0
        if bench.width == 128:
            assert any(expected) and [one.straddled for one in bench.came[1:]] == expected[1:]
        else:
            assert not any(one.straddled for one in bench.came)
    bench.run(testbench)


def test_a_beat_each_cycle(rig, rng):
    """Packets of ten beats with 64 bits, completions of 64 bytes, follow each other without a pause."""
    bench = rig()
    packets = [completion(rng, 16) for _ in range(6)]

    async def testbench(ctx, dut):
        bench.put(*packets)
        await until(ctx, lambda: len(bench.came) == 1)
        await cycles(ctx, 5 * (10 if bench.width == 64 else 5))
        assert len(bench.came) == 6
    bench.run(testbench)


@pytest.mark.parametrize("port", ["rx_np_ok", "rx_np_req"])
def test_non_posted_wait(rig, rng, port):
    """While the user wants none, posted requests and completions pass; then they come in their order."""
    bench = rig()
    reads = [read(4 * k, tag=k) for k in range(3)] + [tlps.config(False, WINDOW_START, target=RID, rid=ROOT)]
    others = [write(rng, 0, 1), completion(rng, 4), write(rng, 4, 3), completion(rng, 1)]

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        ctx.set(getattr(dut, port), 0)
        bench.put(*(tlp for pair in zip(reads, others) for tlp in pair))
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == others
        ctx.set(getattr(dut, port), 1)
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == others + reads
    bench.run(testbench)


def test_a_read_does_not_pass_a_write(rig, rng):
    """2.4.1 "Transaction Ordering": while the user takes nothing both wait, and the write comes first."""
    bench = rig(take=False)
    packets = [write(rng, 0, 32), read(0), write(rng, 8, 1), read(8)]

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(*packets)
        await bench.settle(ctx)
        bench.take = True
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == packets
    bench.run(testbench)


def test_poisoned_and_digest_errors(rig, rng):
    """tuser[1] all through a packet; tuser[0] at its end."""
    bench = rig()
    packets = [write(rng, 0, 9), write(rng, 0, 9, ep=1), completion(rng, 16, ep=1), completion(rng, 2), write(rng, 4, 2)]

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(*packets[:3])
        await bench.settle(ctx)
        ctx.set(dut.link_ecrc_error, 1)
        bench.put(packets[3])
        await until(ctx, lambda: not bench.down)
        ctx.set(dut.link_ecrc_error, 0)
        bench.put(packets[4])
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == packets
        assert [one.poisoned for one in bench.came] == [0, 1, 1, 0, 0]
        assert [one.ecrc for one in bench.came] == [0, 0, 0, 1, 0]
    bench.run(testbench)


def test_digest_stays(rig, rng):
    """The block does not trim a digest (the IP's property Trim_TLP_Digest is off)."""
    bench = rig()
    tlp = bytearray(write(rng, 0, 2) + b"\1\2\3\4")
    tlp[2] |= 0x80

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(bytes(tlp))
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == [bytes(tlp)]
    bench.run(testbench)


def test_the_buffer_is_as_large_as_the_specification_says(rig):
    dut = rig().dut
    assert (dut.cpl_headers, dut.cpl_units) == (72, 850)


@pytest.mark.parametrize("dws, headers, units, fits", [
    (16, 3, 100, 3), (16, 20, 12, 3), (4, 20, 3, 3), (5, 20, 4, 2), (128, 20, 64, 2)])
def test_completion_buffer(rig, rng, dws, headers, units, fits):
    """Headers, and data in units of 16 bytes: what fits does no harm, one more is an overflow; so it stays."""
    bench = rig(take=False, cpl_headers=headers, cpl_units=units)

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(*(completion(rng, dws) for _ in range(fits)))
        await bench.settle(ctx, 5)
        assert not ctx.get(dut.overflow)
        bench.put(completion(rng, dws))
        await bench.settle(ctx, 5)
        assert ctx.get(dut.overflow)
        bench.take = True
        await until(ctx, lambda: len(bench.came) == fits + 1)
        await cycles(ctx, 5)
        assert ctx.get(dut.overflow)
    bench.run(testbench)


def test_completion_buffer_is_freed(rig, rng):
    """What the user took makes room; writes take none."""
    bench = rig(cpl_headers=3, cpl_units=12)

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        for _ in range(12):
            bench.put(completion(rng, 16), write(rng, 0, 16))
            await until(ctx, lambda: not bench.down)
        await bench.settle(ctx, 25)
        assert len(bench.came) == 24 and not ctx.get(dut.overflow)
    bench.run(testbench)


def test_bar_filter(rig, rng):
    """Only what lies in an enabled BAR comes to the user; else the block refuses what wants an answer (2.3.1)."""
    bench = rig()
    inside = [read(0), read(0x7ffc), write(rng, 0x7ff8, 2)]
    outside = [tlps.memory(False, BAR + 0x8000, 3, 0xe, 0x1, rid=ROOT, tag=9), tlps.memory(False, BAR - 4, rid=ROOT, tag=10),
               tlps.memory(False, BAR | 1 << 32, rid=ROOT, tag=11, dw4=True),
               tlps.memory(True, BAR - 8, 1, rid=ROOT, data=b"abcd"),
               tlps.memory(False, BAR, type=2, rid=ROOT, tag=12)]      # I/O

    async def testbench(ctx, dut):
        await bench.config_write(ctx, Cfg.BAR0, BAR)
        bench.put(*inside)
        await bench.settle(ctx)
        assert not bench.came and len(bench.sent) == 3       # memory is not enabled; one answer is of the configuration write
        await bench.wake(ctx)
        bench.sent.clear()
        bench.put(*inside, *outside)
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == inside
        answers = [tlps.parse(tlp) for tlp in bench.sent]
        assert [(one.kind, one.status, one.tag, one.rid, one.cid) for one in answers] == [
            (tlps.CPL, 1, tag, ROOT, RID) for tag in (9, 10, 11, 12)]
        # 2.2.9: bytes that are left, and where the first lies; of I/O there is no such thing.
        assert [(one.byte_count, one.lower) for one in answers] == [(8, 1), (4, 0x7c), (4, 0), (4, 0)]
    bench.run(testbench)


def test_a_locked_read_that_nobody_claims(rig):
    """2.2.9: its completion is a locked one, and an atomic operation's is not."""
    bench = rig()

    async def testbench(ctx, dut):
        locked = await bench.answer(ctx, tlps.memory(False, 0x1000, type=1, rid=ROOT))
        assert (locked.kind, locked.status) == (tlps.CPL_LOCKED, 1)
        atomic = await bench.answer(ctx, tlps.memory(True, 0x1000, type=0x0c, rid=ROOT, data=b"abcd"))
        assert (atomic.kind, atomic.status, atomic.byte_count) == (tlps.CPL, 1, 4)
    bench.run(testbench)


def test_malformed(rig, rng):
    """2.2.2, 2.3: shorter or longer than it says, larger than Max_Payload_Size, a prefix, no known type: nobody gets it."""
    bench = rig()
    good = write(rng, 0, 32)
    bad = [good[:-4], good + b"abcd", write(rng, 0, 33), completion(rng, 33), b"\x80" + good[1:], b"\x1f" + good[1:],
           good[:12], read(0)[:8]]

    async def testbench(ctx, dut):
        await bench.wake(ctx, device_control=0)          # 128 bytes
        bench.sent.clear()
        bench.put(*(tlp for one in bad for tlp in (one, good)))
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == len(bad) * [good] and not bench.sent
        assert await bench.config_read(ctx, EXP + Exp.DEV_STA, 2) == 1 << 2     # fatal
    bench.run(testbench)


def test_latency(rig, rng):
    """What :class:`Receive` says of itself."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(write(rng, 0, 32))
        await until(ctx, lambda: not bench.down)   # the testbench goes on in the cycle after the last beat
        waited = 0
        while not ctx.get(dut.m_axis_rx_tvalid):
            await ctx.tick()
            waited += 1
        assert waited == (1 if bench.width == 64 else 2)
    bench.run(testbench)
