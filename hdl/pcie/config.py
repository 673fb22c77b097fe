"""Configuration space of the function: Type 0 header and capabilities.

Ref: PCI Express Base 5.0, 7.5.1 "PCI-Compatible Configuration Registers", 7.5.2 "PCI Power Management Capability
Structure", 7.5.3 "PCI Express Capability Structure", 7.7.2 "MSI-X Capability and Table Structure".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.reg import RegPort
from ..spec.bar import BAR_INDEX, BAR_SIZE, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, REG_ADDR_WIDTH
from ..spec.pcie import CapId, Cfg, Command, ConfigStatus, DevCap, DevCap2, DevCtl, DevCtl2, DevSta, Exp, MsixCap, Pm
from ..spec.virtio import VIRTIO_PCI_VENDOR_ID
from .config_image import ConfigImage
from .function_config import STATE
from .parameters import PcieParameters
from .virtio_caps import CAPS_START, VirtioCaps, virtio_capabilities

__all__ = ["ConfigSpace", "capabilities"]

PM_CAP, EXP_CAP, MSIX_CAP = 0x40, 0x60, CAPS_START - MsixCap.SIZE
MAX_READ_REQUEST = 5  # coded; 4096 bytes
LINK_WIDTHS = (1, 2, 4, 8, 12, 16, 32)


def capabilities():
    """The capability list in its order: ``(offset, CapId, size, CfgType or None)``. It fills 0x100 bytes to the last."""
    return [(PM_CAP, CapId.PM, Pm.SIZE, None), (EXP_CAP, CapId.EXP, Exp.SIZE, None),
            (MSIX_CAP, CapId.MSIX, MsixCap.SIZE, None),
            *((at, CapId.VENDOR, size, cfg_type) for at, size, cfg_type in virtio_capabilities())]


class ConfigSpace(wiring.Component):
    """Answer configuration accesses, one at a time; keep what the host configured.

    :class:`VirtioCaps` says when a read is answered.

    Parameters
    ----------
    device_id, subsystem_id, revision_id, class_code : int
        Identity; vendor and subsystem vendor are virtio's.
    msix_vectors : int
        1 to 2048.
    pcie : PcieParameters

    Members
    -------
    cfg : In(RegPort(12))
        Accesses of the host; nothing is implemented from 0x100 on.
    regs : Out(RegPort(REG_ADDR_WIDTH))
        BAR accesses through the pci_cfg window (4.1.4.9 "PCI configuration access capability").
    The members of :data:`.function_config.STATE`
        As of :func:`.function_config.FunctionConfig`; of them:
    reset : In(1)
        One cycle. A Function Level Reset: back to default, but for what belongs to the link (6.6.2). No access may be under way
        then, and none is accepted while ``flr`` is high.
    intx_disable, parity, serr : Out(1), reports : Out(4)
        What Command and Device Control say of INTx and errors: Parity Error Response and SERR# Enable; reporting of correctable,
        non-fatal and fatal errors and unsupported requests.
    power_state : Out(2)
        0 for D0, 3 for D3hot.
    noted : In(16), noted_device : In(4)
        Strobes: bits to set in Status and Device Status, where they stay until the host writes 1.
    """
    def __init__(self, *, device_id=0x1041, subsystem_id=None, revision_id=1, class_code=0x020000, msix_vectors=1,
                 pcie=PcieParameters()):
        if not 1 <= msix_vectors <= 2048:
            raise ValueError(f"Number of MSI-X vectors must be from 1 to 2048, not {msix_vectors!r}")
        if not 0 <= pcie.max_payload <= 5:
            raise ValueError(f"Maximum payload must be coded from 0 to 5, not {pcie.max_payload!r}")
        if not 1 <= pcie.link_speed <= 6:
            raise ValueError(f"Link speed must be coded from 1 to 6, not {pcie.link_speed!r}")
        if pcie.link_width not in LINK_WIDTHS:
            raise ValueError(f"Link width must be one of {', '.join(map(str, LINK_WIDTHS))} lanes, not {pcie.link_width!r}")
        if revision_id < 1:
            raise ValueError(f"Revision must be at least 1, not {revision_id!r}")  # 4.1.2.1
        self.device_id    = device_id
        self.subsystem_id = device_id if subsystem_id is None else subsystem_id
        self.revision_id  = revision_id
        self.class_code   = class_code
        self.msix_vectors = msix_vectors
        self.pcie         = pcie
        super().__init__({
            "cfg":   In(RegPort(12)),
            "regs":  Out(RegPort(REG_ADDR_WIDTH)),
            **STATE,
            "intx_disable": Out(1),
            "parity": Out(1),
            "serr": Out(1),
            "reports": Out(4),
            "power_state": Out(2),
            "noted": In(16),
            "noted_device": In(4),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.virtio = virtio = VirtioCaps()
        kept = Module()  # 6.6.2: what FLR leaves as it is
        req = self.cfg.req.p
        caps = capabilities()
        speeds = ((1 << self.pcie.link_speed) - 1) << 1
        image = ConfigImage(self.cfg, 0, CAPS_START)
        for at, size, value in [
                (Cfg.VENDOR_ID, 2, VIRTIO_PCI_VENDOR_ID), (Cfg.DEVICE_ID, 2, self.device_id),
                (Cfg.STATUS, 2, 1 << ConfigStatus.CAP_LIST), (Cfg.REVISION_ID, 1, self.revision_id),
                (Cfg.CLASS_CODE, 3, self.class_code), (Cfg.SUBSYSTEM_VENDOR_ID, 2, VIRTIO_PCI_VENDOR_ID),
                (Cfg.SUBSYSTEM_ID, 2, self.subsystem_id), (Cfg.CAP_POINTER, 1, caps[0][0]),
                (Cfg.INTERRUPT_PIN, 1, 1),
                (PM_CAP + Pm.PMC, 2, 3),             # version 1.2, no PME, no D1, no D2
                (PM_CAP + Pm.PMCSR, 2, 1 << 3),      # No_Soft_Reset: state is kept from D3hot to D0
                (EXP_CAP + Exp.FLAGS, 2, 2),         # version 2, PCI Express Endpoint
                (EXP_CAP + Exp.DEV_CAP, 4, self.pcie.max_payload | 1 << DevCap.EXT_TAG | 1 << DevCap.ROLE_BASED_ERRORS
                                           | 1 << DevCap.FLR),
                (EXP_CAP + Exp.LNK_CAP, 4, self.pcie.link_speed | self.pcie.link_width << 4 | 1 << 22),  # no ASPM, and says so
                (EXP_CAP + Exp.LNK_STA, 2, self.pcie.link_speed | self.pcie.link_width << 4 | 1 << 12),  # slot clock
                (EXP_CAP + Exp.DEV_CAP2, 4, 1 << DevCap2.TIMEOUT_DISABLE | 1 << DevCap2.EXTENDED_FMT),
                (EXP_CAP + Exp.LNK_CAP2, 4, speeds), (EXP_CAP + Exp.LNK_CTL2, 2, self.pcie.link_speed),
                (MSIX_CAP + MsixCap.CONTROL, 2, self.msix_vectors - 1),
                (MSIX_CAP + MsixCap.TABLE, 4, MSIX_TABLE_OFFSET | BAR_INDEX),
                (MSIX_CAP + MsixCap.PBA, 4, MSIX_PBA_OFFSET | BAR_INDEX)]:
            image.put(at, size, value)
        for (at, cap_id, _, cfg_type), (following, *_) in zip(caps, caps[1:]):
            if cfg_type is None:
                image.put(at, 1, int(cap_id))
                image.put(at + 1, 1, following)

        command = image.register(m, Cfg.COMMAND, sum(1 << n for n in (
            Command.MEMORY_ENABLE, Command.BUS_MASTER, Command.PARITY, Command.SERR, Command.INTX_DISABLE)))
        image.register(m, Cfg.CACHE_LINE_SIZE, 0xff)
        bar0 = image.register(m, Cfg.BAR0, 0x1_0000_0000 - BAR_SIZE)
        image.register(m, Cfg.INTERRUPT_LINE, 0xff)
        payload = 7 << DevCtl.MAX_PAYLOAD
        dev_ctl = image.register(m, EXP_CAP + Exp.DEV_CTL, 0x79ff & ~payload, init=0x2810)
        max_payload = image.register(kept, EXP_CAP + Exp.DEV_CTL, payload)
        image.register(kept, EXP_CAP + Exp.LNK_CTL, 0x00cb)  # ASPM, RCB, common clock, extended synch
        dev_ctl2 = image.register(m, EXP_CAP + Exp.DEV_CTL2, 1 << DevCtl2.TIMEOUT_DISABLE)
        msix = image.register(m, MSIX_CAP, 0b11 << 30)

        write = image.write
        power_state = Signal(2)
        with m.If(write & (req.addr == PM_CAP + Pm.PMCSR) & req.be[0]):
            with m.If(req.data[0] == req.data[1]):  # 7.5.2.2: states not supported are not entered
                m.d.sync += power_state.eq(req.data[:2])
        with m.If(write & (req.addr == EXP_CAP + Exp.DEV_CTL) & req.be[1] & req.data[DevCtl.INITIATE_FLR]):
            m.d.sync += self.flr.eq(1)  # 7.5.3.4: reads 0 always

        def sticky(at, noted):
            value = Signal(16, name=f"sticky_{at:02x}")
            enable = Cat(b.replicate(8) for b in req.be[2:])
            m.d.sync += value.eq((value & ~Mux(write & (req.addr == at), req.data[16:] & enable, 0)) | noted)
            return value << 16
        live = {
            Cfg.COMMAND: self.interrupt << (16 + ConfigStatus.INTERRUPT) | sticky(Cfg.COMMAND, self.noted),
            PM_CAP + Pm.PMCSR: power_state,
            EXP_CAP + Exp.DEV_CTL: (self.transactions_pending << (16 + DevSta.TRANSACTIONS_PENDING)
                                    | sticky(EXP_CAP + Exp.DEV_CTL, self.noted_device)),
        }
        read = image.read(m, live)

        def clamp(value, most):
            return Mux(value > most, most, value)
        d0 = power_state == 0
        m.d.comb += [
            self.bar_hit.eq((self.address[REG_ADDR_WIDTH:32] == bar0[REG_ADDR_WIDTH:]) & ~self.address[32:].any()
                            & command[Command.MEMORY_ENABLE] & d0),
            self.bus_master.eq(command[Command.BUS_MASTER] & d0),
            self.intx_disable.eq(command[Command.INTX_DISABLE] | ~d0),
            self.mps.eq(clamp(max_payload[DevCtl.MAX_PAYLOAD:][:3], self.pcie.max_payload)),
            self.mrrs.eq(clamp(dev_ctl[DevCtl.MAX_READ_REQUEST:][:3], MAX_READ_REQUEST)),
            self.ext_tag.eq(dev_ctl[DevCtl.EXT_TAG]),
            self.timeout_disable.eq(dev_ctl2[DevCtl2.TIMEOUT_DISABLE]),
            self.parity.eq(command[Command.PARITY]),
            self.serr.eq(command[Command.SERR]),
            self.reports.eq(dev_ctl[:4]),
            self.msix_enable.eq(msix[31]),
            self.msix_function_mask.eq(msix[30]),
            self.power_state.eq(power_state),
        ]

        connect(m, virtio.regs, flipped(self.regs))
        m.d.comb += [
            virtio.cfg.req.p.eq(req),
            virtio.cfg.req.valid.eq(self.cfg.req.valid & ~self.flr),
            self.cfg.req.ready.eq(virtio.cfg.req.ready & ~self.flr),
            virtio.rest.eq(read),
            self.cfg.resp.p.eq(virtio.cfg.resp.p),
            self.cfg.resp.valid.eq(virtio.cfg.resp.valid),
            virtio.cfg.resp.ready.eq(self.cfg.resp.ready),
        ]
        kept.submodules.space = ResetInserter(self.reset)(m)
        return kept
