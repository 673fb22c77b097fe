"""Used ring elements and used descriptors, as the beats of a write.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.8.13 "The Virtqueue Descriptor Table" (packed), 2.8.5 "Write Flag".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.dma import write_beat
from ..spec.virtio import VirtqDescF, VirtqPackedDesc, VirtqUsedElem
from .heads import NO_ADDRESS

__all__ = ["UsedEntry", "UsedElements"]


class UsedEntry(data.Struct):
    """``flip``: complement of the wrap counter, of a packed ring. ``index``: this is used.idx, in ``id``. ``last`` ends the
    write."""
    id:    unsigned(16)
    len:   unsigned(32)
    flip:  unsigned(1)
    index: unsigned(1)
    last:  unsigned(1)


class UsedElements(wiring.Component):
    """Lay entries out, one a cycle, or a beat of it if that is less.

    Members
    -------
    packed : In(1)
        16 bytes an entry, else 8. An index is in the first 2 bytes of a beat of its own, with ``last``.
    i : In(stream(UsedEntry)), o : Out(stream(write_beat(width)))
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "packed": In(1),
            "i":      In(stream.Signature(UsedEntry)),
            "o":      Out(stream.Signature(write_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        split, packed = Signal(VirtqUsedElem), Signal(VirtqPackedDesc)
        used = self.i.p.flip ^ 1
        m.d.comb += [
            split.id.eq(self.i.p.id),
            split.len.eq(self.i.p.len),
            packed.addr.eq(NO_ADDRESS),
            packed.id.eq(self.i.p.id),
            packed.len.eq(self.i.p.len),
            # 2.8.1: used is what has both flags at the wrap counter. 2.8.5: WRITE, if something was written.
            packed.flags.eq(Mux(used, (VirtqDescF.AVAIL | VirtqDescF.USED).value, 0)
                            | Mux(self.i.p.len != 0, VirtqDescF.WRITE.value, 0)),
        ]

        # An entry is laid out piece by piece, a beat each, or as a whole into one or two of the 8-byte slots of a wide beat.
        piece_bits, slots = min(self.width, 128), max(1, self.width // 64)
        at, part = Signal(range(max(2, 128 // piece_bits))), Signal(range(max(2, slots)))
        beat, whole = Signal(self.width), Signal(self.width)
        ends, full = Signal(), Signal()            # of the entry; of the beat
        taken = Mux(self.packed, min(2, slots), 1)
        entry = Mux(self.packed, Value.cast(packed), Value.cast(split))
        piece = entry.word_select(at, piece_bits)
        m.d.comb += [
            ends.eq((at == Mux(self.packed, 128 // piece_bits, max(1, 64 // piece_bits)) - 1) | self.i.p.index),
            full.eq((part + taken == slots) | (ends & self.i.p.last)),
            whole.eq(beat),
            self.o.valid.eq(self.i.valid & full),
            self.o.p.data.eq(whole),
            self.o.p.last.eq(ends & self.i.p.last),
            self.i.ready.eq(ends & (self.o.ready | ~full)),
        ]
        for k in range(slots):
            with m.If(part == k):
                m.d.comb += whole[64 * k:64 * k + piece_bits].eq(piece)
        with m.If(self.i.valid & (self.o.ready | ~full)):
            m.d.sync += [
                at.eq(Mux(ends, 0, at + 1)),
                part.eq(Mux(full, 0, part + taken)),
                beat.eq(Mux(full, 0, whole)),
            ]
        return m
