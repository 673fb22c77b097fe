"""Buffers: which bytes chains describe, which of them the device has touched.

DESC-1, DESC-2, PK-3: every DMA outside the rings is held against the descriptors that the device itself has read, of chains
that were made available and are not used yet. What no such descriptor names is nobody's buffer, which is worse than a
buffer of the other direction, and is told of under the same row; under QRST-1 and PK-4 where it is known why.
USED-2: the device said that it wrote ``len`` bytes, so the first ``len`` device-writable bytes of the chain were written
before.
PK-6: the first touch of an element of a chain does not come after the first touch of a later one. PK-1, likewise: of chains in
one ring. Bytes that several chains hold, chains of which the device never touches a byte, and elements it skips, show
nothing either way.
"""

from bisect import bisect_left, bisect_right, insort

__all__ = ["CLAUSES", "END", "Chain", "Described", "Segment", "Table"]

CLAUSES = ("DESC-1", "DESC-2", "USED-2", "PK-1", "PK-3", "PK-6")
END = 1 << 64      # of the address space
HEADER_BYTES = 12  # of a chain's device-writable bytes that are kept


class Segment:
    """Bytes that one descriptor names. ``offset``: where they begin among those of the chain with the same direction;
    ``table``: they are an indirect table; ``chain``: None for what a broken queue has described."""
    __slots__ = ("start", "end", "write", "ring", "chain", "element", "offset", "table", "touched")

    def __init__(self, start, size, write, ring, chain=None, element=0, offset=0, table=None):
        self.touched = False
        self.start, self.end, self.write, self.ring = start, start + size, write, ring
        self.chain, self.element, self.offset, self.table = chain, element, offset, table

    # As the target of a read.

    def part(self, read, low, high):
        if self.table is not None:
            self.table.seen(read.addr - self.start + low, read.data[low:high])

    def failed(self, read):
        if self.table is not None:
            self.ring.excuse(f"the read of an indirect table at {read.addr:#x} failed")


