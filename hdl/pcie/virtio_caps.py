"""The virtio capabilities of the function, and the window into BAR 0 that the last of them is.

Ref: VIRTIO 1.4, 4.1.2 "PCI Device Discovery", 4.1.4 "Virtio Structure PCI Capabilities".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.reg import RegPort
from ..spec.bar import (BAR_INDEX, COMMON_OFFSET, DEVICE_OFFSET, ISR_OFFSET, NOTIFY_MULTIPLIER, NOTIFY_OFFSET,
                        REG_ADDR_WIDTH)
from ..spec.pcie import CapId, VirtioCap
from ..spec.virtio import CfgType, Common
from .config_image import ConfigImage

__all__ = ["CAPS_END", "CAPS_START", "VirtioCaps", "virtio_capabilities"]

PAGE = 0x1000
CAPS_END = 0x100

# cfg_type, offset and length in BAR 0, length of the capability.
STRUCTURES = (
    (CfgType.COMMON, COMMON_OFFSET, Common.SIZE, 16),
    (CfgType.NOTIFY, NOTIFY_OFFSET, PAGE, 20),
    (CfgType.ISR, ISR_OFFSET, 4, 16),
    (CfgType.DEVICE, DEVICE_OFFSET, PAGE, 16),
    (CfgType.PCI, 0, 0, 20),
)
CAPS_START = CAPS_END - sum(size for *_, size in STRUCTURES)


def virtio_capabilities():
    """The list in its order: ``(offset, size, CfgType)``. It fills configuration space to byte 0xff."""
    at, found = CAPS_START, []
    for cfg_type, _, _, size in STRUCTURES:
        found.append((at, size, cfg_type))
        at += size
    return found


class VirtioCaps(wiring.Component):
    """Answer accesses to the virtio capabilities, one at a time.

    A read is answered in the cycle after its request, one of ``pci_cfg_data`` when the BAR access is done. Writes of
    ``pci_cfg_data`` are accepted at once and carried out before the next access is accepted.

    Members
    -------
    cfg : In(RegPort(12))
        Accesses to configuration space.
    rest : In(32)
        What the DW of the access reads that is none of the virtio capabilities'; 0, if nobody says.
    regs : Out(RegPort(REG_ADDR_WIDTH))
        BAR accesses through the pci_cfg window (4.1.4.9 "PCI configuration access capability").
    """
    cfg:  In(RegPort(12))
    rest: In(32)
    regs: Out(RegPort(REG_ADDR_WIDTH))

    def elaborate(self, platform):
        m = Module()
        image, req = ConfigImage(self.cfg, CAPS_START, CAPS_END), self.cfg.req.p
        caps = virtio_capabilities()
        for (at, size, cfg_type), (following, *_) in zip(caps, [*caps[1:], (0,)]):
            _, offset, length, _ = STRUCTURES[int(cfg_type) - 1]
            for field, width, value in [
                    (0, 1, int(CapId.VENDOR)), (1, 1, following), (VirtioCap.CAP_LEN, 1, size),
                    (VirtioCap.CFG_TYPE, 1, int(cfg_type)), (VirtioCap.BAR, 1, BAR_INDEX), (VirtioCap.OFFSET, 4, offset),
                    (VirtioCap.LENGTH, 4, length)]:
                image.put(at + field, width, value)
            if cfg_type == CfgType.NOTIFY:
                image.put(at + VirtioCap.MULTIPLIER, 4, NOTIFY_MULTIPLIER)
        window = caps[-1][0]
        window_bar    = image.register(m, window + VirtioCap.BAR, 0xff, init=BAR_INDEX)
        window_offset = image.register(m, window + VirtioCap.OFFSET, 0xffff_ffff)
        window_length = image.register(m, window + VirtioCap.LENGTH, 0xffff_ffff)
        read = image.read(m)

        # The window: the first cap.length bytes of pci_cfg_data are the bytes at cap.offset. 4.1.4.9.1: the driver
        # keeps it aligned and inside the BAR; otherwise there is no access, and pci_cfg_data is a register like others.
        lane   = window_offset[:2]
        usable = Signal()
        be     = Signal(4)
        inside = Signal(4)       # the bytes of pci_cfg_data
        with m.Switch(window_length):
            for size in (1, 2, 4):
                with m.Case(size):
                    m.d.comb += [
                        inside.eq((1 << size) - 1),
                        be.eq(inside << lane),
                        usable.eq((window_bar[:8] == BAR_INDEX) & (window_offset[REG_ADDR_WIDTH:] == 0)
                                  & ((lane & (size - 1)) == 0)),
                    ]
        is_window = req.addr == window + VirtioCap.PCI_CFG_DATA
        held   = Signal(32)      # pci_cfg_data
        answer = Signal(32)
        came   = Signal(32)      # by a read, the byte at cap.offset first
        asks, of_window = self.regs.req.payload, Signal()
        found = self.regs.resp.payload
        m.d.comb += [
            asks.addr.eq(Cat(C(0, 2), window_offset[2:REG_ADDR_WIDTH])),
            asks.be.eq(be),
            asks.data.eq((held << (lane << 3))[:32]),
            # An access is aligned to its size, so few bytes may have come in more than one place.
            came.eq(Cat(found.word_select(lane, 8), Mux(lane[1], found[24:], found[8:16]), found[16:])),
            self.cfg.resp.payload.eq(Mux(of_window, held, answer)),
        ]
        is_write = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.cfg.req.ready.eq(1)
                with m.If(self.cfg.req.valid):
                    m.d.sync += [is_write.eq(req.write), of_window.eq(is_window), answer.eq(read | self.rest)]
                    with m.If(req.write & is_window):
                        for n in range(4):
                            with m.If(req.be[n]):
                                m.d.sync += held.word_select(n, 8).eq(req.data.word_select(n, 8))
                    with m.If(is_window & usable & (req.be != 0)):
                        m.next = "WINDOW"
                    with m.Elif(~req.write):
                        m.next = "ANSWER"
            with m.State("WINDOW"):
                m.d.comb += [self.regs.req.valid.eq(1), self.regs.req.payload.write.eq(is_write)]
                with m.If(self.regs.req.ready):
                    with m.If(is_write):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "WINDOW_ANSWER"
            with m.State("WINDOW_ANSWER"):
                m.d.comb += self.regs.resp.ready.eq(1)
                with m.If(self.regs.resp.valid):
                    # 4.1.4.9.1: the first cap.length bytes are stored in pci_cfg_data.
                    for n in range(4):
                        with m.If(inside[n]):
                            m.d.sync += held.word_select(n, 8).eq(came.word_select(n, 8))
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.cfg.resp.valid.eq(1)
                with m.If(self.cfg.resp.ready):
                    m.next = "IDLE"
        return m
