"""What a MAC on a GMII is tested with."""

import zlib

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