class Table:
    """An indirect table as far as the device has read it; ``entry(index, raw)`` is called for each entry that is whole."""
    def __init__(self, count, entry):
        self.count, self.entry = count, entry
        self.parts = {}

    def seen(self, offset, data):
        for index in range(offset // 16, min((offset + len(data) + 15) // 16, self.count)):
            raw, have = self.parts.setdefault(index, (bytearray(16), bytearray(16)))
            low, high = max(offset, 16 * index), min(offset + len(data), 16 * index + 16)
            raw[low - 16 * index:high - 16 * index] = data[low - offset:high - offset]
            have[low - 16 * index:high - 16 * index] = b"\1" * (high - low)
            if all(have):
                self.entry(index, bytes(raw))


class Chain:
    """A chain of buffers that the device has.

    Attributes
    ----------
    pos : int
        Of its head in the ring, counted for ever.
    id : int
        The name by which it comes back: the head's index, or the buffer id.
    count : int
        Places that it takes in the ring.
    segments : list of Segment
        As far as their descriptors were read.
    writable : int
        Bytes of those that are device-writable.
    whole : bool
        All of its descriptors are known.
    written : int
        So many of the first writable bytes were written.
    header : bytearray
        The first device-writable bytes, as written.
    gone : bool
        It has come back.
    used_seq : int
        Of a packed ring, with which fact its used descriptor was written.
    """
    __slots__ = ("ring", "pos", "id", "count", "born", "segments", "elements", "readable", "writable", "whole", "touched",
                 "written", "apart", "header", "gone", "used_seq")

    def __init__(self, ring, pos, id, count, born):
        self.ring, self.pos, self.id, self.count, self.born = ring, pos, id, count, born
        self.gone, self.used_seq = False, 0
        self.segments, self.elements, self.readable, self.writable, self.whole = [], 0, 0, 0, False
        self.touched, self.written, self.apart, self.header = 0, 0, [], bytearray(HEADER_BYTES)

    def add(self, addr, size, write):
        """Take one more element; return its segment."""
        segment = Segment(addr, size, write, self.ring, self, self.elements, self.writable if write else self.readable)
        self.segments.append(segment)
        self.count_in(size, write)
        return segment

    def count_in(self, size, write):
        """There is one more element."""
        self.elements += 1
        if write:
            self.writable += size
        else:
            self.readable += size

    def put(self, offset, data):
        """The device wrote these of the writable bytes."""
        if offset < HEADER_BYTES:
            self.header[offset:offset + len(data)] = data[:HEADER_BYTES - offset]
        end = offset + len(data)
        if offset > self.written:
            insort(self.apart, (offset, end))
            return
        self.written = max(self.written, end)
        while self.apart and self.apart[0][0] <= self.written:
            self.written = max(self.written, self.apart.pop(0)[1])


class Described:
    """All segments of the buffers that the device has, by address."""
    def __init__(self, report):
        self.report = report
        self.starts, self.segments = [], []
        self.crossed = False  # segments overlap: a driver's right where none is written, and its fault else

    def add(self, segment):
        """Not of what runs past the end of the address space is a byte described: nobody can say which bytes it is of."""
        if segment.end > END:
            segment.ring.excuse(f"{segment.end - segment.start} bytes at {segment.start:#x}")
        if segment.start == segment.end or segment.end > END:
            return
        at = bisect_right(self.starts, segment.start)
        self.crossed |= (at > 0 and self.segments[at - 1].end > segment.start
                         or at < len(self.starts) and self.starts[at] < segment.end)
        self.starts.insert(at, segment.start)
        self.segments.insert(at, segment)

    def remove(self, segment):
        if segment.start == segment.end or segment.end > END:
            return
        at = bisect_left(self.starts, segment.start)
        while self.segments[at] is not segment:
            at += 1
        del self.starts[at], self.segments[at]

    def drop(self, ring):
        """Forget what a queue has described."""
        self.segments = [segment for segment in self.segments if segment.ring is not ring]
        self.starts = [segment.start for segment in self.segments]

    def find(self, addr, end, write):
        """Return the segments of this direction that hold these bytes; none if not all are in one."""
        if not self.crossed:
            at = bisect_right(self.starts, addr) - 1
            if at >= 0:
                segment = self.segments[at]
                if segment.end >= end and segment.write == write:
                    return (segment,)
        hits = [segment for segment in self.segments if segment.start < end and segment.end > addr and segment.write == write]
        for segment in hits:
            if segment.start <= addr:
                addr = max(addr, segment.end)
        return hits if addr >= end else ()

    def touch(self, segment, addr, data, alone):
        """The device reads of a segment, or writes ``data`` there. Not ``alone``: others hold the same bytes."""
        chain = segment.chain
        segment.touched |= alone   # or it may have been the other
        if chain is None or segment.table is not None:
            return
        if alone and not chain.touched >> segment.element & 1:
            if chain.ring.PACKED:
                if not chain.touched:
                    self.report.judge("PK-1", chain.pos >= chain.ring.started, lambda: (
                        f"queue {chain.ring.index}: the chain at {chain.pos} is begun after that at {chain.ring.started}"))
                    chain.ring.started = max(chain.ring.started, chain.pos)
                if chain.elements > 1:
                    self.report.judge("PK-6", chain.touched >> segment.element == 0, lambda: (
                        f"queue {chain.ring.index}: element {segment.element} of the chain at {chain.pos} after a later one"))
            chain.touched |= 1 << segment.element
        if data is not None:
            skip = max(0, segment.start - addr)
            chain.put(segment.offset + addr + skip - segment.start, data[skip:segment.end - addr])

    def release(self, chain, length, report_length):
        """The chain is used; ``report_length``: ``length`` was said of it, not of a batch that it is in."""
        if report_length:
            self.report.judge("USED-2", length <= chain.written, lambda: (
                f"queue {chain.ring.index}: id {chain.id} came back with {length} bytes, {chain.written} were written"))
        chain.gone = True
        for segment in chain.segments:
            self.remove(segment)
