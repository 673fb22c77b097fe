"""Packed virtqueues: what is available, and what comes back.

Ref: VIRTIO 1.4, 2.8 "Packed Virtqueues".

Places are counted for ever; that number tells slot and wrap counter. A descriptor is available to the device when a read
brought it with AVAIL and USED as its place wants them, and that read was asked for after the device had seen what was in
the slot before.

PK-4: only such descriptors count as described (memory.py); one that was read, and not as available, is told of under this row.
PCIe does not promise that a read is one look: flags may be newer than the address beside them. A read that was asked for
after the device had seen the flags brings the true address, and a device that had touched another one by then believed half
of a descriptor. Of reads that were asked for before, any may be the true one.
PK-1, PK-6: see memory.py.
PK-2: the order in which a device completes is its own to know. What shows is that used descriptors begin where the last ones
ended: when a notification is sent, none has been left behind a gap for SETTLED cycles.
PK-5: no used descriptor is written twice, nor in a slot that was not made available since.
PK-B1: AVAIL and USED of each used descriptor are both the wrap counter of its place.
PK-B2: it names a list that the device has; the next one is as many slots on as the list took, none in between; WRITE is set
if and only if something was written.
PK-B3: see receive.py. PK-B5: the device's event structure, whenever it is written, is one that there is, and it has been written
when the device first looks into the ring: memory begins as anything. The driver's is obeyed (notify.py).
RSV-3, SPL-B1: as for split rings.
"""

import struct

from ...hdl.spec.virtio import MAX_TABLE, VIRTQ_DESC_SIZE, RingEvent, VirtqDescF
from .memory import Segment, Table
from .ring import DESC, INDIRECT, NEXT, RSV_3, SETTLED, SPL_B1, WRITE, Area, Ring

__all__ = ["CLAUSES", "PackedRing"]

CLAUSES = ("PK-2", "PK-4", "PK-5", "PK-B1", "PK-B2", "PK-B5", RSV_3, SPL_B1)
EVENT = struct.Struct("<I")
AVAIL, USED = int(VirtqDescF.AVAIL), int(VirtqDescF.USED)
FLAGS_AT = 14


