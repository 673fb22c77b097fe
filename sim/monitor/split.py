"""Split virtqueues: what is available, and what comes back.

Ref: VIRTIO 1.4, 2.7 "Split Virtqueues".

What is available is what the device could know: the index that it read (or that NOTIFICATION_DATA told it), the entries of the
available ring that it asked for after that, the descriptors that it asked for after those. A device that uses something
older, or something it never read, is outside of what is described (memory.py).

USED-1: of all elements that used.idx passes, both words were written in a TLP before, or earlier in the same one; each names a
chain that the device has; the index does not pass what is available.
ANS-1, ANS-2: used.flags is what the row says whenever the device writes into the used ring, and has been written when the device
first looks into the available ring: memory begins as anything, and from then on the driver goes by it.
DESC-3: no write of the device is into a descriptor table (nor into an available ring).
RSV-3: with IN_ORDER the entry that comes back is at, or after, the oldest chain that the device has, and no id comes back
twice.
SPL-B1 (ring.py): with IN_ORDER an element that stands for a batch.
"""

import struct

from ...hdl.spec.virtio import MAX_TABLE, VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE
from .memory import Table
from .ring import DESC, INDIRECT, NEXT, RSV_3, SPL_B1, WRITE, Area, Ring

__all__ = ["CLAUSES", "SplitRing"]

CLAUSES = ("USED-1", "ANS-1", "ANS-2", "DESC-3", RSV_3, SPL_B1)
U16 = struct.Struct("<H")
RING = 4  # bytes from the start of either ring to its entries: flags, idx
IDX_AT = 2
NO_KICKS = 1  # VIRTQ_USED_F_NO_NOTIFY


