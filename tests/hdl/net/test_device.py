"""The device configuration, and the parameters that make no device."""

from functools import cache

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.net.device import NetDevice

from ...kit.simulator import Simulator

device = cache(NetDevice)  # one that is simulated again is not elaborated again

GOOD = dict(width=64, queue_pairs=2, mac_address=0x5254_0052_4e01, mtu=1500, speed=1000, prefetch=64,
            max_queue_size=256)


def test_errors():
    with pytest.raises(ValueError, match="^Queue pairs must be 1 to 32768, not 0$"):
        NetDevice(**{**GOOD, "queue_pairs": 0})
    with pytest.raises(ValueError, match="^MTU must be 68 to 9000 bytes, not 67$"):
        NetDevice(**{**GOOD, "mtu": 67})
    with pytest.raises(ValueError, match="^MTU must be 68 to 9000 bytes, not 9001$"):
        NetDevice(**{**GOOD, "mtu": 9001})
    for address in (1 << 48, 0x0100_0000_0000):
        with pytest.raises(ValueError, match=f"^MAC address must be 48 bits of an individual address, not {address}$"):
            NetDevice(**{**GOOD, "mac_address": address})


def test_configuration_follows_the_link():
    dut, changes = NetDevice(**GOOD), []

    def image(status):
        # 5.1.4: mac, status, max_virtqueue_pairs, mtu, speed, duplex; little-endian
        return (bytes.fromhex("525400524e01") + status.to_bytes(2, "little") + bytes([2, 0]) +
                (1500).to_bytes(2, "little") + (1000).to_bytes(4, "little") + bytes([1]))

    async def bench(ctx):
        for link in (0, 1, 1, 0):
            ctx.set(dut.link_up, link)
            for _ in range(5):
                _, _, changed = await ctx.tick().sample(dut.host.config_changed)
                changes.append(changed)
            assert ctx.get(dut.host.config).to_bytes(len(dut.host.config) // 8, "little") == image(link)
        assert sum(changes) == 2

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()


def test_speed_and_duplex_are_of_the_link():
    """5.1.4.1: they change while the link is down or with it, and every change is told of in the cycle that shows it."""
    dut = NetDevice(**GOOD)

    async def bench(ctx):
        shown, changes = [], []

        async def run(up, speed, duplex):
            ctx.set(dut.link_up, up)
            ctx.set(dut.speed, speed)
            ctx.set(dut.duplex, duplex)
            for _ in range(4):
                _, _, config, changed = await ctx.tick().sample(dut.host.config, dut.host.config_changed)
                raw = config.to_bytes(17, "little")
                state = raw[6] & 1, int.from_bytes(raw[12:16], "little"), raw[16]
                if not shown or state != shown[-1]:
                    shown.append(state)
                    changes.append(changed)
        unknown = 0xffff_ffff, 0xff
        await run(1, 100, 1)
        await run(1, 10, 0)                  # nothing, as long as the link is up
        await run(0, *unknown)
        await run(0, 1000, 1)                # what it will be
        await run(1, 1000, 1)
        await run(0, *unknown)
        assert shown == [(0, 1000, 1), (1, 100, 1), (0, *unknown), (1, 1000, 1), (0, *unknown)]
        assert changes == [0, 1, 1, 1, 1]

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()


def test_a_speed_that_nobody_knows_yet():
    """5.1.4: 0xffffffff and 0xff until there was a link."""
    dut = NetDevice(**{**GOOD, "speed": 0xffff_ffff, "mac_address": 0})

    async def bench(ctx):
        ctx.set(dut.mac_address, 0x0253_0405_0607)
        await ctx.tick().repeat(3)
        raw = ctx.get(dut.host.config).to_bytes(17, "little")
        assert raw[:8] == bytes.fromhex("0253 0405 0607 0000") and raw[12:] == b"\xff" * 5

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()


def test_features():
    # MTU, MAC, MRG_RXBUF, STATUS, CTRL_VQ, SPEED_DUPLEX; MQ
    assert set(NetDevice(**{**GOOD, "queue_pairs": 1}).FEATURES) == {3, 5, 15, 16, 17, 63}
    assert set(NetDevice(**GOOD).FEATURES) == {3, 5, 15, 16, 17, 22, 63}


async def accepted(ctx, port):
    while not (await ctx.tick().sample(port.ready))[2]:
        pass


class Bench:
    """A device of several pairs with endless receive buffers, and a memory in which transmit and control chains are posted."""
    def __init__(self, *, width, pairs, features, mtu=1500, make=device):
        self.width, self.lanes = width, width // 8
        self.dut = make(**{**GOOD, "width": width, "queue_pairs": pairs, "mtu": mtu})
        self.features, self.queues = features, 2 * pairs + 1
        self.chains = {queue: [] for queue in range(self.queues)}
        self.memory, self.next_addr = {}, 0x1000
        self.frames, self.used, self.sent, self.heads, self.wire_ready = [], [], 0, {}, 1

    def post(self, queue, *parts):
        """``parts``: bytes that the device reads, or a number of bytes that it may write."""
        chain = []
        for k, part in enumerate(parts):
            size = part if isinstance(part, int) else len(part)
            for at in range(size):
                self.memory[self.next_addr + at] = 0xee if isinstance(part, int) else part[at]
            chain.append({"queue": queue, "addr": self.next_addr, "len": size, "write": isinstance(part, int),
                          "chain": {"id": len(self.heads) % 0x8000}, "last": k == len(parts) - 1})
            self.next_addr += size + 5
        self.heads[len(self.heads)] = chain[-1]["addr"]
        self.chains[queue].append(chain)

    def engine(self, number):
        """Takes, segments and used chains of one buffer port."""
        port, pending = self.dut.host.buffers[number], []

        async def takes(ctx):
            ctx.set(port.enabled, (1 << self.queues) - 1)
            ctx.set(port.take.ready, 1)
            while True:
                ctx.set(port.available, sum(1 << queue for queue, chains in self.chains.items() if chains))
                _, _, valid, p = await ctx.tick().sample(port.take.valid, port.take.p)
                if valid and p.op in (TakeOp.TAKE, TakeOp.KEEP):
                    pending.extend(self.chains[p.queue].pop(0))

        async def segments(ctx):
            while True:
                if not pending:
                    await ctx.tick()
                    continue
                ctx.set(port.segment.p, pending.pop(0))
                ctx.set(port.segment.valid, 1)
                await accepted(ctx, port.segment)
                ctx.set(port.segment.valid, 0)

        async def used(ctx):
            ctx.set(port.used.ready, 1)
            async for _, _, valid, p in ctx.tick().sample(port.used.valid, port.used.p):
                if valid:
                    addr = self.heads[p.chain.id]
                    self.used.append((p.queue, bytes(self.memory[addr + k] for k in range(p.len))))
        return takes, segments, used

    def reader(self, number):
        port = self.dut.host.reads[number]

        async def bench(ctx):
            while True:
                ctx.set(port.req.ready, 1)
                _, _, valid, request = await ctx.tick().sample(port.req.valid, port.req.p)
                ctx.set(port.req.ready, 0)
                if not valid:
                    continue
                whole = bytes(self.memory[request.addr + k] for k in range(request.len))
                for at in range(0, len(whole), self.lanes):
                    piece = whole[at:at + self.lanes]
                    ctx.set(port.beat.p, {"data": int.from_bytes(piece, "little"), "count": len(piece),
                                          "last": at + self.lanes >= len(whole), "error": 0})
                    ctx.set(port.beat.valid, 1)
                    await accepted(ctx, port.beat)
                    ctx.set(port.beat.valid, 0)
        return bench

    def writer(self, number):
        port = self.dut.host.writes[number]

        async def bench(ctx):
            at = left = 0
            requests = []                      # one may be asked for while the one before is written
            ctx.set(port.req.ready, 1)
            ctx.set(port.data.ready, 1)
            async for _, _, asked, request, moved, beat in ctx.tick().sample(
                    port.req.valid, port.req.p, port.data.valid, port.data.p):
                if asked:
                    requests.append((request.addr, request.len))
                if moved:
                    at, left = requests.pop(0) if left == 0 else (at, left)
                    for k, byte in enumerate(beat.data.to_bytes(self.lanes, "little")[:left]):
                        self.memory[at + k] = byte
                    at, left = at + self.lanes, max(0, left - self.lanes)
        return bench

    async def wire(self, ctx):
        port = self.dut.frames_rx
        while True:
            frame = self.frames.pop(0) if self.frames else b""
            for at in range(0, len(frame), self.lanes):
                piece = frame[at:at + self.lanes]
                ctx.set(port.p, {"data": int.from_bytes(piece, "little"), "count": len(piece),
                                 "last": at + self.lanes >= len(frame), "error": 0})
                ctx.set(port.valid, 1)
                await accepted(ctx, port)
            ctx.set(port.valid, 0)
            if not frame:
                await ctx.tick()

    async def sink(self, ctx):
        port = self.dut.frames_tx
        while True:
            ctx.set(port.ready, self.wire_ready)
            _, _, sent, p = await ctx.tick().sample(port.valid & port.ready, port.p)
            self.sent += sent and p.last

    def run(self, control):
        async def main(ctx):
            ctx.set(self.dut.link_up, 1)
            ctx.set(self.dut.host.driver_ok, 1)
            ctx.set(self.dut.host.features, sum(1 << bit for bit in self.features))
            await ctx.tick().repeat(270)               # the table of flows is empty
            await control(ctx)

        sim = Simulator(self.dut)
        sim.add_clock(8e-9)
        sim.add_testbench(main)
        for bench in (*self.engine(0), *self.engine(1), self.reader(0), self.reader(1), self.writer(0), self.writer(1),
                      self.wire, self.sink):
            sim.add_testbench(bench, background=True)
        sim.run()


VERSION_1, MRG_RXBUF, CTRL_VQ, MQ = 32, 15, 17, 22


def frame_of(flow, *, back=False):
    """A TCP segment of one of many flows, or the answer to it; of odd flows by IPv6, and then its last bytes are the ports."""
    ends = [(bytes([10, 0, 0, 1]), 40000 + flow), (bytes([10, 0, 0, 2]), 443)]
    (source, source_port), (target, target_port) = reversed(ends) if back else ends
    ports = source_port.to_bytes(2, "big") + target_port.to_bytes(2, "big")
    if flow % 2:
        return bytes(12) + b"\x86\xdd" + bytes([0x60, 0, 0, 0, 0, 4, 6, 64]) + bytes(12) + source + bytes(12) + target + ports
    header = bytes([0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 6, 0, 0]) + source + target
    return bytes(12) + b"\x08\x00" + header + ports + bytes(22)


@pytest.mark.parametrize("width, pairs", [(64, 3), (128, 16)])
def test_answers_come_back_on_the_pair_of_their_flow(width, pairs, rng):
    bench = Bench(width=width, pairs=pairs, features={VERSION_1, MRG_RXBUF, CTRL_VQ, MQ})
    control_queue = 2 * pairs

    async def command(ctx, count):
        bench.used.clear()
        bench.post(control_queue, bytes([4, 0]), count.to_bytes(2, "little"), 1)
        for _ in range(300):
            await ctx.tick()
            if bench.used:
                return bench.used.pop()
        raise AssertionError("no answer")

    async def receive(ctx, flows):
        bench.used.clear()
        bench.frames = [frame_of(flow, back=True) for flow in flows]
        for _ in range(60 * len(flows) + 100):
            await ctx.tick()
        got = {frame[12:]: queue for queue, frame in bench.used}
        assert len(got) == len(flows)
        return [got[frame_of(flow, back=True)] for flow in flows]

    async def main(ctx):
        for queue in range(0, 2 * pairs, 2):
            for _ in range(60):
                bench.post(queue, 1600)
        flows = {flow: rng.randrange(pairs) for flow in range(20)}
        for flow, pair in flows.items():
            bench.post(2 * pair + 1, bytes(12) + frame_of(flow))
        await ctx.tick().repeat(1000)
        assert bench.sent == len(flows)
        assert set(await receive(ctx, flows)) == {0}                   # MQ: the first until told otherwise
        assert await command(ctx, pairs) == (control_queue, b"\0")
        assert await receive(ctx, flows) == [2 * pair for pair in flows.values()]
        assert await receive(ctx, [100, 101]) == [0, 0]                # never sent
        assert await command(ctx, pairs + 1) == (control_queue, b"\1")
        assert await command(ctx, 2) == (control_queue, b"\0")
        assert await receive(ctx, flows) == [2 * pair if pair < 2 else 0 for pair in flows.values()]
        bench.post(5, bytes(12) + frame_of(7))                         # the flow moves
        await ctx.tick().repeat(100)
        assert await command(ctx, 3) == (control_queue, b"\0")
        assert await receive(ctx, [7]) == [4]
    bench.run(main)


@pytest.mark.parametrize("pairs", [1, 4])
def test_control_queue_without_mq(pairs):
    """It is queue 2 then, whatever the device could do."""
    bench = Bench(width=64, pairs=pairs, features={VERSION_1, CTRL_VQ})

    async def main(ctx):
        bench.post(2, bytes([4, 0, 1, 0]), 1)
        bench.post(1, bytes(12) + frame_of(0))
        for _ in range(10):
            bench.post(0, 1600)
        bench.frames = [frame_of(0, back=True)]
        await ctx.tick().repeat(400)
        assert sorted(bench.used) == [(0, bytes(10) + b"\1\0" + frame_of(0, back=True)), (1, b""), (2, b"\1")]
        assert bench.sent == 1
    bench.run(main)


def test_the_control_queue_is_answered_while_the_wire_stands_still():
    """It shares a walker with frames that have no room to be read: of those some are dropped then."""
    bench, patience = Bench(width=64, pairs=1, features={VERSION_1, MRG_RXBUF, CTRL_VQ}, make=NetDevice), 300
    bench.dut.transmit.patience = patience

    async def main(ctx):
        bench.wire_ready = 0
        for flow in range(60):
            bench.post(1, bytes(12) + frame_of(flow) + bytes(1000))
        await ctx.tick().repeat(6000)
        sent = len(bench.used)
        assert 0 < sent < 40                                           # the others wait for as long as it takes
        bench.post(2, bytes([4, 0, 1, 0]), 1)
        for _ in range(patience + 2000):
            await ctx.tick()
            if (2, b"\1") in bench.used:
                break
        else:
            raise AssertionError("no answer")
        bench.wire_ready = 1
        await ctx.tick().repeat(1000)
        bench.post(1, bytes(12) + frame_of(0))
        await ctx.tick().repeat(5000)
        assert bench.used.count((1, b"")) == 61 and sent < bench.sent < 61
    bench.run(main)


@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("tags", ["", "8100 0001", "88a8 0001", "88a8 0001 8100 0002"], ids=["plain", "c", "s", "s_c"])
def test_no_frame_of_more_than_the_mtu_is_received(pairs, tags):
    """VIRTIO 1.4, 5.1.4.1: mtu and the header for the link are the most, which is 14 bytes and 4 for each tag."""
    bench = Bench(width=64, pairs=pairs, features={VERSION_1, MRG_RXBUF})
    head = bytes(12) + bytes.fromhex(tags) + b"\x88\xb5"
    whole = head + bytes(1500)

    async def main(ctx):
        for _ in range(3):
            bench.post(0, 1600)
        bench.frames += [whole + b"\0", whole, whole + bytes(4)]
        await ctx.tick().repeat(3000)
        assert bench.used == [(0, bytes(10) + b"\1\0" + whole)]
    bench.run(main)


def test_frames_of_the_mtu_are_sent_whatever_their_header():
    """5.1.4.1: they must be, and of what is longer nothing is said: 22 bytes around the MTU, for two tags, are the most."""
    bench = Bench(width=64, pairs=1, features={VERSION_1, MRG_RXBUF})

    async def main(ctx):
        for size in (1514, 1518, 1522, 1523):
            bench.post(1, bytes(12 + size))
        await ctx.tick().repeat(3000)
        assert bench.used == [(1, b"")] * 4 and bench.sent == 3
    bench.run(main)


@pytest.mark.parametrize("mtu", [68, 9000])
def test_smallest_and_largest_mtu(mtu):
    """5.1.4.1: 68 is the least that there is; the card is built for no more than 9000."""
    bench = Bench(width=128, pairs=1, features={VERSION_1, MRG_RXBUF}, mtu=mtu)

    async def main(ctx):
        head = bytes(12) + b"\x88\xb5"
        for more in (1, 0):
            bench.post(0, mtu + 100)
            bench.frames.append(head + bytes(mtu + more))
        await ctx.tick().repeat(mtu // 4 + 300)
        assert bench.used == [(0, bytes(10) + b"\1\0" + head + bytes(mtu))]
        for more in (14, 18, 22, 23):
            bench.post(1, bytes(12 + mtu + more))
        await ctx.tick().repeat(mtu // 3 + 300)
        assert bench.used[1:] == [(1, b"")] * 4 and bench.sent == 3
    bench.run(main)


def test_a_frame_that_is_not_sent_teaches_nothing():
    bench = Bench(width=64, pairs=2, features={VERSION_1, MRG_RXBUF, CTRL_VQ, MQ})
    plain = bytes(60)                                                  # of no flow, like what is not read

    async def main(ctx):
        bench.post(4, bytes([4, 0]), b"\2\0", 1)
        for queue in (0, 2):
            bench.post(queue, 1600)
        bench.post(3, bytes(12 + 1600))                                # too long
        await ctx.tick().repeat(600)
        assert sorted(queue for queue, _ in bench.used) == [3, 4] and bench.sent == 0
        bench.frames.append(plain)
        await ctx.tick().repeat(300)
        assert (0, bytes(10) + b"\1\0" + plain) in bench.used
    bench.run(main)
