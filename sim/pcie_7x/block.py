"""The whole block, port by port.

Ref: PG054, "Port Descriptions" and "Designing with the Core"; what comes from elsewhere says so where it is.
"""

from amaranth import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ...hdl.pcie.tlp_stream import tlp_beat
from ...hdl.spec.pcie_7x import CPL_BUFFER_HEADERS, CPL_BUFFER_UNITS, block_ports
from .config import HardConfig, Identity
from .errors import Errors
from .intake import OWN_REQUEST, Intake
from .receive import Receive
from .respond import Respond
from .stall import Stalls
from .transmit import CREDITS, Transmit

__all__ = ["Block"]

TRAINING_CYCLES = 16      # from a partner to a link: a simulation has no time for more
HIGH_AT_RESET = {"sys_rst_n", "user_reset_out", "tx_cfg_gnt", "rx_np_ok", "rx_np_req"}
# PG054, pl_ltssm_state.
DETECT_QUIET, L0, HOT_RESET = 0x00, 0x16, 0x21
OWN_REQUESTS = 16         # that wait for the block itself
WIDTH_CODES = {1: 0, 2: 1, 4: 2, 8: 3}


def training(width_code):
    """States on the way to a link, one for each cycle of it: at 2.5 GT/s to L0, and on to 5 GT/s (Base 2.1, 4.2.6.1 "Detect" to
    4.2.6.5 "L0"). It goes the same way, however fast the link is to be."""
    detect, polling = [DETECT_QUIET, 0x02], [0x04, 0x05]
    configuration = [0x0b, 0x0d, 0x0f, 0x10, 0x11 + width_code, 0x15]
    speed = [0x1c, 0x1d, 0x1e, 0x1c, 0x1d, 0x20]
    states = [*detect, *polling, *configuration, L0, *speed]
    assert len(states) == TRAINING_CYCLES + 1
    return states


