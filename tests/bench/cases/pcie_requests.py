"""Requests to the card: carried out, refused or dropped, and what their completions say."""

from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.tlp import CplStatus, TlpAttr, TlpTc, TlpType
from cocotbext.pcie.core.utils import PcieId
from rig import bench

from ringnic.hdl.spec.bar import BAR_SIZE, COUNTERS_OFFSET, DEVICE_OFFSET, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.pcie import Cfg, Command, DevCtl, DevSta, Exp, MsgCode, MsgRouting

from .pcie_tap import Raw, Tap, listen, request

RCB = 128  # 2.3.1.1: of an endpoint
COMMANDS = 1 << Command.MEMORY_ENABLE | 1 << Command.BUS_MASTER
REPORT_ALL = sum(1 << bit for bit in (
    DevCtl.REPORT_CORRECTABLE, DevCtl.REPORT_NONFATAL, DevCtl.REPORT_FATAL, DevCtl.REPORT_UNSUPPORTED))
DIGEST = b"ECRC"
IGNORED = [code for code in MsgCode if code.name.startswith("IGNORED")]
SELECT = 0  # device_feature_select of the common configuration: 32 bits that nobody uses


def spread(first_be, last_be, length):
    """What a read of these byte enables says of itself: bytes before the first, and from there to the last (2.2.9)."""
    bits = [first_be] + [0xf] * (length - 2) + [last_be] * (length > 1)
    enabled = [4 * n + k for n, be in enumerate(bits) for k in range(4) if be >> k & 1]
    return (enabled[0], enabled[-1] - enabled[0] + 1) if enabled else (0, 1)


@bench(clauses=("TL-1", "TL-3"))
async def test_byte_enables_of_writes(rig):
    """Every pattern on one DW; none at all is a write without effect."""
    tap, at = Tap(rig), rig.device.bar_addr[0] + SELECT
    shadow = await tap.read(at)
    for first_be in (*range(16), 0xa, 0x5, 0x9, 0x0):
        data = bytes(29 * first_be + 7 * k + 3 & 0xff for k in range(4))
        await tap.write(at, data, first_be=first_be)
        shadow = bytes(new if first_be >> k & 1 else old for k, (old, new) in enumerate(zip(shadow, data)))
        assert await tap.read(at) == shadow, f"First DW BE {first_be:#x}"


@bench(seed=12, clauses=("TL-2",))
async def test_byte_enables_of_longer_writes(rig):
    """Two DWs, at a QW boundary with gaps in the enables; and edges of longer ones."""
    tap, at = Tap(rig), rig.device.bar_addr[0] + MSIX_TABLE_OFFSET
    shadow = bytearray(12)
    await tap.write(at, bytes(12))
    cases = [(2, first, last) for first in (0xf, 0x5, 0xa, 0x9, 0x1) for last in (0xf, 0x5, 0xa, 0x6, 0x8)]
    cases += [(3, first, last) for first in (0xf, 0xe, 0xc, 0x8) for last in (0xf, 0x7, 0x3, 0x1)]
    for number, (length, first_be, last_be) in enumerate(cases):
        data = bytes(number * 11 + k & 0xff for k in range(4 * length))
        await tap.write(at, data, first_be=first_be, last_be=last_be)
        for k, value in enumerate(data):
            be = first_be if k < 4 else last_be if k >= 4 * length - 4 else 0xf
            if be >> k % 4 & 1:
                shadow[k] = value
        answer = await tap.ask_one(request(TlpType.MEM_READ, at, length=3))
        assert answer.data == shadow, (length, first_be, last_be)


@bench(clauses=("TL-50",))
async def test_hints(rig):
    """A steering tag lies where the tag or the byte enables are; who does not know hints does as without."""
    tap, at = Tap(rig), rig.device.bar_addr[0] + SELECT
    await tap.write(at, b"hint", th=True, ph=3, tag=0x77)
    answer = await tap.ask_one(request(TlpType.MEM_READ, at, th=True, ph=2))
    assert answer.status == CplStatus.SC and answer.data == b"hint" and answer.lower_address == at & 0x7f


