"""Transmit: chains to frames, whatever the driver writes into them."""

from functools import cache

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.net.transmit import Transmit

from ...kit import streams
from ...kit.simulation import Simulation
from ...kit.simulator import Simulator

transmit = cache(Transmit)  # one that is simulated again is not elaborated again

HEADER = 12
TUNNEL_IPV4, TUNNEL_IPV6 = 0x20, 0x40   # bits of gso_type
MAX_FRAME = 1518


def noise(rng, size):
    """A header and ``size`` bytes; gso_type names one tunnel at most (5.1.9.2.2)."""
    packet = bytearray(rng.randbytes(HEADER + size))
    packet[1] &= ~TUNNEL_IPV6
    return bytes(packet)


async def accepted(ctx, port):
    """Wait for the transfer; unlike ``until`` it may be abandoned when the simulation ends."""
    while not (await ctx.tick().sample(port.ready))[2]:
        pass


class Bench:
    """The engine (takes, segments, used) and a host memory behind the read port, both with a will of their own."""
    def __init__(self, rng, *, width=64, pairs=1, latency=20, busy=1.0, depth=1024, patience=1 << 15, piece=2048):
        self.rng, self.width, self.latency, self.busy = rng, width, latency, busy
        self.dut = transmit(width=width, num_queues=2 * pairs, pairs=pairs, max_frame=MAX_FRAME, depth=depth, patience=patience,
                            piece=piece)
        self.chains = {queue: [] for queue in range(1, 2 * pairs, 2)}   # not yet taken: (id, segments)
        self.memory, self.bad = {}, set()
        self.segments, self.reads = [], []
        self.frames, self.used, self.cycle = [], [], 0
        self.events = {"tx_frames": 0, "tx_dropped": 0}
        self.flushed = []
        self.longest_wait = 0           # cycles that a beat of an answer was not taken
        self.next_addr = 0x1_0000_0000
        self.wire = lambda: True
        self.pausing, self.taken = False, []

    def place(self, chunk):
        addr = self.next_addr + self.rng.randrange(64)
        self.next_addr = addr + len(chunk) + 64
        self.memory[addr] = chunk
        return addr

    def chunk_of(self, addr):
        """Where the chunk begins that this address lies in: a long one is read in pieces."""
        return addr if addr in self.memory else max(begin for begin in self.memory if begin < addr)

    def post(self, queue, id, parts, *, write=(), error=False):
        """``parts``: the segments' bytes, or (bytes, length claimed)."""
        segments = []
        for k, part in enumerate(parts):
            chunk, length = part if isinstance(part, tuple) else (part, len(part))
            last = k == len(parts) - 1
            segments.append({"queue": queue, "chain": {"id": id}, "addr": self.place(chunk), "len": length, "write": k in write,
                             "last": last, "error": error and last})
        self.chains[queue].append(segments)
        return segments

    def idle(self):
        return self.rng.random() > self.busy

    async def takes(self, ctx):
        take, p = self.dut.buffers.take, self.dut.buffers.take.p
        while True:
            ctx.set(self.dut.buffers.pause, self.pausing)
            ctx.set(self.dut.buffers.available, 0 if self.pausing else sum(
                1 << q for q, chains in self.chains.items() if chains))
            ctx.set(take.ready, not self.idle())
            _, _, taken, op, queue = await ctx.tick().sample(take.valid & take.ready, p.op, p.queue)
            self.cycle += 1
            if taken:
                assert op == TakeOp.KEEP
                self.segments += self.chains[queue].pop(0)
                self.taken.append(queue)

    async def give_segments(self, ctx):
        port = self.dut.buffers.segment
        while True:
            if not self.segments or self.idle():
                await ctx.tick()
                continue
            ctx.set(port.p, self.segments.pop(0))
            ctx.set(port.valid, 1)
            await accepted(ctx, port)
            ctx.set(port.valid, 0)

    async def take_reads(self, ctx):
        port = self.dut.read.req
        held = None
        while True:
            ctx.set(port.ready, not self.idle())
            _, _, valid, ready, addr, length = await ctx.tick().sample(port.valid, port.ready, port.p.addr, port.p.len)
            assert held is None or (valid and held == (addr, length)), "a request was withdrawn"
            held = (addr, length) if valid and not ready else None
            if valid and ready:
                begin = self.chunk_of(addr)
                assert length and begin + len(self.memory[begin]) >= addr + length
                self.reads.append((self.cycle + self.latency, addr, length))

    async def answer_reads(self, ctx):
        port, lanes = self.dut.read.beat, self.width // 8
        while True:
            if not self.reads or self.reads[0][0] > self.cycle:
                await ctx.tick()
                continue
            _, addr, length = self.reads.pop(0)
            begin = self.chunk_of(addr)
            chunk, bad = self.memory[begin][addr - begin:][:length], not self.bad.isdisjoint({begin, addr})
            while True:
                size = lanes if self.busy == 1.0 else self.rng.randrange(lanes + 1)
                part, chunk = chunk[:size], chunk[size:]
                if bad and self.rng.randrange(2):
                    chunk = b""
                ctx.set(port.p, {"data": int.from_bytes(part + self.rng.randbytes(lanes - len(part)), "little"),
                                 "count": len(part), "last": not chunk, "error": bad and not chunk})
                ctx.set(port.valid, 1)
                offered = self.cycle
                await accepted(ctx, port)
                self.longest_wait = max(self.longest_wait, self.cycle - offered)
                ctx.set(port.valid, 0)
                if not chunk:
                    break

    async def take_used(self, ctx):
        port, held = self.dut.buffers.used, None
        while True:
            ctx.set(port.ready, not self.idle())
            _, _, valid, ready, p = await ctx.tick().sample(port.valid, port.ready, port.p)
            now = p.queue, p.chain.id, p.len, p.more, p.flush
            assert held is None or (valid and held == now), "an offered entry was changed"
            held = now if valid and not ready else None
            if valid and ready:
                assert p.len == 0 and not p.more
                self.used.append((p.queue, p.chain.id))
                self.flushed.append(p.flush)

    async def take_frames(self, ctx):
        o, frame, inside = self.dut.o, b"", False
        while True:
            ctx.set(o.ready, self.wire() and not self.idle())
            _, _, valid, ready, p = await ctx.tick().sample(o.valid, o.ready, o.p)
            assert valid or not inside, "a frame paused"
            if valid and ready:
                assert not p.error
                frame += p.data.to_bytes(self.width // 8, "little")[:p.count]
                inside = not p.last
                if p.last:
                    self.frames.append(frame)
                    frame = b""

    async def watch(self, ctx):
        ctx.set(self.dut.sent_pair.ready, 1)

    async def count(self, ctx):
        async for _, _, frames, dropped in ctx.tick().sample(self.dut.events.tx_frames, self.dut.events.tx_dropped):
            self.events["tx_frames"] += frames
            self.events["tx_dropped"] += dropped

    def run(self, *, control=None, limit=60000):
        async def main(ctx):
            ctx.set(self.dut.link_up, 1)
            if control:
                await control(ctx)
            quiet = 0
            while quiet < 60:
                await ctx.tick()
                assert self.cycle < limit
                quiet = 0 if ctx.get(self.dut.busy) or any(self.chains.values()) or self.segments else quiet + 1
            assert not self.reads

        sim = Simulator(self.dut)
        sim.add_clock(8e-9)
        sim.add_testbench(main)
        for bench in (self.takes, self.give_segments, self.take_reads, self.answer_reads, self.take_used,
                      self.take_frames, self.count, self.watch):
            sim.add_testbench(bench, background=True)
        sim.run()


def cut(rng, chunk, pieces):
    at = sorted(rng.randrange(len(chunk) + 1) for _ in range(pieces - 1))
    return [chunk[a:b] for a, b in zip([0, *at], [*at, len(chunk)])]


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_no_packet_in_two_tunnels(width, rng):
    bench, want = Bench(rng, width=width), []
    for at in range(HEADER):
        for tunnels in (TUNNEL_IPV4, TUNNEL_IPV6, TUNNEL_IPV4 | TUNNEL_IPV6):
            packet = noise(rng, 20)
            packet = packet[:1] + bytes([packet[1] & ~TUNNEL_IPV4 | tunnels]) + packet[2:]
            bench.post(1, len(want) + at, [packet[:at], packet[at:]])
            if tunnels != TUNNEL_IPV4 | TUNNEL_IPV6:
                want.append(packet[HEADER:])
    bench.run()
    assert bench.frames == want
    assert bench.events == {"tx_frames": len(want), "tx_dropped": HEADER}


@pytest.mark.parametrize("width", [64, 128])
def test_header_split_anywhere(width, rng):
    bench, want = Bench(rng, width=width), []
    for at in range(0, 28):
        packet = noise(rng, 0) + rng.randbytes(14 + at % 5)
        want.append(packet[HEADER:])
        bench.post(1, at, [packet[:at], packet[at:]])
    packet = noise(rng, 60)
    bench.post(1, 99, [bytes([value]) for value in packet])
    bench.post(1, 100, [b"", packet, b""])
    bench.run()
    assert bench.frames == want + 2 * [packet[HEADER:]]
    assert bench.used == [(1, id) for id in (*range(28), 99, 100)]
    assert bench.flushed[-1] and bench.events == {"tx_frames": 30, "tx_dropped": 0}


def test_what_is_no_frame_is_given_back_and_counted(rng):
    bench = Bench(rng)
    good, longest = noise(rng, 14), noise(rng, MAX_FRAME)
    bad = bench.post(1, 6, [rng.randbytes(12), rng.randbytes(100), rng.randbytes(30)])
    bench.chains[1].clear()
    bench.bad.add(bad[1]["addr"])
    bench.post(1, 0, [good])
    bench.post(1, 1, [good[:-1]])                                   # shorter than its headers
    bench.post(1, 2, [b""])
    bench.post(1, 3, [longest + b"x"])                              # longer than a frame
    bench.post(1, 4, [good, (b"", 0xffff_ffff), (b"", 0xffff_ffff), good])
    bench.post(1, 5, [good, b"abc", good], write=[1])
    bench.chains[1].append(bad)                                     # a read that fails
    bench.post(1, 7, [longest])
    bench.post(1, 8, [good, good], error=True)                      # not given back
    bench.post(1, 9, [b""], error=True)
    bench.post(1, 10, [good], write=[0])
    bench.post(1, 11, [good])
    bench.run()
    assert bench.frames == [good[HEADER:], longest[HEADER:], good[HEADER:]]
    assert bench.used == [(1, id) for id in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11)]
    assert bench.events == {"tx_frames": 3, "tx_dropped": 9}


