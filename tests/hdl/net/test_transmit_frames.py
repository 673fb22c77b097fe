"""TransmitFrames: frames out of the answers to reads, whatever beats these come in."""

import pytest

from ringnic.hdl.net.transmit_frames import TransmitFrames
from ringnic.hdl.spec.net import VIRTIO_NET_HDR_SIZE

from ...kit import streams
from ...kit.simulation import Simulation, cycles

NO_FRAME = None


class Bench:
    def __init__(self, width=64, pairs=2):
        self.dut = TransmitFrames(width=width, pairs=pairs, depth=64, max_chains=8)
        self.lanes = width // 8
        self.parts, self.beats = [], []
        self.frames, self.back, self.of, self.released, self.lost = [], [], [], 0, 0
        self.came, self.went = [], []        # cycles in which beats come and leave
        self.slow = lambda: 0                # cycles before a beat
        self.events = {"tx_frames": 0, "tx_dropped": 0}

    def chain(self, rng, id, parts, *, drop=0, lost=0, error=False, full=True):
        """A chain that is read in ``parts``, each of these bytes; without any it is not read."""
        common = {"pair": id % 2, "chain": {"id": id}}
        for k, part in enumerate(parts):
            last, left = k == len(parts) - 1, part
            self.parts.append({**common, "has_read": 1, "beats": 5, "last": last, "drop": drop and last, "lost": lost and last})
            while True:
                size = min(len(left), self.lanes if full else rng.randrange(self.lanes + 1))
                chunk, left = left[:size], left[size:]
                noise = chunk + rng.randbytes(self.lanes - size)
                self.beats.append({"data": int.from_bytes(noise, "little"), "count": size, "last": not left,
                                   "error": error and last and not left})
                if not left:
                    break
        if not parts:
            self.parts.append({**common, "last": 1, "drop": drop, "lost": lost})

    async def send_parts(self, ctx):
        for part in self.parts:
            await streams.send(ctx, self.dut.i, part)

    async def send_beats(self, ctx):
        for beat in self.beats:
            await cycles(ctx, self.slow())
            await streams.send(ctx, self.dut.beat, beat)

    async def watch(self, ctx):
        dut, frame, cycle = self.dut, b"", 0
        taken = dut.beat.valid & dut.beat.ready
        async for _, _, came, valid, o, released, lost, events in ctx.tick().sample(
                taken, dut.o_valid, dut.o, dut.released, dut.lost, dut.events):
            cycle += 1
            self.came += [cycle] * came
            self.went += [cycle] * valid
            self.released += released
            self.lost += lost
            for name in self.events:
                self.events[name] += events[name]
            if valid:
                assert o.last or o.count == self.lanes
                # Who keeps the beat before may have it again with the end of the frame.
                assert o.count or not frame or o.data.to_bytes(self.lanes, "little") == frame[-self.lanes:]
                frame += o.data.to_bytes(self.lanes, "little")[:o.count]
                if o.last:
                    self.frames.append(NO_FRAME if o.error else frame)
                    frame = b""

    def run(self, rng, busy=1.0):
        dut = self.dut

        def ready():
            return rng.random() < busy

        async def take_back(ctx):
            await streams.collect(ctx, dut.o_back, lambda p: self.back.append((p.pair, p.chain.id)), ready)

        async def take_pairs(ctx):
            await streams.collect(ctx, dut.o_pair, self.of.append, ready)

        async def main(ctx):
            await cycles(ctx, 30 + 8 * len(self.beats) + 8 * len(self.parts))
            assert not ctx.get(dut.busy)
        simulation = Simulation(dut, watch_busy=False)
        for bench in (self.watch, take_back, take_pairs, self.send_parts, self.send_beats):
            simulation.background(bench)
        simulation.run(main)


def packet(rng, size):
    """A header that names no tunnel, and a frame."""
    return bytes(VIRTIO_NET_HDR_SIZE) + rng.randbytes(size)


@pytest.mark.parametrize("width, full, busy", [(32, True, 1.0), (64, True, 1.0), (64, False, 0.6), (128, False, 1.0)])
def test_the_header_may_be_cut_anywhere(width, full, busy, rng):
    bench, want = Bench(width), []
    for k in range(VIRTIO_NET_HDR_SIZE + 8):
        whole = packet(rng, 14 + k)
        bench.chain(rng, k, [whole[:k], whole[k:k + 3], whole[k + 3:]], full=full)
        want.append(whole[VIRTIO_NET_HDR_SIZE:])
    bench.run(rng, busy)
    assert bench.frames == want
    assert bench.back == [(k % 2, k) for k in range(len(want))] and bench.of == [k % 2 for k in range(len(want))]
    assert bench.released == 5 * len(bench.parts)
    assert bench.events == {"tx_frames": len(want), "tx_dropped": 0}


def test_what_is_no_frame(rng):
    bench = Bench()
    tunnels, whole = bytearray(packet(rng, 30)), packet(rng, 30)
    tunnels[1] = 0x60                                              # 5.1.9.2.2: not both
    bench.chain(rng, 0, [whole])
    bench.chain(rng, 1, [bytes(tunnels)])
    bench.chain(rng, 2, [whole], drop=1)
    bench.chain(rng, 3, [whole[:20], whole[20:]], error=True)
    bench.chain(rng, 4, [], drop=1)
    bench.chain(rng, 5, [whole], lost=1)
    bench.chain(rng, 6, [], lost=1)
    bench.chain(rng, 7, [whole])                                   # none of which is remembered
    bench.run(rng)
    good = whole[VIRTIO_NET_HDR_SIZE:]
    assert bench.frames == [good, *[NO_FRAME] * 6, good]
    assert [id for _, id in bench.back] == [0, 1, 2, 3, 4, 7] and bench.lost == 2
    assert bench.of == [0, 1] * 4
    assert bench.events == {"tx_frames": 2, "tx_dropped": 6}


def test_a_beat_each_cycle(rng):
    bench = Bench()
    whole = packet(rng, 104 - VIRTIO_NET_HDR_SIZE)
    bench.chain(rng, 0, [whole])
    bench.run(rng)
    assert [cycle - bench.came[0] for cycle in bench.came] == list(range(13))
    # The first beat is of the header alone, and the second one waits for company; two cycles later it goes.
    assert [cycle - bench.came[0] for cycle in bench.went] == list(range(4, 16))


@pytest.mark.parametrize("late", [0, 5])
def test_an_empty_last_beat_has_the_data_of_the_one_before(late, rng):
    """An answer ends in an empty beat, or the last buffer is empty."""
    bench, want = Bench(), []
    bench.slow = lambda: late
    for k in range(4):
        whole = packet(rng, 24 + 8 * k)
        bench.chain(rng, k, [whole, b""])
        want.append(whole[VIRTIO_NET_HDR_SIZE:])
    bench.run(rng)
    assert bench.frames == want
