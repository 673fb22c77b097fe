"""Rules that the card does not keep yet. Each case fails, and shows with little how; mended, it moves to its companions."""

from cocotb.task import resume
from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.tlp import TlpAttr, TlpType
from rig import bench, driven, frame

from ringnic.hdl.spec.bar import BAR_SIZE, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.pcie import Cfg, Command, ConfigStatus, Exp, MsgCode, MsgRouting
from ringnic.hdl.spec.virtio import Status

from .pcie_dma import serve
from .pcie_power import initiate_flr
from .pcie_requests import REPORT_ALL, SELECT, message
from .pcie_tap import Raw, Tap, request

DETECTED = 0xf                        # Device Status: correctable, non-fatal, fatal, unsupported request
NON_FATAL, FATAL, UNSUPPORTED = 2, 4, 8
MASTER_ABORT, PARITY_ERROR = 1 << 13, 1 << 15
TIMEOUT_DISABLE = 1 << 4
PME_TURN_OFF, PME_TO_ACK = 0x19, 0x1b
LINK_SETTINGS = 0xcb                  # ASPM, RCB, common clock, extended synch
DIGEST = b"ECRC"


def listen(rig):
    """Take messages other than INTx, too."""
    rig.card.messages = heard = []
    rig.card._message = lambda raw: heard.append(raw[7])
    return heard


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


@driven(clauses=("TL-48",))
def test_completion_that_does_not_match(rig):
    """Tag and Byte Count are right, Lower Address, Traffic Class or Attributes are not: its data is not used."""
    tap = Tap(rig)
    for fields in (dict(tc=3), dict(attr=TlpAttr.IDO), dict(lower_address=0x7c)):
        net = rig.open(queue_size=16)
        tap.keep_reads()
        net.send(frame(100))
        serve(rig, tap, lambda: net.transport.status & Status.DEVICE_NEEDS_RESET or net.reclaim(), "a reaction", answers=[fields])
        resume(tap.let_go)()
        rig.bus.run(1000)
        assert not rig.wire()
        net.reset()


@driven(clauses=("CS-23",))
def test_transactions_pending_without_bus_master(rig):
    """Nothing that was asked for is unanswered, so nothing is pending, whatever waits to be allowed."""
    net = rig.open()
    rig.bus.run(2000)
    net.transport.function.set_bus_master(False)
    rig.feed([frame(80)])
    rig.bus.run(2000)
    assert not rig.bus.config_read(rig.card.exp + Exp.DEV_STA, 2) >> 5 & 1


@bench(clauses=("CS-27",))
async def test_completion_timeout_disable(rig):
    """Required of an endpoint that reads on its own behalf: said to be there, and it can be set."""
    tap, exp = Tap(rig), rig.card.exp
    assert await tap.config_read(exp + Exp.DEV_CAP2) & TIMEOUT_DISABLE
    await tap.config_write(exp + Exp.DEV_CTL2, TIMEOUT_DISABLE)
    assert await tap.config_read(exp + Exp.DEV_CTL2) == TIMEOUT_DISABLE


@bench(clauses=("CS-28",))
async def test_extended_fmt_field(rig):
    """Three bits of Fmt are understood, so the card may say so."""
    assert await Tap(rig).config_read(rig.card.exp + Exp.DEV_CAP2) >> 20 & 1


@bench(clauses=("CS-24",))
async def test_device_status(rig):
    """Errors are noted whether or not they are reported, until 1 is written."""
    tap, bar, at = Tap(rig), rig.device.bar_addr[0], rig.card.exp + Exp.DEV_CTL

    async def noted():
        await ClockCycles(rig.dut.clk, 40)
        control = await tap.config_read(at)
        await tap.config_write(at, control & 0xffff | DETECTED << 16)
        assert not await tap.config_read(at) >> 16 & DETECTED
        return control >> 16 & DETECTED
    await tap.write(bar + BAR_SIZE, bytes(4))
    assert await noted() == UNSUPPORTED | NON_FATAL
    await tap.write(bar, bytes(4), ep=True)
    assert await noted() & NON_FATAL
    await tap.card.deliver(Raw(b"\x1f" + bytes(11)))
    assert await noted() == FATAL


@driven(clauses=("CS-9",))
def test_status(rig):
    """Detected Parity Error and Received Master Abort: a poisoned write has come, a read was not supported."""
    tap = Tap(rig)
    net = rig.open()
    rig.bus.config_write(Cfg.COMMAND, 2, rig.bus.config_read(Cfg.COMMAND, 2) | 1 << Command.PARITY)

    def noted():
        status = rig.bus.config_read(Cfg.STATUS, 2)
        rig.bus.config_write(Cfg.STATUS, 2, status)
        assert rig.bus.config_read(Cfg.STATUS, 2) == 1 << ConfigStatus.CAP_LIST
        return status & ~(1 << ConfigStatus.CAP_LIST)
    resume(tap.write)(rig.device.bar_addr[0], bytes(4), ep=True)
    assert noted() == PARITY_ERROR
    net.tx.add_buf([(0x7_0000_0000, 100)], [], 0)
    net.tx.kick()
    rig.until(lambda: net.transport.status & Status.DEVICE_NEEDS_RESET or net.tx.get_buf(), "a reaction")
    assert noted() == MASTER_ABORT


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


@bench(clauses=("PM-8",))
async def test_pme_turn_off(rig):
    """Acknowledged by every function, whether or not it can wake anybody."""
    tap, heard = Tap(rig), listen(rig)
    await tap.card.deliver(message(PME_TURN_OFF, MsgRouting.BROADCAST))
    await ClockCycles(rig.dut.clk, 200)
    assert heard == [PME_TO_ACK]


@bench(clauses=("RST-P-3",))
async def test_flr_keeps_what_belongs_to_the_link(rig):
    """Max_Payload_Size, and the settings of Link Control."""
    tap, exp = Tap(rig), rig.card.exp
    control = await tap.config_read(exp + Exp.DEV_CTL) & 0xffff & ~(7 << 5)
    await tap.config_write(exp + Exp.DEV_CTL, control | 1 << 5, 0x3)
    await tap.config_write(exp + Exp.LNK_CTL, LINK_SETTINGS & ~0x80, 0x3)
    await initiate_flr(tap)
    await ClockCycles(rig.dut.clk, 1000)
    assert await tap.config_read(exp + Exp.DEV_CTL) >> 5 & 7 == 1
    assert await tap.config_read(exp + Exp.LNK_CTL) & LINK_SETTINGS == LINK_SETTINGS & ~0x80
