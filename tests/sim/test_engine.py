"""The engine around a card that has no logic: what the link brings comes out as frames, frames go up the link as TLPs."""

import errno
import os
import random
import struct
import threading
import time
from types import SimpleNamespace

import pytest
from amaranth import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ringnic.hdl.lib.frame import frame_beat
from ringnic.hdl.lib.queue import Queue
from ringnic.hdl.pcie.tlp_stream import tlp_beat
from ringnic.hdl.spec.bar import DEVICE_OFFSET
from ringnic.hdl.spec.pcie import Cfg, Command
from ringnic.sim.bus import BAR_WINDOW
from ringnic.sim.engine import build as build_module
from ringnic.sim.engine import engine as engine_module
from ringnic.sim.engine.build import BuildError
from ringnic.sim.engine.engine import FAULTS, Engine, Link
from ringnic.sim.engine.view import save_view
from ringnic.sim.top import design_of

IOVA = 0x1_2345_0000
CARD, HOST = 0x0100, 0
FAST = Link(gen=3, lanes=16)


class Relay(wiring.Component):
    """Test plays the card, TLP by TLP."""
    def __init__(self, width=64):
        self.width = width
        super().__init__({
            "tlp_rx": In(stream.Signature(tlp_beat(width))), "tlp_tx": Out(stream.Signature(tlp_beat(width))),
            "frames_rx": In(stream.Signature(frame_beat(width))), "frames_tx": Out(stream.Signature(frame_beat(width))),
            "link_up": In(1), "offered": In(128), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.down = down = Queue(tlp_beat(self.width), 4)
        m.submodules.up   = up   = Queue(frame_beat(self.width), 4)
        connect(m, flipped(self.tlp_rx), down.i)
        connect(m, flipped(self.frames_rx), up.i)
        for a, b in ((down.o, self.frames_tx), (up.o, self.tlp_tx)):
            m.d.comb += [b.valid.eq(a.valid), a.ready.eq(b.ready), b.p.data.eq(a.p.data), b.p.last.eq(a.p.last)]
        m.d.comb += [
            self.frames_tx.p.count.eq(down.o.p.dws << 2),
            self.tlp_tx.p.dws.eq(up.o.p.count >> 2),
            self.busy.eq(down.o.valid | up.o.valid),
        ]
        return m


class GmiiLoop(wiring.Component):
    """Sends back what it hears, damaged while the link is down."""
    width = 64

    def __init__(self):
        super().__init__({
            "tlp_rx": In(stream.Signature(tlp_beat(64))), "tlp_tx": Out(stream.Signature(tlp_beat(64))),
            "gmii_rxd": In(8), "gmii_rx_dv": In(1), "gmii_rx_er": In(1),
            "gmii_txd": Out(8), "gmii_tx_en": Out(1), "gmii_tx_er": Out(1), "link_up": In(1), "offered": In(128), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.tlp_rx.ready.eq(1)
        m.d.gmii_tx += [self.gmii_txd.eq(self.gmii_rxd), self.gmii_tx_en.eq(self.gmii_rx_dv)]
        m.d.gmii_rx += self.gmii_tx_er.eq(~self.link_up & self.gmii_rx_dv)
        return m


def header(*dws):
    return b"".join(dw.to_bytes(4, "big") for dw in dws)


def address(value):
    return [value >> 32, value & 0xffff_fffc] if value >> 32 else [value & 0xffff_fffc]


def enables(value, size):
    """Length in DWs and the byte enables, of the bytes from ``value`` on."""
    dws = (value % 4 + size + 3) // 4
    mask = (1 << size) - 1 << value % 4
    first, last = mask & 15, mask >> 4 * (dws - 1) & 15
    return dws, (last if dws > 1 else 0) << 4 | first


def card_read(value, size, tag, sender=CARD):
    dws, be = enables(value, size)
    return header((0x20 if value >> 32 else 0) << 24 | dws & 1023, sender << 16 | tag << 8 | be, *address(value))


def card_write(value, data):
    dws, be = enables(value, len(data))
    body = bytes(value % 4) + data
    return header((0x60 if value >> 32 else 0x40) << 24 | dws, CARD << 16 | be, *address(value)) + body + bytes(-len(body) % 4)


def message(code):
    return header(0x34 << 24, CARD << 16 | code, 0, 0)


def card_completion(tag, data=b"", status=0, count=None, lower=0):
    count = len(data) if count is None else count
    return header((0x4a if data else 0x0a) << 24 | len(data) // 4, CARD << 16 | status << 13 | count,
                  HOST << 16 | tag << 8 | lower) + data


class Completion:
    def __init__(self, raw):
        dw = [int.from_bytes(raw[k:k + 4], "big") for k in range(0, 12, 4)]
        assert dw[0] >> 24 in (0x4a, 0x0a) and dw[2] >> 16 == CARD
        self.tag, self.lower = dw[2] >> 8 & 255, dw[2] & 127
        self.status, self.count = dw[1] >> 13 & 7, (dw[1] & 4095) or 4096
        self.poisoned, self.body = dw[0] >> 14 & 1, raw[12:]
        assert len(self.body) == (4 * ((dw[0] & 1023) or 1024) if dw[0] >> 30 else 0)

    @property
    def data(self):
        return self.body[self.lower % 4:]


def received(engine):
    found = []
    while (frame := engine.recv_frame()) is not None:
        found.append(frame)
    return found


def completions(engine, reads):
    """Send reads; return what came, as Completions."""
    for raw in reads:
        assert engine.send_frame(raw)
    engine.run_until(idle=True)
    return [Completion(raw) for raw in received(engine)]


@pytest.fixture(params=[64, 128], ids=lambda width: f"width{width}")
def card(request):
    with Engine(nic=Relay(request.param), link=FAST) as engine:
        yield engine
        assert engine.violations() == []


@pytest.fixture
def card64():
    with Engine(nic=Relay(), link=FAST) as engine:
        yield engine


def test_parameters():
    with pytest.raises(ValueError, match="PCIe generation must be 1, 2 or 3, not 4"):
        Link(gen=4)
    with pytest.raises(ValueError, match="Lanes must be 1, 2, 4, 8 or 16, not 3"):
        Link(lanes=3)
    with pytest.raises(ValueError, match="GMII ratio must be at least 1, not 0"):
        Engine(gmii_ratio=0)
    with pytest.raises(TypeError, match="Given a NIC, mtu cannot be chosen"):
        Engine(nic=object(), mtu=1500)
    with pytest.raises(ValueError, match="^MTU must be 68 to 9000 bytes, not 9001$"):
        Engine(mtu=9001)


def test_compiler_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build_module.BuildError, match=r"g\+\+ is missing: apt-get install g\+\+ make"):
        build_module.build(Relay, name="any")


@pytest.mark.parametrize("free, error", [(0, OSError), (1 << 30, BuildError)])
def test_a_tool_that_fails_on_a_full_disk(monkeypatch, tmp_path, free, error):
    """Whatever it says of it, the disk is named."""
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path))
    monkeypatch.setattr(build_module, "MAKE_VARIABLES", ("-f", "no-such-makefile"))
    monkeypatch.setattr(build_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(error) as raised:
        build_module.build(lambda: design_of(Relay()), name="any")
    if error is OSError:
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "build"))
    else:
        assert "make failed:" in str(raised.value)
    assert not list((tmp_path / "build").glob("tmp*"))


