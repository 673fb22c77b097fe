"""What a card has to do for its driver: the golden device beside it, given the same memory and the same accesses."""

from contextlib import contextmanager

from ...hdl.spec.virtio import VIRTIO_F_IN_ORDER
from ...host.bus import Bus
from .memory import Fault
from .virtqueue import RingError

__all__ = ["Oracle"]


class Oracle(Bus):
    """A bus that carries a driver's accesses to a card and, as they are, to a golden device with a memory of its own.

    What the driver writes into memory it writes within :meth:`action`, or before DRIVER_OK. Whenever time may pass for the
    card, the golden device has seen it and done all that follows, so it is never behind. When the card has come to
    rest, :meth:`check` compares. A card is free in

    - when it looks, how much it publishes at once, and when it wants to be notified;
    - with IN_ORDER: how many chains it reports by one used entry, if those skipped were used completely (2.7.9, 2.8.8);
    - on which active pair it receives a frame of no flow that the driver transmitted; of any flow, unless ``device.strict``.

    What it writes, in which order it uses chains, and whether a notification is due is not free. A queue is reset
    while it is at rest: nobody can say how far a card would have come.

    Parameters
    ----------
    bus : SimBus
        Of the card.
    device : GoldenNet
        Frames from the wire come to it through :meth:`receive`.
    """
    def __init__(self, bus, device):
        self.bus = bus
        self.device = device
        self._buffers = {}    # by iova: the driver's buffer, the golden device's memory
        self._written = {}    # by iova: from which offset the device may write, if it may
        self._acting = False  # the driver is writing
        self._followed = {}   # by queue: how many of the uses the card has shown
        self._left = {}       # by queue: its shared ring, as the driver found it
        self._loose = []      # (addr, end) of what belonged to queues that have been reset
        self._undecided = []  # frames, and the pairs that they may have been received on

    # Bus

    def config_read(self, offset, size):
        with self._time():
            return self.bus.config_read(offset, size)

    def config_write(self, offset, size, value):
        with self._time():
            self.device.config_write(offset, size, value)
            self.bus.config_write(offset, size, value)

    def bar_read(self, bar, offset, size):
        with self._time():
            return self.bus.bar_read(bar, offset, size)

    def bar_write(self, bar, offset, size, value):
        with self._time():
            self.device.bar_write(offset, size, value)
            self.bus.bar_write(bar, offset, size, value)

    def run(self, cycles):
        with self._time():
            self.bus.run(cycles)

    def alloc(self, size, align=4096):
        buffer = self.bus.alloc(size, align)
        shadow = bytearray(buffer.view)
        self._buffers[buffer.iova] = buffer, shadow
        self.device.map(buffer.iova, shadow)
        release = buffer._release

        def free(buffer):
            del self._buffers[buffer.iova]
            self._written.pop(buffer.iova, None)
            self.device.unmap(buffer.iova, len(buffer))
            release(buffer)
        buffer._release = free
        return buffer

    def enable_msix(self, vectors):
        return self.bus.enable_msix(vectors)

    def poll_irq(self):
        return self.bus.poll_irq()

    def reset(self):
        raise NotImplementedError("The golden device is reset by status 0")

    def place_bar(self, bar, size):
        return self.bus.place_bar(bar, size)

    # Who may write where

    def let_write(self, buffer, offset=0):
        """From ``offset`` on, ``buffer`` is the device's to write and not the driver's. Of rings that is known."""
        _, shadow = self._buffers[buffer.iova]
        shadow[:] = buffer.view
        self._written[buffer.iova] = offset

    def _devices(self):
        """``(addr, end)`` of what the driver may not write, or not alone."""
        return [*((iova + offset, iova + len(self._buffers[iova][1])) for iova, offset in self._written.items()),
                *(span for queue in self.device.queues.values() for span in queue.writes())]

    def _spans(self, excluded):
        """Yield ``(iova, first, end)``: all memory but what is excluded."""
        excluded = sorted(excluded)
        for iova, (_, shadow) in self._buffers.items():
            first = 0
            for addr, end in excluded:
                if addr < iova + len(shadow) and end > iova:
                    if addr - iova > first:
                        yield iova, first, addr - iova
                    first = max(first, end - iova)
            if first < len(shadow):
                yield iova, first, len(shadow)

    def _compare(self, excluded):
        for iova, first, end in self._spans(excluded):
            buffer, shadow = self._buffers[iova]
            if buffer.view[first:end] != shadow[first:end]:
                at = next(k for k in range(first, end) if buffer.view[k] != shadow[k])
                raise AssertionError(
                    f"Byte {at:#x} of the {len(shadow)} at {iova:#x} is {bytes(buffer.view[at:at + 16]).hex()}, "
                    f"not {bytes(shadow[at:at + 16]).hex()}")

    def _read(self, addr, length):
        """Read the card's memory."""
        for iova, (buffer, _) in self._buffers.items():
            if iova <= addr and addr + length <= iova + len(buffer.view):
                return bytes(buffer.view[addr - iova:addr - iova + length])
        raise Fault(f"Nothing is at {addr:#x}, {length} bytes")

    # The driver's turn, and the card's

    @contextmanager
    def action(self):
        """The driver writes into memory, and notifies or not. What is its own must be as it left it."""
        self._follow()
        if self.device.live:
            self._compare(self._devices() + self._loose)
        self._acting = True
        try:
            yield
            self._hand_over()
        finally:
            self._acting = False

    @contextmanager
    def _time(self):
        """Time passes for the card. What the driver wrote before goes to the golden device first."""
        self._hand_over()
        yield
        if self._acting:
            self._follow()

    def _hand_over(self):
        if not self.device.live:
            self._loose.clear()
            for buffer, shadow in self._buffers.values():
                shadow[:] = buffer.view
        elif self._acting:
            for iova, first, end in self._spans(self._devices()):
                buffer, shadow = self._buffers[iova]
                shadow[first:end] = buffer.view[first:end]
            for queue, left in self._left.items():
                self._hand_over_ring(queue, left)
            self.device.poll()

    def _hand_over_ring(self, queue, left):
        """In a packed ring the driver's are those entries that it changed since it got the ring."""
        now = self._read(queue.desc, len(left))
        for at in range(0, len(now) if now != left else 0, queue.ENTRY_BYTES):
            if now[at:at + queue.ENTRY_BYTES] != left[at:at + queue.ENTRY_BYTES]:
                self.device.memory.write(queue.desc + at, now[at:at + queue.ENTRY_BYTES])

    def _follow(self):
        """See how far the card has come, and let the golden device's rings be grouped as the card's are."""
        queues = self.device.queues
        for queue in self._followed.keys() - queues.values():
            self._loose += queue.writes()
        self._followed = {queue: self._followed.get(queue, 0) for queue in queues.values()}
        self._left = {}
        for index, queue in queues.items():
            try:
                while self._follow_entry(index, queue):
                    pass
                if queue.SHARED:
                    self._left[queue] = self._read(queue.desc, queue.ENTRY_BYTES * queue.size)
            except Fault:
                pass  # the driver said that a ring is where nothing is

    def _follow_entry(self, index, queue):
        """Look at the next used entry that is not known. Return whether there is one."""
        pending = list(queue.uses)[len(queue.uses) - (queue.used - self._followed[queue]):]
        place = pending[0].place if pending else queue.place
        shown = queue.shown(self._read, place)
        if shown is None:
            return False
        count = next((count for count, use in enumerate(pending, 1) if use.id == shown), 0)
        if not count:
            if not self._decide(index, queue):
                raise AssertionError(f"Queue {index}: id {shown} is in the used entry at {place.addr:#x}, due "
                                     f"were {[use.id for use in pending]}")
        elif count > 1 and (VIRTIO_F_IN_ORDER not in self.device.features
                            or not all(use.whole for use in pending[:count - 1])):
            raise AssertionError(f"Queue {index}: id {shown} is in the used entry at {place.addr:#x}, and {count - 1} "
                                 "before it have not been reported")
        else:
            if count > 1:
                queue.batch(pending[:count])
            self._followed[queue] += count
        return True

    # Frames that come in

    def receive(self, frame):
        """A frame comes from the wire; the card gets it, too. If there are several pairs for it, the card shows on which."""
        pairs = self.device.pairs_for(frame)
        if (self._undecided or len(pairs) > 1) and not self.device.too_long(frame):
            self._undecided.append((bytes(frame), frozenset(pairs)))
        else:
            self.device.receive(frame)

    def _decide(self, index, queue):
        """The card used a buffer of this queue for the first frame that may go there and is in it. Return whether so."""
        pair = index // 2
        for at, (frame, pairs) in enumerate(self._undecided):
            # The pair that was right when the frame came, or is now.
            if index % 2 == 0 and pair in pairs.union(self.device.pairs_for(frame)) and self._wrote(frame, queue):
                del self._undecided[at]
                self.device.receive(frame, pair)
                return True
        return False

    def _wrote(self, frame, queue):
        try:
            parts = self.device.spread(frame, queue)
        except RingError:
            return False
        return bool(parts) and all(self._read(addr, len(part)) == part for _, writes in parts for addr, part in writes)

    # The verdict

    def check(self, vectors):
        """The card is at rest: all memory is as predicted, and ``vectors``, those that came, are those that were due.

        Whether a vector is due is known if what the driver says about notifications did not change meanwhile.
        """
        self._follow()
        for frame, _ in self._undecided:
            pairs = self.device.pairs_for(frame)
            if pairs and all(self.device.spread(frame, self.device.queues[2 * pair]) for pair in pairs):
                raise AssertionError(f"A frame did not come, there are buffers for it: {frame[:40].hex()}")
        for queue in self.device.queues.values():
            queue.check_event(self._read)
        self._compare([*(queue.event for queue in self.device.queues.values()), *self._loose])
        due = {data for _, data in self.device.interrupts()}
        if vectors != due:
            raise AssertionError(f"Vectors {sorted(vectors)} came, {sorted(due)} were due")
