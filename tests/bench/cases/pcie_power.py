"""Power states and resets: what the function does in D3hot, and what is left of it after a Function Level Reset and a hot one."""

from cocotb.task import resume
from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.tlp import CplStatus, TlpType
from rig import MAC_ADDRESS, bench, driven, frame

from ringnic.hdl.spec.bar import DEVICE_OFFSET, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.pcie import CapId, Cfg, Command, ConfigStatus, DevCtl, Exp, MsgCode, MsgRouting, MsixCap, Pm
from ringnic.hdl.spec.virtio import Isr
from ringnic.sim.cocotb_bus import DEV_CTL_RESET

from .pcie_config import where
from .pcie_requests import message
from .pcie_tap import Tap, change_link, listen, request

BASE = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS}
INITIATE_FLR = 1 << DevCtl.INITIATE_FLR
D0, D1, D2, D3HOT = range(4)
NO_SOFT_RESET = 1 << 3
LINK_SETTINGS = 0xcb  # ASPM, RCB, common clock, extended synch
DRAIN = 8000    # cycles: longer than a completion is waited for
SETTLE = 400


@bench(clauses=("PM-1", "PM-2", "PM-3", "PM-7"))
async def test_power_states(rig):
    tap, bar = Tap(rig), rig.device.bar_addr[0]
    at = await where(tap, CapId.PM) + Pm.PMCSR
    command = await tap.config_read(Cfg.COMMAND)
    for state in (D1, D2):
        await tap.config_write(at, state, 0x1)  # answered, and nothing happens
        assert await tap.config_read(at) & 3 == D0
        assert await tap.read(bar + DEVICE_OFFSET) == MAC_ADDRESS[:4]
    await tap.config_write(at, D3HOT, 0x1)
    assert await tap.config_read(at) == D3HOT | NO_SOFT_RESET
    for tlp in (request(TlpType.MEM_READ, bar), request(TlpType.MEM_READ, bar, first_be=0), request(TlpType.IO_READ, bar)):
        assert (await tap.ask_one(tlp)).status == CplStatus.UR
    await tap.write(bar, b"lost")
    # Configuration goes on, the registers are as they were.
    assert await tap.config_read(Cfg.COMMAND) == command and await tap.config_read(Cfg.BAR0) == bar
    await tap.config_write(Cfg.INTERRUPT_LINE, 0x5a, 0x1)
    assert await tap.config_read(Cfg.INTERRUPT_LINE) & 0xff == 0x5a
    await tap.config_write(at, D1, 0x1)
    assert await tap.config_read(at) & 3 == D3HOT
    await tap.config_write(at, D0, 0x1)
    assert await tap.config_read(at) == NO_SOFT_RESET
    assert await tap.read(bar + DEVICE_OFFSET) == MAC_ADDRESS[:4] and await tap.read(bar) != b"lost"


@driven(clauses=("PM-4", "PM-5"))
def test_d3hot_at_work(rig):
    """Nothing leaves in D3hot; in D0 again everything goes on where it was, without being set up anew."""
    tap = Tap(rig)
    net = rig.open(BASE)
    rig.works(2)
    rig.bus.run(2000)
    at = net.transport.function.find(CapId.PM) + Pm.PMCSR
    frames = [frame(1000, k) for k in range(4)]
    for one in frames:
        net.send(one)
    rig.bus.config_write(at, 2, D3HOT)
    rig.bus.run(4 * SETTLE)
    tap.seen.clear()
    rig.bus.poll_irq()
    rig.feed([frame(100)])
    rig.bus.run(10 * SETTLE)
    change_link(rig)
    rig.bus.run(SETTLE)
    change_link(rig)
    rig.bus.run(SETTLE)
    assert not tap.seen and not rig.card.messages and not rig.bus.poll_irq()
    rig.bus.config_write(at, 2, D0)
    rig.expect_received([frame(100)])
    rig.expect_wire(frames)
    rig.all_sent()
    rig.until(lambda: 0 in rig.bus.poll_irq(), "the configuration change")
    rig.works(2)
    # The interrupt pin is let go, and pulled again.
    net.transport.function.disable_msix()
    change_link(rig)
    rig.until(lambda: rig.card.intx, "Assert_INTA")
    rig.bus.config_write(at, 2, D3HOT)
    rig.until(lambda: not rig.card.intx, "Deassert_INTA")
    rig.bus.config_write(at, 2, D0)
    rig.until(lambda: rig.card.intx, "Assert_INTA again")


