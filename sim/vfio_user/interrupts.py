"""From interrupts of the device to event descriptors of the client."""

import errno
import os
import select
import threading

from .protocol import IrqFlag, Refused

__all__ = ["INTX", "MSI", "MSIX", "IRQS", "Interrupts"]

INTX, MSI, MSIX, ERR, REQ = range(5)
IRQS = 5

DATA    = IrqFlag.NONE | IrqFlag.BOOL | IrqFlag.EVENTFD
ACTIONS = IrqFlag.MASK | IrqFlag.UNMASK | IrqFlag.TRIGGER


def _take_eventfd(fd):
    """Make sure that a write to a descriptor of the client's cannot stop us: whatever else it may be is refused."""
    if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:[eventfd]":
        raise Refused(errno.EINVAL, "SET_IRQS with a descriptor that is no eventfd")
    # A counter may be full; a blocking one would then hold up the device for as long as the client likes.
    os.set_blocking(fd, False)


def _signal(fd):
    try:
        os.eventfd_write(fd, 1)
    except BlockingIOError:
        pass  # full: the client has more than enough to read already


class Interrupts:
    """Event descriptors of one client, by IRQ index and vector; a thread passes on what the device raises."""
    def __init__(self, device):
        self._device = device
        self._fds = {}
        self._intx_masked = False
        self._lock = threading.Lock()
        self.counts = {INTX: 1 if device.intx_pin else 0, **device.vectors, ERR: 1, REQ: 1}
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._pump, name="vfio-user interrupts", daemon=True)
        self._thread.start()

    def set(self, flags, index, start, count, fds):
        """SET_IRQS. Closes of ``fds`` those that are not kept."""
        with self._lock:
            try:
                self._set(flags, index, start, count, fds)
            finally:
                for fd in fds:
                    os.close(fd)
            vectors = {vector for irq, vector in self._fds if irq == MSIX}
        if index == MSIX:
            self._device.listen(vectors)
        self._deliver_intx()

    def _set(self, flags, index, start, count, fds):
        data, action = flags & DATA, flags & ACTIONS
        # One kind of data, one action, nothing else.
        if flags != data | action or data.bit_count() != 1 or action.bit_count() != 1:
            raise Refused(errno.EINVAL, f"SET_IRQS flags {flags:#x}")
        if index not in self.counts or start + count > self.counts[index]:
            raise Refused(errno.EINVAL, f"SET_IRQS of {count} from {start} of index {index}")
        if fds and (data != IrqFlag.EVENTFD or len(fds) > count):
            raise Refused(errno.EINVAL, f"SET_IRQS with {len(fds)} descriptors for {count} vectors")
        if action == IrqFlag.TRIGGER and data == IrqFlag.EVENTFD:
            for fd in fds:
                _take_eventfd(fd)
            for vector in range(start, start + count):
                self._drop(index, vector)
                if fds:
                    self._fds[index, vector] = fds.pop(0)
        elif action == IrqFlag.TRIGGER and data == IrqFlag.NONE and not count:
            for irq, vector in list(self._fds):
                if irq == index:
                    self._drop(irq, vector)
        elif action != IrqFlag.TRIGGER and data == IrqFlag.NONE and index == INTX and count:
            self._intx_masked = action == IrqFlag.MASK
        else:
            # Triggering by hand, and an eventfd that unmasks INTx: a QEMU that is refused unmasks with messages.
            raise Refused(errno.ENOTSUP, f"SET_IRQS flags {flags:#x} for index {index}")

    def _drop(self, index, vector):
        fd = self._fds.pop((index, vector), None)
        if fd is not None:
            os.close(fd)
        if index == INTX:
            self._intx_masked = False  # who listens next has not been told yet

    def _pump(self):
        poll = select.poll()  # select() ends at descriptor 1023
        for fd in (self._stop, self._device.irq_fd):
            poll.register(fd, select.POLLIN)
        while True:
            if self._stop in (fd for fd, _ in poll.poll()):
                return
            try:
                os.eventfd_read(self._device.irq_fd)
            except BlockingIOError:
                continue  # somebody else was faster
            self._deliver()

    def _deliver(self):
        messages = self._device.messages()
        with self._lock:
            for message in messages:
                fd = self._fds.get(message)
                if fd is not None:
                    _signal(fd)
        self._deliver_intx()

    def _deliver_intx(self):
        with self._lock:
            fd = self._fds.get((INTX, 0))
            if fd is not None and not self._intx_masked and self._device.intx:
                self._intx_masked = True   # until the client says that the guest has dealt with it
                _signal(fd)

    def close(self):
        """End the thread and forget the client's descriptors; the device is told that nobody listens."""
        os.close(self._stopper)
        self._thread.join()
        os.close(self._stop)
        for index, vector in list(self._fds):
            self._drop(index, vector)
        self._device.listen(set())
        self._device.messages()  # the next client is not told of these