@bench(seed=13, clauses=("TL-4", "TL-24", "TL-25"))
async def test_byte_count_and_lower_address(rig):
    tap, base = Tap(rig), rig.device.bar_addr[0] + MSIX_TABLE_OFFSET
    cases = [(4 * dw, 1, first_be, 0) for dw in (0, 1) for first_be in range(16)]
    cases += [(8 * dw, 2, first, last) for dw in (0, 7) for first in (0xf, 0x5, 0xa, 0x8) for last in (0xf, 0x5, 0xa, 0x1)]
    cases += [(4 * dw, 5, first, last) for dw in (1, 2, 26) for first in (0xf, 0xe, 0xc, 0x8) for last in (0xf, 7, 3, 1)]
    for offset, length, first_be, last_be in cases:
        answer = await tap.ask_one(request(TlpType.MEM_READ, base + offset, length=length, first_be=first_be, last_be=last_be))
        skipped, count = spread(first_be, last_be, length)
        what = f"{length} DWs at {offset:#x}, enables {first_be:#x} {last_be:#x}: {answer}"
        assert answer.fmt_type == TlpType.CPL_DATA and answer.status == CplStatus.SC, what
        assert answer.length == length and len(answer.data) == 4 * length, what
        assert answer.byte_count == count and not answer.bcm, what
        assert answer.lower_address == (base + offset + skipped & 0x7f), what


