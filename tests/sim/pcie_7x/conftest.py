"""The model of the block with a partner on its link and a user below, both in Python."""

import random
from types import SimpleNamespace

import pytest

from ringnic.hdl.spec.pcie import Cfg, DevCtl, Exp
from ringnic.sim.pcie_7x import Block

from ...kit import tlps
from ...kit.simulation import Simulation, cycles, until

LANES = {64: 1, 128: 4}
RID, ROOT = 0x0520, 0x0008     # bus 5, device 4, function 0
BAR = 0xfe10_0000
EXP, MSIX = 0x60, 0x9c
QUIET = 60                     # cycles in which all that comes has come


def swapped(data):
    """Each DW with its bytes in reverse order."""
    return b"".join(data[at:at + 4][::-1] for at in range(0, len(data), 4))


class Rig:
    """Attributes: ``sent``, TLPs that the block sent to the root complex; ``came``, what came to the user, with ``tlp``, ``bar``,
    ``poisoned``, ``ecrc`` and ``straddled``; ``take`` whether the user takes anything."""
    def __init__(self, width, seed, *, pause=0.0, stall=0, limit=20000, take=True, **options):
        self.width, self.rng = width, random.Random(seed)
        self.dut = dut = Block(width=width, lanes=LANES[width], **options)
        self.is_down = down = ~dut.link_up | dut.hot_reset | ~dut.sys_rst_n
        self.sim = Simulation(dut, self.rng, pause=pause, limit=limit, forget=down)
        self.stall, self.take, self.drain = stall, take, True
        self.down, self.sent, self.came = [], [], []
        self.drops = self.messages = 0
        for part in (self._set_up, self._link_rx, self._link_tx, self._user_rx, self._counts):
            self.sim.background(part)

    def run(self, testbench):
        async def whole(ctx):
            await until(ctx, lambda: ctx.get(self.dut.user_lnk_up))
            await testbench(ctx, self.dut)
            assert not ctx.get(self.dut.misuse), "the user of this bench broke a rule"
        self.sim.run(whole)

    async def _set_up(self, ctx):
        for name in ("stall_rx", "stall_tx"):
            ctx.set(getattr(self.dut, name), self.stall)
        ctx.set(self.dut.seed, self.rng.randrange(1, 1 << 32))

    async def _link_rx(self, ctx):
        while True:
            if self.down:
                await tlps.put(ctx, self.dut.link_rx, self.down[0], self.width, self.sim.idle)
                self.down.pop(0)
            else:
                await ctx.tick()

    async def _link_tx(self, ctx):
        """As :func:`tlps.take`, but the link may go down in the middle of a TLP."""
        link, raw = self.dut.link_tx, b""
        while True:
            ready = self.drain and not self.sim.idle()
            ctx.set(link.ready, ready)
            _, _, down, valid, beat = await ctx.tick().sample(self.is_down, link.valid, link.payload)
            if down:
                raw = b""
            elif valid and ready:
                assert beat.dws == self.width // 32 or (beat.last and beat.dws)
                raw += int(beat.data).to_bytes(self.width // 8, "little")[:4 * beat.dws]
                if beat.last:
                    self.sent.append(raw)
                    raw = b""

    async def _counts(self, ctx):
        while True:
            _, _, dropped, message = await ctx.tick().sample(self.dut.tx_err_drop, self.dut.cfg_msg_received)
            self.drops += dropped
            self.messages += message

    async def _user_rx(self, ctx):
        dut, raw, one = self.dut, b"", None
        ports = [getattr(dut, f"m_axis_rx_{name}") for name in ("tdata", "tkeep", "tlast", "tuser")]
        offered = None
        while True:
            ready = self.take and not self.sim.idle()
            ctx.set(dut.m_axis_rx_tready, ready)
            _, _, reset, valid, *beat = await ctx.tick().sample(dut.user_reset_out, dut.m_axis_rx_tvalid, *ports)
            if reset:
                raw, one, offered = b"", None, None
                continue
            assert offered is None or (valid and beat == offered), "the block withdrew or changed what it offers"
            offered = beat if valid and not ready else None
            if not (valid and ready):
                continue
            data, keep, last, user = beat
            data = data.to_bytes(self.width // 8, "little")
            for first, piece, end in self._pieces(data, keep, last, user, one is not None):
                if first:
                    assert one is None, "a packet begins within another"
                    one = SimpleNamespace(bar=user >> 2 & 0xff, poisoned=user >> 1 & 1, ecrc=0, straddled=first == 8, tlp=b"")
                elif piece is data or not end:
                    assert user >> 1 & 1 == one.poisoned and user >> 2 & 0xff == one.bar
                raw += piece
                if end:
                    one.tlp, one.ecrc = swapped(raw), user & 1
                    self.came.append(one)
                    raw, one = b"", None

    def _pieces(self, data, keep, last, user, inside):
        """``(first, bytes, last)`` of each packet in a beat; ``first`` is where it begins, in a form that is true."""
        sof, eof = user >> 10 & 0x1f, user >> 17 & 0x1f
        if self.width == 64:
            assert keep in ((0x0f, 0xff) if last else (0xff,)), hex(keep)
            return [(not inside and "begin", data[:keep.bit_count()], last)]
        # PG054: 128 bits have no tkeep and no tlast.
        assert (keep, last) == (0xffff, 0)
        assert sof in (0b00000, 0b10000, 0b11000)
        begin, end = sof & 15 if sof >> 4 else None, (eof & 15) + 1 if eof >> 4 else None
        if begin == 8:
            assert inside and end in (4, 8), "only behind the end of another"
            return [(False, data[:end], True), (8, data[8:], False)]
        assert inside == (begin is None)
        return [("begin" if begin == 0 else False, data[:end], end is not None)]

    # What a test does

    def put(self, *packets):
        self.down += packets

    async def settle(self, ctx, count=QUIET):
        await until(ctx, lambda: not self.down)
        await cycles(ctx, count)

    async def answer(self, ctx, tlp):
        """Send a request and return the next TLP that the block sends, parsed."""
        before = len(self.sent)
        self.put(tlp)
        await until(ctx, lambda: len(self.sent) > before, 500)
        return tlps.parse(self.sent[before])

    async def config_read(self, ctx, at, size=4):
        cpl = await self.answer(ctx, tlps.config(False, at & ~3, target=RID, rid=ROOT))
        assert (cpl.status, cpl.byte_count, cpl.lower, cpl.rid) == (0, 4, 0, ROOT)
        return int.from_bytes(cpl.data[at & 3:][:size], "little")

    async def config_write(self, ctx, at, value, size=4):
        first = ((1 << size) - 1) << (at & 3)
        data = (value << 8 * (at & 3)).to_bytes(4, "little")
        cpl = await self.answer(ctx, tlps.config(True, at & ~3, first, data=data, target=RID, rid=ROOT))
        assert (cpl.status, cpl.data, cpl.byte_count) == (0, b"", 4)

    async def wake(self, ctx, command=0x0006, device_control=0x2810 | 2 << DevCtl.MAX_PAYLOAD):
        """As a host's firmware does: BAR 0, memory and bus master, payload."""
        await self.config_write(ctx, Cfg.BAR0, BAR)
        await self.config_write(ctx, EXP + Exp.DEV_CTL, device_control, 2)
        await self.config_write(ctx, Cfg.COMMAND, command, 2)

    async def offer(self, ctx, tlp, *, user=0, pause=None, keep=None):
        """Send a TLP as the user. ``keep``: of the last beat, if not by its length."""
        dut, step = self.dut, self.width // 8
        numbers = swapped(tlp)
        for at in range(0, len(tlp), step):
            while self.sim.idle() if pause is None else pause(at):
                await ctx.tick()
            piece, last = numbers[at:at + step], at + step >= len(tlp)
            ctx.set(dut.s_axis_tx_tdata, int.from_bytes(piece.ljust(step, b"\xa5"), "little"))
            ctx.set(dut.s_axis_tx_tkeep, keep if last and keep is not None else (1 << len(piece)) - 1)
            ctx.set(dut.s_axis_tx_tlast, last)
            ctx.set(dut.s_axis_tx_tuser, user(last) if callable(user) else user)
            ctx.set(dut.s_axis_tx_tvalid, 1)
            taken = False
            while not taken:
                _, _, taken = await ctx.tick().sample(dut.s_axis_tx_tready)
            ctx.set(dut.s_axis_tx_tvalid, 0)


@pytest.fixture(params=[64, 128])
def rig(request, seed):
    """Make a :class:`Rig` of this width with this test's seed."""
    def make(**options):
        return Rig(request.param, seed, **options)
    make.width = request.param
    return make


@pytest.fixture(params=[(0, 0), (0.3, 90)], ids=["prompt", "stalls"])
def pauses(request):
    """With and without pauses on both sides."""
    return {"pause": request.param[0], "stall": request.param[1]}