def test_link_down_sends_nothing_and_withdraws_nothing(rng):
    bench = Bench(rng, busy=0.5)
    packet = noise(rng, 60)

    async def control(ctx):
        for k in range(40):
            bench.post(1, k, [packet])
        for k in range(30):
            ctx.set(bench.dut.link_up, k & 1)
            for _ in range(rng.randrange(1, 20)):
                await ctx.tick()
        ctx.set(bench.dut.link_up, 0)
        await ctx.tick().repeat(2000)
        frames = len(bench.frames)
        for k in range(40, 50):
            bench.post(1, k, [packet])
        await ctx.tick().repeat(1000)
        assert len(bench.frames) == frames

    bench.run(control=control)
    assert [id for _, id in bench.used] == list(range(50))
    assert bench.events["tx_frames"] + bench.events["tx_dropped"] == 50


def test_small_frames_at_speed(rng):
    bench = Bench(rng, latency=150)
    for k in range(120):
        packet = noise(rng, 60)
        bench.post(1, k, [packet[:HEADER], packet[HEADER:]])
    bench.run()
    assert len(bench.frames) == 120
    # The first answer comes after the latency; 60 cycles of quiet end the run.
    assert (bench.cycle - 150 - 60) / 120 <= 14


@pytest.mark.parametrize("width, depth, pairs, busy", [(64, 512, 1, 0.6), (64, 1024, 3, 1.0), (128, 256, 2, 0.5)])
def test_random(width, depth, pairs, busy, rng):
    bench, want = Bench(rng, width=width, depth=depth, pairs=pairs, busy=busy, latency=rng.choice([0, 5, 60]), piece=256), {}
    back = {}
    for k in range(40):
        queue = rng.choice(list(bench.chains))
        packet = noise(rng, rng.choice([14, 60, 61, 1514, MAX_FRAME, rng.randrange(14, 400)]))
        kind = rng.randrange(8)
        back.setdefault(queue, [])
        if kind:
            bench.post(queue, k, cut(rng, packet, rng.choice([1, 2, 2, 3, 7])))
            want.setdefault(queue, []).append(packet[HEADER:])
        elif k % 2:
            bench.post(queue, k, [packet, rng.randbytes(MAX_FRAME)], write=[rng.randrange(2)])
        else:
            segments = bench.post(queue, k, cut(rng, packet, 3))
            bench.bad |= {part["addr"] for part in segments if part["len"]}
        back[queue].append(k)
    bench.run()
    for queue in bench.chains:
        assert [id for q, id in bench.used if q == queue] == back.get(queue, [])
        mine = set(want.get(queue, []))
        assert [frame for frame in bench.frames if frame in mine] == want.get(queue, [])
    assert len(bench.frames) == sum(map(len, want.values())) == bench.events["tx_frames"]


