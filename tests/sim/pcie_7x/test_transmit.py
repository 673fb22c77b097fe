"""The transmit interface: PG054, "Transmit Interface", "Transmitting Outbound Packets", "Flow Control Credit Information"."""

import pytest

from ringnic.hdl.spec.pcie_7x import FcSel, TxUser

from ...kit import tlps
from ...kit.simulation import cycles, until
from .conftest import RID, ROOT

MEMORY = 0x1234_5000
INFINITE = {"ph": 0x80, "pd": 0x800, "nph": 0x80, "npd": 0x800, "cplh": 0x80, "cpld": 0x800}
MOST = 30   # TLPs that wait


def write(rng, dws, **fields):
    return tlps.memory(True, MEMORY, dws, rid=RID, data=rng.randbytes(4 * dws), **fields)


def read(tag=0, **fields):
    return tlps.memory(False, MEMORY, 16, rid=RID, tag=tag, **fields)


def completion(rng, dws):
    return tlps.completion(1, dws, 4 * dws, 0, rng.randbytes(4 * dws), rid=ROOT, completer=RID)


def mixed(rng, count):
    makes = [lambda: write(rng, rng.choice([1, 2, 3, 4, 5, 6, 31, 32, 128])), lambda: read(dw4=rng.random() < 0.5),
             lambda: completion(rng, rng.randrange(1, 5)), lambda: tlps.completion(1, 0, 4, 0, None, status=1, rid=ROOT)]
    return [rng.choice(makes)() for _ in range(count)]


def test_order_and_bytes(rig, pauses, rng):
    """Numbers to wire bytes, in order; tready and link pause at random, and so does tvalid, within packets too."""
    bench, packets = rig(**pauses), mixed(rng, 30)

    async def testbench(ctx, dut):
        for tlp in packets:
            await bench.offer(ctx, tlp)
        await until(ctx, lambda: len(bench.sent) == len(packets))
        assert bench.sent == packets and not bench.drops
    bench.run(testbench)