@pytest.mark.parametrize("width", [16, 33, 1024])
def test_no_such_width(width):
    with pytest.raises(ValueError, match=f"^The datapath is 32, 64, 128, 256, 512 bits wide, not {width}$"):
        Engine(width=width)


def test_closed(card64):
    card64.close()
    card64.close()
    with pytest.raises(ValueError, match="Engine is closed"):
        card64.run(1)


def test_config_requests(card):
    card.send_frame(card_completion(0, b"\x11\x22\x33\x44"))
    assert card.config_read(0x36, 1) == 0x33
    card.send_frame(card_completion(1))
    card.config_write(0x102, 2, 0xbeef)
    card.run_until(idle=True)
    read, write = received(card)
    assert read == header(0x04000001, 0x0004, CARD << 16 | 0x34)
    assert write == header(0x44000001, 0x010c, CARD << 16 | 0x100) + b"\0\0\xef\xbe"


def test_memory_requests(card):
    card.send_frame(card_completion(0, b"\x10\x11\x12\x13\x14\x15\x16\x17", count=7, lower=1))
    assert card.mem_read(0xe000_0001, 4) == 0x14131211
    card.send_frame(card_completion(1, b"\x20\x21\x22\x23", count=8))
    card.send_frame(card_completion(1, b"\x24\x25\x26\x27", count=4, lower=4))
    assert card.mem_read(0x2_0000_0000, 8) == 0x2726252423222120
    card.send_frame(card_completion(2, status=1))
    assert card.mem_read(0xe000_0000, 2) == 0xffff
    card.mem_write(0xe000_0003, 2, 0xabcd)
    card.run_until(idle=True)
    assert received(card) == [
        header(0x00000002, 0x001e, 0xe000_0000), header(0x20000002, 0x01ff, 2, 0),
        header(0x00000001, 0x0203, 0xe000_0000), header(0x40000002, 0x0018, 0xe000_0000) + b"\0\0\0\xcd\xab\0\0\0"]
    stats = card.stats()
    assert (stats["mrd_down"], stats["mwr_down"], stats["cpl_up"]) == (3, 1, 4)


