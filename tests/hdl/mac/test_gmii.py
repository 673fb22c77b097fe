"""GMII MAC: what is on the wire, what comes from it, at any ratio of the clocks."""

import zlib

import pytest
from amaranth.hdl import ClockDomain, Module

from ringnic.hdl.mac.gmii import Gmii

from ...kit.simulator import Simulator

GMII_PERIOD = 8e-9
PREAMBLE = b"\x55" * 7 + b"\xd5"
GROUP, OWN, OTHER = (bytes.fromhex(address) for address in ("0180c2000001", "525400524e01", "525400524e02"))
PAUSE = GROUP + bytes(6) + b"\x88\x08\x00\x01"


def with_fcs(frame):
    return frame + zlib.crc32(frame).to_bytes(4, "little")


def on_wire(frame):
    return PREAMBLE + with_fcs(frame.ljust(60, b"\0"))


class Bench:
    """A MAC with both its sides recorded."""
    def __init__(self, width=64, sync_period=GMII_PERIOD, ready=None, ppm=100, **kwargs):
        self.dut = Gmii(width=width, **{"max_frame": 9026} | kwargs)
        self.lanes = width // 8
        self.ready = ready or (lambda: True)
        self.wire = []                 # (frame with preamble, TX_ER seen, idle clocks before it)
        self.frames = []               # (frame, error)
        self.events = {name: 0 for name, _ in self.dut.events.shape()}
        self.sync = ClockDomain("sync")
        top = Module()
        top.domains += self.sync
        top.submodules.dut = self.dut
        self.sim = Simulator(top)
        self.sim.add_clock(sync_period)
        self.sim.add_clock(GMII_PERIOD, domain="gmii_tx", phase=1.3e-9)
        self.sim.add_clock(GMII_PERIOD * (1 + ppm * 1e-6), domain="gmii_rx", phase=2.9e-9)
        for monitor in (self._wire, self._frames, self._events):
            self.sim.add_testbench(monitor, background=True)

    async def _wire(self, ctx):
        frame, error, idle = b"", 0, 0
        dut = self.dut
        async for _, _, enable, value, bad in ctx.tick("gmii_tx").sample(dut.gmii_tx_en, dut.gmii_txd, dut.gmii_tx_er):
            if enable:
                frame += bytes([value])
                error |= bad
            elif frame:
                self.wire.append((frame, error, idle))
                frame, error, idle = b"", 0, 1
            else:
                idle += 1

    async def _frames(self, ctx):
        frame, p = b"", self.dut.o.p
        while True:
            ctx.set(self.dut.o.ready, self.ready())
            _, _, taken, value, count, last, error = await ctx.tick().sample(
                self.dut.o.valid & self.dut.o.ready, p.data, p.count, p.last, p.error)
            if taken:
                beat = value.to_bytes(self.lanes, "little")
                # What is beyond the end is nobody else's.
                before = frame[count - self.lanes:] or bytes(self.lanes)
                assert all(byte in (0, own) for byte, own in zip(beat[count:], before))
                frame += beat[:count]
                if last:
                    self.frames.append((frame, error))
                    frame = b""

    async def _events(self, ctx):
        names = list(self.events)
        async for _, _, *strobes in ctx.tick().sample(*(self.dut.events[name] for name in names)):
            for name, strobe in zip(names, strobes):
                self.events[name] += strobe

    async def _watchdog(self, ctx):
        for _ in range(20000):
            await ctx.tick("gmii_tx")
        raise TimeoutError

    async def send(self, ctx, frame):
        for at in range(0, len(frame), self.lanes):
            chunk = frame[at:at + self.lanes]
            ctx.set(self.dut.i.p, {"data": int.from_bytes(chunk, "little"), "count": len(chunk),
                                   "last": at + self.lanes >= len(frame), "error": 0})
            ctx.set(self.dut.i.valid, 1)
            await ctx.tick().until(self.dut.i.ready)
        ctx.set(self.dut.i.valid, 0)

    async def receive(self, ctx, raw, gap=12, error_at=None):
        for k, value in enumerate(raw):
            ctx.set(self.dut.gmii_rxd, value)
            ctx.set(self.dut.gmii_rx_dv, 1)
            ctx.set(self.dut.gmii_rx_er, k == error_at)
            await ctx.tick("gmii_rx")
        ctx.set(self.dut.gmii_rx_dv, 0)
        ctx.set(self.dut.gmii_rx_er, 0)
        for _ in range(gap):
            await ctx.tick("gmii_rx")

    def run(self, bench):
        async def main(ctx):
            ctx.set(self.dut.mac_address, int.from_bytes(OWN, "big"))
            await bench(ctx)
        self.sim.add_testbench(main)
        self.sim.add_testbench(self._watchdog, background=True)
        self.sim.run()

    def good(self):
        return [frame for frame, error in self.frames if not error]


