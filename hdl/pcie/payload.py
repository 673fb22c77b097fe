"""The payload of Memory Write TLPs: bytes, from where they lie in their client's beats to where they lie in the TLP.

Byte ``k`` of a TLP's payload comes from lane ``(lane + k) % size`` of a beat and goes to lane ``(begin + k) % size`` of another,
where ``size`` is the bytes of a beat, ``lane`` the lane of byte 0, and ``begin`` its place in the TLP: behind a header of 12 or
16 bytes, and from there as far as the address is from a whole DW. The difference of the two is one rotation for a whole TLP.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.dma import write_beat
from ..lib.queue import Buffer
from ..lib.slice import Skid
from .tlp_stream import tlp_beat

__all__ = ["MOST_BYTES", "header_beats", "has_early", "plan_layout", "rotate", "Source", "Merge"]

LEAST_BEFORE, MOST_BEFORE = 12, 16 + 3   # bytes of a TLP before the first of its payload that is enabled
MOST_BYTES = MOST_BEFORE + 4096


def header_beats(width):
    """Beats of ``width`` bits that a header of 16 bytes takes."""
    return max(1, 128 // width)


def plan_layout(width, clients):
    """A Memory Write TLP, and how it is made of a client's beats.

    ``raw``, ``dw4``: as of :func:`ringnic.hdl.pcie.header.mem_header`. A *step* makes a beat of the TLP, takes a beat of the
    client's, or does both. ``steps``: their number less one; ``only``: there is one. ``dws``: of the TLP's last beat, less one.
    ``turn``: bytes by which the client's beats are rotated. ``skip``: a bit, from bit 0 on, for each step before the one that
    takes the first. ``early``: the first step only takes one, for the first beat of the TLP has bytes of two. ``drain``: the
    last step takes none. ``again``: the last beat that is taken has bytes of the next TLP, too. ``closes``: the TLP is the last
    one of a request of ``client``.
    """
    size = width // 8
    return data.StructLayout({
        "raw": 128, "dw4": 1, "steps": range(MOST_BYTES // size + 2), "only": 1, "dws": range(width // 32), "turn": range(size),
        "skip": header_beats(width), "early": 1, "drain": 1, "again": 1, "closes": 1, "client": range(clients)})


def has_early(width):
    """Whether a TLP's payload may begin further down than in its client's beat."""
    return width // 8 - 1 > LEAST_BEFORE


def rotate(value, turn):
    """``value`` with its bytes rotated by ``turn`` lanes: byte 0 goes to lane ``turn``."""
    for k, bit in enumerate(turn):
        value = Mux(bit, value.rotate_left(8 << k), value)
    return value


class Source(wiring.Component):
    """The clients' beats, those of one request after the other.

    A beat a cycle, also from one request to the next if ``i`` names its client in time; through registers, so that nothing of
    what follows is in the way of a client's data or ready.

    Members
    -------
    i : In(stream(range(clients)))
        Client of the next request.
    i_data : In(stream(write_beat(width))).array(clients)
    o : Out(stream(width))
    """
    def __init__(self, *, width, clients):
        self.width = width
        self.clients = clients
        super().__init__({
            "i":      In(stream.Signature(range(clients))),
            "i_data": In(stream.Signature(write_beat(width))).array(clients),
            "o":      Out(stream.Signature(width)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.next = next_ = Skid(range(self.clients))
        m.submodules.beats = beats = Buffer(self.width, 4)
        wiring.connect(m, wiring.flipped(self.i), next_.i)
        wiring.connect(m, beats.o, wiring.flipped(self.o))
        client, reading = Signal(range(self.clients)), Signal()
        ends = Signal()
        with m.Switch(client):
            for k, port in enumerate(self.i_data):
                with m.Case(k):
                    m.d.comb += [
                        beats.i.payload.eq(port.p.data),
                        beats.i.valid.eq(port.valid & reading),
                        port.ready.eq(beats.i.ready & reading),
                        ends.eq(port.valid & port.ready & port.p.last),
                    ]
        m.d.comb += next_.o.ready.eq(~reading | ends)
        with m.If(next_.o.ready):
            m.d.sync += [client.eq(next_.o.p), reading.eq(next_.o.valid)]
        return m


class Merge(wiring.Component):
    """Make TLPs: rotate the client's beats, put each of the TLP's together of two of them, with the header in front.

    A step a cycle, TLP behind TLP, the first one a cycle after its plan was taken; a beat leaves in the cycle after its step. A
    TLP takes no more beats than it has, or one more, so with its header it is never slower than the link. Bytes that are not
    enabled are other bytes of the same beats of the client's. Nothing leads from ``tlp.ready`` to ``i.ready`` without a register.

    Members
    -------
    i_plan : In(stream(plan_layout(width, clients)))
        Taken with the last step of the one before, or when there is none. If that step takes no beat of its own, it takes the
        first one of a plan that is ``early``.
    i : In(stream(width))
        The client's beats.
    tlp : Out(stream(tlp_beat(width)))
    bus_master, stop : In(1)
        As of :class:`.dma_write.Writer`.
    done : Out(clients)
        One-cycle strobes: the last TLP of a request has left, or was discarded.
    busy : Out(1)
        There is a TLP, or some of it has not left.
    leaving : Out(1)
        A TLP has begun and has not left.
    """
    def __init__(self, *, width, clients):
        self.width = width
        self.clients = clients
        super().__init__({
            "i_plan":     In(stream.Signature(plan_layout(width, clients))),
            "i":          In(stream.Signature(width)),
            "tlp":        Out(stream.Signature(tlp_beat(width))),
            "bus_master": In(1),
            "stop":       In(1),
            "done":       Out(clients),
            "busy":       Out(1),
            "leaving":    Out(1),
        })

    def _header(self, part, dw4, raw):
        """DW by DW, whether it is of the header in the beat ``part`` of it, and what it is then."""
        lanes, found = self.width // 32, []
        for lane in range(lanes):
            dws = [(part[beat], beat * lanes + lane) for beat in range(len(part)) if beat * lanes + lane < 4]
            now, dw = C(0, 1), C(0, 32)
            for chosen, n in reversed(dws):
                now = now | (chosen & (dw4 if n == 3 else 1))
                dw = raw.word_select(n, 32) if n + lanes >= 4 else Mux(chosen, raw.word_select(n, 32), dw)
            found.append((now, dw))
        return found

    def elaborate(self, platform):
        m = Module()
        size, lanes = self.width // 8, self.width // 32
        planned = Signal()                                 # there is a TLP to make, or to go on with
        plan = Signal.like(self.i_plan.p)

        # Where the TLP is: the number of this step, from 1 on, and whether it is the last of several; which beat of the header it
        # makes, a bit for each; whether a beat of the client was taken; and whether the TLP has begun.
        at = Signal.like(plan.steps, init=1)
        ending = Signal()
        part = Signal(header_beats(self.width), init=1)
        used = Signal()
        begun = Signal()
        discarding = Signal()
        discard = Signal()
        near, end, draining, last, takes, ahead, makes, step = (Signal(name=name) for name in (
            "near", "end", "draining", "last", "takes", "ahead", "makes", "step"))
        m.submodules.out = out = Skid(data.StructLayout({
            "tlp": tlp_beat(self.width), "closes": 1, "client": range(self.clients)}))
        made = Signal()                                    # there is a beat to put together
        m.d.comb += [
            discard.eq(Mux(begun, discarding, ~self.bus_master)),
            near.eq(at == plan.steps),
            end.eq(ending | plan.only),
            draining.eq(ending & plan.drain),
            last.eq(Mux(plan.drain, near, end)),           # of the beats that are taken
            takes.eq(~(part & plan.skip).any() & ~draining),
            ahead.eq(draining & self.i_plan.valid & self.i_plan.p.early & self.i_plan.p.steps[1:].any() & self.i.valid
                     if has_early(self.width) else 0),
            makes.eq(~plan.early | used),
            # Of a TLP that is discarded the end may be told of when those before it have left.
            step.eq(planned & (begun | self.bus_master | self.stop) & (~takes | self.i.valid)
                    & (~made | out.i.ready) & ~(discard & (made | out.o.valid))),
            self.i.ready.eq(step & ((takes & ~(last & plan.again)) | ahead)),
            self.i_plan.ready.eq(~planned | (step & end)),
        ]
        with m.If(self.i_plan.ready):
            m.d.sync += [planned.eq(self.i_plan.valid), plan.eq(self.i_plan.p)]
        with m.If(step):
            m.d.sync += [
                at.eq(Mux(end, 1 + ahead, at + 1)),
                ending.eq(near & ~end),
                part.eq(Mux(end, 1, Mux(makes, part << 1, part))),
                used.eq(Mux(end, ahead, used | takes)),
                begun.eq(~end),
                discarding.eq(discard),
            ]

        # The beat of the client, rotated. Of a beat of the TLP ``new`` bytes are its own, the others are of the header and of
        # what the one before has ``left``. Each of ``upper`` and ``lower`` is 0 where the other has bytes: that is the reset
        # of their registers, which have no other, and both are put together in the LUTs of the skid behind them.
        turned = Signal(self.width)
        left = Signal(self.width, reset_less=True)
        upper = Signal(self.width, reset_less=True)
        lower = Signal(self.width, reset_less=True)
        turn = Mux(draining, self.i_plan.p.turn, plan.turn) if has_early(self.width) else plan.turn
        new = Signal(size)
        beat = Signal(data.StructLayout({"dws": range(lanes + 1), "last": 1, "closes": 1, "client": range(self.clients)}))
        with m.If(~made | out.i.ready):
            m.d.sync += made.eq(step & makes & ~discard)
        m.d.comb += turned.eq(rotate(self.i.p, turn))
        with m.If(step & (takes | ahead)):
            m.d.sync += left.eq(turned)
        with m.If(step):
            for n, (now, dw) in enumerate(self._header(part, plan.dw4, plan.raw)):
                for k in range(4 * n, 4 * n + 4):
                    m.d.comb += new[k].eq(~now & ~draining & (~used | (plan.turn <= k)))
                    m.d.sync += [
                        upper.word_select(k, 8).eq(Mux(new[k], turned.word_select(k, 8), 0)),
                        lower.word_select(k, 8).eq(Mux(new[k], 0, Mux(now, dw.word_select(k % 4, 8), left.word_select(k, 8)))),
                    ]
            m.d.sync += [
                beat.dws.eq(Mux(end, plan.dws + 1, lanes)),
                beat.last.eq(end),
                beat.closes.eq(end & plan.closes),
                beat.client.eq(plan.client),
            ]
        m.d.comb += [
            out.i.valid.eq(made),
            out.i.p.tlp.data.eq(upper | lower),
            out.i.p.tlp.dws.eq(beat.dws),
            out.i.p.tlp.last.eq(beat.last),
            out.i.p.closes.eq(beat.closes),
            out.i.p.client.eq(beat.client),
            self.tlp.valid.eq(out.o.valid),
            self.tlp.p.eq(out.o.p.tlp),
            out.o.ready.eq(self.tlp.ready),
        ]

        gone = self.tlp.valid & self.tlp.ready & self.tlp.p.last & out.o.p.closes
        lost = step & end & plan.closes & discard
        for k in range(self.clients):
            m.d.sync += self.done[k].eq((gone & (out.o.p.client == k)) | (lost & (plan.client == k)))
        m.d.comb += [
            self.leaving.eq((begun & ~discarding) | made | self.tlp.valid),
            self.busy.eq(self.i_plan.valid | planned | made | self.tlp.valid),
        ]
        return m