def test_no_answer(card64, monkeypatch):
    monkeypatch.setattr(engine_module, "ACCESS_CYCLES", 1000)
    with pytest.raises(TimeoutError, match="No completion for an access to 0x80 in 1000 cycles"):
        card64.mem_read(0x80, 4)
    assert card64.run_until(idle=True, limit=10_000) < 1000      # nobody waits for it any more
    card64.send_frame(card_completion(0, bytes(4)))              # late
    card64.run_until(idle=True)
    assert card64.violations() == []
    card64.send_frame(card_completion(0, bytes(4)))              # later still
    card64.run_until(idle=True)
    assert card64.violations() == [
        "2.3.2: unexpected completion: CplD   tag 00 requester 0000 status 0 bytes 4 lower 00 data 00000000"]


def test_dma_write(card):
    memory = bytearray(4096)
    card.map_memory(IOVA, memory)
    expected, rng = bytearray(4096), random.Random(1)
    for _ in range(200):
        size, at = rng.randint(1, 256), rng.randrange(4096)
        data = rng.randbytes(min(size, 253, 4096 - at))
        expected[at:at + len(data)] = data
        card.send_frame(card_write(IOVA + at, data))
    card.run_until(idle=True)
    assert memory == expected
    assert card.stats()["mwr_up"] == 200 and not card.dma_faults()


@pytest.mark.parametrize("link", [FAST, Link(jitter_ns=500, split=2, seed=3), Link(gen=1, lanes=1, rcb=128, mps=128, split=1)],
                         ids=["plain", "jitter", "slow"])
@pytest.mark.parametrize("width", [64, 128])
def test_dma_read(width, link):
    rng = random.Random(2)
    with Engine(nic=Relay(width), link=link) as card:
        memory = bytearray(rng.randbytes(8192))
        card.map_memory(IOVA, memory)
        card.record()
        wanted = {}
        for tag in range(100):
            at = rng.randrange(8192)
            wanted[tag] = at, rng.randint(1, min(512, 4096 - at % 4096))
        got, overtaken, mixed, last = {}, False, False, -1
        for cpl in completions(card, [card_read(IOVA + at, size, tag) for tag, (at, size) in wanted.items()]):
            at, size = wanted[cpl.tag]
            have = got.setdefault(cpl.tag, bytearray())
            assert cpl.status == 0 and cpl.count == size - len(have) and cpl.lower == (at + len(have)) & 127
            assert len(cpl.body) <= link.mps
            have += cpl.data[:cpl.count]
            overtaken |= len(have) == len(cpl.data) and cpl.tag < max(got)
            mixed |= cpl.tag != last and len(have) > len(cpl.data[:cpl.count])
            last = cpl.tag
            # 2.3.1.1: a completion that is not the last ends at a Read Completion Boundary.
            assert len(have) == size or (at + len(have)) % link.rcb == 0
        assert got == {tag: memory[at:at + size] for tag, (at, size) in wanted.items()}
        assert card.accesses() == [(IOVA + at, size, False) for at, size in wanted.values()]
        assert card.violations() == []
        assert (overtaken, mixed) == (bool(link.jitter_ns), bool(link.split))


@pytest.mark.parametrize("tear", [0, 500])
def test_dma_reads_at_the_end_of_the_address_space(tear):
    memory = bytearray(range(1, 65))
    with Engine(nic=Relay(64), link=Link(gen=3, lanes=16, tear_ns=tear)) as card:
        card.map_memory((1 << 64) - len(memory), memory)
        wanted = [(start, end) for end in range(56, 65) for start in (0, 49, end - 1)]
        cpls = completions(card, [card_read((1 << 64) - 64 + start, end - start, tag) for tag, (start, end) in enumerate(wanted)])
        assert [(cpl.status, cpl.data[:cpl.count]) for cpl in sorted(cpls, key=lambda cpl: cpl.tag)] == [
            (0, memory[start:end]) for start, end in wanted]
        assert not card.dma_faults() and card.violations() == []


def test_empty_accesses(card64):
    memory = bytearray(b"abcdefgh")
    card64.map_memory(IOVA, memory)
    [cpl] = completions(card64, [header(0x20000001, CARD << 16 | 0x0500, *address(IOVA)),
                                 header(0x60000001, CARD << 16, *address(IOVA)) + b"zzzz"])
    assert (cpl.tag, cpl.count, len(cpl.body)) == (5, 1, 4) and memory == b"abcdefgh"


