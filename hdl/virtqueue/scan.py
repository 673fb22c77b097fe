"""Packed virtqueue: judge descriptors that were read from the ring.

Ref: VIRTIO 1.4, 2.8.1 "Driver and Device Ring Wrap Counters", 2.8.6 "Next Flag: Descriptor Chaining", 2.8.15 "Device
Requirements: The Virtqueue Descriptor Table".

A read of host memory is not one look: PCIe promises no order of the bytes within it, and here every 8 bytes may be of
another moment. Flags and id are in the upper half of a descriptor, the address is in the lower one. So the address of
an available descriptor may be older than its flags, and is believed in two cases only:

- the flags were available in an *earlier* read, or the driver has said so in a notification (``sure``);
- the older content is known, and this is another: used descriptors are written with :data:`.heads.NO_ADDRESS`, a
  field that is unused then (2.8.6), and its slot was one of those before the read (``marked``, see :class:`Marks`).

Otherwise the descriptor is read once more. The descriptors of a chain are complete once its head is available, so a
chain is judged here by its flags only, and its addresses are read by the walk afterwards.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VirtqDescF, VirtqPackedDesc
from .heads import HeadPort

__all__ = ["ring_read", "scanned", "Scan"]


def ring_read(num_queues, max_batch):
    """A read of descriptors from ``slot`` on, none beyond the end of the ring. ``flip``: complement of the wrap counter. ``pace``
    passes through."""
    counts = range(max_batch + 1)
    return data.StructLayout({
        "queue":   range(max(2, num_queues)),
        "size":    16,
        "slot":    16,
        "flip":    1,
        "start":   16,      # of the chain that goes on here
        "chain":   16,      # its descriptors so far, 0: none
        "sure":    counts,  # so many of them were available before this read
        "granted": counts,  # places in the store, at least one for each descriptor
        "pace":    counts,
        "marked":  1,
    })


def scanned(max_batch):
    """What became of a :func:`ring_read`: where the ring goes on, and ``sure`` for the next read from there."""
    counts = range(max_batch + 1)
    return data.StructLayout({
        "queue":   16,
        "slot":    16,
        "flip":    1,
        "start":   16,
        "chain":   16,
        "sure":    counts,
        "granted": counts,  # less one for each chain
        "pace":    counts,
        "taken":   1,       # some descriptor was
        "whole":   1,       # all were
        "full":    1,       # all were available, if not to be trusted
        "failed":  1,
    })


class Scan(wiring.Component):
    """Turn descriptors into chain heads, one a cycle, up to the first that is not available or not to be trusted.

    A chain of several descriptors is handed on as NEXT, its first slot and their number. A read begins in a cycle of its own,
    before its first descriptor is judged.

    Parameters
    ----------
    num_queues, max_batch : int
    depth : int
        Of the store.

    Members
    -------
    i : In(stream(ring_read(num_queues, max_batch)))
        A read, taken with its last descriptor.
    heads : Out(HeadPort(depth))
        Its descriptors, and what becomes of them.
    o_result : Out(stream(scanned(max_batch)))
        ``failed``: a read failed, a chain is longer than the ring, or behind an available head a descriptor is not. A register:
        there in the cycle after the last descriptor was judged.
    busy : Out(1)
        A read has not been judged, or its result was not taken.
    """
    def __init__(self, *, num_queues, max_batch, depth):
        self.max_batch = max_batch
        self.depth = depth
        super().__init__({
            "i":        In(stream.Signature(ring_read(num_queues, max_batch))),
            "heads":    Out(HeadPort(depth)),
            "o_result": Out(stream.Signature(scanned(max_batch))),
            "busy":     Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        fetch, judged, head = self.i.p, self.heads.desc.p, self.heads.head
        desc = data.View(VirtqPackedDesc, Value.cast(judged.desc))
        begun, step = Signal(), Signal()
        now, new = self.o_result.p, Signal(scanned(self.max_batch))   # as before this descriptor, and after it
        at, stopped, looking = Signal(range(self.max_batch + 1)), Signal(), Signal()
        chain_sure = Signal()
        available, follows, trusted, advance, push = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            available.eq(((desc.flags & VirtqDescF.AVAIL) != 0) & ((desc.flags & VirtqDescF.USED) == 0)),
            follows.eq((desc.flags & VirtqDescF.NEXT) != 0),
            trusted.eq((at < fetch.sure) | (fetch.marked & ~judged.marked)),
            new.eq(now),
        ]
        with m.If(fetch.flip):
            m.d.comb += available.eq(((desc.flags & VirtqDescF.AVAIL) == 0) & ((desc.flags & VirtqDescF.USED) != 0))

        with m.If(~available):
            m.d.comb += new.full.eq(0)
        with m.If(judged.error):
            m.d.comb += new.failed.eq(1)
        with m.Elif(stopped):
            # Not to be taken in this read; but it is worth knowing how far the next one may trust.
            with m.If(looking & available):
                m.d.comb += new.sure.eq(now.sure + 1)
        with m.Elif(~available):
            m.d.comb += new.whole.eq(0)
            with m.If(now.chain != 0):
                with m.If(chain_sure):
                    m.d.comb += new.failed.eq(1)  # 2.8.6: the head is made available last
                with m.Else():
                    m.d.comb += [new.slot.eq(now.start), new.chain.eq(0), new.sure.eq(now.chain)]
        with m.Elif(follows):
            m.d.comb += [
                advance.eq(1),
                new.chain.eq(now.chain + 1),
                new.failed.eq(now.chain + 1 == fetch.size),
            ]
            with m.If(now.chain == 0):
                m.d.comb += new.start.eq(now.slot)
        with m.Elif((now.chain != 0) | trusted):
            m.d.comb += [
                advance.eq(1),
                push.eq(1),
                new.chain.eq(0),
                new.granted.eq(now.granted - 1),
            ]
        with m.Else():
            m.d.comb += [new.whole.eq(0), new.sure.eq(1)]
        with m.If(advance):
            m.d.comb += [new.taken.eq(1), new.slot.eq(now.slot + 1)]
            with m.If(now.slot + 1 == fetch.size):
                m.d.comb += [new.slot.eq(0), new.flip.eq(~now.flip)]

        m.d.comb += [
            self.heads.desc.ready.eq(begun),
            step.eq(self.heads.desc.valid & self.heads.desc.ready),
            self.heads.count.eq(step & push),
            self.heads.queue.eq(fetch.queue),
            *[head[name].eq(desc[name]) for name in ("id", "addr", "len", "flags")],
            head.next.eq(now.start),
            self.i.ready.eq(step & judged.last),
            self.busy.eq(self.i.valid | self.o_result.valid),
        ]
        with m.If(now.chain != 0):
            m.d.comb += [head.flags.eq(VirtqDescF.NEXT), head.len.eq(now.chain + 1)]
        with m.If(self.o_result.ready):
            m.d.sync += self.o_result.valid.eq(0)
        with m.If(~begun & self.i.valid & (self.o_result.ready | ~self.o_result.valid)):
            m.d.sync += [
                begun.eq(1),
                *[now[name].eq(fetch[name]) for name in ("queue", "slot", "flip", "start", "chain", "granted", "pace")],
                *[now[name].eq(0) for name in ("sure", "taken", "failed")],
                *[now[name].eq(1) for name in ("whole", "full")],
                chain_sure.eq(1),                             # a chain that goes on here began in an earlier read
                *[part.eq(0) for part in (at, stopped, looking)],
            ]
        with m.If(step):
            m.d.sync += [now.eq(new), at.eq(at + 1), begun.eq(~judged.last), self.o_result.valid.eq(judged.last)]
            with m.If(~stopped & (~advance | new.failed)):
                m.d.sync += [stopped.eq(1), looking.eq(available & ~new.failed)]
            with m.If(~available):
                m.d.sync += looking.eq(0)
            with m.If(follows & (now.chain == 0)):
                m.d.sync += chain_sure.eq(at < fetch.sure)
        return m