def test_queues_take_turns(rng):
    bench = Bench(rng, pairs=3)
    for k in range(10):
        for queue in bench.chains:
            bench.post(queue, k, [noise(rng, 60)])
    bench.run()
    assert sorted(bench.used[:3]) == [(1, 0), (3, 0), (5, 0)]
    assert [sum(queue == wanted for queue, _ in bench.used[:15]) for wanted in bench.chains] == [5, 5, 5]


def test_a_wire_that_stands_still_holds_up_no_read(rng):
    """All clients share the way of the answers: each beat is taken, however many short frames wait for the wire."""
    bench = Bench(rng, depth=4096)
    bench.wire = lambda: False
    frames = [rng.randbytes(60) for _ in range(150)]
    for k, frame in enumerate(frames):
        bench.post(1, k, [bytes(HEADER) + frame])

    async def control(ctx):
        await ctx.tick().repeat(4000)
        assert not bench.reads and bench.longest_wait < 20 and len(bench.used) > 30
        bench.wire = lambda: True

    bench.run(control=control)
    assert bench.frames == frames


def test_every_queue_gets_its_share_within_one_packet(rng):
    """All queues full, of frames of any length: at no moment has one been served twice more than another."""
    bench = Bench(rng, pairs=5, busy=0.8)
    for k in range(8):
        for queue in bench.chains:
            frame = rng.randbytes(rng.choice([60, 60, 200, MAX_FRAME]))
            bench.post(queue, k, cut(rng, bytes(HEADER) + frame, rng.randrange(1, 4)))
    bench.run()
    served = {queue: 0 for queue in bench.chains}
    for queue in bench.taken:
        served[queue] += 1
        assert max(served.values()) - min(served.values()) <= 1
    assert set(served.values()) == {8}