def test_dma_faults(card):
    memory, fixed = bytearray(b"a" * 64), bytearray(b"b" * 64)
    card.map_memory(IOVA, memory)
    card.map_memory(IOVA + 64, fixed, writable=False)
    reads = [IOVA - 8, IOVA + 124, IOVA + 128, IOVA + 60]
    cpls = completions(card, [card_read(at, 8, tag) for tag, at in enumerate(reads)])
    assert [(c.tag, c.status) for c in cpls] == [(0, 1), (1, 1), (2, 1), (3, 1)]  # none within one region
    assert card.dma_faults() == [(at, 8, False) for at in reads]
    assert [c.data for c in completions(card, [card_read(IOVA + 64, 8, 7)])] == [b"bbbbbbbb"]
    card.send_frame(card_write(IOVA + 64, b"cccc"))
    card.run_until(idle=True)
    assert fixed == b"b" * 64 and card.dma_faults() == [(IOVA + 64, 4, True)]
    card.unmap_memory(IOVA)
    assert [c.status for c in completions(card, [card_read(IOVA, 4, 8)])] == [1]
    assert card.stats()["dma_faults"] == 6


def test_read_faults(card):
    memory = bytearray(b"data")
    card.map_memory(IOVA, memory)
    names = ["ur", "ca", "poison", "lost", "duplicate", "none"]
    card.fault_reads(names)
    cpls = completions(card, [card_read(IOVA, 4, tag) for tag in range(6)])
    assert [(names[c.tag], c.status, c.poisoned, c.data) for c in cpls] == [
        ("ur", 1, 0, b""), ("ca", 4, 0, b""), ("poison", 0, 1, b"data"), ("duplicate", 0, 0, b"data"),
        ("duplicate", 0, 0, b"data"), ("none", 0, 0, b"data")]
    assert FAULTS[0] == "none"


def test_fault_rate(card64):
    card64.map_memory(IOVA, bytearray(4))
    card64.fault_rate("ur", 4)
    cpls = completions(card64, [card_read(IOVA, 4, tag) for tag in range(200)])
    assert 25 < sum(c.status for c in cpls) < 80
    card64.fault_rate("ur", 0)
    assert not any(c.status for c in completions(card64, [card_read(IOVA, 4, tag) for tag in range(50)]))


def test_interrupts(card):
    for data in (5, 6, 5):
        card.send_frame(card_write(0xfee0_0010, data.to_bytes(4, "little")))
    card.run_until(interrupt=True)
    card.run_until(idle=True)
    assert os.eventfd_read(card.irq_fd) >= 1
    assert card.interrupts() == [(0xfee0_0010, 5), (0xfee0_0010, 6), (0xfee0_0010, 5)]
    assert card.interrupts() == [] and not card.intx
    card.send_frame(message(0x20))
    card.run_until(idle=True)
    assert card.intx and card.wait(0)
    card.send_frame(message(0x24))
    card.run_until(idle=True)
    assert not card.intx and card.wait(0) and card.stats()["msg_up"] == 2


@pytest.mark.parametrize("rule, raw", [
    ("2.2.2: Length is not that of the TLP", card_write(IOVA, bytes(8))[:-4]),
    ("2.2.2: Max_Payload_Size", card_write(IOVA, bytes(260))),
    ("2.2.1: Fmt and Type", header(0x02000001, CARD << 16 | 15, 0)),
    ("2.2.6.2: not the card's ID", card_read(IOVA, 4, 0, sender=0x200)),
    ("2.2.4.1: 64-bit format below 4 GB", header(0x20000001, CARD << 16 | 15, 0, 0x1000)),
    ("2.2.7: crosses 4 KB", card_read(IOVA + 4092, 8, 0)),
    ("2.2.5: byte enables", header(0x20000001, CARD << 16 | 0xff, *address(IOVA))),
    ("2.2.5: byte enables", header(0x20000002, CARD << 16 | 0xf0, *address(IOVA))),
    ("2.3.2: unexpected completion", card_completion(9)),
])
def test_violations(card64, rule, raw):
    card64.send_frame(raw)
    card64.run(500)
    assert [line.partition(": ")[0] + ": " + line.split(": ")[1] for line in card64.violations()] == [rule]
    assert card64.stats()["violations"] == 1


def test_tag_in_use(card64):
    card64.map_memory(IOVA, bytearray(8))
    completions(card64, [card_read(IOVA, 4, 3), card_read(IOVA, 4, 3)])
    assert [line[:20] for line in card64.violations()] == ["2.2.6.2: tag in use:"]


def test_latency():
    times = []
    for latency in (0, 800):
        with Engine(nic=Relay(), link=Link(gen=3, lanes=16, read_latency_ns=latency)) as card:
            card.map_memory(IOVA, bytearray(4))
            card.send_frame(card_read(IOVA, 4, 0))
            times.append(card.run_until(frame=True))
    assert times[1] - times[0] == 100


