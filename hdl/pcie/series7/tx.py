"""From TLPs to the transmit stream of the block, and to the ports by which it answers itself.

Ref: PG054, "Transmitting Outbound Packets", "Flow Control Credit Information", "Error Reporting".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ...spec.pcie import CplStatus, TlpType
from ...spec.pcie_7x import FcSel
from ..header import Header
from ..tlp_stream import TLP_CLASSES, tlp_beat
from .ports import TX, ports
from .rx import swap_dws

__all__ = ["REFUSAL", "Refusals", "Tx"]

#: A completion that refuses a request: what the block takes on ``cfg_err_tlp_cpl_header``, from its highest bit: lower address
#: (7 bits), byte count (12), traffic class (3), attributes (2), requester ID (16), tag (8); and whether the request was a locked
#: read.
REFUSAL = data.StructLayout({"header": 48, "locked": 1})

SETTLE_CYCLES = 7        # more than the function needs to obey a change of the block's registers
GRANT_CYCLES = 255       # longest wait of the block's own TLP: 4 us at 62.5 MHz
UNIT = 16                # bytes of a data credit (2.6.1)
CPL_UNITS = 128 // UNIT  # of the largest completion that the card sends


class Refusals(wiring.Component):
    """Take the completions that say Unsupported Request out of a stream: the block sends those, and notes the error.

    A TLP that passes gains no cycle.

    Parameters
    ----------
    width : int
        Bits per beat.

    Members
    -------
    i, o
        TLP streams.
    refusals : Out(stream.Signature(REFUSAL))
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i": In(stream.Signature(tlp_beat(width))),
            "o": Out(stream.Signature(tlp_beat(width))),
            "refusals": Out(stream.Signature(REFUSAL)),
        })

    def elaborate(self, platform):
        m = Module()
        inside, taking, held = Signal(), Signal(), Signal(self.width)
        raw = Signal(128)
        first, now = Header(Cat(self.i.p.data, C(0, 128))[:128]), Header(raw)
        take = Mux(inside, taking, first.is_cpl & ~first.has_data & (first.status != CplStatus.SC.value))
        m.d.comb += [
            raw.eq(self.i.p.data if self.width >= 128 else Cat(held, self.i.p.data)),
            self.o.p.eq(self.i.p),
            self.o.valid.eq(self.i.valid & ~take),
            self.refusals.p.header.eq(Cat(now.tag, now.requester_id, now.attr[:2], now.tc, now.byte_count, now.lower_address)),
            self.refusals.p.locked.eq(now.type == TlpType.CPL_LK.value),
            self.refusals.valid.eq(self.i.valid & take & self.i.p.last),
            self.i.ready.eq(Mux(take, self.refusals.ready | ~self.i.p.last, self.o.ready)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [inside.eq(~self.i.p.last), taking.eq(take), held.eq(self.i.p.data)]
        return m


class Tx(wiring.Component):
    """Send TLPs through the block, and tell which classes it has credits for.

    Adds no cycle to a TLP. While the link is down what comes is dropped. Credits are three cycles old.

    7.5.1.1.3: no memory request follows the completion of the write that cleared Bus Master Enable. The block sends that
    completion, as all TLPs of its own, when it is granted (``tx_cfg_gnt``), which may be any time after it has asked (PG054,
    "Transmit Interface"). So a grant comes :data:`SETTLE_CYCLES` after ``tx_cfg_req``, and not while requests that began before
    are ``leaving``; but after :data:`GRANT_CYCLES` in any case, since a block without credits takes no request, and the host may
    give none before its configuration access ends. Our reading: when ``tx_cfg_req`` rises for a completion, or a few cycles
    later, ``cfg_command`` shows what the request has written.

    Parameters
    ----------
    width : int
        Bits per beat.

    Members
    -------
    block : Out(ports(TX))
    i : In(stream.Signature(tlp_beat(width)))
    mps : In(3)
        Max_Payload_Size, coded.
    leaving : In(1)
        As of :func:`..function_config.FunctionConfig`.
    credits : Out(TLP_CLASSES)
        Classes of which a TLP of the largest size can be sent now.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "block":   Out(ports(TX, width=width)),
            "i":       In(stream.Signature(tlp_beat(width))),
            "mps":     In(3),
            "leaving": In(1),
            "credits": Out(TLP_CLASSES),
        })

    def elaborate(self, platform):
        m = Module()
        block, beat = self.block, self.i.p
        inside, dropping, drop = Signal(), Signal(), Signal()
        m.d.comb += [
            drop.eq(Mux(inside, dropping, ~block.user_lnk_up)),
            block.s_axis_tx_tdata.eq(swap_dws(beat.data)),
            block.s_axis_tx_tkeep.eq(Cat((beat.dws > dw).replicate(4) for dw in range(self.width // 32))),
            block.s_axis_tx_tlast.eq(beat.last),
            block.s_axis_tx_tvalid.eq(self.i.valid & ~drop),
            block.s_axis_tx_tuser.eq(0),  # without "streaming" a TLP may pause
            self.i.ready.eq(block.s_axis_tx_tready | drop),
            block.fc_sel.eq(FcSel.TRANSMIT_AVAILABLE),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [inside.eq(~beat.last), dropping.eq(drop)]

        waited = Signal(range(GRANT_CYCLES + 1))
        with m.If(~block.tx_cfg_req):
            m.d.sync += [waited.eq(0), block.tx_cfg_gnt.eq(0)]
        with m.Else():
            with m.If(waited != GRANT_CYCLES):
                m.d.sync += waited.eq(waited + 1)
            with m.If((waited == GRANT_CYCLES) | ((waited >= SETTLE_CYCLES) & ~self.leaving)):
                m.d.sync += block.tx_cfg_gnt.eq(1)

        # 2.6.1: a pool of which nothing was advertised is infinite. PG054 shows such a pool as one with the highest bit set; our
        # reading is that it may show 0 as well, so a pool counts as finite once it has shown another value.
        link_up = Signal()
        m.d.sync += link_up.eq(block.user_lnk_up)

        def pool(port, least):
            value, finite = Signal.like(port, name=f"{port.name}_now"), Signal(name=f"{port.name}_finite")
            m.d.sync += [value.eq(port), finite.eq(link_up & (finite | (value != 0)))]
            enough = Signal(name=f"{port.name}_enough")
            m.d.sync += enough.eq(~finite | (value >= least))
            return enough

        payload = Signal(range((4096 // UNIT) + 1))
        m.d.sync += payload.eq((128 // UNIT) << self.mps)
        posted, non_posted, completion = (
            pool(block.fc_ph, 1) & pool(block.fc_pd, payload),
            pool(block.fc_nph, 1),
            pool(block.fc_cplh, 1) & pool(block.fc_cpld, CPL_UNITS))
        m.d.sync += [
            self.credits.posted.eq(posted),
            # Our reading: with one buffer left the block takes no more non-posted requests, and holds up what comes behind.
            self.credits.non_posted.eq(non_posted & (block.tx_buf_av > 1)),
            self.credits.completion.eq(completion),
        ]
        return m
