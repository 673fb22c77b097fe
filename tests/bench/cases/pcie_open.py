"""Rules that the card does not keep yet. Each case fails, and shows with little how; mended, it moves to its companions."""

from cocotb.task import resume
from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.tlp import TlpAttr
from rig import bench, driven, frame

from ringnic.hdl.spec.pcie import Exp
from ringnic.hdl.spec.virtio import Status

from .pcie_dma import serve
from .pcie_power import initiate_flr
from .pcie_tap import Tap

LINK_SETTINGS = 0xcb  # ASPM, RCB, common clock, extended synch


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