@pytest.mark.parametrize("gen, lanes, rate", [(1, 1, 250e6), (2, 1, 500e6), (1, 4, 1000e6)])
def test_link_rate(gen, lanes, rate):
    """Bytes on the link a cycle, framing included, whichever way."""
    link = Link(gen=gen, lanes=lanes)
    assert link.bytes_per_second == pytest.approx(0.94 * rate)
    per_cycle = link.bytes_per_second / 125e6
    with Engine(nic=Relay(), link=link) as card:
        memory = bytearray(256)
        card.map_memory(IOVA, memory)
        for _ in range(100):
            card.send_frame(card_write(IOVA, bytes(256)))
        cycles = card.run_until(idle=True) - 257
        assert cycles == pytest.approx(100 * (256 + 16 + 8) / per_cycle, rel=0.02)
        cycles = -257
        for tag in range(100):
            card.send_frame(card_read(IOVA, 256, tag))
        cycles += card.run_until(idle=True)
        assert cycles == pytest.approx(100 * (256 + 12 + 8) / per_cycle, rel=0.1)
        assert card.stats()["bytes_down"] == 100 * 276 and card.stats()["max_reads"] > 1


def test_reset(card64):
    card64.map_memory(IOVA, bytearray(4))
    card64.send_frame(card_read(IOVA, 4, 0))
    card64.send_frame(message(0x20))
    card64.run(20)
    assert card64.intx
    card64.reset()
    card64.run_until(idle=True)
    assert received(card64) == [] and not card64.intx
    assert [c.tag for c in completions(card64, [card_read(IOVA, 4, 0)])] == [0] and card64.violations() == []


def test_reset_cuts_a_tlp(card64):
    """What comes of the rest of it is no TLP, whatever it looks like: data of this one look like a write to address 0."""
    card64.map_memory(IOVA, bytearray(256))
    card64.record()
    for moment in range(1, 40):
        card64.send_frame(card_write(IOVA, header(0x40000001, CARD << 16 | 0xf, 0, 0) * 8))
        card64.run(moment)
        card64.reset()
        card64.run_until(idle=True)
        assert all(at == IOVA for at, *_ in card64.accesses()) and card64.violations() == []


def test_tlp_log(tmp_path):
    with Engine(nic=Relay(), link=FAST, tlp_log=tmp_path / "tlps") as card:
        card.map_memory(IOVA, bytearray(b"abcd"))
        completions(card, [card_read(IOVA, 4, 0x2a)])
        card.mem_write(0x1000, 4, 0x12345678)
        card.run_until(idle=True)
    lines = [line.split(maxsplit=1)[1] for line in (tmp_path / "tlps").read_text().splitlines()]
    assert lines == ["up   MRd    tag 2a address 000123450000 dws 1 be f/0",
                     "down CplD   tag 2a requester 0100 status 0 bytes 4 lower 00 data 64636261",
                     "down MWr    tag 00 address 000000001000 dws 1 be f/0 data 12345678"]


def test_tlp_log_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Engine(nic=Relay(), link=FAST, tlp_log=tmp_path / "no" / "tlps")
    assert error.value.filename == str(tmp_path / "no" / "tlps")


def test_tlp_log_on_a_full_disk():
    """The run goes on until somebody asks; then, and at the end, the file is named."""
    with pytest.raises(OSError) as at_the_end:
        with Engine(nic=Relay(), link=FAST, tlp_log="/dev/full") as card:
            card.mem_write(0x1000, 4, 1)
            card.run_until(idle=True)
            card.check_files()     # the engine still keeps what it wrote
    with pytest.raises(OSError) as meanwhile:
        with Engine(nic=Relay(), link=FAST, tlp_log="/dev/full") as card:
            for number in range(5000):
                card.mem_write(0x1000, 4, number)
                card.run_until(idle=True)
                card.check_files()
    for error in (at_the_end.value, meanwhile.value):
        assert (error.filename, error.errno) == ("/dev/full", errno.ENOSPC)
    assert number < 4999


@pytest.mark.parametrize("ends, becomes", [(ZeroDivisionError, ZeroDivisionError), (SystemExit, SystemExit),
                                           (KeyboardInterrupt, OSError)])
def test_a_full_disk_hides_no_other_failure(ends, becomes):
    with pytest.raises(becomes), Engine(nic=Relay(), link=FAST, tlp_log="/dev/full") as card:
        card.mem_write(0x1000, 4, 1)
        card.run_until(idle=True)
        raise ends