def test_the_pair_of_what_is_sent(rng):
    """Every frame that enters the memory is told of, with its pair; damaged ones as such."""
    bench, told = Bench(rng, pairs=4, busy=0.6), []

    async def watch(ctx):
        whole, delay, dut = b"", [], bench.dut
        while True:
            # The pair is there two cycles after the last beat.
            ctx.set(dut.sent_pair.ready, bool(delay and delay[0][0] <= bench.cycle))
            _, _, valid, beat, known, pair = await ctx.tick().sample(
                dut.sent_valid, dut.sent, dut.sent_pair.valid & dut.sent_pair.ready, dut.sent_pair.p)
            if delay and delay[0][0] <= bench.cycle - 1:
                assert known
                told.append((*delay.pop(0)[1:], pair))
            if valid:
                whole += beat.data.to_bytes(8, "little")[:beat.count]
                if beat.last:
                    delay.append((bench.cycle + 2, whole, beat.error))
                    whole = b""

    want = {}
    for k in range(60):
        queue, frame = rng.choice(list(bench.chains)), rng.randbytes(rng.randrange(14, 100))
        bench.post(queue, k, cut(rng, bytes(HEADER) + frame, 3))
        want[frame] = queue >> 1
    bench.post(3, 60, [bytes(10)])
    bench.watch = watch
    bench.run()
    assert {frame: pair for frame, error, pair in told if not error} == want
    assert [pair for _, error, pair in told if error] == [1]