class SplitRing(Ring):
    """Parameters as for :class:`~.ring.Ring`."""
    PACKED = False
    FLAGS = 2

    def __init__(self, setup, features, monitor):
        super().__init__(setup, features, monitor)
        size, event = self.size, 2 if self.event_idx else 0
        self.event_at = RING + 2 * size
        self.avail_event_at = RING + VIRTQ_USED_ELEM_SIZE * size
        self.areas = [
            Area(self, "descriptors", setup.desc, VIRTQ_DESC_SIZE * size, look=self._descriptors),
            Area(self, "available ring", setup.driver, self.event_at + event, look=self._available, begin=self._asked),
            Area(self, "used ring", setup.device, self.avail_event_at + event, wrote=self._wrote)]
        # 2.7, the table of sizes: the event fields are there whether or not they mean anything.
        self.ends = [self.areas[0].end, setup.driver + self.event_at + 2, setup.device + self.avail_event_at + 2]
        self.known = 0             # available, as the device can know
        self.heads = {}            # by place, from ``used`` on: the chain, None when it has come back
        self.by_head = {}          # those that the device has
        self.table = {}            # by index: descriptor, and when it was asked for
        self.waiting = {}          # by index: chains that go on there
        self.shadow = bytearray(self.avail_event_at + 2)
        self.unwritten = {0, 1}    # bytes of used.flags that the device has not written
        self.fresh = set()         # words of the used ring, 4 bytes, that were written since used.idx passed them

    # The driver's side

    def told(self, idx, before=None):
        """The device came to know the available index. ``before``: ``used`` when it asked."""
        before = self.used if before is None else before
        ahead = (idx - before) & 0xffff
        if ahead > self.size + self.used - before:
            return self.excuse(f"the available index went to {idx:#x}")
        self.known = max(self.known, before + ahead)

    def kicked(self, following):
        """NOTIFICATION_DATA (2.9). The index may be an old one: the device has looked since."""
        ahead = ((following - self.known + 0x8000) & 0xffff) - 0x8000
        if not -self.size <= ahead <= self.size + self.used - self.known:
            return self.excuse(f"a notification brought the available index {following:#x}")
        self.known = max(self.known, self.known + ahead)

    def _asked(self, read):
        read.note = self.known, self.used
        self._judge_flags(not self.unwritten)
        start = read.addr - self.areas[1].start
        if start <= (at := self.event_at if self.event_idx else 0) < start + read.size:
            read.look = self.look((start, read.size) == (at, 2))

    def _available(self, read, low, high):
        start = read.addr - self.areas[1].start
        low, high = start + low, start + high

        def word(at):
            return U16.unpack_from(read.data, at - start)[0]
        if low <= IDX_AT < high:
            self.told(word(IDX_AT), read.note[1])
        if not self.event_idx:
            if low == 0 and high >= 2:
                self.monitor.notifications.look(self, read, not word(0) & 1)
        elif high == self.event_at + 2:
            event = word(self.event_at)
            self.monitor.notifications.look(self, read, lambda old, new: (new - event - 1) & 0xffff < new - old)
        known = read.note[0]
        for slot in range(max(0, (low - RING + 1) // 2), min(self.size, (high - RING) // 2)):
            pos = known - 1 - (known - 1 - slot) % self.size
            if pos >= self.used and pos not in self.heads and not self.excused:
                self._head(pos, word(RING + 2 * slot))

    def _head(self, pos, head):
        if head >= self.size:
            return self.excuse(f"{head} is made available, the table has {self.size} descriptors")
        if head in self.by_head:
            return self.excuse(f"{head} is made available twice")
        self.heads[pos] = self.by_head[head] = chain = self.make(pos, head, 1)
        self._follow(chain, head)

    def _descriptors(self, read, low, high):
        start = read.addr - self.areas[0].start
        indices = range(-(-(start + low) // 16), (start + high) // 16)
        for index in indices:
            self.table[index] = DESC.unpack_from(read.data, 16 * index - start), read.seq
        for index in indices:
            for chain in self.waiting.pop(index, ()):
                if not self.excused:
                    self._follow(chain, index)

    def _follow(self, chain, index):
        """Go on with a chain at a descriptor, as far as is known."""
        while not chain.gone:
            content, when = self.table.get(index, (None, -1))
            if when < chain.born:
                self.waiting.setdefault(index, []).append(chain)
                return
            addr, length, flags, following = content
            if chain.elements >= self.size:
                return self.excuse(f"the chain at {chain.id} is longer than the queue")
            if flags & INDIRECT:
                return self._indirect(chain, addr, length, flags)
            self.described.add(chain.add(addr, length, bool(flags & WRITE)))
            if not flags & NEXT:
                chain.whole = True
                return
            if following >= self.size:
                return self.excuse(f"descriptor {index} goes on at {following}")
            index = following

    def _indirect(self, chain, addr, length, flags):
        if not self.indirect or flags & NEXT or length % 16 or not length:
            return self.excuse(f"an indirect table of {length} bytes with flags {flags:#x}")
        entries, at, taken, most = {}, 0, 0, max(self.size, MAX_TABLE)

        def entry(index, raw):
            nonlocal at, taken
            if self.excused:
                return self.entry_by_force(index, raw)
            entries[index] = raw
            while at in entries and not (self.excused or chain.gone or chain.whole):
                addr, length, flags, following = DESC.unpack(entries[at])
                taken += 1
                more = flags & NEXT
                if flags & INDIRECT or taken > most or (more and (following >= table.count or taken == table.count)):
                    for known in entries.values():
                        self.entry_by_force(0, known)
                    return self.excuse(f"entry {at} of an indirect table has flags {flags:#x}, next {following}")
                self.described.add(chain.add(addr, length, bool(flags & WRITE)))
                chain.whole = not more
                at = following
        segment = chain.add(addr, length, False)
        chain.readable -= length  # it is no buffer
        segment.table = table = Table(length // 16, entry)
        self.described.add(segment)

    # The device's side

    def _judge_flags(self, written):
        row, most = ("ANS-2", 0) if self.event_idx else ("ANS-1", NO_KICKS)
        flags = U16.unpack_from(self.shadow)[0]
        self.report.judge(row, written and flags <= most, lambda: f"queue {self.index}: used.flags " + (
            f"is {flags:#x}" if written else "was never written, and buffers are looked for"))

    def _wrote(self, offset, data):
        end = offset + len(data)
        self.shadow[offset:end] = data
        self.unwritten.difference_update(range(offset, end))
        self._judge_flags(True)
        if self.excused:
            return
        if offset <= IDX_AT < end:
            self._advance(U16.unpack_from(self.shadow, IDX_AT)[0])
        # Ascending within a TLP: the index lies before the elements.
        self.fresh.update(range(max(1, (offset + 3) // 4), min(end, self.avail_event_at) // 4))

    def _advance(self, idx):
        old, new = self.used, self.used + ((idx - self.used) & 0xffff)
        if new == old:
            return
        if new > self.known:
            self.report.broken("USED-1", f"queue {self.index}: used.idx goes from {old & 0xffff} to {idx}, available "
                                         f"are {self.known - old}")
            return self.excuse("the device lost its place")
        group = []
        while self.used < new:
            slot = self.used % self.size
            words = {1 + 2 * slot, 2 + 2 * slot}
            written = words <= self.fresh
            id, length = struct.unpack_from("<II", self.shadow, RING + VIRTQ_USED_ELEM_SIZE * slot)
            chain = self.by_head.get(id)
            self.report.judge("USED-1", written and chain is not None, lambda: (
                f"queue {self.index}: used.idx goes from {old & 0xffff} to {idx}, and element {slot} "
                + (f"is {id}, which the device does not have" if written else "was not written")))
            if not written or chain is None:
                return self.excuse("the device lost its place")
            self.fresh -= words
            waiting = (self.heads[pos] for pos in range(self.used, self.known) if self.heads.get(pos))
            batch = self.name_batch(chain, waiting, length)
            if self.used + len(batch) > new:
                self.report.broken(RSV_3, f"queue {self.index}: id {id} comes back, {len(batch) - 1} chains are older and "
                                          f"used.idx goes on by {new - self.used}")
                return self.excuse("the device lost its place")
            for other in batch:
                self.described.release(other, length, other is chain)
                del self.by_head[other.id]
                if other.pos in self.heads:
                    self.heads[other.pos] = None
                group.append((other, length if other is chain else other.writable))
            for pos in range(self.used, self.used + len(batch)):
                self.heads.pop(pos, None)
            self.used += len(batch)
        self.published(old, self.used, group)

    # Excused

    def on_excuse(self):
        for content, _ in self.table.values():
            self.force(content)