def test_thread(card64):
    """Accesses are answered while other traffic never ends."""
    memory = bytearray(4096)
    card64.map_memory(IOVA, memory)
    over = threading.Event()

    def answer():
        tag = 0
        while not over.is_set():
            card64.wait(0.01)
            for raw in received(card64):
                if raw[0] == 0x04:
                    card64.send_frame(card_completion(raw[6], raw[10:12] * 2))
            for _ in range(4):
                card64.send_frame(card_write(IOVA, bytes(200)))
            tag = tag + 1 & 255
    card64.start()
    card64.start()
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        for k in range(100):
            assert card64.config_read(4 * k, 2) == int.from_bytes(((4 * k).to_bytes(2, "big")), "little")
        for k in range(200):
            card64.mem_write(0x1000, 4, k)  # posted: the queue has an end, so this waits
    finally:
        over.set()
        thread.join()
        begin = time.monotonic()
        card64.stop()
        card64.stop()
    assert time.monotonic() - begin < 60 and card64.violations() == []


def test_thread_sleeps(card64):
    card64.start()
    time.sleep(0.05)
    before = card64.stats()["cycles"]
    time.sleep(0.2)
    passed = card64.stats()["cycles"] - before
    assert 100 < passed < 40_000 and not card64.wait(0)  # a small slice now and then
    card64.send_frame(card_write(0xfee0_0000, bytes(4)))
    assert card64.wait(60) and card64.interrupts() == [(0xfee0_0000, 0)]


def test_thread_timeout(card64, monkeypatch):
    monkeypatch.setattr(engine_module, "ACCESS_CYCLES", 5000)
    card64.start()
    with pytest.raises(TimeoutError):
        card64.config_read(0, 4)


@pytest.mark.parametrize("ratio", [1, 3])
def test_gmii(ratio):
    rng = random.Random(3)
    frames = [rng.randbytes(size) for size in (60, 61, 1514, 100, 60)]
    with Engine(nic=GmiiLoop(), gmii_ratio=ratio) as card:
        for frame in frames:
            card.send_frame(frame)
        cycles = card.run_until(idle=True) - 257
        assert received(card) == frames and card.stats()["frames_out"] == 5
        assert cycles * ratio == pytest.approx(sum(8 + len(frame) + 4 + 12 for frame in frames), abs=4 * ratio)
        card.send_frame(b"short")
        card.run_until(idle=True)
        assert received(card) == [b"short" + bytes(55)]
        card.set_link(False)
        card.send_frame(bytes(64))
        card.run_until(idle=True)
        assert received(card) == [] and card.stats()["bad_frames"] == 1


def test_trace(tmp_path):
    with Engine(nic=Relay(), link=FAST, trace=tmp_path / "a.fst") as card:
        names = card.names()
        assert (names["nic.clk"], names["nic.tlp_rx_valid"], names["nic.core.tlp_rx__payload.data"]) == (1, 1, 64)
        card.mem_write(0, 4, 0x600df00d)
        card.run(10)
        assert card.peek("nic.tlp_rx_data") >> 32 == 0x600df00d
        card.poke("TOP.link_up", 0)
        card.run(1)
        assert card.peek("nic.link_up") == 0
        with pytest.raises(KeyError, match="No signal 'nic.missing'"):
            card.peek("nic.missing")
    assert (tmp_path / "a.fst").stat().st_size > 300


def test_window_of_a_trace(tmp_path):
    """A waveform shows the cycles that were asked for, both ends included."""
    with Engine(nic=Relay(), link=FAST, trace=tmp_path / "a.fst", window=(40, 59)) as card:
        begins = card.stats()["cycles"]
        card.run(100)
    # The header of an FST file: a byte of the block's kind and 8 of its length, then the first and the last time, big-endian.
    first, last = struct.unpack(">QQ", (tmp_path / "a.fst").read_bytes()[9:25])
    assert begins < 40 and (first, last) == (2 * 40, 2 * 59 + 1)  # times are edges of the clock


def test_what_is_given_and_what_is_left_out_are_one_build(monkeypatch):
    names = []

    def key(make, *, name, trace):
        names.append(repr(name))
        raise BuildError("only the name is wanted")
    monkeypatch.setattr(engine_module, "build", key)
    for options in ({}, {"mtu": 1500}, {"queue_pairs": 4, "width": 64}, {"mtu": 1501}, {"card": "net_7x"},
                    {"card": "net_7x", "mtu": 1500, "lanes": 4}, {"card": "net_7x", "lanes": 1}):
        with pytest.raises(BuildError):
            Engine(**options)
    assert names[0] == names[1] == names[2] != names[3]
    assert names[4] == names[5] != names[6]


def test_mac_address():
    """It is an input: cards with different addresses are of one build."""
    for address in (0x0200_0000_0007, 0x5254_0052_4e01):
        with Engine(mac_address=address) as card:
            card.config_write(Cfg.BAR0, 4, BAR_WINDOW)
            card.config_write(Cfg.COMMAND, 2, 1 << Command.MEMORY_ENABLE)
            raw = card.mem_read(BAR_WINDOW + DEVICE_OFFSET, 4).to_bytes(4, "little")
            raw += card.mem_read(BAR_WINDOW + DEVICE_OFFSET + 4, 2).to_bytes(2, "little")
            # 5.1.4: mac is the first field of the device configuration, in the order of the wire.
            assert int.from_bytes(raw, "big") == address