def test_a_beat_each_cycle(rig, rng):
    bench = rig()
    packets = [write(rng, 13) for _ in range(6)]        # 16 DWs each

    async def testbench(ctx, dut):
        for tlp in packets:
            await bench.offer(ctx, tlp)
        await cycles(ctx, 16 * 32 // bench.width + 3)
        assert bench.sent == packets
    bench.run(testbench)


def test_dropped(rig, rng):
    """tx_err_drop: shorter or longer than it says, more than the block supports (512 bytes), a prefix; the next one goes."""
    bench = rig()
    good = write(rng, 6)
    bad = [good[:-4], good + b"abcd", write(rng, 129), write(rng, 300), good[:12], read() + b"abcd", b"\x80" + good[1:]]

    async def testbench(ctx, dut):
        for tlp in bad:
            await bench.offer(ctx, tlp)
            await bench.offer(ctx, good)
        await cycles(ctx, 150)
        assert bench.sent == len(bad) * [good] and bench.drops == len(bad)
    bench.run(testbench)


def test_discontinued(rig, rng):
    """tuser[3] with tlast: the TLP is not sent, and that is no error of the user's."""
    bench = rig()
    good = write(rng, 6)

    async def testbench(ctx, dut):
        await bench.offer(ctx, write(rng, 8), user=lambda last: last << TxUser.DISCONTINUE)
        await bench.offer(ctx, write(rng, 8)[:-8], user=lambda last: last << TxUser.DISCONTINUE)
        await bench.offer(ctx, good)
        await cycles(ctx, 30)
        assert bench.sent == [good] and not bench.drops
    bench.run(testbench)


def test_streaming(rig, rng):
    """tuser[2]: a pause of tvalid within the packet drops it; one of tready does not."""
    bench = rig()
    packet = write(rng, 20)
    streaming = 1 << TxUser.STREAMING

    async def testbench(ctx, dut):
        ctx.set(dut.stall_tx, 128)
        await bench.offer(ctx, packet, user=streaming, pause=lambda at: False)
        ctx.set(dut.stall_tx, 0)
        await cycles(ctx, 40)
        assert bench.sent == [packet] and not bench.drops
        gaps = iter([True, *200 * [False]])
        await bench.offer(ctx, packet, user=streaming, pause=lambda at: at == 16 and next(gaps))
        await cycles(ctx, 40)
        assert bench.sent == [packet] and bench.drops == 1
    bench.run(testbench)


def test_poisoned(rig, rng):
    """tuser[1], in any beat: EP of the header is set."""
    bench = rig()

    async def testbench(ctx, dut):
        for user in (1 << TxUser.ERROR_FORWARD, lambda last: last << TxUser.ERROR_FORWARD, 0):
            await bench.offer(ctx, write(rng, 9), user=user)
        await until(ctx, lambda: len(bench.sent) == 3)
        assert [tlps.parse(tlp).ep for tlp in bench.sent] == [1, 1, 0]
    bench.run(testbench)


def test_buffers(rig, rng):
    """tx_buf_av counts the TLPs that still fit; with none tready is low."""
    bench = rig()
    packet = write(rng, 1)

    async def testbench(ctx, dut):
        bench.drain = False
        assert ctx.get(dut.tx_buf_av) == MOST
        for k in range(MOST + 2):              # one is at the link's register, one on its way there
            await bench.offer(ctx, packet)
            if ctx.get(dut.tx_buf_av) == 0:
                break
        assert MOST <= k + 1 <= MOST + 2
        await cycles(ctx, 5)
        if ctx.get(dut.tx_buf_av) == 0:
            assert not ctx.get(dut.s_axis_tx_tready)
        bench.drain = True
        await until(ctx, lambda: ctx.get(dut.tx_buf_av) == MOST)
        assert ctx.get(dut.s_axis_tx_tready)
    bench.run(testbench)


def test_credits_of_each_class(rig, rng):
    """A TLP waits while the partner has no room of its class, headers or data, and what is behind it waits as well."""
    bench = rig()
    cases = [("ph", 0, write(rng, 4)), ("pd", 1, write(rng, 5)), ("nph", 0, read()), ("cplh", 0, completion(rng, 1)),
             ("cpld", 0, completion(rng, 1))]

    async def testbench(ctx, dut):
        for name, level, tlp in cases:
            bench.sent.clear()
            ctx.set(dut.link_credits, {**INFINITE, name: level})
            await bench.offer(ctx, tlp)
            await cycles(ctx, 20)
            assert not bench.sent, name
            ctx.set(dut.link_credits, {**INFINITE, name: level + 1})
            await cycles(ctx, 20)
            assert bench.sent == [tlp], name
        # One that needs no data is not held up by data.
        ctx.set(dut.link_credits, {**INFINITE, "pd": 0, "npd": 0, "cpld": 0})
        await bench.offer(ctx, read())
        await cycles(ctx, 20)
        assert len(bench.sent) == 2
    bench.run(testbench)


def test_credits_shown(rig, rng):
    """fc_sel 4: what the partner can take, less what waits in the block; infinite ones read 0x80 and 0x800."""
    bench = rig()
    level = {"ph": 9, "pd": 100, "nph": 7, "npd": 5, "cplh": 3, "cpld": 30}
    shown = list(level)

    def read_all(ctx, dut):
        return {name: ctx.get(getattr(dut, f"fc_{name}")) for name in shown}

    async def testbench(ctx, dut):
        ctx.set(dut.fc_sel, FcSel.TRANSMIT_AVAILABLE)
        await cycles(ctx, 3)
        assert read_all(ctx, dut) == INFINITE
        ctx.set(dut.link_credits, level)
        await cycles(ctx, 3)
        assert read_all(ctx, dut) == level
        bench.drain = False
        for tlp in (write(rng, 1), write(rng, 1), write(rng, 1), read(1), write(rng, 5), read(2), completion(rng, 9)):
            await bench.offer(ctx, tlp)     # the first one's first beat leaves at once
        await cycles(ctx, 5)
        assert read_all(ctx, dut) == {**level, "ph": 9 - 3, "pd": 100 - 2 - 2, "nph": 7 - 2, "cplh": 3 - 1, "cpld": 30 - 3}
        ctx.set(dut.fc_sel, 0)
        await cycles(ctx, 3)
        assert not any(read_all(ctx, dut).values())
    bench.run(testbench)


def test_the_blocks_own_tlps_come_between(rig, rng):
    """tx_cfg_req: a completion of the block's waits for tx_cfg_gnt, then for the end of a packet."""
    bench = rig()
    packets = [write(rng, 20) for _ in range(6)]

    async def testbench(ctx, dut):
        ctx.set(dut.tx_cfg_gnt, 0)
        bench.put(tlps.config(False, 0, target=RID, rid=ROOT))
        await until(ctx, lambda: ctx.get(dut.tx_cfg_req))
        for tlp in packets[:2]:
            await bench.offer(ctx, tlp)
        await cycles(ctx, 30)
        assert bench.sent == packets[:2] and ctx.get(dut.tx_cfg_req)
        ctx.set(dut.tx_cfg_gnt, 1)
        for tlp in packets[2:]:
            await bench.offer(ctx, tlp)
        await cycles(ctx, 50)
        own = [tlp for tlp in bench.sent if tlp not in packets]
        assert [tlp for tlp in bench.sent if tlp in packets] == packets
        assert len(own) == 1 and tlps.parse(own[0]).data == bytes.fromhex("f41a4110")
        assert not ctx.get(dut.tx_cfg_req)
    bench.run(testbench)


@pytest.mark.parametrize("how", ["withdrawn", "changed", "keep", "digest", "discontinued"])
def test_misuse(rig, rng, how):
    """AMBA AXI-Stream, 2.2.1 "TVALID signaling": what is offered stays; and values that PG054 does not allow."""
    bench = rig()
    packet = write(rng, 8)

    async def testbench(ctx, dut):
        assert not ctx.get(dut.misuse)
        if how in ("withdrawn", "changed"):
            ctx.set(dut.stall_tx, 255)
            ctx.set(dut.s_axis_tx_tdata, 1)
            ctx.set(dut.s_axis_tx_tvalid, 1)
            ready = True
            while ready:
                _, _, ready = await ctx.tick().sample(dut.s_axis_tx_tready)
            ctx.set(*((dut.s_axis_tx_tvalid, 0) if how == "withdrawn" else (dut.s_axis_tx_tdata, 2)))
        elif how == "keep":
            await bench.offer(ctx, packet, keep=0x1)
        elif how == "digest":
            await bench.offer(ctx, packet, user=1 << TxUser.ECRC_GENERATE)
        else:
            await bench.offer(ctx, packet, user=1 << TxUser.DISCONTINUE)
        await cycles(ctx, 3)
        assert ctx.get(dut.misuse)
    with pytest.raises(AssertionError, match="broke a rule"):
        bench.run(testbench)
