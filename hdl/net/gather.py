"""virtio-net receive: the segments of a frame, put in their places until there are enough.

Ref: VIRTIO 1.4, 2.7.4 "Message Framing", 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, Signature

from ..lib.buffers import Segment
from ..spec.virtio import MAX_QUEUE_SIZE

__all__ = ["stored_segment", "StorePort", "Gather"]

MOST_BYTES = (1 << 14) - 1   # of a buffer that count: more than any frame has


def stored_segment(most_entries):
    """A buffer for a frame: ``len`` bytes that the device may write; ``last`` ends the chain. ``id``, ``count`` and ``writable``
    are valid with ``last``: as of its :class:`.lib.buffers.ChainId`, but a chain takes no more than ``most_entries``."""
    return data.StructLayout({"id": 16, "count": range(most_entries + 1), "writable": 1, "addr": 64,
                              "len": range(MOST_BYTES + 1), "last": 1})


def StorePort(places, most_entries):
    """Put a segment in its place, seen from who puts it. Frames have their segments one behind the other, in a circle."""
    return Signature({
        "en":      Out(1),
        "place":   Out(range(places)),
        "segment": Out(stored_segment(most_entries)),
    })


class Gather(wiring.Component):
    """Put the segments of a frame's chains in their places until there are enough. One segment a cycle.

    A frame has up to ``max_segments``: those that hold something of it, and the last of each chain. A chain may have more.

    Parameters
    ----------
    max_segments, slots : int
        Places are ``slots`` times as many, both powers of two.
    most_entries : int
        See :func:`stored_segment`.

    Members
    -------
    i : In(stream(Segment))
    open : In(1)
        Segments are taken.
    need : In(17)
        Bytes.
    own : In(1)
        The chain is one of this frame, and not on its way back to the queue of another.
    clear : In(1), keep : In(1)
        Strobes: a frame begins, where the one before began, which is forgotten; or behind it. Never beside a segment.
    store : Out(StorePort(slots * max_segments, most_entries))
    ended : Out(1)
        Strobe: the last segment of a chain is taken. What follows is valid from the next cycle on:
    enough : Out(1)
        The segments so far hold the frame.
    full : Out(1), spilt : Out(1)
        There is no place for another segment; a chain ended for which there was none.
    failed : Out(1)
        A chain of this frame had an error.
    """
    def __init__(self, *, max_segments, slots, most_entries=MAX_QUEUE_SIZE):
        self.max_segments = max_segments
        self.places = slots * max_segments
        super().__init__({
            "i":      In(stream.Signature(Segment)),
            "open":   In(1),
            "need":   In(17),
            "own":    In(1, init=1),
            "clear":  In(1),
            "keep":   In(1),
            "store":  Out(StorePort(self.places, most_entries)),
            "ended":  Out(1),
            "enough": Out(1),
            "full":   Out(1),
            "spilt":  Out(1),
            "failed": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        segment, stored = self.i, self.store.segment
        first, tail = Signal(range(self.places)), Signal(range(self.places))
        count = Signal(range(self.max_segments + 1))
        length, capacity = Signal(33), Signal(17)
        m.d.comb += [
            self.full.eq(count == self.max_segments),
            length.eq(Mux(segment.p.write, segment.p.len, 0)),
            self.store.place.eq(tail),
            *[stored[name].eq(segment.p.chain[name]) for name in ("id", "count", "writable")],
            stored.addr.eq(segment.p.addr),
            stored.len.eq(Mux(length > MOST_BYTES, MOST_BYTES, length)),
            stored.last.eq(segment.p.last),
            segment.ready.eq(self.open),
            self.ended.eq(segment.valid & self.open & segment.p.last),
        ]
        with m.If(segment.valid & self.open):
            # A buffer that holds nothing of the frame is kept only as the end of its chain.
            with m.If((((length != 0) & ~self.enough) | segment.p.last) & ~self.full):
                m.d.comb += self.store.en.eq(1)
                m.d.sync += [tail.eq(tail + 1), count.eq(count + 1)]
                with m.If(~self.enough):
                    m.d.sync += [capacity.eq(capacity + length), self.enough.eq(capacity + length >= self.need)]
            with m.If(segment.p.last):
                m.d.sync += [self.spilt.eq(self.full), self.failed.eq(self.failed | (segment.p.error & self.own))]
        with m.If(self.clear | self.keep):
            m.d.sync += [count.eq(0), capacity.eq(0), self.enough.eq(0), self.spilt.eq(0), self.failed.eq(0)]
        with m.If(self.keep):
            m.d.sync += first.eq(tail)
        with m.Elif(self.clear):
            m.d.sync += tail.eq(first)
        return m