@bench(clauses=("TL-22",))
async def test_completions_copy(rig):
    """Requester ID, tag, traffic class and attributes come back, of requests carried out and refused."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    kinds = ((TlpType.MEM_READ, bar), (TlpType.MEM_READ, bar + BAR_SIZE), (TlpType.IO_READ, bar))
    for number, who in enumerate((PcieId(0, 0, 0), PcieId(0, 31, 7), PcieId(255, 0, 1), PcieId(0xa5, 0x15, 2))):
        for kind, address in kinds:
            for attr in (TlpAttr(value) for value in range(8)):
                tc = TlpTc((int(attr) + number) & 7)
                answer = await tap.ask_one(request(kind, address, requester_id=who, attr=attr, tc=tc))
                assert answer.requester_id == who and answer.attr == attr and answer.tc == tc
                assert not answer.ep and not answer.td and not answer.bcm
                assert answer.status == (CplStatus.SC if address == bar and kind == TlpType.MEM_READ else CplStatus.UR)
    answer = await tap.config(0)
    assert answer.tc == 0 and answer.attr == 0


@bench(enumerate=False, clauses=("TL-23",))
async def test_completer_id(rig):
    """0 until the first configuration write, then the bus of the last one; reads do not change it."""
    tap = Tap(rig)
    for bus in (3, 0, 0xff):
        known = rig.card.bus_num
        answer = await tap.ask_one(request(TlpType.CFG_READ_0, 0, completer_id=PcieId(7, 0, 0)))
        assert answer.completer_id == PcieId(known, 0, 0)
        rig.card.bus_num = bus
        answer = await tap.ask_one(request(
            TlpType.CFG_WRITE_0, Cfg.INTERRUPT_LINE, data=bytes(4), first_be=0, completer_id=PcieId(bus, 0, 0)))
        assert answer.completer_id == PcieId(bus, 0, 0)


@bench(payload=0, seed=14, clauses=("TL-27",))
async def test_long_reads(rig):
    """A completion for each part between boundaries, in order; none is longer than the Max_Payload_Size of 128 bytes."""
    tap, base = Tap(rig), rig.device.bar_addr[0] + DEVICE_OFFSET
    whole = b"".join([await tap.read(base + at) for at in range(0, 64, 4)])
    for offset, length, first_be in ((0, 64, 0xf), (4, 64, 0x8), (124, 33, 0xc), (0, 1024, 0xf), (60, 17, 0xe), (128, 32, 0xf)):
        answers = await tap.ask(request(TlpType.MEM_READ, base + offset, length=length, first_be=first_be), 100_000)
        skipped, left = spread(first_be, 0xf, length)
        at, data = base + offset + skipped, b""
        for answer in answers:
            assert answer.status == CplStatus.SC and answer.byte_count == left and answer.lower_address == at & 0x7f
            assert 4 * answer.length <= 128
            step = 4 * answer.length - (at & 3)
            at, left, data = at + step, left - step, data + bytes(answer.data)
            assert left <= 0 or at % RCB == 0, f"Ends at {at:#x}"
        assert left == 0 and len(data) == 4 * length
        if offset < 64:
            assert data[skipped:64 - offset] == whole[offset + skipped:]


@bench(clauses=("TL-13", "TL-14", "TL-15", "TL-16", "TL-17", "TL-18"))
async def test_unsupported(rig):
    tap, bar, bus = Tap(rig), rig.device.bar_addr[0], rig.device.pcie_id.bus
    kinds = TlpType
    refused = [
        request(kinds.MEM_READ, bar - 4), request(kinds.MEM_READ, bar + BAR_SIZE), request(kinds.MEM_READ, 0),
        request(kinds.MEM_READ_64, 1 << 32 | bar), request(kinds.MEM_READ_64, 0xffff_ffff_ffff_fffc, first_be=0x6),
        request(kinds.MEM_READ, bar + BAR_SIZE - 4, length=2), request(kinds.MEM_READ, bar + BAR_SIZE, first_be=0),
        request(kinds.MEM_READ_LOCKED, bar), request(kinds.MEM_READ_LOCKED_64, 1 << 40, length=2),
        request(kinds.IO_READ, bar), request(kinds.IO_READ, 0x1000, first_be=2), request(kinds.IO_WRITE, bar, data=bytes(4)),
        request(kinds.FETCH_ADD, bar, data=bytes(4)), request(kinds.SWAP, bar, data=bytes(4)),
        request(kinds.CAS_64, 1 << 33, data=bytes(8)),
        *(request(kinds.CFG_READ_0, 0, completer_id=PcieId(bus, 0, function)) for function in range(1, 8)),
        request(kinds.CFG_WRITE_0, 4, data=b"\xff" * 4, completer_id=PcieId(bus, 0, 3)),
        request(kinds.CFG_READ_1, 0, completer_id=PcieId(bus, 0, 0)),
        request(kinds.CFG_WRITE_1, 4, data=b"\xff" * 4, completer_id=PcieId(bus + 1, 0, 0)),
    ]
    before, command = await tap.counter("requests_unsupported"), await tap.config_read(Cfg.COMMAND)
    for tlp in refused:
        answer = await tap.ask_one(tlp)
        assert answer.status == CplStatus.UR and not answer.has_data() and answer.length == 0, f"{tlp}: {answer}"
        locked = tlp.fmt_type in (kinds.MEM_READ_LOCKED, kinds.MEM_READ_LOCKED_64)
        assert answer.fmt_type == (kinds.CPL_LOCKED if locked else kinds.CPL)
        if tlp.fmt_type not in (kinds.FETCH_ADD, kinds.SWAP, kinds.CAS_64):
            reads = tlp.fmt_type in (kinds.MEM_READ, kinds.MEM_READ_64) or locked
            skipped, count = spread(tlp.first_be, tlp.last_be, tlp.length) if reads else (0, 4)
            assert answer.byte_count == count and answer.lower_address == (tlp.address + skipped & 0x7f if reads else 0)
    assert await tap.counter("requests_unsupported") == before + len(refused)
    assert await tap.config_read(Cfg.COMMAND) == command


@bench(clauses=("TL-19", "CS-7"))
async def test_memory_space_enable(rig):
    """Without it every memory request is unsupported; without Bus Master Enable completions still come."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    await tap.write(bar + SELECT, b"kept")
    await tap.config_write(Cfg.COMMAND, 1 << Command.BUS_MASTER, 0x3)
    for tlp in (request(TlpType.MEM_READ, bar), request(TlpType.MEM_READ, bar + 4, first_be=0)):
        assert (await tap.ask_one(tlp)).status == CplStatus.UR
    await tap.write(bar + SELECT, b"lost")
    await tap.config_write(Cfg.COMMAND, 1 << Command.MEMORY_ENABLE, 0x3)
    assert await tap.read(bar + SELECT) == b"kept"


