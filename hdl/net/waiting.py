"""virtio-net receive: the frames that wait for buffers, which come next, and how long they may wait.

Ref: VIRTIO 1.4, 5.1.4.1 "Device Requirements: Device configuration layout", 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, Signature

from ..spec.ethernet import MAX_VLAN_TAGS, VLAN_TAG_BYTES
from ..spec.net import VIRTIO_NET_HDR_SIZE

__all__ = ["note_layout", "WindowPort", "Window", "Patience"]


def note_layout(pairs):
    """What is known of a frame besides its length: the number of its VLAN tags, and the queue pair that it belongs to."""
    return data.StructLayout({"tags": range(MAX_VLAN_TAGS + 1), "pair": range(pairs)})


def WindowPort(pairs, ahead):
    """The oldest frames that wait, seen from who keeps them.

    ``valid``: there is one. ``need``: bytes of the oldest one with its header. ``too_long``: it is to be dropped. ``pair``: as
    noted. ``next``: the oldest one is done with. ``behind``: pair of the frame behind it, ``joined`` if there is one of the same
    pair and neither is too long. ``there``: there is a frame at place ``at``, 0 for the oldest, and neither it nor one before it
    is too long; ``at_pair``: its pair.
    """
    return Signature({
        "valid":    Out(1),
        "need":     Out(17),
        "pair":     Out(range(pairs)),
        "too_long": Out(1),
        "next":     In(1),
        "behind":   Out(range(pairs)),
        "joined":   Out(1),
        "at":       In(range(ahead + 1)),
        "there":    Out(1),
        "at_pair":  Out(range(pairs)),
    })


class Window(wiring.Component):
    """Show the lengths and pairs of up to ``ahead`` frames that wait, in order. One frame a cycle, in and out.

    Parameters
    ----------
    pairs, ahead : int
    max_frame : int
        Longest frame without a VLAN tag, in bytes; each tag adds its own length, for it belongs to the link's header (5.1.4.1).

    Members
    -------
    i : In(stream(16)), i_note : In(note_layout(pairs))
        Bytes of the frame; the note is valid with it.
    o : Out(WindowPort(pairs, ahead))
    """
    def __init__(self, *, pairs, ahead, max_frame):
        self.pairs = pairs
        self.ahead = ahead
        self.max_frame = max_frame
        super().__init__({
            "i":      In(stream.Signature(16)),
            "i_note": In(note_layout(pairs)),
            "o":      Out(WindowPort(pairs, ahead)),
        })

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"need": 17, "pair": range(self.pairs), "too_long": 1})
        entries = [Signal(layout, name=f"entry{k}") for k in range(self.ahead)]
        new = Signal(layout)
        level, after, comes = Signal(range(self.ahead + 1)), Signal(range(self.ahead + 1)), Signal()
        m.d.comb += [
            new.need.eq(self.i.p + VIRTIO_NET_HDR_SIZE),
            new.pair.eq(self.i_note.pair),
            self.i.ready.eq(level != self.ahead),
            comes.eq(self.i.valid & self.i.ready),
            after.eq(level - self.o.next),
        ]
        with m.Switch(self.i_note.tags):
            for tags in range(MAX_VLAN_TAGS + 1):
                with m.Case(tags):
                    m.d.comb += new.too_long.eq(self.i.p > self.max_frame + tags * VLAN_TAG_BYTES)
        m.d.sync += level.eq(after + comes)
        with m.If(self.o.next):
            m.d.sync += [entry.eq(behind) for entry, behind in zip(entries, entries[1:])]
        with m.If(comes):
            with m.Switch(after):
                for k, entry in enumerate(entries):
                    with m.Case(k):
                        m.d.sync += entry.eq(new)
        m.d.comb += [
            self.o.valid.eq(level != 0),
            self.o.need.eq(entries[0].need),
            self.o.pair.eq(entries[0].pair),
            self.o.too_long.eq(entries[0].too_long),
            self.o.behind.eq(entries[1].pair),
            self.o.joined.eq((level > 1) & (entries[1].pair == entries[0].pair) & ~entries[0].too_long & ~entries[1].too_long),
        ]
        there = 1
        with m.Switch(self.o.at):
            for k, entry in enumerate(entries):
                there = there & (level > k) & ~entry.too_long
                with m.Case(k):
                    m.d.comb += [self.o.there.eq(there), self.o.at_pair.eq(entry.pair)]
        return m


class Patience(wiring.Component):
    """Say how long the oldest frame that waits may still wait: for ever, if there is room and no other pair's frames wait.

    Parameters
    ----------
    pairs, cycles : int
    most : int
        Frames that can wait.

    Members
    -------
    kept : In(1), pair : In(range(pairs))
        Strobe: a frame of this pair has come.
    left : In(1)
        Strobe: the oldest one waits no more.
    restart : In(1)
        The oldest one begins to wait.
    late : In(1)
        There is no room to wait in any more.
    over : Out(1)
        It has waited for ``cycles`` while others waited, or there is no room.
    endless : Out(1)
        It may wait as long as nothing else happens.
    """
    def __init__(self, *, pairs, cycles, most):
        self.pairs = pairs
        self.cycles = cycles
        self.most = most
        super().__init__({
            "kept":    In(1),
            "pair":    In(range(pairs)),
            "left":    In(1),
            "restart": In(1),
            "late":    In(1),
            "over":    Out(1),
            "endless": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        waited = Signal(range(self.cycles + 1))
        m.d.comb += [
            self.over.eq(self.late | (waited == self.cycles)),
            self.endless.eq(~self.late & (waited == 0)),
        ]
        if self.pairs == 1:
            return m
        inside = Signal(range(self.most + 1))
        newest = Signal(range(self.pairs))
        run = Signal(range(self.most + 1))                 # the newest frames that are of one pair
        m.d.sync += inside.eq(inside + self.kept - self.left)
        with m.If(self.kept):
            m.d.sync += newest.eq(self.pair)
            with m.If(self.pair != newest):
                m.d.sync += run.eq(1)
            with m.Elif(run != self.most):
                m.d.sync += run.eq(run + 1)
        # Not all are of the same pair.
        others = Signal()
        m.d.sync += others.eq(run < inside)
        with m.If(self.restart | self.left | ~others):
            m.d.sync += waited.eq(0)
        with m.Elif(waited != self.cycles):
            m.d.sync += waited.eq(waited + 1)
        return m
