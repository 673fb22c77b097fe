"""TLPs from the link: judged, and sent to the user, to the block itself, or nowhere.

Ref: PCI Express Base 5.0, 2.3 "Handling of Received TLPs", 2.2.2 "TLPs with Data Payloads - Rules"; PG054, "Receive
Interface", "PCI Configuration Space" (which requests come to the user). Our reading: a poisoned configuration write is refused by
the block, one into the window too, and no message comes to the user.
"""

from amaranth import *
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ...hdl.pcie.tlp_stream import tlp_beat
from ...hdl.spec.pcie import CompletionDw1, CplStatus
from ...hdl.spec.pcie_7x import WINDOW_START
from .tlp import Fields, swap

__all__ = ["OWN_REQUEST", "RX_NOTE", "Own", "Intake"]


class Own(enum.IntEnum, shape=3):
    """What the block does itself with a TLP."""
    CONFIG      = 0  # access to its configuration space
    UNSUPPORTED = 1  # nobody's request
    POISONED    = 2  # a write that must not take place
    MESSAGE     = 3
    MALFORMED   = 4


OWN_REQUEST = data.StructLayout({"dws": data.ArrayLayout(32, 4), "own": Own})

#: What goes to the user with a TLP. ``units``: of the completion buffer that it fills.
RX_NOTE = data.StructLayout({"bar_hit": 1, "poisoned": 1, "ecrc_error": 1, "cpl": 1, "units": 9})

CONFIG_DWS = 0x40           # what is beyond is extended space: the block's own again
UNIT_DWS = 4                # a unit of the completion buffer: 16 bytes


