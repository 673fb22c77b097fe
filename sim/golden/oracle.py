"""What a card has to do for its driver: the golden device beside it, given the same memory and the same accesses."""

from contextlib import contextmanager

from ...host.bus import Bus

__all__ = ["Oracle"]

AVAIL_EVENT_BYTES = 2


class Oracle(Bus):
    """A bus that carries a driver's accesses to a card and, as they are, to a golden device with a memory of its own.

    What the driver writes into memory it writes within :meth:`action`; at its end the golden device has seen it and done
    all that follows, so it is never behind the card. When the card has come to rest, :meth:`check` compares. A card
    is free in when it looks, how much it publishes at once, and where it leaves ``avail_event``; what it writes, in
    which order it uses chains, and whether a notification is due is not free.

    Parameters
    ----------
    bus : SimBus
        Of the card.
    device : GoldenNet

    Attributes
    ----------
    device : GoldenNet
        Frames from the wire go to its ``receive`` as well.
    """
    def __init__(self, bus, device):
        self.bus = bus
        self.device = device
        self._buffers = {}  # by iova: the driver's buffer, the golden device's memory
        self._written = {}  # by iova: from which offset the device may write, if it may

    # Bus

    def config_read(self, offset, size):
        return self.bus.config_read(offset, size)

    def config_write(self, offset, size, value):
        self.device.config_write(offset, size, value)
        self.bus.config_write(offset, size, value)

    def bar_read(self, bar, offset, size):
        return self.bus.bar_read(bar, offset, size)

    def bar_write(self, bar, offset, size, value):
        self.device.bar_write(offset, size, value)
        self.bus.bar_write(bar, offset, size, value)

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

    def run(self, cycles):
        self.bus.run(cycles)

    # Memory

    def let_write(self, buffer, offset=0):
        """From ``offset`` on, ``buffer`` is the device's to write and not the driver's."""
        _, shadow = self._buffers[buffer.iova]
        shadow[:] = buffer.view
        self._written[buffer.iova] = offset

    def _compare(self, iova, first, end):
        buffer, shadow = self._buffers[iova]
        if buffer.view[first:end] != shadow[first:end]:
            at = next(k for k in range(first, end) if buffer.view[k] != shadow[k])
            raise AssertionError(f"Byte {at:#x} of the {len(shadow)} at {iova:#x} is {bytes(buffer.view[at:at + 16]).hex()}, "
                                 f"not {bytes(shadow[at:at + 16]).hex()}")

    @contextmanager
    def action(self):
        """The driver writes into memory, and notifies or not. What is its own must be as it left it."""
        for iova, (buffer, shadow) in self._buffers.items():
            self._compare(iova, 0, self._written.get(iova, len(shadow)))
        yield
        for iova, (buffer, shadow) in self._buffers.items():
            end = self._written.get(iova, len(shadow))
            shadow[:end] = buffer.view[:end]
        self.device.poll()

    def check(self, queues, vectors):
        """The card is at rest: all memory is as predicted, and ``vectors``, those that came, are those that were due.

        Whether a vector is due is known if what the driver says about notifications did not change meanwhile.
        """
        rings = {queue.memory.iova for queue in queues}
        for iova, (buffer, shadow) in self._buffers.items():
            self._compare(iova, 0, len(shadow) - (AVAIL_EVENT_BYTES if iova in rings else 0))
        due = {data for _, data in self.device.interrupts()}
        if vectors != due:
            raise AssertionError(f"Vectors {sorted(vectors)} came, {sorted(due)} were due")