@pytest.mark.parametrize("bad", [0, 512])
def test_a_piece_that_cannot_be_read(bad, rng):
    """The frame is none, and its chain is given back once."""
    bench = Bench(rng, depth=512, piece=512)
    frames = [rng.randbytes(1500) for _ in range(3)]
    for k, frame in enumerate(frames):
        segment, = bench.post(1, k, [bytes(HEADER) + frame])
        if k == 1:
            bench.bad = {segment["addr"] + bad}
    bench.run()
    assert bench.frames == [frames[0], frames[2]] and bench.used == [(1, k) for k in range(3)]
    assert bench.events == {"tx_frames": 2, "tx_dropped": 1}


@pytest.mark.parametrize("size", [1000, 1500])   # the longer ones are read in two pieces
def test_a_pause_ends_whatever_the_wire_does(size, rng):
    bench, packet = Bench(rng, depth=512, patience=300, piece=512), bytes(HEADER) + rng.randbytes(size)
    frames = [rng.randbytes(size) for _ in range(12)]

    async def pause(ctx, limit):
        bench.pausing = True
        for cycles in range(limit):
            await ctx.tick()
            if cycles > 3 and not ctx.get(bench.dut.buffers.holds):
                break
        else:
            raise AssertionError("holds on to something")
        taken = len(bench.taken)
        for _ in range(100):
            await ctx.tick()
            assert not ctx.get(bench.dut.buffers.holds) and len(bench.taken) == taken
        assert len(bench.used) == taken and bench.flushed[-1]
        bench.pausing = False

    async def sent(ctx):
        while bench.chains[1] or ctx.get(bench.dut.busy):
            await ctx.tick()
        await ctx.tick()

    async def control(ctx):
        # The wire moves: all that is in hand is sent.
        for k, frame in enumerate(frames[:8]):
            bench.post(1, k, [bytes(HEADER) + frame])
        await ctx.tick().repeat(200)
        await pause(ctx, 4000)
        assert bench.events["tx_dropped"] == 0
        await sent(ctx)
        assert bench.frames == frames[:8]
        # It does not: what has no room is dropped.
        bench.wire = lambda: False
        for k, frame in enumerate(frames):
            bench.post(1, k, [bytes(HEADER) + frame])
        await ctx.tick().repeat(2000)
        await pause(ctx, 1000)
        kept = bench.events["tx_frames"] - 8
        assert kept >= 2 and bench.events["tx_dropped"] == len(bench.taken) - 8 - kept > 0
        bench.wire = lambda: True
        bench.post(1, 99, [packet])
        await sent(ctx)
        assert bench.frames[8:8 + kept] == frames[:kept] and bench.frames[-1] == packet[HEADER:]
    bench.run(control=control)