class Block(wiring.Component):
    """A model of the block with the TLPs of its link as streams.

    The members are the ports of :func:`ringnic.hdl.spec.pcie_7x.block_ports`, the inputs of the block In, and those below. The
    clock is ``sync``, which ``user_clk_out`` and ``pipe_txoutclk_out`` repeat; a reset of the domain is like ``sys_rst_n``.
    What the serial lanes, clocks, DRP, AER, ``cfg_dsn``, ``cfg_ds_*``, ``cfg_pm_*`` and the inputs ``pl_*`` ask for is not
    modelled: those inputs are ignored, and outputs without a word here are 0. There is no Function Level Reset.

    Parameters
    ----------
    width : int
        64 or 128 bits of the user interface.
    lanes : int
        1, 2, 4 or 8.
    identity : Identity
    cpl_headers, cpl_units : int
        Size of the completion buffer.

    Members
    -------
    link_rx : In(stream(tlp_beat(width))), link_tx : Out(stream(tlp_beat(width)))
        TLPs from the root complex and to it, wire bytes. While the link is down what comes is discarded; what goes is cut off.
    link_ecrc_error : In(1)
        Counts with the last beat on ``link_rx``: its digest is wrong.
    link_up : In(1), hot_reset : In(1)
        There is a partner; it asks for a hot reset, which lasts as long and forgets all.
    link_rate : In(1), link_width : In(2)
        Negotiated, as ``pl_sel_lnk_rate`` and ``pl_sel_lnk_width`` show them; at first the most there is.
    link_credits : In(CREDITS)
        What the partner can take now; from 128 headers and 2048 units on, any number (at first).
    seed : In(32), stall_rx : In(8), stall_tx : In(8)
        Of :class:`Stalls`: pauses of ``m_axis_rx_tvalid`` and of ``s_axis_tx_tready``.
    overflow : Out(1)
        Completions did not fit into the buffer; stays until reset.
    misuse : Out(1)
        The user broke a rule of ``s_axis_tx``, as :class:`Transmit` says, or of ``cfg_interrupt``; stays until reset.
    """
    def __init__(self, *, width, lanes, identity=Identity(), cpl_headers=CPL_BUFFER_HEADERS, cpl_units=CPL_BUFFER_UNITS):
        if width not in (64, 128):
            raise ValueError(f"The interface must have 64 or 128 bits, not {width!r}")
        if lanes not in WIDTH_CODES:
            raise ValueError(f"The link must have 1, 2, 4 or 8 lanes, not {lanes!r}")
        self.width, self.lanes, self.identity = width, lanes, identity
        self.cpl_headers, self.cpl_units = cpl_headers, cpl_units
        self._ports = block_ports(lanes=lanes, width=width)
        super().__init__({
            **{name: (In if way == "i" else Out)(bits, init=name in HIGH_AT_RESET) for name, (way, bits) in self._ports.items()},
            "link_rx": In(stream.Signature(tlp_beat(width))), "link_tx": Out(stream.Signature(tlp_beat(width))),
            "link_ecrc_error": In(1), "link_up": In(1, init=1), "hot_reset": In(1),
            "link_rate": In(1, init=identity.link_speed - 1), "link_width": In(2, init=WIDTH_CODES[lanes]),
            "link_credits": In(CREDITS, init={"ph": 0x80, "pd": 0x800, "nph": 0x80, "npd": 0x800, "cplh": 0x80, "cpld": 0x800}),
            "seed": In(32), "stall_rx": In(8), "stall_tx": In(8),
            "overflow": Out(1), "misuse": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        alive = self._link(m)
        inner = Module()
        intake, stalls = Intake(width=self.width, bar0_size=self.identity.bar0_size), Stalls()
        self._inside(inner, intake, stalls)
        # Nothing outlives the link but the knowledge where a TLP ends that it cut off.
        m.submodules.inside = ResetInserter(~alive)(inner)
        m.submodules.intake = intake
        m.submodules.stalls = stalls
        connect(m, flipped(self.link_rx), intake.link)
        m.d.comb += [
            intake.ecrc_error.eq(self.link_ecrc_error), intake.alive.eq(alive),
            stalls.seed.eq(self.seed), stalls.rx.eq(self.stall_rx), stalls.tx.eq(self.stall_tx),
            self.user_clk_out.eq(ClockSignal()), self.pipe_txoutclk_out.eq(ClockSignal()),
        ]
        return m

    def _link(self, m):
        """Return what is high while TLPs can pass."""
        trained, timer = Signal(), Signal(range(TRAINING_CYCLES + 1))
        alive = Signal()
        m.d.comb += alive.eq(trained & self.link_up & ~self.hot_reset & self.sys_rst_n)
        # As the IP's own logic: user_reset_out while there is no link, in a hot reset, and with sys_rst_n, at once.
        m.d.sync += [self.user_lnk_up.eq(alive), self.user_reset_out.eq(~alive), self.user_app_rdy.eq(self.sys_rst_n)]
        with m.If(~self.link_up | self.hot_reset | ~self.sys_rst_n):
            m.d.sync += [trained.eq(0), timer.eq(0)]
        with m.Elif(timer != TRAINING_CYCLES):
            m.d.sync += timer.eq(timer + 1)
        with m.Else():
            m.d.sync += trained.eq(1)
        m.d.comb += [
            self.pl_phy_lnk_up.eq(trained),
            self.pl_received_hot_rst.eq(self.hot_reset & self.link_up),
            self.pl_sel_lnk_rate.eq(self.link_rate), self.pl_sel_lnk_width.eq(self.link_width),
            self.pl_initial_link_width.eq(self.link_width + 1),
            self.pl_link_gen2_cap.eq(self.identity.link_speed == 2), self.pl_link_partner_gen2_supported.eq(self.link_rate),
        ]
        with m.If(self.pl_received_hot_rst):
            m.d.comb += self.pl_ltssm_state.eq(HOT_RESET)
        with m.Elif(alive):
            m.d.comb += self.pl_ltssm_state.eq(L0)
        with m.Elif(self.link_up & self.sys_rst_n):
            m.d.comb += self.pl_ltssm_state.eq(Array(training(WIDTH_CODES[self.lanes]))[timer])
        return alive

    def _inside(self, m, intake, stalls):
        m.submodules.receive = receive = Receive(width=self.width)
        m.submodules.transmit = transmit = Transmit(width=self.width, max_payload=self.identity.max_payload)
        m.submodules.config = config = HardConfig(self.identity, lanes=self.lanes)
        m.submodules.errors = errors = Errors()
        m.submodules.respond = respond = Respond()
        m.submodules.own = own = fifo.SyncFIFO(width=Shape.cast(OWN_REQUEST).width, depth=OWN_REQUESTS)
        connect(m, intake.posted, receive.posted)
        connect(m, intake.non_posted, receive.non_posted)
        connect(m, respond.o, transmit.own)
        connect(m, transmit.link, flipped(self.link_tx))
        # Ports of the block that a part has under the same name.
        for part in (receive, transmit, respond, errors):
            for name, member in part.signature.members.items():
                if name in self._ports:
                    port, inner = getattr(self, name), getattr(part, name)
                    m.d.comb += port.eq(inner) if member.flow == Out else inner.eq(port)
        m.d.comb += [
            own.w_data.eq(intake.own.p), own.w_en.eq(intake.own.valid), intake.own.ready.eq(own.w_rdy),
            Value.cast(respond.own.p).eq(own.r_data), respond.own.valid.eq(own.r_rdy), own.r_en.eq(respond.own.ready),
            receive.keep_posted.eq(intake.keep_posted), receive.keep_non_posted.eq(intake.keep_non_posted),
            receive.note.eq(intake.note), receive.stall.eq(stalls.stall_rx),
            transmit.stall.eq(stalls.stall_tx), transmit.credits.eq(self.link_credits),
            intake.bar0.eq(config.bar0), intake.bar0_enabled.eq(config.memory_enable),
            intake.max_payload.eq(config.dcommand[5:8]),
            config.captured.eq(intake.captured), config.capture.eq(intake.capture),
            config.note_status.eq(errors.note_status), config.note_device.eq(errors.note_device),
            config.interrupt.eq(respond.intx | self.cfg_interrupt_stat),
            config.transactions_pending.eq(self.cfg_trn_pending),
            config.link_rate.eq(self.link_rate), config.link_width.eq(1 << self.link_width),
            respond.completer_id.eq(Cat(Const(0, 3), config.bus_device)), respond.command.eq(config.command),
            errors.command.eq(config.command), errors.dcommand.eq(config.dcommand),
            errors.unsupported.eq(respond.unsupported), errors.unsupported_posted.eq(respond.unsupported_posted),
            errors.malformed.eq(respond.malformed),
            errors.poisoned.eq(intake.got_poisoned & ~intake.note.cpl),
            errors.poisoned_cpl.eq(intake.got_poisoned & intake.note.cpl),
            errors.refused.eq(intake.got_refused), errors.aborted.eq(intake.got_aborted),
            respond.err_due.eq(errors.due), errors.sent.eq(respond.err_sent), respond.config_read.eq(config.read),
            self.cfg_bus_number.eq(config.bus_device[5:]), self.cfg_device_number.eq(config.bus_device[:5]),
            *(getattr(self, f"cfg_{name}").eq(getattr(config, name)) for name in (
                "command", "status", "dcommand", "dstatus", "lcommand", "lstatus", "dcommand2")),
            self.cfg_pmcsr_powerstate.eq(config.power_state),
            self.cfg_interrupt_msixenable.eq(config.msix_enable), self.cfg_interrupt_msixfm.eq(config.msix_mask),
        ]
        self._management(m, config, respond)
        self._watch(m, intake, receive, transmit)

    def _management(self, m, config, respond):
        """The port of configuration space: the link's requests, and the user's when there are none."""
        asks = (self.cfg_mgmt_rd_en | self.cfg_mgmt_wr_en) & ~self.cfg_mgmt_rd_wr_done
        m.d.comb += [config.addr.eq(respond.config_addr), config.data.eq(respond.config_data), config.be.eq(respond.config_be),
                     config.write.eq(respond.config_write)]
        m.d.sync += self.cfg_mgmt_rd_wr_done.eq(0)
        with m.If(asks & ~respond.busy):
            m.d.comb += [config.addr.eq(self.cfg_mgmt_dwaddr), config.data.eq(self.cfg_mgmt_di),
                         config.be.eq(self.cfg_mgmt_byte_en), config.write.eq(self.cfg_mgmt_wr_en)]
            m.d.sync += [self.cfg_mgmt_rd_wr_done.eq(1), self.cfg_mgmt_do.eq(config.read)]

    def _watch(self, m, intake, receive, transmit):
        """What must not happen: the completion buffer runs over, the user breaks a rule."""
        headers, units = Signal(range(2 * self.cpl_headers + 256)), Signal(range(2 * self.cpl_units + 4096))
        came = receive.posted.valid & receive.posted.ready & receive.posted.p.last & intake.keep_posted & intake.note.cpl
        with m.If(came | receive.gone):
            m.d.sync += [
                headers.eq(headers + came - receive.gone),
                units.eq(units + Mux(came, intake.note.units, 0) - Mux(receive.gone, receive.units, 0)),
            ]
        with m.If((headers > self.cpl_headers) | (units > self.cpl_units)):
            m.d.sync += self.overflow.eq(1)
        asked, asserts = Signal(), Signal()
        m.d.sync += [asked.eq(self.cfg_interrupt & ~self.cfg_interrupt_rdy), asserts.eq(self.cfg_interrupt_assert)]
        withdrawn = asked & (~self.cfg_interrupt | (asserts != self.cfg_interrupt_assert))
        with m.If(transmit.misuse | withdrawn | (self.cfg_interrupt & (self.cfg_interrupt_di != 0))):
            m.d.sync += self.misuse.eq(1)