class PackedRing(Ring):
    """Parameters as for :class:`~.ring.Ring`."""
    PACKED = True
    FLAGS = 3

    def __init__(self, setup, features, monitor):
        super().__init__(setup, features, monitor)
        self.areas = [
            Area(self, "descriptors", setup.desc, VIRTQ_DESC_SIZE * self.size, look=self._descriptors, begin=self._looks,
                 wrote=self._wrote),
            Area(self, "driver event structure", setup.driver, 4, look=self._event, begin=self._asked),
            Area(self, "device event structure", setup.device, 4, wrote=self._wrote_event)]
        self.ends = [area.end for area in self.areas]
        self.known = 0             # places up to here belong to chains that the device has, or had
        self.got = {}              # by place: descriptors from there on, as different reads brought them
        self.seen = [-1] * self.size   # when the device last saw a slot become available
        self.latest = {}           # by slot: as last read, whatever it said
        self.placed = {}           # by place: the chain and, at each address that it may have, the segment
        self.chains = {}           # by id, those that the device has
        self.order = {}            # by place of the head, the same
        self.pending = {}          # by place: used descriptors that the driver does not see yet
        self.shadow = bytearray(VIRTQ_DESC_SIZE * self.size)
        self.started = 0
        self.wishes = False        # the device has said when it wants to be notified

    def _place(self, slot):
        return self.used + (slot - self.used) % self.size

    def _wrap(self, place):
        return 1 - place // self.size % 2

    # The driver's side

    def kicked(self, following):
        """NOTIFICATION_DATA (2.9) tells of descriptors; the device uses none before it has read it."""

    def _asked(self, read):
        read.look = self.look()

    def _looks(self, read):
        self.report.judge("PK-B5", self.wishes, lambda: (
            f"queue {self.index}: the device's event structure was never written, and its buffers are looked for"))

    def _event(self, read, low, high):
        if high == 4:
            self.monitor.notifications.look(self, read, self._wish(EVENT.unpack(read.data)[0]))

    def _wish(self, word):
        """Return what the structure says: a bool, a function of two places, or None for what only a broken driver writes."""
        flags, wrap, offset = word >> 16 & 3, word >> 15 & 1, word & 0x7fff
        if flags in (RingEvent.ENABLE, RingEvent.DISABLE):
            return flags == RingEvent.ENABLE
        if flags != RingEvent.DESC or not self.event_idx or offset >= self.size:
            return None
        event = offset if wrap else self.size + offset
        return lambda old, new: (new - event - 1) % (2 * self.size) < new - old

    def _descriptors(self, read, low, high):
        start = read.addr - self.areas[0].start
        for slot in range(-(-(start + low) // 16), (start + high) // 16):
            raw = bytes(read.data[16 * slot - start:16 * slot - start + 16])
            content = DESC.unpack(raw)
            self.latest[slot] = content
            place = self._place(slot)
            wrap = self._wrap(place)
            if bool(content[3] & AVAIL) != wrap or bool(content[3] & USED) == wrap:
                continue
            if place < self.known:
                self._again(place, content, read.seq > self.seen[slot])
            elif place in self.got:
                if read.seq > self.seen[slot]:
                    self.got[place] = [content]
                elif content not in self.got[place]:
                    self.got[place].append(content)
            elif read.seq > self.seen[slot]:
                self.got[place] = [content]
                self.seen[slot] = self.report.seq
        while not self.excused and self._build():
            pass

    def _again(self, place, content, true):
        """A descriptor of a chain was read once more, with an address that is ``true`` or may be."""
        chain, known = self.placed.get(place, (None, ()))
        addr, length = content[:2]
        if chain is None or chain.gone or known[0].end - known[0].start != length:
            return
        if true:
            for segment in [segment for segment in known if segment.start != addr]:
                self.report.judge("PK-4", not segment.touched, lambda: (
                    f"queue {self.index}: {segment.start:#x} was used, its descriptor says {addr:#x}"))
                self.described.remove(segment)
                chain.segments.remove(segment)
                known.remove(segment)
                last = segment
            if not known:
                self._place_at(chain, known, addr, length, last.write, last.element, last.offset, last.table is not None)
        elif all(segment.start != addr for segment in known):
            first = known[0]
            self._place_at(chain, known, addr, length, first.write, first.element, first.offset, first.table is not None)

    def _place_at(self, chain, known, addr, length, write, element, offset, table):
        """One more address that an element of a chain may have."""
        segment = Segment(addr, length, write, self, chain, element, offset)
        if table:
            segment.table = self._table(chain, length)
        chain.segments.append(segment)
        known.append(segment)
        self.described.add(segment)

    def _build(self):
        """Make a chain of the descriptors that come next. Return whether that was possible."""
        place, contents = self.known, []
        while True:
            if len(contents) >= self.size:
                return self.excuse("a chain is longer than the ring")
            found = self.got.get(place + len(contents))
            if found is None:
                return False
            contents.append(found)
            _, length, id, flags = found[0]
            if flags & INDIRECT and (flags & NEXT or len(contents) > 1 or not self.indirect or length % 16
                                     or not 0 < length // 16 <= max(self.size, MAX_TABLE)):
                return self.excuse(f"an indirect table of {length} bytes with flags {flags:#x}")
            if not flags & NEXT:
                break
        if id in self.chains:
            return self.excuse(f"id {id} is made available twice")
        chain = self.chains[id] = self.order[place] = self.make(place, id, len(contents))
        chain.whole = not flags & INDIRECT
        for element, found in enumerate(contents):
            known = []
            for addr, length, _, flags in found:
                write, table = bool(flags & WRITE) and not flags & INDIRECT, bool(flags & INDIRECT)
                self._place_at(chain, known, addr, length, write, element, chain.writable if write else chain.readable, table)
            chain.count_in(0 if table else length, write)
            self.placed[place + element] = chain, known
            del self.got[place + element]
            self.report.held("PK-4")
        self.known += len(contents)
        return True

    def _table(self, chain, length):
        entries = {}

        def entry(index, raw):
            if self.excused:
                return self.entry_by_force(index, raw)
            entries[index] = raw
            while chain.elements - 1 in entries and not chain.gone:
                addr, length, _, flags = DESC.unpack(entries[chain.elements - 1])
                self.described.add(chain.add(addr, length, bool(flags & WRITE)))
            chain.whole = chain.elements - 1 == table.count
        table = Table(length // 16, entry)
        return table

    # The device's side

    def _wrote(self, offset, data):
        self.shadow[offset:offset + len(data)] = data
        for slot in range((offset - FLAGS_AT + 15) // 16, (offset + len(data) - FLAGS_AT + 14) // 16):
            if not self.excused:
                self._used_descriptor(slot)

    def _used_descriptor(self, slot):
        _, length, id, flags = DESC.unpack_from(self.shadow, 16 * slot)
        place = self._place(slot)
        whose = place < self.known
        self.report.judge("PK-5", whose and place not in self.pending, lambda: (
            f"queue {self.index}: slot {slot} is written, "
            + ("for the second time" if whose else "and no descriptor of it is available")))
        if not whose:
            return self.excuse("the device lost its place")
        wrap = self._wrap(place)
        self.report.judge("PK-B1", bool(flags & AVAIL) == bool(flags & USED) == wrap, lambda: (
            f"queue {self.index}: slot {slot} has flags {flags:#x}, the wrap counter is {wrap}"))
        self.pending[place] = id, length, flags, self.report.seq, self.report.cycle
        old, group = self.used, []
        while self.used in self.pending and not self.excused:
            group += self._take(*self.pending.pop(self.used))
        if group and not self.excused:
            self.published(old, self.used, group)

    def _take(self, id, length, flags, seq, _):
        """The driver sees the used descriptor at the place that is next. Return the chains it stands for."""
        chain, place = self.chains.get(id), self.used
        if chain is None:
            self.report.broken("PK-B2", f"queue {self.index}: slot {place % self.size} brings back id {id}, which the device "
                                        "does not have")
            self.excuse("the device lost its place")
            return []
        said = length if flags & WRITE else 0
        self.report.judge("PK-B2", bool(flags & WRITE) == (chain.written > 0) and (said > 0 or not flags & WRITE), lambda: (
            f"queue {self.index}: id {id}, of which {chain.written} bytes were written, comes back with {length} and flags "
            f"{flags:#x}"))
        batch = self.name_batch(chain, list(self.order.values()), said)
        for other in batch:
            self.described.release(other, said, other is chain)
            del self.chains[other.id], self.order[other.pos]
            chain.used_seq = seq
        self.used += sum(other.count for other in batch)
        passed = [at for at in range(place, min(self.used, place + 2 * self.size)) if at in self.pending]
        if passed or self.used > self.known:
            self.report.broken("PK-B2", f"queue {self.index}: id {id} took the ring to place {self.used}, and there are used "
                                        f"descriptors at {passed}, descriptors up to {self.known}")
            self.excuse("the device lost its place")
        for at in range(place, self.used):
            self.placed.pop(at, None)
        return [(other, said if other is chain else other.writable) for other in batch]

    def _wrote_event(self, offset, data):
        if offset == 0 and len(data) == 4:
            wish = self._wish(EVENT.unpack(data)[0])
            self.wishes = True
            self.report.judge("PK-B5", wish is not None, lambda: (
                f"queue {self.index}: the device's event structure is {data.hex()}"))
        else:
            self.report.broken("PK-B5", f"queue {self.index}: {len(data)} bytes at {offset} of the device's event structure")

    def judge_gap(self):
        """A notification is sent."""
        left = [place for place, used in self.pending.items() if self.report.cycle - used[-1] > SETTLED]
        self.report.judge("PK-2", not left, lambda: f"queue {self.index}: used descriptors at places {left}, none at {self.used}")

    # Excused

    def on_excuse(self):
        for content in self.latest.values():
            self.force(content)