# The last: a core as slow as its width allows, 64 bits for 8 GMII clocks.
@pytest.mark.parametrize("width, ratio", [(64, 1), (32, 1), (128, 7.7), (64, 7.9)])
def test_transmit(width, ratio, rng):
    bench = Bench(width, GMII_PERIOD * ratio)
    frames = [rng.randbytes(n) for n in (14, 59, 60, 61, 64, 65, 15, 60, 60, 300, 16)]

    async def main(ctx):
        for k, frame in enumerate(frames):
            if k == 3:
                await ctx.tick().repeat(60)
            await bench.send(ctx, frame)
        await ctx.tick("gmii_tx").repeat(2000)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire] == [on_wire(frame) for frame in frames]
    assert not any(error for _, error, _ in bench.wire)
    assert all(idle >= 12 for _, _, idle in bench.wire)
    assert bench.events.pop("mac_tx_frames") == len(frames)
    assert not any(bench.events.values())


def test_transmit_at_line_rate(rng):
    bench = Bench()

    async def main(ctx):
        for _ in range(20):
            await bench.send(ctx, rng.randbytes(60))
        await ctx.tick().repeat(1000)

    bench.run(main)
    assert [idle for _, _, idle in bench.wire[1:]] == [12] * 19


def test_transmit_spoils_a_frame_that_pauses(rng):
    bench = Bench()
    late, good = rng.randbytes(200), rng.randbytes(70)

    async def main(ctx):
        dut = bench.dut
        for at in range(0, 200, 8):
            ctx.set(dut.i.p, {"data": int.from_bytes(late[at:at + 8], "little"), "count": 8, "last": at == 192, "error": 0})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            if at == 80:
                ctx.set(dut.i.valid, 0)
                await ctx.tick().repeat(300)
        await bench.send(ctx, good)
        await ctx.tick().repeat(500)

    bench.run(main)
    assert [error for _, error, _ in bench.wire] == [1, 0]
    assert bench.wire[1][0] == on_wire(good)


@pytest.mark.parametrize("width, ratio", [(128, 1), (32, 2), (64, 0.5), (64, 7), (512, 7)])
def test_receive(width, ratio, rng):
    """IEEE 802.3, 35.2.3.2.2: of the preamble nothing need be left; 4.4.2: of the gap no more than 64 bit times."""
    bench = Bench(width, GMII_PERIOD * ratio)
    frames = [rng.randbytes(n) for n in (60, 61, 62, 63, 64, 65, 66, 67, 68, 75, 76, 77, 60, 500)]

    async def main(ctx):
        for k, frame in enumerate(frames):
            await bench.receive(ctx, PREAMBLE[k % 8:] + with_fcs(frame), gap=12 if k % 2 else 5)
        await ctx.tick().repeat(50)

    bench.run(main)
    assert bench.frames == [(frame, 0) for frame in frames]
    assert not any(bench.events.values())


def test_receive_judges(rng):
    bench = Bench(max_frame=200)
    good, vast, longest = rng.randbytes(60), rng.randbytes(197), rng.randbytes(196)
    flipped = bytearray(with_fcs(good))
    flipped[17] ^= 4

    async def main(ctx):
        for raw in (with_fcs(good), bytes(flipped), with_fcs(good), with_fcs(good[:59]), b"", b"\x01", b"abcd", b"abcde",
                    with_fcs(vast), with_fcs(longest), with_fcs(rng.randbytes(500))):
            await bench.receive(ctx, PREAMBLE + raw)
        await bench.receive(ctx, PREAMBLE + with_fcs(good), error_at=30)
        await bench.receive(ctx, b"\x55\x55\x12\xd5" + with_fcs(good))      # no start
        await bench.receive(ctx, b"\x55" * 20)
        await bench.receive(ctx, PREAMBLE + with_fcs(good))
        await ctx.tick().repeat(50)

    bench.run(main)
    assert bench.good() == [good, good, longest, good]
    assert bench.events == {"mac_rx_bad_fcs": 2, "mac_rx_runt": 5, "mac_rx_giant": 2, "mac_rx_overflow": 0,
                            "mac_rx_pause": 0, "mac_rx_control": 0, "mac_tx_frames": 0}