@bench(clauses=("TL-20", "TL-21"))
async def test_posted_and_poisoned(rig):
    """What is refused has no effect; a posted request is not answered, a configuration write is."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    await tap.write(bar + SELECT, b"kept")
    before = await tap.counter("requests_unsupported")
    sent = len(tap.seen)
    await tap.write(bar + BAR_SIZE, bytes(64))
    await tap.write(bar + BAR_SIZE - 4, bytes(8))
    await tap.card.deliver(request(TlpType.MEM_WRITE_64, 1 << 32 | bar, data=bytes(4)))
    await tap.write(bar + SELECT, b"evil", ep=True)
    await tap.write(bar + MSIX_TABLE_OFFSET, b"evil" * 8, ep=True)
    await ClockCycles(rig.dut.clk, 200)
    assert len(tap.seen) == sent
    answer = await tap.config(Cfg.INTERRUPT_LINE, b"evil", ep=True)
    assert answer.status == CplStatus.UR and not answer.has_data()
    assert await tap.counter("requests_unsupported") == before + 6
    assert await tap.read(bar + SELECT) == b"kept" and await tap.read(bar + MSIX_TABLE_OFFSET) != b"evil"
    assert await tap.config_read(Cfg.INTERRUPT_LINE) & 0xff == 0


def message(code, routing, data=b"", *, rest=bytes(8)):
    """A message from the root complex."""
    dw0 = bytes([(0x70 if data else 0x30) | routing, 0, 0, len(data) // 4])
    return Raw(dw0, bytes([0, 0, 0, code]), rest, data)


@bench(clauses=("TL-12",))
async def test_messages(rig):
    """Those that a root complex may send to any endpoint are taken without an answer, and what follows is understood."""
    tap = Tap(rig)
    local, broadcast, by_id = MsgRouting.LOCAL, MsgRouting.BROADCAST, MsgRouting.ID
    to_us = bytes([rig.card.bus_num, 0, 0x1a, 0xf4]) + bytes(4)
    for tlp in (message(MsgCode.SET_SLOT_POWER_LIMIT, local, b"\x19\0\0\0"), message(MsgCode.UNLOCK, broadcast),
                message(MsgCode.VENDOR_TYPE1, broadcast), message(MsgCode.VENDOR_TYPE1, by_id, bytes(64), rest=to_us),
                *(message(code, local) for code in IGNORED)):
        sent = len(tap.seen)
        await tap.card.deliver(tlp)
        await ClockCycles(rig.dut.clk, 40)
        assert len(tap.seen) == sent and not rig.card.messages
        assert await tap.read(rig.device.bar_addr[0] + COUNTERS_OFFSET) == b"RNIC"
    assert await tap.counter("tlps_malformed") == 0 == await tap.counter("requests_unsupported")


@bench(clauses=("TL-51",))
async def test_messages_that_are_not_supported(rig):
    """Vendor-defined of type 0, what only a root complex gets, an undefined code: noted, told of, and without effect."""
    tap, at, heard = Tap(rig), rig.card.exp + Exp.DEV_CTL, listen(rig)
    control = await tap.config_read(at) & 0xffff | REPORT_ALL
    await tap.config_write(at, control, 0x3)
    codes = (MsgCode.VENDOR_TYPE0, MsgCode.ERR_FATAL, 0x12, 0xff)
    for number, code in enumerate(codes, 1):
        await tap.card.deliver(message(code, MsgRouting.LOCAL, bytes(4) if code == 0x12 else b""))
        await ClockCycles(rig.dut.clk, 100)
        assert heard == [MsgCode.ERR_NONFATAL] * number
        assert await tap.config_read(at) >> 16 == 1 << DevSta.NONFATAL | 1 << DevSta.UNSUPPORTED
        await tap.config_write(at, control | 0xffff0000)
    assert await tap.counter("requests_unsupported") == len(codes) and await tap.counter("tlps_malformed") == 0


@bench(seed=15, clauses=("TL-7", "TL-11"))
async def test_malformed(rig):
    """Undefined formats and types, prefixes, a header cut short: dropped without an answer, and counted."""
    tap, bar, bus = Tap(rig), rig.device.bar_addr[0], rig.device.pcie_id.bus
    read = bytes(request(TlpType.MEM_READ, bar, tag=0xa0).pack())
    write = bytes(request(TlpType.MEM_WRITE, bar, data=b"evil").pack())
    config = bytes(request(TlpType.CFG_READ_0, 0, tag=0xa0, completer_id=PcieId(bus, 0, 0)).pack())
    await tap.write(bar + SELECT, b"kept")
    bad = [
        *(bytes([kind]) + read[1:] for kind in (0x03, 0x06, 0x07, 0x0f, 0x1e, 0xa0, 0xc0, 0xe0)),  # types, formats
        bytes([0x24]) + config[1:] + bytes(4), config[:3] + b"\2" + config[4:],     # configuration: four DWs; two of data
        *(bytes([prefix, 0, 0, 0]) + tlp for prefix in (0x80, 0x8e, 0x90, 0x9e) for tlp in (read, write)),
        read + bytes(4), read[:8], read[:4], write[:12],                            # data with a read; no data with a write
    ]
    before, sent = await tap.counter("tlps_malformed"), len(tap.seen)
    for number, tlp in enumerate(bad, 1):
        await tap.card.deliver(Raw(tlp))
        await ClockCycles(rig.dut.clk, 40)
        assert len(tap.seen) == sent, f"{tlp.hex()} got {tap.seen[-1]}"
        assert await tap.counter("tlps_malformed") == before + number, tlp.hex()
        sent = len(tap.seen)
    assert await tap.read(bar + SELECT) == b"kept"


@bench(clauses=("TL-6",))
async def test_posted_requests_while_nothing_can_be_sent(rig):
    """A host that gives no credits still gets rid of its posted requests, those behind a read as well."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    tap.dam()
    for number in range(24):  # completions to fill all that lies on the way out
        await tap.card.deliver(request(TlpType.MEM_READ, bar + SELECT, tag=number + 0x40))
    await ClockCycles(rig.dut.clk, 1000)
    for number in range(8):
        await tap.write(bar + SELECT, bytes([number] * 4))
    await ClockCycles(rig.dut.clk, 100)
    assert len(tap.seen) == 0
    tap.undam()
    assert await tap.read(bar + SELECT) == bytes([7] * 4)
    assert [tlp.tag for tlp in tap.seen[:24]] == list(range(0x40, 0x58))


