"""What split and packed rings share: areas, the chains that the device has, what is excused."""

from collections import deque
from dataclasses import dataclass
import struct

from ...hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC, VirtqDescF
from .memory import Chain, Segment, Table

__all__ = ["DESC", "SETTLED", "Area", "Look", "Ring", "RSV_3", "SPL_B1"]

DESC = struct.Struct("<QIHH")  # of either format: address and length first
SETTLED = 2000  # cycles: what a card does about something is done by then, a credit-starved link included

NEXT, WRITE, INDIRECT = int(VirtqDescF.NEXT), int(VirtqDescF.WRITE), int(VirtqDescF.INDIRECT)
RSV_3, SPL_B1 = "RSV-3", "SPL-B1"


@dataclass(frozen=True)
class Look:
    """A look at what the driver wishes, for what went from ``since`` to ``to``, and perhaps to ``last``.

    A device looks once for each publication, in their order, and others may have left between a publication and its look. Of
    a packed ring a publication may take several TLPs: then it is not ``firm`` which of them the look is for.
    """
    since: int
    to: int
    last: int
    firm: bool
    seq: int


class Area:
    """Part of a ring; the target of reads there. ``look(read, low, high)``: these bytes of a read have come, if it may be read;
    ``begin(read)``: it was asked for; ``wrote(offset, data)``: the device wrote, if it may."""
    def __init__(self, ring, name, start, size, *, look=None, begin=None, wrote=None):
        self.ring, self.name, self.start, self.end = ring, name, start, start + size
        self.look, self.begin, self.wrote = look, begin, wrote

    def part(self, read, low, high):
        if not self.ring.excused:
            self.look(read, low, high)
        elif self.name == "descriptors":
            self.ring.described_by_force(read.addr - self.start + low, read.data[low:high])

    def failed(self, read):
        self.ring.excuse(f"a read of its {self.name} failed")


class Ring:
    """One enabled queue.

    Once the driver broke a rule of the ring, or a read failed, nobody can say what the device should make of it, and the
    queue is ``excused``: but for one thing. DMA stays within what its descriptors name, each by itself.

    Attributes
    ----------
    PACKED : bool
    FLAGS : int
        Which field of a descriptor is its flags.
    areas : list of Area
    ends : list of int
        Of the areas as the driver has set them up.
    used : int
        Places that have come back, counted for ever.
    steps : deque of (int, int, int)
        Publications that no look at the driver's wish belongs to yet: cycle, ``used`` from and to.
    unseen : list of int
        The cycle of the first publication since the last look, if there was any.
    dues : list
        Notifications that are due: ``[cycle, whether one must come]``.
    vectors : set
        It has had since it was enabled.
    """
    def __init__(self, setup, features, monitor):
        self.index, self.size = setup.index, setup.size
        self.features, self.monitor, self.report, self.described = features, monitor, monitor.report, monitor.described
        self.event_idx, self.in_order = VIRTIO_F_EVENT_IDX in features, VIRTIO_F_IN_ORDER in features
        self.indirect = VIRTIO_F_INDIRECT_DESC in features
        self.setup = setup
        self.used = 0
        self.excused = None
        self.steps, self.dues = deque(), []
        self.published_seq = 0
        self.unseen = []
        self.vectors = {setup.vector}

    def excuse(self, why):
        """The driver broke a rule."""
        if self.excused is None:
            self.excused = why
            self.rest()
            self.on_excuse()

    def rest(self):
        """Of what was, nobody need be told."""
        for kept in self.dues, self.steps, self.unseen:
            kept.clear()

    def force(self, content, entry=False):
        """A descriptor of an excused queue, wherever it comes from (``entry``: from an indirect table, which names no other):
        what it names may be touched."""
        addr, size, flags = content[0], content[1], content[self.FLAGS]
        table = Table(size // DESC.size, self.entry_by_force) if flags & INDIRECT and not entry else None
        self.described.add(Segment(addr, size, bool(flags & WRITE) and table is None, self, table=table))

    def entry_by_force(self, index, raw):
        self.force(DESC.unpack(raw), entry=True)

    def described_by_force(self, offset, data):
        """Bytes from ``offset`` on of the descriptors of an excused queue were read."""
        for at in range(-offset % DESC.size, len(data) - DESC.size + 1, DESC.size):
            self.force(DESC.unpack_from(data, at))

    def published(self, old, new, group):
        """``used`` went on, and the driver can see it. ``group``: chains and what was said to be written of each."""
        self.steps.append((self.report.cycle, old, new))
        self.published_seq = self.report.seq
        if not self.unseen:
            self.unseen.append(self.report.cycle)
            self.monitor.notifications.published()
        if self.PACKED:
            # What a look saw may have been the first part of this.
            for due in self.dues:
                due[1] = due[1] and due[0] + SETTLED < self.report.cycle
        if self.monitor.registers.is_receive(self.index):
            self.monitor.receive.group(self, group)

    def look(self, whole=True):
        """The device asks for the driver's wish. Return a :class:`Look`, or None if nothing was published. Not ``whole``:
        it asks for something else with it, and may not look."""
        while self.steps and self.steps[0][0] + SETTLED < self.report.cycle:
            self.steps.popleft()
        if not self.steps:
            return None
        if whole:
            self.unseen.clear()
        _, old, new = self.steps[0]
        look = Look(old, new, self.steps[-1][2], whole and not (self.PACKED and len(self.steps) > 1), self.report.seq)
        if whole:
            self.steps.popleft()
        return look

    def name_batch(self, chain, waiting, length):
        """Return the chains that a used entry stands for: ``chain``, and with IN_ORDER those before it.

        RSV-3: no chain comes back before one that was made available earlier. SPL-B1: what has no entry of its own was used
        completely.
        """
        if not self.in_order:
            return [chain]
        batch = []
        for other in waiting:
            batch.append(other)
            if other is chain:
                break
        self.report.held(RSV_3)
        for other in batch[:-1]:
            self.report.judge(SPL_B1, other.writable == other.written, lambda: (
                f"queue {self.index}: the batch that ends with id {chain.id} has id {other.id}, of whose {other.writable} bytes "
                f"{other.written} were written"))
        return batch

    def make(self, pos, id, count):
        return Chain(self, pos, id, count, self.report.seq)