def test_receive_overflow_spoils_the_frame_only(rng):
    open_ = [False]
    bench = Bench(ready=lambda: open_[0])
    frames = [rng.randbytes(n) for n in (100, 400, 80)]

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]))
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[1]))
        open_[0] = True
        await ctx.tick().repeat(60)
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[2]))
        await ctx.tick().repeat(60)

    bench.run(main)
    assert bench.good() == [frames[0], frames[2]]
    assert bench.events["mac_rx_overflow"] == 1 and bench.events["mac_rx_bad_fcs"] == 0


@pytest.mark.parametrize("late", range(4))
def test_a_frame_has_no_beginning_in_its_middle(late, rng):
    """The end of the frame before waits for room while the next one comes, in whose middle there is what looks like a frame."""
    open_ = [False]
    bench = Bench(ready=lambda: open_[0])
    first, inner, after = (rng.randbytes(n) for n in (400, 80, 60))
    raw = PREAMBLE + b"\x55" * 120 + PREAMBLE + with_fcs(inner)

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(first))
        await bench.receive(ctx, raw[:40 + late], gap=0)
        open_[0] = True
        await bench.receive(ctx, raw[40 + late:])
        await bench.receive(ctx, PREAMBLE + with_fcs(after))
        await ctx.tick().repeat(60)

    bench.run(main)
    assert bench.good() == [after]


@pytest.mark.parametrize("quanta", [1, 9])
def test_pause_is_obeyed(quanta, rng):
    bench = Bench()
    pause = (PAUSE + quanta.to_bytes(2, "big")).ljust(60, b"\0")

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(pause))
        for _ in range(3):
            await bench.send(ctx, rng.randbytes(60))
        await ctx.tick().repeat(64 * quanta + 700)

    bench.run(main)
    assert bench.good() == [] and bench.events["mac_rx_pause"] == 1
    assert len(bench.wire) == 3
    # The pause began a little before the first frame was offered; what was sent was sent after it.
    idle = bench.wire[0][2] - (8 + 64)
    assert 64 * quanta <= idle <= 64 * quanta + 60


def test_pause_is_lifted_and_never_cuts_a_frame(rng):
    bench = Bench()
    frame, waits = rng.randbytes(400), rng.randbytes(200)      # what waits fits the FIFO

    async def main(ctx):
        await bench.send(ctx, frame)
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0")))
        await ctx.tick().repeat(600)
        await bench.send(ctx, waits)
        await ctx.tick().repeat(600)
        assert [raw for raw, _, _ in bench.wire] == [on_wire(frame)]
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\0\0").ljust(60, b"\0")))
        await ctx.tick().repeat(600)

    bench.run(main)
    assert [(raw, error) for raw, error, _ in bench.wire] == [(on_wire(frame), 0), (on_wire(waits), 0)]


def test_drain_heeds_no_pause(rng):
    """A reset waits for the frame that has begun, not for a partner that says pause for ever."""
    bench = Bench()
    frame = rng.randbytes(1000)                                # more than the FIFO holds

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0")))
        await ctx.tick().repeat(100)
        ctx.set(bench.dut.drain, 1)
        await bench.send(ctx, frame)
        await ctx.tick().repeat(1200)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire] == [on_wire(frame)]


# IEEE 802.3, table 31A-1: PAUSE, GATE, REPORT, REGISTER and so on, PFC, extension; and what is reserved.
OPCODES = [1, 2, 3, 4, 5, 6, 0x0101, 0xfffe, 0, 7, 0x0100, 0x0201, 0xffff]


def control(address, opcode, size=60):
    return (address + bytes(6) + b"\x88\x08" + opcode.to_bytes(2, "big") + b"\0\x10").ljust(size, b"\0")