def test_build_is_kept(tmp_path, monkeypatch):
    """The same design is built once."""
    first = build_module.build(lambda: design_of(Relay()))

    def fail(*args, **kwargs):
        raise AssertionError("built again")
    monkeypatch.setattr(build_module, "_build", fail)
    assert build_module.build(lambda: design_of(Relay())) == first
    with pytest.raises(AssertionError, match="built again"):
        build_module.build(lambda: design_of(Relay(width=32)))


def test_what_a_killed_build_has_left_goes_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path))
    folder = tmp_path / "build"
    (folder / "tmpabcdefgh/obj").mkdir(parents=True)
    (folder / "tmpabcdefgh/obj/nic.o").touch()
    (folder / "verilated-x.a").touch()
    monkeypatch.setattr(build_module, "_build", lambda work, design, library, trace: library.touch())
    library = build_module.build(lambda: object(), name="any")
    assert sorted(path.name for path in folder.iterdir()) == sorted(["lock", library.name, "verilated-x.a"])


def test_saved_view(tmp_path):
    names = {"nic.clk": 1, "nic.tlp_tx_data": 64, "nic.other": 3}
    gtkw, sucl = save_view(tmp_path / "a.fst", names)
    text = gtkw.read_text()
    assert f'[dumpfile] "{tmp_path}/a.fst"' in text and "\nTOP.nic.clk\n" in text and "\nTOP.nic.tlp_tx_data[63:0]\n" in text
    assert "other" not in text and "gmii" not in text
    assert sucl.read_text().splitlines()[:2] == ["divider_add Clock", "variable_add TOP.nic.clk"]


# Torn reads: what a packed ring's reader has to live with.

TORN = Link(gen=3, lanes=16, tear_ns=400, seed=5)


def test_parts_of_eight_bytes_are_of_one_moment_each():
    """A counter in every 8 bytes, all counting at once: no unit is torn, but hardly a read is of one moment."""
    with Engine(nic=Relay(), link=TORN) as card:
        memory = bytearray(256)
        card.map_memory(IOVA, memory)
        card.store_later([(cycle, IOVA + at, cycle.to_bytes(4, "little") * 2)
                          for cycle in range(400) for at in range(0, 256, 8)])
        mixed, backwards = 0, 0
        for tag in range(16):
            assert card.send_frame(card_read(IOVA + 4, 251, tag))
            card.run(20)
        card.run_until(idle=True)
        cpls = [Completion(raw) for raw in received(card)]
        assert sorted(cpl.tag for cpl in cpls) == list(range(16))
        for cpl in cpls:
            words = [int.from_bytes(cpl.body[k:k + 4], "little") for k in range(0, 252, 4)]
            assert cpl.count == 251 and all(a == b for a, b in zip(words[1::2], words[2::2]))
            times = words[1::2]
            mixed += len(set(times)) > 1
            backwards += any(a > b for a, b in zip(times, times[1:]))
            assert max(times) - min(times) < 50
        assert mixed > 8 and backwards > 8
        assert card.violations() == []


@pytest.mark.parametrize("link, fooled", [(TORN, True), (FAST, False)], ids=["torn", "whole"])
def test_a_plain_reader_of_a_packed_ring_is_fooled(link, fooled):
    """A driver makes descriptors available, address first and flags last (2.8.21); whoever believes all 16 bytes once the
    flags say so has read an address that is not the driver's."""
    with Engine(nic=Relay(), link=link) as card:
        memory = bytearray(16 * 64)
        card.map_memory(IOVA, memory)
        card.store_later([(40 + 3 * k + half, IOVA + 16 * k + 8 * half, b"\x80" * 8) for k in range(64) for half in range(2)])
        stale = 0
        for tag in range(48):
            assert card.send_frame(card_read(IOVA, 256, tag))
            card.run(5)
        card.run_until(idle=True)
        for cpl in (Completion(raw) for raw in received(card)):
            stale += sum(cpl.body[k + 15] == 0x80 != cpl.body[k] for k in range(0, 256, 16))
        assert (stale > 0) == fooled


def test_tearing_is_the_same_for_the_same_seed():
    def run(seed):
        with Engine(nic=Relay(), link=Link(gen=3, lanes=16, tear_ns=400, seed=seed)) as card:
            card.map_memory(IOVA, bytearray(256))
            card.store_later([(cycle, IOVA + at, bytes([cycle])) for cycle in range(100) for at in range(0, 256, 8)])
            [cpl] = completions(card, [card_read(IOVA, 256, 0)])
            return cpl.body
    assert run(1) == run(1) != run(2)


