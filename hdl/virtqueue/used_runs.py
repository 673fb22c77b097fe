"""Say where in the ring the chains of a batch go, in which order they are written, and which of them share a write.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.7.9 and 2.8.8 "In-order use of descriptors", 2.8.9 "Multi-buffer
requests".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from .suppress import Published
from .used_chains import UsedChains
from .used_collect import StagingPort, used_batch
from .used_elements import UsedEntry
from .used_place import UsedRing

__all__ = ["used_run", "UsedRuns"]


def used_run(batch):
    """One write: of ``count`` neighbours in the ring, 1 to ``batch``, from entry ``place`` on; or, with ``index``, of used.idx,
    ``place`` being 0. ``ends``: it makes the batch visible, and ``published`` says what the driver sees then."""
    return data.StructLayout({
        "place": 16, "count": range(batch + 1), "index": 1, "ends": 1, "published": Published})


class UsedRuns(wiring.Component):
    """Turn each batch into runs of neighbours, in the order in which the driver may see them; the last makes them visible.

    Split: entries, then the index. Packed: descriptors; of a batch in which a packet has several chains the first descriptor is
    written last, and hides those behind it. With IN_ORDER a batch of chains with nothing to report is one entry. What neighbours
    share ends at the end of the ring, and behind a chain that takes several entries of it.

    The first entry of a batch is given 3 cycles after the batch was offered, 5 if one hides it; then one entry a cycle. A run is
    offered in the cycle after its last entry was accepted, and the next one begins in the cycle after it was accepted. With
    IN_ORDER chains are looked at before, one a cycle, up to the first that has something to report; if that is not the first of
    all, it takes 2 cycles to begin anew.

    Parameters
    ----------
    num_queues, batch : int
        As of :class:`.used_collect.UsedCollect`.

    Members
    -------
    setup_valid, setup : see :class:`QueueTable`
    packed, in_order : In(1)
        Negotiated features.
    i : In(stream(used_batch(...))), staging : Out(StagingPort(...))
    o : Out(stream(UsedEntry))
        The entries, or the index, of each run.
    run : Out(stream(used_run(batch)))
        Offered when its entries were accepted. ``place`` and ``index`` are valid from the cycle before on, and
        ``published.queue`` is from the one before that.
    """
    def __init__(self, *, num_queues, batch):
        self.num_queues = num_queues
        self.batch = batch
        sizes = dict(num_queues=num_queues, batch=batch)
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "packed":      In(1),
            "in_order":    In(1),
            "i":           In(stream.Signature(used_batch(**sizes))),
            "staging":     Out(StagingPort(**sizes)),
            "o":           Out(stream.Signature(UsedEntry)),
            "run":         Out(stream.Signature(used_run(batch))),
        })

    def elaborate(self, platform):
        m = Module()
        batch = self.i.p
        m.submodules.chains = chains = UsedChains(num_queues=self.num_queues, batch=self.batch)
        m.submodules.ring = ring = UsedRing(num_queues=self.num_queues)
        connect(m, chains.staging, flipped(self.staging))
        chain, left, moves, passes = chains.chain, chains.left, chains.moves, chains.passes
        slot, flip, last = ring.slot, ring.flip, ring.last
        m.d.comb += [
            chains.i.eq(batch),
            ring.setup_valid.eq(self.setup_valid),
            ring.setup.eq(self.setup),
            ring.packed.eq(self.packed),
            ring.queue.eq(batch.queue),
            ring.held.eq(self.i.valid),
            ring.count.eq(chain.chain.count),
            ring.passes.eq(passes),
        ]

        # ``single``: one entry stands for all. ``hides``: the first is written last. ``heads``: so it is now, or that entry is.
        single, hides, heads, is_index = Signal(), Signal(), Signal(), Signal()
        place, count = Signal(16), Signal.like(batch.count)               # of the run
        run, ends = self.run.p, Signal()

        def begin_run(slot):
            m.d.sync += [place.eq(Mux(self.packed, slot, slot & last)), count.eq(0)]

        m.d.comb += [
            ends.eq(heads | is_index | ring.many | (left == 1) | ((~slot & last) == 0)),
            self.o.p.id.eq(Mux(is_index, slot, chain.chain.id)),
            self.o.p.len.eq(chain.len),
            self.o.p.flip.eq(Mux(heads, ring.first_flip, flip)),
            self.o.p.index.eq(is_index),
            self.o.p.last.eq(ends),
            run.place.eq(place),
            run.count.eq(count),
            run.index.eq(is_index),
            run.ends.eq(is_index | (self.packed & (heads | ((left == 0) & ~hides)))),
            run.published.queue.eq(batch.queue),
            # Where it began; below 0 if that was before the end of the ring.
            run.published.old.eq(slot - ring.passed),
            run.published.new.eq(slot),
            run.published.wrap.eq(~flip),
            run.published.apart.eq(ring.apart | single),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += chains.restart.eq(1)
                m.d.sync += [
                    single.eq(self.in_order),
                    # 2.8.9: the first descriptor of a packet is marked used last. It may as well hide the packets behind it.
                    hides.eq(self.packed & batch.parts & (batch.count != 1)),
                ]
                with m.If(self.i.valid):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [moves.eq(1), ring.begin.eq(1)]
                m.d.sync += [heads.eq(0), is_index.eq(0)]
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += moves.eq(1)
                begin_run(slot)
                m.next = "LAY OUT"
                with m.If(single):
                    m.next = "SUM UP"
                with m.Elif(hides):
                    m.next = "PASS FIRST"
            with m.State("SUM UP"):
                with m.If(chain.chain.writable | (chain.len != 0) | (ring.total > ring.size)):
                    # It has something to report. Or there are more than fit into the ring: only a driver that makes chains
                    # available in slots that are not its own has so many.
                    m.d.sync += single.eq(0)
                    with m.If(left != batch.count):
                        m.d.comb += chains.restart.eq(1)
                        m.next = "READ"
                    with m.Elif(hides):
                        m.next = "PASS FIRST"
                    with m.Else():
                        m.next = "LAY OUT"
                with m.Else():
                    m.d.comb += passes.eq(1)
                    with m.If(left == 1):
                        # 2.7.9, 2.8.8: the id of the last, where the first would be.
                        m.d.sync += heads.eq(1)
                        m.next = "LAY OUT"
                    with m.Else():
                        m.d.comb += moves.eq(1)
            with m.State("PASS FIRST"):
                m.d.comb += [moves.eq(1), passes.eq(1)]
                m.next = "BEGIN RUN"
            with m.State("BEGIN RUN"):
                begin_run(slot)
                m.next = "LAY OUT"
            with m.State("LAY OUT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.comb += [moves.eq(~heads & ~is_index), passes.eq(moves)]
                    m.d.sync += count.eq(count + 1)
                    with m.If(ends):
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.run.valid.eq(1)
                with m.If(self.run.ready):
                    begin_run(slot)
                    m.next = "LAY OUT"
                    with m.If(run.ends):
                        m.next = "DONE"
                    with m.Elif(heads | ((left == 0) & ~hides)):
                        # 2.7.8.2: the elements before the index; both go through one ordered port.
                        m.d.sync += [is_index.eq(1), place.eq(0)]
                    with m.Elif(left == 0):
                        begin_run(ring.first_slot)
                        m.d.sync += heads.eq(1)
            with m.State("DONE"):
                m.d.comb += [self.i.ready.eq(1), ring.keeps.eq(1)]
                m.next = "IDLE"
        return m