def test_mac_control_frames_are_the_macs_own(rng):
    """IEEE 802.3, 31.5: a frame of the type of MAC Control never goes to the client, whoever it is for and whatever it says; one
    with an opcode that is not supported is discarded. 31B.3.3: PAUSE is obeyed by who has the address or is of the group."""
    bench, after = Bench(), rng.randbytes(60)
    pauses = [control(address, 1, size) for address in (GROUP, OWN) for size in (60, 61, 200)]
    others = [control(address, opcode) for address in (GROUP, OWN) for opcode in OPCODES[1:]]
    others += [control(address, 1) for address in (OTHER, b"\xff" * 6, bytes.fromhex("0180c2000002"))]
    broken = [(with_fcs(frame)[:-1] + b"\0") for frame in (control(GROUP, 1), control(OWN, 1), control(GROUP, 2))]
    short = [with_fcs(control(address, 1)[:59]) for address in (GROUP, OWN)]

    async def main(ctx):
        for raw in [*map(with_fcs, [*pauses, *others]), *broken, *short, with_fcs(after)]:
            await bench.receive(ctx, PREAMBLE + raw)
        await ctx.tick().repeat(60)

    bench.run(main)
    assert bench.good() == [after]
    assert {name: count for name, count in bench.events.items() if count} == {
        "mac_rx_pause": len(pauses), "mac_rx_control": len(others), "mac_rx_bad_fcs": len(broken), "mac_rx_runt": len(short)}


@pytest.mark.parametrize("address, opcode, obeyed", [
    (GROUP, 1, True), (OWN, 1, True), (OTHER, 1, False), (GROUP, 0x0101, False), (OWN, 2, False)])
def test_who_obeys_a_pause(address, opcode, obeyed, rng):
    bench = Bench()

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(control(address, opcode)))
        await bench.send(ctx, rng.randbytes(60))
        await ctx.tick().repeat(16 * 64 - 100)
        assert len(bench.wire) == (not obeyed)

    bench.run(main)


def test_what_is_no_mac_control_is_delivered(rng):
    bench = Bench()
    near = [PAUSE[:12] + b"\x88\x09\x00\x01", PAUSE[:12] + b"\x08\x88\x00\x01", OWN + bytes(6) + b"\x89\x08\x00\x01",
            PAUSE[:12] + b"\x81\x00\x00\x01\x88\x08\x00\x01"]
    near = [(frame + b"\xff\xff").ljust(60, b"\0") for frame in near]

    async def main(ctx):
        for frame in near:
            await bench.receive(ctx, PREAMBLE + with_fcs(frame))
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0"))[:-1] + b"\0")  # bad FCS
        await bench.send(ctx, near[0])
        await ctx.tick().repeat(300)

    bench.run(main)
    assert bench.good() == near and len(bench.wire) == 1 and bench.events["mac_rx_pause"] == 0


def test_reset_in_the_middle_of_a_frame(rng):
    """What was begun ends there and then; the next frame is whole."""
    bench = Bench()
    frames = [rng.randbytes(400), rng.randbytes(60), rng.randbytes(70)]

    async def main(ctx):
        for at in range(0, 160, 8):
            ctx.set(bench.dut.i.p, {"data": int.from_bytes(frames[0][at:at + 8], "little"), "count": 8, "last": 0})
            ctx.set(bench.dut.i.valid, 1)
            await ctx.tick().until(bench.dut.i.ready)
        ctx.set(bench.dut.i.valid, 0)
        await ctx.tick("gmii_tx").until(bench.dut.gmii_tx_en)
        ctx.set(bench.sync.rst, 1)
        await ctx.tick("gmii_tx").repeat(4)
        ctx.set(bench.sync.rst, 0)
        await ctx.tick("gmii_tx").repeat(20)
        for frame in frames[1:]:
            await bench.send(ctx, frame)
        await ctx.tick("gmii_tx").repeat(400)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire][-2:] == [on_wire(frame) for frame in frames[1:]]
    assert len(bench.wire) <= 3