def test_a_pause_waits_for_a_table_that_comes_slowly(rng):
    """It is not the wire that keeps such a frame, however long it takes."""
    bench, frame = Bench(rng, depth=512, patience=300), rng.randbytes(60)
    pieces = cut(rng, bytes(HEADER) + frame, 30) + [b""] * 30

    async def control(ctx):
        bench.post(1, 0, pieces)
        while not bench.segments:
            await ctx.tick()
        bench.pausing, bench.busy = True, .05
        while ctx.get(bench.dut.buffers.holds):
            await ctx.tick()
        bench.pausing, bench.busy = False, 1
        assert bench.cycle > 3 * 300
    bench.run(control=control)
    assert bench.frames == [frame] and bench.events == {"tx_frames": 1, "tx_dropped": 0}


@pytest.mark.parametrize("late", range(4))
@pytest.mark.parametrize("size, first", [(1000, 500), (1500, 1500)])   # of two buffers, or read in two pieces
def test_a_frame_of_which_a_part_was_given_up_is_not_sent(size, first, late, rng):
    """During a pause, parts of frames are given up because the wire does not move; then it does, perhaps within a frame."""
    bench = Bench(rng, depth=512, patience=50, piece=512)
    frames = [rng.randbytes(size) for _ in range(12)]

    async def control(ctx):
        bench.wire = lambda: False
        for k, frame in enumerate(frames):
            bench.post(1, k, [part for part in (bytes(HEADER) + frame[:first], frame[first:]) if part])
        await ctx.tick().repeat(1000)
        bench.pausing = True
        await ctx.tick().repeat(bench.dut.patience + late)
        bench.wire = lambda: True
        while ctx.get(bench.dut.buffers.holds):
            await ctx.tick()
        bench.pausing = False

    bench.run(control=control)
    assert bench.events["tx_dropped"] and bench.frames == [frame for frame in frames if frame in bench.frames]


def test_held_back_it_asks_for_nothing(rng):
    """What was offered stays, and everything is sent in the end."""
    bench, began, wanted = Bench(rng, busy=0.5), [], []
    frames = [rng.randbytes(rng.randrange(60, 300)) for _ in range(40)]
    for k, frame in enumerate(frames):
        bench.post(1, k, [bytes(HEADER) + frame])

    async def watch(ctx):
        dut, waits = bench.dut, 0
        ctx.set(dut.sent_pair.ready, 1)
        while True:
            hold = rng.random() < .7
            ctx.set(dut.hold, hold)
            _, _, wants, valid, ready = await ctx.tick().sample(dut.wants, dut.read.req.valid, dut.read.req.ready)
            assert valid or not waits
            if valid and not waits:
                began.append(hold)
            if wants and hold:
                wanted.append(valid)
            waits = valid and not ready
    bench.watch = watch
    bench.run()
    assert bench.frames == frames and len(began) == 40 and not any(began) and not all(wanted)


@pytest.mark.parametrize("sizes, asked", [
    ([1500, 1500], [1500]), ([1500, 100, 1500], [1500, 100]), ([700] * 3, [700] * 2),
    ([700] * 2 + [100] * 9, [700] * 2 + [100] * 5),
])
def test_no_more_is_asked_for_than_there_is_room_for(sizes, asked):
    """Segments follow one another without a pause, reads are taken at once, and nobody answers. The memory has 250 beats of 8
    bytes besides those for what is on its way; a read may bring two beats more than its length."""
    dut, reads = Transmit(width=64, num_queues=2, max_frame=MAX_FRAME, depth=256), []

    async def give(ctx):
        for size in sizes:
            await streams.send(ctx, dut.buffers.segment, {"queue": 1, "addr": 0x1000, "len": size, "last": 1})

    async def main(ctx):
        for signal in (dut.link_up, dut.buffers.take.ready, dut.read.req.ready):
            ctx.set(signal, 1)
        ctx.set(dut.buffers.available, 2)
        for _ in range(100):
            _, _, valid, size = await ctx.tick().sample(dut.read.req.valid, dut.read.req.p.len)
            if valid:
                reads.append(size)
        assert reads == asked
    simulation = Simulation(dut)
    simulation.background(give)
    simulation.run(main)
