"""Completions to their places in the reorder buffer."""

import pytest
from amaranth.hdl import Array, C, Module, Signal

from ringnic.hdl.pcie.dma_reorder import Placer, ReorderBuffer
from ringnic.hdl.pcie.dma_seams import tag_info

from ...kit.simulator import Simulator

RID, TAGS, SLOT = 0x0508, 8, 128


def completion(tag, data, byte_count, lower, *, status=0, rid=RID, tc=0, attr=0, ep=0):
    """A TLP; ``data`` is whole DWs, or None."""
    fmt = 0 if data is None else 2
    dws = [fmt << 29 | 0xa << 24 | tc << 20 | attr >> 2 << 18 | ep << 14 | (attr & 3) << 12 | len(data or b"") // 4,
           status << 13 | byte_count & 0xfff, rid << 16 | tag << 8 | lower & 0x7f]
    return b"".join(dw.to_bytes(4, "big") for dw in dws) + (data or b"")


NOTHING = {"finish": [], "bad": [], "forget": [], "unexpected": 0, "malformed": 0, "broken": 0,
           "poisoned": 0, "refused": 0, "aborted": 0}


class PlacerBench:
    """A :class:`Placer` with what it looks up: requests of ``infos``, and which tags have had nothing yet."""
    def __init__(self, width, infos, late=0):
        self.dut = dut = Placer(width, TAGS, SLOT)
        self.width, waiting = width, (1 << len(infos)) - 1
        self.buffer = bytearray(TAGS * SLOT)
        self.seen = NOTHING | {"finish": [], "bad": [], "forget": []}
        self.infos = [Signal(tag_info(SLOT), init=info, name=f"info_{k}") for k, info in enumerate(infos)]
        m = Module()
        m.submodules.dut = dut
        fresh, look = Signal(TAGS, init=-1), dut.look
        padded = [*self.infos, *[Signal.like(self.infos[0]) for _ in range(TAGS - len(infos))]]
        m.d.comb += [
            look.info.eq(Array(padded)[look.tag]),
            look.fresh.eq(fresh.bit_select(look.tag, 1)),
            look.waiting.eq(C(waiting, TAGS).bit_select(look.tag, 1)),
            look.late.eq(C(late, TAGS).bit_select(look.tag, 1)),
        ]
        with m.If(look.begin):
            m.d.sync += fresh.bit_select(look.begin_tag, 1).eq(0)
        self.sim = Simulator(m)
        self.sim.add_clock(8e-9)
        self.sim.add_testbench(self.watch, background=True)

    async def watch(self, ctx):
        dut, lanes = self.dut, self.width // 32
        verdicts, strobes = ("finish", "bad", "broken", "forget"), ("unexpected", "malformed")
        faults = [name for name, _ in dut.faults.shape()]
        names = (*verdicts, *strobes, *faults)
        signals = [*(getattr(dut.verdict, name) for name in verdicts), *(getattr(dut, name) for name in strobes),
                   *(dut.faults[name] for name in faults)]
        banks = [signal for bank in dut.banks for signal in (bank.row, bank.data, bank.en)]
        while True:
            valid, tag, *values = (await ctx.tick().sample(dut.verdict.valid, dut.verdict.tag, *signals, *banks))[2:]
            now = dict(zip(names, values))
            assert valid or not (now["finish"] or now["forget"])
            for name in ("finish", "forget"):
                if now[name]:
                    self.seen[name].append(tag)
            if now["finish"] and (now["bad"] or now["broken"]):
                self.seen["bad"].append(tag)
            for name in (*strobes, *faults):
                self.seen[name] += now[name]
            self.seen["broken"] += now["finish"] and now["broken"]
            for k in range(lanes):
                row, word, enable = values[len(names) + 3 * k:][:3]
                if enable:
                    at = 4 * (row * lanes + k)
                    self.buffer[at:at + 4] = word.to_bytes(4, "little")

    def run(self, tlps, rng=None):
        async def feed(ctx):
            dut, size = self.dut, self.width // 8
            ctx.set(dut.requester_id, RID)
            for tlp in tlps:
                for at in range(0, len(tlp), size):
                    while rng and rng.random() < 0.2:
                        await ctx.tick()
                    piece = tlp[at:at + size]
                    ctx.set(dut.cpl.payload, {"data": int.from_bytes(piece.ljust(size, b"\xa5"), "little"),
                                              "dws": len(piece) // 4, "last": at + size >= len(tlp)})
                    ctx.set(dut.cpl.valid, 1)
                    assert ctx.get(dut.cpl.ready)
                    await ctx.tick()
                    ctx.set(dut.cpl.valid, 0)
            for _ in range(4):
                await ctx.tick()
        self.sim.add_testbench(feed)
        self.sim.run()


def request(offset, length, word=0):
    return {"word": word, "offset": offset, "end": offset + length, "last": 1}


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_completions_of_all_tags_interleaved(rng, width):
    infos, bodies, trains = [], [], []
    for tag in range(TAGS):
        offset = rng.randrange(4)
        length = rng.randint(1, SLOT - offset)
        word = rng.randrange(32)
        info = request(offset, length, word=word)
        dws = (offset + length + 3) // 4
        body = rng.randbytes(4 * dws)
        at, train = 0, []
        while at < dws:
            stop = rng.randint(at + 1, dws)
            begin = max(4 * at, offset)
            train.append(completion(tag, body[4 * at:4 * stop], offset + length - begin, begin + 4 * word))
            at = stop
        infos.append(info)
        bodies.append(body)
        trains.append(train)
    tlps = []
    while any(trains):
        train = rng.choice([train for train in trains if train])
        tlps.append(train.pop(0))
    bench = PlacerBench(width, infos)
    bench.run(tlps, rng)
    assert sorted(bench.seen["finish"]) == list(range(TAGS))
    assert not any(bench.seen[name] for name in bench.seen if name != "finish")
    for tag, body in enumerate(bodies):
        assert bench.buffer[SLOT * tag:SLOT * tag + len(body)] == body


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("case, tlp, seen", [
    ("refused", completion(0, None, 8, 0, status=1), dict(finish=[0], bad=[0], refused=1)),
    ("refused by a reserved status", completion(0, None, 8, 0, status=7), dict(finish=[0], bad=[0], refused=1)),
    ("aborted", completion(0, None, 8, 0, status=4), dict(finish=[0], bad=[0], aborted=1)),
    ("poisoned", completion(0, bytes(8), 8, 0, ep=1), dict(finish=[0], bad=[0], poisoned=1)),
    ("of another address", completion(0, bytes(8), 8, 4), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("of another byte", completion(0, bytes(8), 8, 1), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("of another traffic class", completion(0, bytes(8), 8, 0, tc=4), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("of other attributes", completion(0, bytes(8), 8, 0, attr=2), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("wrong byte count", completion(0, bytes(8), 12, 0), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("too long", completion(0, bytes(64), 8, 0), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("without data", completion(0, None, 8, 0), dict(finish=[0], bad=[0], broken=1, unexpected=1)),
    ("shorter than it says", completion(0, bytes(8), 8, 0)[:-4], dict(finish=[0], bad=[0], malformed=1, broken=1)),
    ("longer than it says", completion(0, bytes(8), 8, 0) + bytes(4), dict(finish=[0], bad=[0], malformed=1, broken=1)),
    ("header cut", completion(0, bytes(8), 8, 0)[:8], dict(malformed=1)),
    ("another function's", completion(0, bytes(8), 8, 0, rid=RID ^ 1), dict(unexpected=1)),
    ("tag not asked for", completion(1, bytes(8), 8, 0), dict(unexpected=1)),
    ("tag that does not exist", completion(TAGS, bytes(8), 8, 0), dict(unexpected=1)),
    ("late, the last of it", completion(2, bytes(8), 8, 0), dict(unexpected=1, forget=[2])),
    ("late, more to come", completion(2, bytes(8), 12, 0), dict(unexpected=1)),
    ("late, refused", completion(2, None, 12, 0, status=4), dict(unexpected=1, forget=[2])),
])
def test_verdicts(width, case, tlp, seen):
    """And a good completion after it is taken for what it is."""
    bench = PlacerBench(width, [request(0, 8)], late=4)
    bench.buffer[:] = b"\xee" * len(bench.buffer)
    bench.run([tlp])
    assert bench.seen == NOTHING | seen
    assert bench.buffer[SLOT:] == b"\xee" * (len(bench.buffer) - SLOT)
    if not seen.get("finish"):
        bench = PlacerBench(width, [request(0, 8)], late=4)
        bench.run([tlp, completion(0, b"good day", 8, 0)])
        assert bench.seen["finish"] == [0] and bench.buffer[:8] == b"good day"


def test_id_based_ordering_is_the_completers():
    bench = PlacerBench(64, [request(0, 8)])
    bench.run([completion(0, b"good day", 8, 0, attr=4)])
    assert bench.seen == NOTHING | {"finish": [0]} and bench.buffer[:8] == b"good day"


@pytest.mark.parametrize("width", [64, 128])
def test_poison_of_a_part_spoils_the_whole(width):
    """Also when the part and what follows come without a pause, and not of another tag or of the same tag's next read."""
    body, infos = bytes(range(24)), [request(0, 24), request(0, 8)]
    bench = PlacerBench(width, infos)
    bench.run([completion(0, body[:8], 24, 0, ep=1), completion(0, body[8:16], 16, 8), completion(1, bytes(8), 8, 0),
               completion(0, body[16:], 8, 16)])
    assert bench.seen == NOTHING | {"finish": [1, 0], "bad": [0], "poisoned": 1}


@pytest.mark.parametrize("width", [32, 64, 128])
def test_much_longer_than_it_says(width):
    """However many DWs there are, they are never counted as the ones expected."""
    bench = PlacerBench(width, [request(0, 8)])
    bench.run([completion(0, bytes(8), 8, 0) + bytes(4 * 4096)])
    assert bench.seen == NOTHING | {"finish": [0], "bad": [0], "malformed": 1, "broken": 1}


@pytest.mark.parametrize("width", [32, 128])
def test_rows_come_back(width, rng):
    """Each DW from its bank; data stays while no row is asked for."""
    dut, lanes, rows = ReorderBuffer(width, 16), width // 32, [rng.getrandbits(width) for _ in range(16)]
    sim = Simulator(dut)
    sim.add_clock(8e-9)

    async def testbench(ctx):
        for k in rng.sample(range(16 * lanes), 16 * lanes):
            bank = dut.banks[k % lanes]
            ctx.set(bank.row, k // lanes)
            ctx.set(bank.data, rows[k // lanes] >> 32 * (k % lanes) & 0xffff_ffff)
            ctx.set(bank.en, 1)
            await ctx.tick()
            ctx.set(bank.en, 0)
        for k in range(16):
            ctx.set(dut.row, k)
            ctx.set(dut.row_en, 1)
            await ctx.tick()
            ctx.set(dut.row_en, 0)
            ctx.set(dut.row, 15 - k)
            await ctx.tick()
            assert ctx.get(dut.row_data) == rows[k]
    sim.add_testbench(testbench)
    sim.run()