async def initiate_flr(tap):
    at = tap.card.exp + Exp.DEV_CTL
    value = await tap.config_read(at) & 0xffff
    await tap.config_write(at, value | INITIATE_FLR, 0x3)


@bench(clauses=("RST-P-1", "RST-P-2", "RST-P-4", "RST-P-7"))
async def test_flr(rig):
    """Every register that FLR touches is written before; the write is answered, and 100 ms later (here: much sooner) the
    function is as after power-on."""
    tap = Tap(rig)
    exp, msix, pm = rig.card.exp, await where(tap, CapId.MSIX), await where(tap, CapId.PM)
    defaults = {Cfg.COMMAND: 1 << 16 + ConfigStatus.CAP_LIST, Cfg.BAR0: 0, Cfg.INTERRUPT_LINE: 1 << 8}
    await tap.config_write(Cfg.INTERRUPT_LINE, 0xff, 0x1)
    await tap.config_write(exp + Exp.DEV_CTL, 0x300f, 0x3)
    await tap.config_write(msix, 0xc000_0000, 0xc)
    await tap.config_write(pm + Pm.PMCSR, D3HOT, 0x1)
    await initiate_flr(tap)
    await ClockCycles(rig.dut.clk, 1000)
    for at, value in defaults.items():
        assert await tap.config_read(at) == value, hex(at)
    control = await tap.config_read(exp + Exp.DEV_CTL)
    assert control & 0xffff & ~(1 << 8 | 7 << 5) == 0x2810 and control >> 16 == 0  # Initiate FLR reads 0
    assert not await tap.config_read(msix) >> 30
    assert await tap.config_read(pm + Pm.PMCSR) & 3 == D0
    assert (await tap.ask_one(request(TlpType.MEM_READ, 0))).status == CplStatus.UR


@driven(clauses=("RST-P-1", "RST-P-5", "RST-P-8", "RST-P-9"))
def test_flr_with_reads_outstanding(rig):
    """Their completions never come in time: the reset does not wait for ever, and uses none of them afterwards."""
    tap = Tap(rig)
    net = rig.open()
    rig.works(2)
    tap.keep_reads()
    for k in range(8):
        net.send(frame(700, k))
    rig.feed([frame(300)])
    rig.until(lambda: tap.reads.qsize() >= 2, "read requests")
    resume(initiate_flr)(tap)
    rig.bus.run(SETTLE)
    began = len(tap.seen)
    rig.bus.poll_irq()
    rig.bus.run(DRAIN)
    rig.wire()
    assert not [tlp for tlp in tap.seen[began:] if not tlp.is_completion()] and not rig.bus.poll_irq()
    kept, tap.reads = tap.reads, None
    while not kept.empty():
        read = kept.get_nowait()
        resume(tap.complete)(read, b"\xee" * 4 * read.length)
    rig.wire_in.clear()
    rig.feed([frame(90)])
    rig.bus.run(3000)
    assert not [tlp for tlp in tap.seen[began:] if not tlp.is_completion()] and not rig.wire()
    assert not rig.host.faults
    net.flr()
    net.restart()
    rig.works(2)


@driven(clauses=("RST-P-5",))
def test_flr_lets_go_of_the_interrupt_pin(rig):
    tap = Tap(rig)
    net = rig.open(BASE)
    net.transport.function.disable_msix()
    change_link(rig)
    rig.until(lambda: rig.card.intx, "Assert_INTA")
    resume(initiate_flr)(tap)
    rig.bus.run(SETTLE)
    assert rig.card.messages == [MsgCode.ASSERT_INTA, MsgCode.DEASSERT_INTA]
    assert not rig.bus.config_read(Cfg.STATUS, 2) >> ConfigStatus.INTERRUPT & 1


