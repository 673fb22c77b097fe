"""The PCI Express function: everything between raw TLPs and the seams of the core.

Ref: PCI Express Base 5.0, 2.1.1 "Address Spaces, Transaction Types, and Usage", 6.6.2 "Function Level Reset (FLR)".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import Arbiter
from ..lib.dma import AreaPort, ReadPort, WritePort
from ..lib.gate import PacketGate
from ..lib.interrupt import InterruptPort
from ..lib.queue import Queue
from ..lib.reg import RegPort
from ..lib.regbus import RegArbiter, RegDecoder, RegGuard
from ..spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, REG_ADDR_WIDTH
from ..spec.pcie import TlpType
from .dma import Dma
from .function_config import FunctionConfig
from .intake import Digest, Intake
from .msix import Msix
from .parameters import PcieParameters
from .target import Target
from .tlp_stream import ALL_CLASSES, TLP_CLASSES, tlp_beat

__all__ = ["TlpDemux", "Endpoint"]


class TlpDemux(wiring.Component):
    """Part completions from everything else, in the cycle they come.

    Members
    -------
    i, o_cpl, o_request
        TLP streams.
    """
    def __init__(self, *, width):
        super().__init__({
            "i":         In(stream.Signature(tlp_beat(width))),
            "o_cpl":     Out(stream.Signature(tlp_beat(width))),
            "o_request": Out(stream.Signature(tlp_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        inside, held, is_cpl = Signal(), Signal(), Signal()
        tlp_type, fmt = self.i.payload.data[:5], self.i.payload.data[5:8]
        m.d.comb += [
            is_cpl.eq(Mux(inside, held, (tlp_type[1:] == TlpType.CPL.value >> 1) & ~fmt[0] & ~fmt[2])),
            self.o_cpl.payload.eq(self.i.payload),
            self.o_request.payload.eq(self.i.payload),
            self.o_cpl.valid.eq(self.i.valid & is_cpl),
            self.o_request.valid.eq(self.i.valid & ~is_cpl),
            self.i.ready.eq(Mux(is_cpl, self.o_cpl.ready, self.o_request.ready)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [inside.eq(~self.i.payload.last), held.eq(is_cpl)]
        return m


class Endpoint(wiring.Component):
    """Be one PCIe function: configuration, BAR 0, DMA for several clients, interrupts.

    A reset of what lies behind is a drain: raise ``stop``, wait for ``stopped``, pulse ``reset``, lower ``stop``.

    Parameters
    ----------
    width : int
        Bits per beat.
    read_clients, write_clients : int
        Number of DMA ports of each kind.
    num_queues : int
        Virtqueues whose areas DMA requests may count from.
    msix_vectors, interrupt_sources : int
        As ``vectors`` and ``sources`` of :class:`Msix`.
    pcie : PcieParameters
    request_beats : int
        Beats of requests that wait while the target is at work, so that completions can pass.
    answer_cycles : int
        Time that a register read may take once accepted.

    Members
    -------
    tlp_rx : In(stream.Signature(tlp_beat(width))), tlp_tx : Out(...)
        Link side.
    credits : In(TLP_CLASSES)
        Classes of which a TLP may begin. What has begun when a class ends still comes: one TLP, and what ``tx_edge`` holds.
    config : In(FunctionConfig(width))
        From who keeps the configuration.
    regs : Out(RegPort(REG_ADDR_WIDTH))
        BAR 0 but for the MSI-X pages, from memory requests and from the pci_cfg window.
    reads : In(ReadPort(width)).array(read_clients), writes : In(WritePort(width)).array(write_clients)
        DMA clients.
    areas : In(AreaPort)
        Where the areas of virtqueues begin.
    irq : In(InterruptPort())
        Its message may pass writes that have not left, so it comes when what it tells of can be seen: when a read that was
        asked for after the write has been answered.
    intx : In(1)
        Level of the INTx interrupt, used while ``msix_enabled`` is low.
    msix_enabled : Out(1)
    flr : Out(1)
        Function Level Reset requested; high until ``reset``. The target takes no request meanwhile.
    stop : In(1), stopped : Out(1)
        Of DMA and MSI-X.
    reset : In(1)
        One cycle. DMA and interrupt state is forgotten; with ``flr``, configuration too.
    busy : Out(1)
        A request or DMA is under way.
    events
        Of DMA and target, see COUNTERS.
    """
    def __init__(self, *, width, read_clients, write_clients, msix_vectors, num_queues=1, interrupt_sources=1,
                 pcie=PcieParameters(), request_beats=128, answer_cycles=4095):
        self.width = width
        self.answer_cycles = answer_cycles
        self.dma    = Dma(width=width, read_clients=read_clients, write_clients=write_clients, tags=pcie.tags,
                          timeout_cycles=pcie.timeout_cycles, cpl_headers=pcie.cpl_headers, num_queues=num_queues)
        self.msix   = Msix(vectors=msix_vectors, sources=interrupt_sources, width=width)
        self.target = Target(width=width)
        self.intake = Intake(width=width, depth=request_beats, max_payload=pcie.max_payload)
        self._event_names = {name: None for unit in (self.dma, self.target) for name, _ in unit.events.shape()}
        super().__init__({
            "tlp_rx": In(stream.Signature(tlp_beat(width))),
            "tlp_tx": Out(stream.Signature(tlp_beat(width))),
            "credits": In(TLP_CLASSES, init=ALL_CLASSES),
            "config": In(FunctionConfig(width)),
            "regs":   Out(RegPort(REG_ADDR_WIDTH)),
            "reads":  In(ReadPort(width)).array(read_clients),
            "writes": In(WritePort(width)).array(write_clients),
            "areas":  In(AreaPort),
            "irq":    In(InterruptPort()),
            "intx":   In(1),
            "msix_enabled": Out(1),
            "flr":     Out(1),
            "stop":    In(1),
            "stopped": Out(1),
            "reset":   In(1),
            "busy":    Out(1),
            "events":  Out(data.StructLayout({name: 1 for name in self._event_names})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.dma    = dma    = self.dma
        m.submodules.msix   = msix   = self.msix
        m.submodules.target = target = self.target
        config = self.config

        # TLPs
        m.submodules.digest   = digest   = Digest(width=self.width)
        m.submodules.demux    = demux    = TlpDemux(width=self.width)
        m.submodules.intake   = intake   = self.intake
        m.submodules.arbiter  = arbiter  = Arbiter(tlp_beat(self.width), 4)
        # No path goes from an input of the link to an output within a cycle: that is for a hard block's timing, and a
        # simulator has nothing to recompute when an input changes.
        m.submodules.rx_edge = rx_edge = Queue(tlp_beat(self.width), 4)
        m.submodules.tx_edge = tx_edge = Queue(tlp_beat(self.width), 4)
        connect(m, flipped(self.tlp_rx), rx_edge.i)
        connect(m, rx_edge.o, digest.i)
        connect(m, digest.o, demux.i)
        connect(m, demux.o_cpl, dma.cpl)
        connect(m, demux.o_request, intake.i)
        connect(m, intake.o, target.i)
        # 6.1.4.5: no message follows the answer to the access that has forbidden it, so an answer waits for a message that was
        # committed before. The same holds for INTx, and for all requests, which 7.5.1.1.3 forbids without Bus Master Enable.
        m.submodules.answers = answers = PacketGate(tlp_beat(self.width))
        requests = ~config.bus_master & dma.leaving
        # 2.6.1: no class waits for credits of another, but completions for what is posted before them.
        m.submodules.told     = told     = PacketGate(tlp_beat(self.width))
        m.submodules.signaled = signaled = PacketGate(tlp_beat(self.width))
        m.d.comb += [
            answers.hold.eq(msix.sending | config.busy | requests | ~self.credits.completion),
            told.hold.eq(~self.credits.posted),
            signaled.hold.eq(~self.credits.posted),
            dma.credits.eq(self.credits),
        ]
        connect(m, target.o, answers.i)
        connect(m, answers.o, arbiter.i[0])
        connect(m, flipped(config.messages), told.i)
        connect(m, msix.tlp, signaled.i)
        connect(m, told.o, arbiter.i[1])
        # 2.4.1: an answer passes no write that was posted before, and a write counts as done when this arbiter has taken it: so
        # nothing is kept in between.
        connect(m, dma.tlp, arbiter.i[2])
        connect(m, signaled.o, arbiter.i[3])
        connect(m, arbiter.o, tx_edge.i)
        connect(m, tx_edge.o, flipped(self.tlp_tx))

        self._registers(m, config, target, msix)

        # DMA clients
        for outer, inner in zip(self.reads, dma.reads):
            connect(m, flipped(outer), inner)
        for outer, inner in zip(self.writes, dma.writes):
            connect(m, flipped(outer), inner)
        connect(m, flipped(self.areas), dma.areas)
        connect(m, flipped(self.irq), msix.irq)

        # A completion that nobody waits for is judged within two cycles, and told of in the next one.
        judging = Signal(3)
        m.d.sync += judging.eq(Cat(demux.o_cpl.valid, judging))
        m.d.comb += [
            dma.requester_id.eq(config.requester_id),
            dma.bus_master.eq(config.bus_master),
            dma.mps.eq(config.mps),
            dma.mrrs.eq(config.mrrs),
            dma.ext_tag.eq(config.ext_tag),
            dma.timeout_disable.eq(config.timeout_disable),
            dma.stalled.eq(self.tlp_tx.valid & ~self.tlp_tx.ready),
            dma.stop.eq(self.stop),
            dma.reset.eq(self.reset),
            self.stopped.eq(dma.stopped & ~msix.sending),

            config.reset.eq(self.reset & config.flr),
            config.interrupt.eq(self.intx & ~config.msix_enable),  # 6.1.3: no INTx while MSI-X is on
            self.flr.eq(config.flr),
            intake.mps.eq(config.mps),

            config.captured.eq(target.captured),
            target.completer_id.eq(config.requester_id),
            target.hold.eq(config.flr),
            config.address.eq(target.address),
            target.bar_hit.eq(config.bar_hit),

            msix.enable.eq(config.msix_enable),
            msix.function_mask.eq(config.msix_function_mask),
            msix.bus_master.eq(config.bus_master),
            msix.requester_id.eq(config.requester_id),
            msix.stop.eq(self.stop),
            msix.reset.eq(self.reset),
            msix.clear.eq(config.flr),
            self.msix_enabled.eq(config.msix_enable),

            config.faults.request.eq(target.faults),
            config.faults.completion.eq(dma.faults),
            config.faults.malformed.eq(self.events.tlps_malformed),
            config.faults.unexpected.eq(dma.events.cpl_unexpected),
            config.faults.timeout.eq(dma.events.dma_timeouts),
            config.turn_off.eq(target.pme_turn_off),
            self.busy.eq(dma.busy | msix.busy | target.busy | rx_edge.level.any() | digest.o.valid | intake.busy | config.busy
                         | judging.any() | tx_edge.level.any()),
        ]
        m.d.sync += [
            config.transactions_pending.eq(dma.pending),
            config.leaving.eq(requests | (~config.bus_master & (msix.sending | tx_edge.level.any()))),
        ]
        sources = {name: [unit.events[name] for unit in (dma, target) if name in dict(unit.events.shape())]
                   for name in self._event_names}
        sources["tlps_malformed"].append(intake.malformed)
        m.d.comb += [self.events[name].eq(Cat(strobes).any()) for name, strobes in sources.items()]
        return m

    def _registers(self, m, config, target, msix):
        """Accesses to the BAR, and through the pci_cfg window, to MSI-X or out; and those to configuration space."""
        m.submodules.reg_arbiter = reg_arbiter = RegArbiter(REG_ADDR_WIDTH, 2)
        msix_pages = [MSIX_TABLE_OFFSET >> 12, MSIX_PBA_OFFSET >> 12]
        m.submodules.reg_decoder = reg_decoder = RegDecoder(
            REG_ADDR_WIDTH, {page: int(page in msix_pages) for page in range(1 << (REG_ADDR_WIDTH - 12))})
        m.submodules.reg_guard = reg_guard = RegGuard(addr_width=REG_ADDR_WIDTH, cycles=self.answer_cycles)
        connect(m, target.cfg, flipped(config.cfg))
        connect(m, target.regs, reg_arbiter.i[0])
        connect(m, flipped(config.regs), reg_arbiter.i[1])
        connect(m, reg_arbiter.o, reg_decoder.i)
        connect(m, reg_decoder.o[0], reg_guard.i)
        connect(m, reg_decoder.o[1], msix.regs)
        connect(m, reg_guard.o, flipped(self.regs))