class Intake(wiring.Component):
    """Judge each TLP with its last beat. Takes a beat a cycle.

    Members
    -------
    link : In(stream(tlp_beat(width))), ecrc_error : In(1)
        Wire bytes; the flag counts with the last beat.
    alive : In(1)
        The link is up; else all is discarded, and so is the rest of a TLP that had begun.
    posted, non_posted : Out(stream(tlp_beat(width)))
        Beats as numbers, for the user; completions are with posted requests. Kept or not, by ``keep_*``.
    note : Out(RX_NOTE)
        Valid with the last beat.
    own : Out(stream(OWN_REQUEST))
        For the block. Never has to wait: nothing is taken while ``own.ready`` is low.
    bar0, bar0_enabled, max_payload : In
        As configured.
    captured : Out(13), capture : Out(1)
        Strobe: bus and device number that a configuration write was addressed to (2.2.6.2).
    got_poisoned, got_refused, got_aborted : Out(1)
        Strobes: data with an error; a completion with Unsupported Request, with Completer Abort.
    """
    def __init__(self, *, width, bar0_size):
        self.width, self.bar0_size = width, bar0_size
        super().__init__({
            "link": In(stream.Signature(tlp_beat(width))), "ecrc_error": In(1),
            "alive": In(1),
            "posted":     Out(stream.Signature(tlp_beat(width))), "keep_posted":     Out(1),
            "non_posted": Out(stream.Signature(tlp_beat(width))), "keep_non_posted": Out(1),
            "note": Out(RX_NOTE),
            "own": Out(stream.Signature(OWN_REQUEST)),
            "bar0": In(32), "bar0_enabled": In(1), "max_payload": In(3),
            "captured": Out(13), "capture": Out(1),
            "got_poisoned": Out(1), "got_refused": Out(1), "got_aborted": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        beat = Signal(tlp_beat(self.width))
        m.d.comb += [beat.eq(self.link.p), beat.data.eq(swap(self.link.p.data))]

        # The header: of earlier beats, and of this one.
        inside, spoilt = Signal(), Signal()
        at, count = Signal(range(4 // lanes + 1)), Signal(12)  # beat of the header; DWs before this beat
        held, dws = Signal(data.ArrayLayout(32, 4)), Signal(data.ArrayLayout(32, 4))
        for k in range(4):
            m.d.comb += dws[k].eq(Mux(at == k // lanes, beat.data.word_select(k % lanes, 32), held[k]))
        h = Fields(dws)
        takes, last = Signal(), Signal()
        ready = self.posted.ready & self.non_posted.ready & self.own.ready
        m.d.comb += [
            self.link.ready.eq(ready | ~self.alive),
            takes.eq(self.link.valid & self.link.ready),
            last.eq(takes & beat.last & self.alive & ~spoilt),
        ]
        with m.If(takes):
            m.d.sync += [inside.eq(~beat.last), held.eq(dws), spoilt.eq(~beat.last & (spoilt | ~self.alive))]
            m.d.sync += [at.eq(Mux(beat.last, 0, Mux(at == 4 // lanes, at, at + 1))),
                         count.eq(Mux(beat.last, 0, count + beat.dws))]
        with m.If(inside & ~self.alive):
            m.d.sync += spoilt.eq(1)

        size, whole, fits = Signal(12), Signal(12), Signal()
        known = h.is_memory | h.is_locked | h.is_atomic | h.is_io | h.is_config0 | h.is_config1 | h.is_cpl | h.is_message
        malformed, unclaimed, hit, window, for_cpl, for_p, for_np = (Signal(name=name) for name in (
            "malformed", "unclaimed", "hit", "window", "for_cpl", "for_p", "for_np"))
        register, target = h.dw2.register, Value.cast(h.dw2.completer_id)
        config = h.is_config0 & (target[:3] == 0)
        memory = h.is_memory | h.is_locked | h.is_atomic
        m.d.comb += [
            size.eq(Mux(h.has_data, h.length, 0)),
            whole.eq(size + h.long + 3 + h.dw0.td),
            fits.eq((count + beat.dws == whole) & (size <= (32 << self.max_payload))),
            malformed.eq(~fits | h.prefix | ~known),  # 2.2.10: the block does not know prefixes
            # A BAR claims what lies within it; a request does not cross a multiple of 4 KiB (2.2.7).
            hit.eq(self.bar0_enabled & (h.high == 0) & ((h.low ^ self.bar0) < self.bar0_size)),
            window.eq((register >= WINDOW_START // 4) & (register < CONFIG_DWS)),
            unclaimed.eq((memory & ~hit) | h.is_io | (h.is_config0 & ~config) | h.is_config1),
            for_cpl.eq(h.is_cpl & ~malformed),
            for_p.eq(h.is_memory & h.has_data & hit & ~malformed),
            for_np.eq(((memory & hit & ~h.is_posted) | (config & window & ~(h.dw0.ep & h.has_data))) & ~malformed),
        ]
        m.d.comb += [
            self.posted.valid.eq(self.link.valid & ready & self.alive & ~spoilt),
            self.non_posted.valid.eq(self.posted.valid),
            self.posted.p.eq(beat), self.non_posted.p.eq(beat),
            self.keep_posted.eq(for_cpl | for_p),
            self.keep_non_posted.eq(for_np),
            self.note.bar_hit.eq(memory), self.note.poisoned.eq(h.dw0.ep), self.note.ecrc_error.eq(self.ecrc_error),
            self.note.cpl.eq(h.is_cpl), self.note.units.eq((size + (UNIT_DWS - 1)) >> (UNIT_DWS.bit_length() - 1)),
            self.own.valid.eq(last & ~(for_cpl | for_p | for_np)),
            self.own.p.dws.eq(dws),
            self.own.p.own.eq(Mux(malformed, Own.MALFORMED, Mux(unclaimed, Own.UNSUPPORTED,
                              Mux(h.is_message, Own.MESSAGE, Mux(h.dw0.ep & h.has_data, Own.POISONED, Own.CONFIG))))),
            self.capture.eq(last & h.is_config0 & h.has_data & ~malformed),
            self.captured.eq(target[3:]),
            self.got_poisoned.eq(last & ~malformed & h.dw0.ep & h.has_data),
            self.got_refused.eq(last & for_cpl & (CompletionDw1(dws[1]).status == CplStatus.UR.value)),
            self.got_aborted.eq(last & for_cpl & (CompletionDw1(dws[1]).status == CplStatus.CA.value)),
        ]
        return m