@bench(seed=11, clauses=("TL-5",))
async def test_reads_stay_behind_writes(rig):
    """A read sees every write that was sent before it, through configuration and memory space alike."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    for number in range(40):
        await tap.write(bar + SELECT, number.to_bytes(4, "little"))
        if number % 3 == 0:
            await tap.config_read(0)
        assert await tap.read(bar + SELECT) == number.to_bytes(4, "little")
    # Memory decoding is off when a write that comes after that arrives, and not before.
    await tap.write(bar + SELECT, b"kept")
    await tap.config_write(Cfg.COMMAND, 0, 0x3)
    await tap.write(bar + SELECT, b"lost")
    await tap.config_write(Cfg.COMMAND, COMMANDS, 0x3)
    assert await tap.read(bar + SELECT) == b"kept"


@bench(clauses=("CS-29",))
async def test_advisory_errors(rig):
    """Who refuses a non-posted request, or gets a completion that nobody waits for, leaves it to the other side to tell."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    at = rig.card.exp + Exp.DEV_CTL
    await tap.config_write(at, await tap.config_read(at) & 0xffff | REPORT_ALL, 0x3)
    await tap.config_write(Cfg.COMMAND, COMMANDS | 1 << Command.SERR, 0x3)
    for tlp in (request(TlpType.MEM_READ, bar + BAR_SIZE), request(TlpType.IO_READ, 0)):
        assert (await tap.ask_one(tlp)).status == CplStatus.UR
    await tap.card.deliver(request(TlpType.CPL_DATA, data=bytes(4), tag=3, byte_count=4, requester_id=rig.card.id))
    await ClockCycles(rig.dut.clk, 200)
    assert not rig.card.messages and await tap.counter("cpl_unexpected") == 1