@driven(clauses=("CS-5", "INT-6", "RST-P-10"))
def test_hot_reset(rig):
    """The reset of the link: everything as after power-on, the number of the bus too, and nothing of before goes on."""
    tap = Tap(rig)
    net = rig.open()
    rig.works(2)
    rig.bus.run(2000)
    msix = net.transport.function.find(CapId.MSIX)
    rig.bus.config_write(Cfg.INTERRUPT_LINE, 1, 0x77)
    rig.bus.config_write(rig.card.exp + Exp.DEV_CTL, 2, 0x302f)

    async def reset():
        rig.dut.rst.value = 1
        await ClockCycles(rig.dut.clk, 20)
        rig.dut.rst.value = 0
        rig.card.bus_num = 0
        await ClockCycles(rig.dut.clk, 20)
    resume(reset)()
    tap.seen.clear()
    rig.feed([frame(100)])
    rig.bus.run(2000)
    assert not tap.seen and not rig.card.messages

    def read(at):
        return resume(tap.config_read)(at)
    assert read(Cfg.COMMAND) == 1 << 16 + ConfigStatus.CAP_LIST and read(Cfg.BAR0) == 0 and read(Cfg.INTERRUPT_LINE) == 1 << 8
    assert read(rig.card.exp + Exp.DEV_CTL) & ~(1 << 8) == 0x2810 and not read(msix + MsixCap.CONTROL - 2) >> 30
    rig.bus.config_write(Cfg.BAR0, 4, rig.device.bar_addr[0])
    rig.bus.config_write(Cfg.COMMAND, 2, 1 << Command.MEMORY_ENABLE)
    assert rig.bus.bar_read(0, MSIX_TABLE_OFFSET + 12, 4) == 1  # masked
    assert net.transport.status == 0 and net.transport.read_isr() == Isr(0)
    rig.card.device_control = DEV_CTL_RESET
    rig.open()
    rig.works(2)


@bench(clauses=("RST-P-3",))
async def test_flr_keeps_what_belongs_to_the_link(rig):
    """Max_Payload_Size, and the settings of Link Control."""
    tap, exp = Tap(rig), rig.card.exp
    control = await tap.config_read(exp + Exp.DEV_CTL) & 0xffff & ~(7 << DevCtl.MAX_PAYLOAD)
    for payload in (1, 0):
        await tap.config_write(exp + Exp.DEV_CTL, control | payload << DevCtl.MAX_PAYLOAD, 0x3)
        await tap.config_write(exp + Exp.LNK_CTL, LINK_SETTINGS & ~0x80, 0x3)
        await initiate_flr(tap)
        await ClockCycles(rig.dut.clk, 1000)
        assert await tap.config_read(exp + Exp.DEV_CTL) >> DevCtl.MAX_PAYLOAD & 7 == payload
        assert await tap.config_read(exp + Exp.LNK_CTL) & LINK_SETTINGS == LINK_SETTINGS & ~0x80


@driven(clauses=("RST-P-6",))
def test_flr_does_not_touch_the_interrupt_pin(rig):
    """MSI-X is on, and nobody has looked at a configuration change: INTA was never asserted, and is not by the reset."""
    tap = Tap(rig)
    rig.open()
    change_link(rig)
    rig.bus.run(400)
    assert not rig.card.messages
    resume(initiate_flr)(tap)
    rig.bus.run(1000)
    assert not rig.card.messages


@bench(clauses=("PM-8",))
async def test_pme_turn_off(rig):
    """Acknowledged by every function, whether or not it can wake anybody."""
    tap, heard = Tap(rig), listen(rig)
    await tap.card.deliver(message(MsgCode.PME_TURN_OFF, MsgRouting.BROADCAST))
    await ClockCycles(rig.dut.clk, 200)
    assert heard == [MsgCode.PME_TO_ACK]