def test_torn_reads_fail_as_others_do():
    with Engine(nic=Relay(), link=TORN) as card:
        memory = bytearray(b"abcdefgh" * 2)
        card.map_memory(IOVA, memory)
        card.fault_reads(["ur"])
        cpls = completions(card, [card_read(IOVA, 16, 0), card_read(IOVA + 8, 16, 1), card_read(IOVA + 3, 13, 2)])
        assert {cpl.tag: (cpl.status, cpl.data[:13]) for cpl in cpls} == {
            0: (1, b""), 1: (1, b""), 2: (0, bytes(memory[3:]))}
        card.send_frame(card_read(IOVA, 16, 3))
        card.run(10)
        card.reset()
        card.run_until(idle=True)
        assert received(card) == []


def test_stores_of_a_driver_come_at_their_cycles(card64):
    memory = bytearray(16)
    card64.map_memory(IOVA, memory)
    card64.store_later([(20, IOVA + 8, b"later"), (10, IOVA + 1, b"now"), (15, IOVA + 4096, b"nowhere")])
    seen = []
    for cycle in range(25):
        card64.run(1)
        seen.append((bytes(memory[1:4]) == b"now", bytes(memory[8:13]) == b"later"))
    assert seen.count((False, False)) in (9, 10) and seen.count((True, False)) == 10 and not card64.dma_faults()


def test_writes_appear_in_ascending_order(card64):
    """What one cycle may not show, a watching thread does: later bytes of a TLP never come before earlier ones."""
    memory = bytearray(256)
    card64.map_memory(IOVA, memory)
    card64.start()
    wrong, seen = 0, 0
    for turn in range(1, 200):
        card64.send_frame(card_write(IOVA, bytes([turn]) * 248))
        while memory[0] != turn:
            pass
        seen += 1
        last = memory[240]
        wrong += last == turn and bytes(memory[:248]) != bytes([turn]) * 248
    card64.stop()
    assert seen == 199 and not wrong


def test_events_tell_when_reads_are_answered():
    with Engine(nic=Relay(), link=Link(gen=3, lanes=16, read_latency_ns=800)) as card:
        card.map_memory(IOVA, bytearray(4096))
        card.record()
        card.send_frame(card_write(IOVA + 8, b"1234"))
        completions(card, [card_read(IOVA, 300, 0)])
        (write_at, *write), (read_at, *read), (answer_at, *answer) = card.events()
        assert (write, read, answer) == (["write", IOVA + 8, 4], ["read", IOVA, 300], ["answer", IOVA, 300])
        assert write_at <= read_at and answer_at - read_at in (100, 101)
        assert card.events() == []


# A card without frames.

class Noise(wiring.Component):
    """Writes what comes from ``random``, a beat into a TLP, to one address."""
    def __init__(self, width):
        self.width = width
        super().__init__({
            "tlp_rx": In(stream.Signature(tlp_beat(width))), "tlp_tx": Out(stream.Signature(tlp_beat(width))),
            "random": In(stream.Signature(width)), "offered": In(128), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        dws = self.width // 32
        m.submodules.up = up = Queue(tlp_beat(self.width), 4)
        connect(m, up.o, flipped(self.tlp_tx))
        m.d.comb += [self.tlp_rx.ready.eq(1), self.busy.eq(up.o.valid)]
        beat = up.i.p
        head = int.from_bytes(header(0x60 << 24 | dws, CARD << 16 | 0xff, *address(IOVA)), "little")
        step, word = Signal(range(5)), Signal(self.width)
        m.d.comb += [word.eq(Const(head, 128) >> step * self.width), beat.dws.eq(dws), beat.last.eq(step == 4 // dws),
                     beat.data.eq(Mux(beat.last, self.random.payload, word)),
                     up.i.valid.eq(Mux(beat.last, self.random.valid, self.offered[127])),
                     self.random.ready.eq(beat.last & up.i.ready)]
        with m.If(up.i.valid & up.i.ready):
            m.d.sync += step.eq(Mux(beat.last, 0, step + 1))
        return m


@pytest.mark.parametrize("width", [64, 128])
def test_card_that_takes_noise(width):
    def run(seed, features=None):
        with Engine(nic=Noise(width), link=Link(gen=3, lanes=16, seed=seed), features=features) as card:
            memory, seen = bytearray(width // 8), []
            card.map_memory(IOVA, memory)
            for _ in range(100):
                card.run(1)
                if not seen or seen[-1] != memory:
                    seen.append(bytes(memory))
            assert card.violations() == []
            return seen
    assert run(1) == run(1) != run(2)
    assert len(run(1)) > 8 and len(set(run(1))) == len(run(1))
    assert run(1, features=[5]) == [bytes(width // 8)] and len(run(1, features={5, 127})) > 8