@bench(payload=0, clauses=("TL-9",))
async def test_payload_longer_than_mps(rig):
    """A write of 256 bytes while Max_Payload_Size is 128: malformed, nothing of it is written."""
    tap, at = Tap(rig), rig.device.bar_addr[0] + MSIX_TABLE_OFFSET
    await tap.write(at, b"kept")
    before = await tap.counter("tlps_malformed")
    await tap.write(at, b"evil" * 64)
    assert await tap.read(at) == b"kept" and await tap.counter("tlps_malformed") == before + 1


@bench(clauses=("TL-8",))
async def test_length_that_is_not_that_of_the_data(rig):
    """One DW too few, one too many: malformed, nothing of it is written."""
    tap, at = Tap(rig), rig.device.bar_addr[0] + MSIX_TABLE_OFFSET
    await tap.write(at, b"kept")
    for length, data in ((2, b"evil"), (1, b"evil" * 2)):
        tlp = request(TlpType.MEM_WRITE, at, data=data)
        tlp.length, tlp.last_be = length, 0xf if length > 1 else 0
        await tap.card.deliver(tlp)
        assert await tap.read(at) == b"kept"


@bench(clauses=("TL-10",))
async def test_digest(rig):
    """A TLP with a digest is understood; who does not check it ignores it."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    before = await tap.counter("tlps_malformed")
    await tap.card.deliver(Raw(request(TlpType.MEM_WRITE, bar + SELECT, data=b"kept", td=True).pack(), DIGEST))
    assert await tap.read(bar + SELECT) == b"kept"
    sent = len(tap.seen)
    await tap.card.deliver(Raw(request(TlpType.MEM_READ, bar, td=True, tag=0x55).pack(), DIGEST))
    await ClockCycles(rig.dut.clk, 100)
    assert [tlp.tag for tlp in tap.seen[sent:]] == [0x55]
    assert await tap.counter("tlps_malformed") == before


@bench(clauses=("TL-26",))
async def test_byte_count_of_a_refused_atomic(rig):
    """That of the operand: all the data of FetchAdd and Swap, half of CAS's."""
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    for kind, size, count in ((TlpType.FETCH_ADD, 4, 4), (TlpType.CAS, 8, 4), (TlpType.SWAP, 8, 8), (TlpType.CAS, 32, 16)):
        assert (await tap.ask_one(request(kind, bar, data=bytes(size), first_be=0))).byte_count == count


@bench(clauses=("CS-30",))
async def test_error_messages(rig):
    """With reports enabled: a posted write that is not supported, a poisoned one, a malformed TLP."""
    tap, bar, heard = Tap(rig), rig.device.bar_addr[0], listen(rig)
    at = rig.card.exp + Exp.DEV_CTL
    await tap.config_write(at, await tap.config_read(at) & 0xffff | REPORT_ALL, 0x3)
    await tap.write(bar + BAR_SIZE, bytes(4))
    await tap.write(bar, bytes(4), ep=True)
    await tap.card.deliver(Raw(b"\x1f" + bytes(11)))
    await ClockCycles(rig.dut.clk, 200)
    assert heard == [MsgCode.ERR_NONFATAL, MsgCode.ERR_NONFATAL, MsgCode.ERR_FATAL]
