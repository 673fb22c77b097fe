"""One passive checker of virtio's rules for devices, over what passes the edge of a card.

Ref: VIRTIO 1.4, as each family says: registers.py, memory.py, split.py, packed.py, notify.py, masks.py, isr.py, receive.py. They
tell how each row is judged, and what cannot be seen from here.

It shares with the card and with the golden models the numbers of ``hdl/spec`` and no logic. It looks at no memory: what a
driver has written counts when the device has read it.
"""

from bisect import bisect_right

from ...hdl.spec.bar import BAR_SIZE, ISR_OFFSET
from ...hdl.spec.pcie import Command, MsgCode
from ...hdl.spec.virtio import VIRTIO_F_RING_PACKED
from . import isr, masks, memory, notify, packed, receive, registers, split
from .isr import InterruptStatus
from .memory import END, Described
from .notify import NEVER, Notifications
from .packed import PackedRing
from .receive import Receive
from .registers import Registers
from .report import Report
from .split import SplitRing
from .wire import hear

__all__ = ["Monitor"]

FAMILIES = (registers, memory, split, packed, notify, masks, isr, receive)
LINK = "PCI-1"


class Read:
    """A read of the device, until it is answered whole. ``targets``: what it is a read of; ``note``, ``look``: what the
    target wants to know of when it was asked for."""
    __slots__ = ("addr", "size", "data", "done", "seq", "targets", "note", "look")

    def __init__(self, addr, size, seq, targets):
        self.addr, self.size, self.seq, self.targets = addr, size, seq, targets
        self.data, self.done = bytearray(size), 0
        self.note = self.look = None

    def failed(self):
        for target in self.targets:
            target.failed(self)


