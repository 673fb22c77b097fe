"""The block keeps the configuration: what it tells the card, and what the card tells the host through it.

Ref: PG054, "Designing with Configuration Space Registers and Configuration Interface", "Generating Interrupt Requests", "Error
Reporting", "Power Management"; PCI Express Base 5.0, 6.1.3 "PCI Compatible INTx Emulation".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ...spec.pcie import Command, DevCtl, DevCtl2
from ..function_config import FunctionConfig
from ..virtio_caps import VirtioCaps
from .ports import CONFIG, ports
from .tx import REFUSAL

__all__ = ["BlockConfig"]

HANDSHAKE_CYCLES = 255  # longest wait of an answer for the handshake of INTx: 4 us at 62.5 MHz
MAX_SIZE = 2  # coded: 512 bytes, the largest payload of the IP as the card has it made, and the largest read (see BlockConfig)


class BlockConfig(wiring.Component):
    """Provide the configuration out of the block's ports; answer requests of its window, which holds the virtio capabilities.

    The block sends messages itself: it is told of INTx, errors and readiness for power-off by handshakes. It also judges by
    itself what it can see in a TLP: received completions that refuse a read, and poisoned TLPs (our reading; of the latter its
    attribute DISABLE_RX_POISONED_RESP says so). A read that is not answered is
    an error from which the card does not recover: ``cfg_err_norecovery`` goes with ``cfg_err_cpl_timeout``, which it qualifies
    (AMD's example design of the IP, pcie_app_7x.v). Function Level Reset is not offered: a reset of the bus resets everything
    behind the block.

    Reads are of 512 bytes at most, whatever the host allows: a limit of the completion buffer.

    Parameters
    ----------
    width : int
        Bits per beat of the TLP stream of the seam, on which nothing is sent.

    Members
    -------
    block : Out(ports(CONFIG))
    function : Out(FunctionConfig(width))
    refusals : In(stream.Signature(REFUSAL))
        Completions that the block is to send, each when it can take it.
    """
    def __init__(self, *, width):
        super().__init__({
            "block":    Out(ports(CONFIG, width=width)),
            "function": Out(FunctionConfig(width)),
            "refusals": In(stream.Signature(REFUSAL)),
        })

    def elaborate(self, platform):
        m = Module()
        block, function = self.block, self.function
        m.submodules.virtio = virtio = VirtioCaps()
        connect(m, flipped(function.cfg), virtio.cfg)
        connect(m, virtio.regs, flipped(function.regs))

        def clamp(size):
            return Mux(size > MAX_SIZE, MAX_SIZE, size)
        awake = Signal()
        m.d.comb += awake.eq(block.cfg_pmcsr_powerstate == 0)
        m.d.sync += [
            function.requester_id.eq(Cat(block.cfg_function_number, block.cfg_device_number, block.cfg_bus_number)),
            function.bus_master.eq(block.cfg_command[Command.BUS_MASTER] & awake),
            function.mps.eq(clamp(block.cfg_dcommand[DevCtl.MAX_PAYLOAD:][:3])),
            function.mrrs.eq(clamp(block.cfg_dcommand[DevCtl.MAX_READ_REQUEST:][:3])),
            function.ext_tag.eq(block.cfg_dcommand[DevCtl.EXT_TAG]),
            function.timeout_disable.eq(block.cfg_dcommand2[DevCtl2.TIMEOUT_DISABLE]),
            function.msix_enable.eq(block.cfg_interrupt_msixenable),
            function.msix_function_mask.eq(block.cfg_interrupt_msixfm),
        ]
        m.d.comb += [
            # The block judges a request by address, Memory Space Enable and power state (5.3.1.4.1; our reading) when it comes.
            # Judged again here, one that came before the host put the function to sleep would be refused (2.4.1).
            function.bar_hit.eq(1),
            block.cfg_trn_pending.eq(function.transactions_pending),
            # Safe once no read is in flight.
            block.cfg_turnoff_ok.eq(block.cfg_to_turnoff & ~function.transactions_pending),
        ]

        # INTx: the level that the host has been told of follows the one that is wanted, a handshake for each change.
        # 7.5.1.1.3: an interrupt that is disabled is deasserted.
        told, wanted = Signal(), Signal()
        m.d.comb += wanted.eq(function.interrupt & ~block.cfg_command[Command.INTX_DISABLE])
        m.d.sync += block.cfg_interrupt_stat.eq(function.interrupt)
        with m.If(~block.cfg_interrupt):
            m.d.sync += [block.cfg_interrupt.eq(wanted != told), block.cfg_interrupt_assert.eq(wanted)]
        with m.Elif(block.cfg_interrupt_rdy):
            m.d.sync += [block.cfg_interrupt.eq(0), told.eq(block.cfg_interrupt_assert)]
        # PG054 does not say that an interrupt is granted which the host has just disabled: answers do not wait for it for ever.
        asks, waited = Signal(), Signal(range(HANDSHAKE_CYCLES + 1))
        m.d.comb += [asks.eq(block.cfg_interrupt | (wanted != told)), function.busy.eq(asks & (waited != HANDSHAKE_CYCLES))]
        with m.If(~asks | (block.cfg_interrupt & block.cfg_interrupt_rdy)):
            m.d.sync += waited.eq(0)
        with m.Elif(waited != HANDSHAKE_CYCLES):
            m.d.sync += waited.eq(waited + 1)

        # Errors, each a pulse. One of a posted request shares its port with those that the block is to answer.
        posted, pause = Signal(), Signal()
        request, refusal = function.faults.request, self.refusals
        m.d.comb += refusal.ready.eq(block.cfg_err_cpl_rdy & ~posted & ~pause)
        m.d.sync += [
            block.cfg_err_malformed.eq(function.faults.malformed),
            block.cfg_err_cpl_unexpect.eq(function.faults.unexpected),
            block.cfg_err_cpl_timeout.eq(function.faults.timeout),
            # Base 5.0, 6.2.3.2.4.4 "Requester with Completion Timeout": the error is advisory for who will ask again, and
            # uncorrectable for who will not, as the card.
            block.cfg_err_norecovery.eq(function.faults.timeout),
            posted.eq(request.unsupported & ~request.advisory),
            # Our reading: "ready" tells of a taken error in the next cycle but one at the latest.
            pause.eq(refusal.valid & refusal.ready | block.cfg_err_ur),
            block.cfg_err_ur.eq(posted | (refusal.valid & refusal.ready)),
            block.cfg_err_posted.eq(posted),
            block.cfg_err_locked.eq(refusal.p.locked & ~posted),
            block.cfg_err_tlp_cpl_header.eq(refusal.p.header),
        ]
        return m
