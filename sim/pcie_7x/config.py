"""The part of configuration space that the block keeps: 0x00 to the window, and extended space.

Ref: PCI Express Base 2.1 (which the block implements), 7.5 "PCI-Compatible Configuration Registers" to 7.8 "PCI Express
Capability Structure"; PG054, "PCI Configuration Space" and "Configuration Interface". Where the specification leaves it to a
function which bits can be written, and what they are at first, it is our reading.
"""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...hdl.spec.bar import BAR_INDEX, BAR_SIZE, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET
from ...hdl.spec.pcie import CapId, Cfg, Command, ConfigStatus, DevCap2, DevCtl, DevSta, Exp, MsixCap, Pm
from ...hdl.spec.pcie_7x import WINDOW_START
from ...hdl.spec.virtio import VIRTIO_PCI_VENDOR_ID

__all__ = ["Identity", "HardConfig"]

PM_CAP, EXP_CAP, MSIX_CAP = 0x40, 0x60, 0x9c    # PG054, "PCI Configuration Space"
DEV_CTL_RESET = 0x2810                          # 7.8.4: relaxed order, no snoop, requests of 512 bytes
LINK_CAP_L0S = 1 << 10
TIMEOUT_RANGE_B = 2


@dataclass(frozen=True)
class Identity:
    """What the generated block is given as properties.

    Parameters
    ----------
    bar0_size : int
        Bytes; a 32-bit BAR, not prefetchable.
    msix_next : int
        Next pointer of the MSI-X capability, the last of the block's: 0, or into the window.
    max_payload : int
        Largest Max_Payload_Size, coded: 2 for 512 bytes.
    """
    vendor_id:       int = VIRTIO_PCI_VENDOR_ID
    device_id:       int = 0x1041
    revision_id:     int = 1
    class_code:      int = 0x020000
    subsystem_vendor_id: int = VIRTIO_PCI_VENDOR_ID
    subsystem_id:    int = 0x1041
    bar0_size:       int = BAR_SIZE
    msix_vectors:    int = 1
    msix_table:      int = MSIX_TABLE_OFFSET | BAR_INDEX
    msix_pba:        int = MSIX_PBA_OFFSET | BAR_INDEX
    msix_next:       int = WINDOW_START
    max_payload:     int = 2
    link_speed:      int = 2
    extended_tags:   bool = True

    def constants(self):
        """``{byte address: (bytes, value)}`` of what reads the same at all times."""
        return {
            Cfg.VENDOR_ID: (2, self.vendor_id), Cfg.DEVICE_ID: (2, self.device_id),
            Cfg.STATUS: (2, 1 << ConfigStatus.CAP_LIST),
            Cfg.REVISION_ID: (1, self.revision_id), Cfg.CLASS_CODE: (3, self.class_code),
            Cfg.SUBSYSTEM_VENDOR_ID: (2, self.subsystem_vendor_id), Cfg.SUBSYSTEM_ID: (2, self.subsystem_id),
            Cfg.CAP_POINTER: (1, PM_CAP), Cfg.INTERRUPT_PIN: (1, 1),
            PM_CAP: (2, CapId.PM | EXP_CAP << 8),
            PM_CAP + Pm.PMC: (2, 3),                 # version 1.2; no PME, no D1, no D2
            PM_CAP + Pm.PMCSR: (2, 1 << 3),          # No_Soft_Reset
            EXP_CAP: (2, CapId.EXP | MSIX_CAP << 8),
            EXP_CAP + Exp.FLAGS: (2, 2),             # version 2, PCI Express Endpoint
            # Role-Based Error Reporting; no Function Level Reset.
            EXP_CAP + Exp.DEV_CAP: (4, self.max_payload | self.extended_tags << 5 | 1 << 15),
            EXP_CAP + Exp.DEV_CAP2: (4, TIMEOUT_RANGE_B | 1 << DevCap2.TIMEOUT_DISABLE),
            MSIX_CAP: (2, CapId.MSIX | self.msix_next << 8),
            MSIX_CAP + MsixCap.CONTROL: (2, self.msix_vectors - 1),
            MSIX_CAP + MsixCap.TABLE: (4, self.msix_table), MSIX_CAP + MsixCap.PBA: (4, self.msix_pba),
        }