class Monitor:
    """Judges a stream of facts, in the order in which they passed the card's edge.

    :meth:`follow` is for an engine, :meth:`take` for TLPs; the facts are methods, and :meth:`at` comes before each that is called
    by hand.

    Attributes
    ----------
    CLAUSES : tuple
        All rows that it judges.
    observed : dict
        By row, how often the rule was put to the test.
    violations : list of Violation
    """
    CLAUSES = tuple(dict.fromkeys([LINK, *(row for family in FAMILIES for row in family.CLAUSES)]))

    def __init__(self):
        self.report = Report(self.CLAUSES)
        self.observed, self.violations = self.report.observed, self.report.violations
        self.rings = {}                # enabled queues by index
        self.notifications = Notifications(self)
        self.isr = InterruptStatus(self)
        self.receive = Receive(self)
        self.forget_all()
        self.registers = Registers(self)
        self._asked = {}

    def forget_all(self):
        """The device has been reset."""
        self.rings.clear()
        self.described = Described(self.report)
        self._starts, self._areas = [], []
        self._dead = []                # (start, end, queue) of what queues had that were reset
        self.dead_vectors = set()
        self._reads = {}

    def follow(self, engine):
        """Take what passed the edge of an engine that captures, since the last call and until now."""
        for fact in engine.captured():
            self.take(*fact)
        self.at(engine.stats()["cycles"])
        self.link_broken(engine.violations())

    def take(self, cycle, way, raw):
        """A TLP passed the edge, "down" or "up"; or the card was powered on: "reset"."""
        self.at(cycle)
        if way == "reset":
            self.power()
        else:
            if way == "up":
                self.report.held(LINK)
            hear(self, way == "up", raw)

    def at(self, cycle):
        """Time has come to ``cycle``; what follows happened then."""
        report = self.report
        report.cycle = cycle
        report.seq += 1
        if cycle >= self.notifications.deadline:
            self.notifications.late()
        if cycle >= self.isr.deadline:
            self.isr.late()

    @property
    def waiting(self):
        """Something is due, and will be late in this cycle; None if nothing is."""
        deadline = min(self.notifications.deadline, self.isr.deadline)
        return None if deadline == NEVER else deadline

    def link_broken(self, lines):
        """Rules of the Transaction Layer that a root complex saw the card break."""
        for line in lines:
            self.report.broken(LINK, line)

    def check(self):
        """Raise :exc:`AssertionError` if a rule was broken since the last call."""
        found, self.violations[:] = list(self.violations), []
        if found:
            raise AssertionError("The card breaks rules:\n" + "\n".join(map(str, found[:20])))

    # What the families ask

    def can_notify(self):
        return self.registers.master and self.registers.live

    # What the registers bring about

    def power(self):
        """Fundamental reset."""
        self.forget_all()
        self._asked = {}
        self.registers.power()
        self.notifications.reset()
        self.notifications.masks.reset()
        self.isr.power()

    def enable(self, setup):
        """A queue was enabled."""
        features = self.registers.features
        self.forget_queue(setup.index)
        self._dead = [span for span in self._dead if span[2] != setup.index]
        ring = (PackedRing if VIRTIO_F_RING_PACKED in features else SplitRing)(setup, features, self)
        self.rings[setup.index] = ring
        self.dead_vectors -= ring.vectors
        if max(ring.ends) > END:
            ring.areas = []            # of what the driver may mean by them the device touches nothing
            ring.excuse("a ring runs past the end of the address space")
        self._place()

    def _place(self):
        self._areas = sorted((area for ring in self.rings.values() for area in ring.areas), key=lambda area: area.start)
        self._starts = [area.start for area in self._areas]

    def forget_queue(self, index):
        """A queue has been reset: what it had is nobody's."""
        ring = self.rings.pop(index, None)
        if ring is None:
            return
        self._dead += [(area.start, area.end, index) for area in ring.areas]
        self._dead += [(segment.start, segment.end, index) for segment in self.described.segments if segment.ring is ring]
        self.described.drop(ring)
        self.dead_vectors |= ring.vectors - {vector for other in self.rings.values() for vector in other.vectors}
        self._reads = {tag: read for tag, read in self._reads.items() if all(target.ring is not ring for target in read.targets)}
        self._place()

    # Facts: the driver's accesses

    def config_write(self, offset, data):
        """The device took a write of configuration space."""
        self.registers.config_write(offset, data)

    def host_write(self, address, data):
        """The device took a write of memory space."""
        if self.registers.command >> Command.MEMORY_ENABLE & 1 and 0 <= address - self.registers.bar < BAR_SIZE:
            self.registers.write(address - self.registers.bar, data)

    def host_read(self, memory, address, size, tag):
        """The device took a read: of configuration space if ``memory`` is None."""
        seq = self.report.seq
        offset = None
        if memory is not None and 0 <= address - self.registers.bar < BAR_SIZE:
            offset = address - self.registers.bar
            if offset == ISR_OFFSET and size:
                self.isr.asked(seq)
        registers = self.registers
        self._asked[tag] = (memory is None, offset, address, size, seq, registers.select, bytearray(size), registers.master)

    def host_answer(self, tag, status, left, data):
        """The device has answered; ``left``: bytes of the read that were due before this."""
        asked = self._asked.get(tag)
        if asked is not None and not status:
            self.notifications.answer(asked[4])
        if asked is None or status or not data:
            self._asked.pop(tag, None)
            if asked is not None and asked[0] and not status:
                self.registers.completed(asked[-1])
            return
        config, offset, address, size, seq, select, whole, _ = asked
        if config:
            # 2.2.9: of a configuration read the whole DW comes.
            del self._asked[tag]
            return self.registers.config_answer(address, data[address & 3:(address & 3) + size], seq)
        at = max(0, size - left)
        whole[at:at + len(data)] = data
        if at + len(data) < size:
            return
        del self._asked[tag]
        if offset is not None:
            self.registers.answer(offset, whole, seq, select)

    # Facts: DMA and interrupts

    def _may_request(self, what):
        """The device sends a memory request."""
        if not self.registers.may_request:
            self.report.broken("CS-6", f"{what} of a function that is no bus master")

    def _at_rest(self, what):
        """The device does something. Return whether it may not do anything."""
        registers = self.registers
        if registers.live or registers.draining:
            return False
        self.report.broken("RST-2" if registers.was_live else "STAT-1", f"{what} before DRIVER_OK")
        return True

    def dma_write(self, addr, data):
        """The device wrote memory, or sent an MSI-X message."""
        self._may_request(f"a write of {len(data)} bytes at {addr:#x}")
        messages = len(data) == 4 and (self.notifications.masks.used or self.registers.draining)
        if messages and (vectors := self.notifications.vectors_of(addr, data)):
            if not self._at_rest(f"the message of vector {min(vectors)}") and not self.registers.draining:
                self.notifications.message(vectors)
            return
        end = addr + len(data)
        if end == addr or self._at_rest(f"a write of {end - addr} bytes at {addr:#x}"):
            return
        area = self._area(addr, end)
        if area is not None:
            if area.wrote is not None:
                area.wrote(addr - area.start, data)
            elif not self.described.find(addr, end, True):
                row = "DESC-1" if area.ring.PACKED else "DESC-3"
                self.report.broken(row, f"queue {area.ring.index}: {end - addr} bytes written into its {area.name}")
            return
        segments = self.described.find(addr, end, True)
        if not segments:
            self._nowhere(addr, end, True)
        for segment in segments:
            self._held(segment.ring, True)
            self.described.touch(segment, addr, data, len(segments) == 1)

    def dma_read(self, addr, size, tag):
        """The device asked for memory."""
        self._may_request(f"a read of {size} bytes at {addr:#x}")
        if (lost := self._reads.pop(tag, None)) is not None:
            lost.failed()
        end = addr + size
        if size == 0 or self._at_rest(f"a read of {size} bytes at {addr:#x}"):
            return
        area = self._area(addr, end)
        if area is not None and area.look is not None:
            read = self._reads[tag] = Read(addr, size, self.report.seq, (area,))
            if area.begin is not None:
                area.begin(read)
            return
        segments = self.described.find(addr, end, False)
        if not segments:
            self._nowhere(addr, end, False)
        for segment in segments:
            self._held(segment.ring, False)
            self.described.touch(segment, addr, None, len(segments) == 1)
        self._reads[tag] = Read(addr, size, self.report.seq, segments)

    def dma_answer(self, tag, status, left, data):
        """A read of the device is answered, whole or in part: ``left`` bytes were due before this."""
        read = self._reads.get(tag)
        if read is None:
            return
        if status:
            del self._reads[tag]
            return read.failed()
        low = read.size - left
        high = low + len(data)
        if low < 0 or high <= read.done:
            return                     # once more
        read.data[low:high] = data
        read.done = high
        if high >= read.size:
            del self._reads[tag]
        for target in read.targets:
            target.part(read, low, high)

    def message(self, code):
        """The device sent a message."""
        if code == MsgCode.ASSERT_INTA and self._at_rest("INTx rises"):
            return
        if not self.registers.draining:
            self.isr.message(code)

    def _area(self, addr, end):
        at = bisect_right(self._starts, addr) - 1
        if at >= 0 and self._areas[at].end >= end:
            return self._areas[at]
        return None

    def _held(self, ring, write):
        held = self.report.held
        held("DESC-1" if write else "DESC-2")
        if ring.PACKED:
            held("PK-3")
        elif write:
            held("DESC-3")

    def _nowhere(self, addr, end, write):
        """DMA that nothing describes: say what it is, as far as can be told."""
        what = f"{'write' if write else 'read'} of {end - addr} bytes at {addr:#x}: "
        for start, past, index in self._dead:
            if start < end and addr < past:
                return self.report.broken("QRST-1", f"{what}queue {index} has been reset")
        if self.described.find(addr, end, not write):
            why = "the buffer is for the device to read" if write else "the buffer is for the device to write"
        else:
            why = "no chain that the device has describes it"
            for ring in self.rings.values():
                if ring.PACKED and any(at <= addr < at + size for at, size, *_ in ring.latest.values()):
                    return self.report.broken("PK-4", f"{what}queue {ring.index} has a descriptor of it that is not available")
        packed = any(ring.PACKED for ring in self.rings.values())
        self.report.broken("PK-3" if packed else "DESC-1" if write else "DESC-2", what + why)
