"""From interrupts of the device to event descriptors of the client."""

import errno
import os
import select
import threading

from .protocol import IrqFlag, Refused

__all__ = ["INTX", "MSI", "MSIX", "IRQS", "Interrupts"]

INTX, MSI, MSIX, ERR, REQ = range(5)
IRQS = 5
WAIT = 0.05                # seconds

DATA    = IrqFlag.NONE | IrqFlag.BOOL | IrqFlag.EVENTFD
ACTIONS = IrqFlag.MASK | IrqFlag.UNMASK | IrqFlag.TRIGGER


def _take_eventfd(fd):
    """Make sure that a write to a descriptor of the client's cannot stop us: whatever else it may be is refused."""
    if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:[eventfd]":
        raise Refused(errno.EINVAL, "SET_IRQS with a descriptor that is no eventfd")
    # A counter may be full; a blocking one would then hold up the device for as long as the client likes.
    os.set_blocking(fd, False)


def _drain(fd):
    """Empty an eventfd without waiting, whatever the client has made of its blocking mode."""
    try:
        os.preadv(fd, [bytearray(8)], -1, os.RWF_NOWAIT)
    except OSError:
        pass  # it was empty


class Interrupts:
    """Event descriptors of one client, by IRQ index and vector; a thread passes on what the device raises.

    A client shares its descriptors with us, and can make them block again and fill them. So only the thread writes to them, it
    holds no lock meanwhile, and at the end the one that it waits for is emptied.
    """
    def __init__(self, device):
        self._device = device
        self._fds = {}
        self._intx_masked = False
        self._lock = threading.Lock()
        self._writing = None        # the descriptor that the thread writes to
        self._doomed = []           # descriptors to be closed after that
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
        os.eventfd_write(self._device.irq_fd, 1)  # INTx may be due, and is the thread's to tell of

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
        if fd is not None and fd == self._writing:
            self._doomed.append(fd)
        elif fd is not None:
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
        for message in self._device.messages():
            self._signal(message)
        with self._lock:
            due = not self._intx_masked and self._device.intx and (INTX, 0) in self._fds
            if due:
                self._intx_masked = True   # until the client says that the guest has dealt with it
        if due:
            self._signal((INTX, 0))

    def _signal(self, message):
        with self._lock:
            if (fd := self._fds.get(message)) is None:
                return
            self._writing = fd
        try:
            os.eventfd_write(fd, 1)
        except BlockingIOError:
            pass  # full: the client has more than enough to read already
        finally:
            with self._lock:
                self._writing = None
                for doomed in self._doomed:
                    os.close(doomed)
                self._doomed.clear()

    def close(self):
        """End the thread and forget the client's descriptors; the device is told that nobody listens."""
        os.close(self._stopper)
        while self._thread.is_alive():
            self._thread.join(WAIT)
            with self._lock:
                if self._writing is not None:
                    _drain(self._writing)
        os.close(self._stop)
        for index, vector in list(self._fds):
            self._drop(index, vector)
        self._device.listen(set())
        self._device.messages()  # the next client is not told of these