class HardConfig(wiring.Component):
    """Registers, read in the cycle of the address and written at its end; 0 where there are none.

    Members
    -------
    addr : In(10), data : In(32), be : In(4), write : In(1), read : Out(32)
        ``addr`` in DWs.
    captured : In(13), capture : In(1)
        Bus and device number, and a strobe to keep them.
    note_status : In(16), note_device : In(4)
        Strobes: bits to set in Status and Device Status; they stay until the host writes 1.
    interrupt, transactions_pending : In(1)
        Shown in Status and Device Status.
    link_rate : In(1), link_width : In(4)
        As negotiated: 1 for 5 GT/s; lanes.
    bar0 : Out(32), memory_enable : Out(1)
        In effect: nothing but configuration is alive outside of D0.
    bus_device : Out(13), command, status, dcommand, dstatus, lcommand, lstatus, dcommand2 : Out(16), power_state : Out(2)
    msix_enable, msix_mask : Out(1)
    """
    def __init__(self, identity, *, lanes):
        self.identity, self.lanes = identity, lanes
        super().__init__({
            "addr": In(10), "data": In(32), "be": In(4), "write": In(1), "read": Out(32),
            "captured": In(13), "capture": In(1),
            "note_status": In(16), "note_device": In(4),
            "interrupt": In(1), "transactions_pending": In(1), "link_rate": In(1), "link_width": In(4),
            "bar0": Out(32), "memory_enable": Out(1), "bus_device": Out(13),
            **{name: Out(16) for name in ("command", "status", "dcommand", "dstatus", "lcommand", "lstatus", "dcommand2")},
            "power_state": Out(2), "msix_enable": Out(1), "msix_mask": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        shown = {}       # DW: what reads there
        for at, (size, value) in self.identity.constants().items():
            assert at % 4 + size <= 4
            shown[at // 4] = shown.get(at // 4, 0) | value << 8 * (at % 4)

        def register(at, mask, init=0):
            value = Signal(32, name=f"reg_{at:02x}", init=init)
            with m.If(self.write & (self.addr == at // 4)):
                for k in range(4):
                    with m.If(self.be[k]):
                        byte = mask >> 8 * k & 0xff
                        m.d.sync += value[8 * k:8 * k + 8].eq(
                            (value[8 * k:8 * k + 8] & ~byte & 0xff) | (self.data[8 * k:8 * k + 8] & byte))
            shown[at // 4] = shown.get(at // 4, 0) | value
            return value

        def sticky(at, strobes):
            """A status register above a control register: written 1 to clear."""
            value = Signal(16, name=f"sticky_{at:02x}")
            written = Cat(self.data[16:24] & self.be[2].replicate(8), self.data[24:] & self.be[3].replicate(8))
            m.d.sync += value.eq((value & ~Mux(self.write & (self.addr == at // 4), written, 0)) | strobes)
            shown[at // 4] = shown.get(at // 4, 0) | value << 16
            return value

        command = register(Cfg.COMMAND, sum(1 << bit for bit in (
            Command.MEMORY_ENABLE, Command.BUS_MASTER, Command.PARITY, Command.SERR, Command.INTX_DISABLE)))
        status = sticky(Cfg.COMMAND, self.note_status)
        register(Cfg.CACHE_LINE_SIZE, 0xff)
        bar0 = register(Cfg.BAR0, (1 << 32) - self.identity.bar0_size)
        register(Cfg.INTERRUPT_LINE, 0xff)
        power = Signal(2)
        with m.If(self.write & (self.addr == (PM_CAP + Pm.PMCSR) // 4) & self.be[0] & (self.data[0] == self.data[1])):
            m.d.sync += power.eq(self.data)  # 7.6.2: states that are not supported are not entered
        shown[(PM_CAP + Pm.PMCSR) // 4] |= power
        # No phantom functions, no auxiliary power; Initiate Function Level Reset reads 0.
        dcommand = register(EXP_CAP + Exp.DEV_CTL, 0x78ff | self.identity.extended_tags << DevCtl.EXT_TAG, DEV_CTL_RESET)
        dstatus = sticky(EXP_CAP + Exp.DEV_CTL, self.note_device)
        lcommand = register(EXP_CAP + Exp.LNK_CTL, 0x00cb)
        dcommand2 = register(EXP_CAP + Exp.DEV_CTL2, 0x1f)
        register(EXP_CAP + Exp.LNK_CTL2, 0xf, init=self.identity.link_speed)
        msix = register(MSIX_CAP, 0b11 << 30)

        shown[(EXP_CAP + Exp.LNK_CAP) // 4] = self.identity.link_speed | self.lanes << 4 | LINK_CAP_L0S
        link_status = Signal(16)
        pending, intx = self.transactions_pending << DevSta.TRANSACTIONS_PENDING, self.interrupt << ConfigStatus.INTERRUPT
        shown[(EXP_CAP + Exp.LNK_CTL) // 4] |= link_status << 16
        shown[(EXP_CAP + Exp.DEV_CTL) // 4] |= pending << 16
        shown[Cfg.COMMAND // 4] |= intx << 16
        with m.Switch(self.addr):
            for at, value in shown.items():
                with m.Case(at):
                    m.d.comb += self.read.eq(value)
        with m.If(self.capture):
            m.d.sync += self.bus_device.eq(self.captured)
        m.d.comb += [
            link_status.eq(Cat(self.link_rate + 1, Const(0, 2), self.link_width, Const(0, 4), Const(1, 1))),  # slot clock
            self.bar0.eq(bar0), self.memory_enable.eq(command[Command.MEMORY_ENABLE] & (power == 0)),
            self.command.eq(command), self.status.eq(status | intx | 1 << ConfigStatus.CAP_LIST),
            self.dcommand.eq(dcommand), self.dstatus.eq(dstatus | pending),
            self.lcommand.eq(lcommand), self.lstatus.eq(link_status), self.dcommand2.eq(dcommand2),
            self.power_state.eq(power), self.msix_enable.eq(msix[31]), self.msix_mask.eq(msix[30]),
        ]
        return m