# What is sent comes back, at any ratio of the three clocks.
@pytest.mark.parametrize("width, ratio, ppm", [(64, 1.03, 200), (64, 0.97, -200), (128, 7.7, -200), (32, 1, 200)])
def test_loopback(width, ratio, ppm, rng):
    bench = Bench(width, GMII_PERIOD * ratio, ppm=ppm)
    frames = [rng.randbytes(n) for n in (14, 59, 60, 61, 64, 65, 60, 60, 60, 9018, 15, 300)]

    async def main(ctx):
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(8)
        for frame in frames:
            await bench.send(ctx, frame)
        assert ctx.get(bench.dut.busy)
        await ctx.tick("gmii_tx").repeat(2000)
        assert not ctx.get(bench.dut.busy)

    bench.run(main)
    assert bench.frames == [(frame.ljust(60, b"\0"), 0) for frame in frames] and bench.wire == []
    assert bench.events.pop("mac_tx_frames") == len(frames)
    assert not any(bench.events.values())


def test_loopback_is_deaf_to_the_wire(rng):
    bench = Bench()
    frames = [rng.randbytes(100) for _ in range(3)]

    async def main(ctx):
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(8)
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0")))
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]))
        await bench.receive(ctx, PREAMBLE + frames[0])
        await bench.send(ctx, frames[1])
        await ctx.tick().repeat(300)
        ctx.set(bench.dut.loopback, 0)
        await ctx.tick().repeat(8)
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[2]))
        await ctx.tick().repeat(50)

    bench.run(main)
    assert bench.frames == [(frames[1], 0), (frames[2], 0)]
    assert bench.events.pop("mac_tx_frames") == 1 and not any(bench.events.values())


def test_loopback_heeds_no_pause(rng):
    """Neither one that the partner asked for before, nor one that came round; afterwards the wire is free at once."""
    bench = Bench()
    pause, longer = ((PAUSE + quanta).ljust(60, b"\0") for quanta in (b"\0\x08", b"\xff\xff"))   # 512 clocks, far more
    round_, out = rng.randbytes(80), rng.randbytes(90)

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(pause))
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(8)
        await bench.send(ctx, longer)
        await bench.send(ctx, round_)
        await ctx.tick().repeat(300)
        assert bench.good() == [round_] and bench.events["mac_rx_pause"] == 2
        ctx.set(bench.dut.loopback, 0)
        await ctx.tick().repeat(300)                  # until the partner's own is over
        await bench.send(ctx, out)
        await ctx.tick().repeat(200)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire] == [on_wire(out)]


@pytest.mark.parametrize("delay", range(0, 130, 13))
def test_loopback_switched_in_the_middle(delay, rng):
    """Each frame that is sent goes one way, whole; of what is received nothing is patched together."""
    bench = Bench()
    sent = [rng.randbytes(n) for n in (100, 70, 60, 80, 65, 110, 60, 61, 90, 70, 60, 100)]
    came = [rng.randbytes(n) for n in (90, 61, 75, 60, 66, 100, 60, 80, 90, 70, 100)]
    state = {}

    async def wire(ctx):
        for frame in came:
            await bench.receive(ctx, PREAMBLE + with_fcs(frame))
        state["quiet"] = True

    async def switch(ctx):
        await ctx.tick().repeat(100 + delay)
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(600)
        ctx.set(bench.dut.loopback, 0)

    async def main(ctx):
        for frame in sent:
            await bench.send(ctx, frame)
        await ctx.tick().repeat(400)
        assert state["quiet"] and not ctx.get(bench.dut.busy)
        after = rng.randbytes(60)
        await bench.receive(ctx, PREAMBLE + with_fcs(after))
        await bench.send(ctx, after)
        await ctx.tick().repeat(200)
        assert bench.good()[-1] == after and bench.wire[-1][:2] == (on_wire(after), 0)

    bench.sim.add_testbench(wire)
    bench.sim.add_testbench(switch)
    bench.run(main)
    out, got = [raw for raw, _, _ in bench.wire[:-1]], bench.good()[:-1]
    went_out = [frame for frame in sent if on_wire(frame) in out]
    assert out == [on_wire(frame) for frame in went_out] and not any(error for _, error, _ in bench.wire)
    assert 1 < len(went_out) < len(sent)
    rest = [frame for frame in sent if frame not in went_out]
    assert set(got) <= {*rest, *came} and any(frame in rest for frame in got)
    assert [frame for frame in sent if frame in got] == [frame for frame in got if frame in sent]
    assert len(bench.frames) - 1 - len(got) <= 2     # cut, and so dropped
    assert sum(bench.events[name] for name in ("mac_rx_bad_fcs", "mac_rx_runt")) == len(bench.frames) - 1 - len(got)
