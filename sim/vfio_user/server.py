"""A vfio-user server: what a stock QEMU's ``vfio-user-pci`` takes for a PCI device in another process."""

import errno
import json
import os
import select
import socket
import struct
import threading

from .device import EngineDevice
from .memory import DmaTable
from .protocol import MAX_BODY, Command, IrqFlag, ProtocolError, Refused, receive, reply, unpack

__all__ = ["Server", "EngineDevice"]

REGIONS, CONFIG_REGION, BAR_REGION = 9, 7, 0
CONFIG_SIZE = 4096                 # 256 would make some firmware refuse a PCIe device
INTX, MSI, MSIX, ERR, REQ = range(5)
IRQS = 5
DEVICE_RESET, DEVICE_PCI = 1, 2
READ, WRITE = 1, 2
IRQ_EVENTFD, IRQ_MASKABLE, IRQ_AUTOMASKED, IRQ_NORESIZE = 1, 2, 4, 8


class Interrupts:
    """Event descriptors of one client, by IRQ index and vector."""
    def __init__(self, device):
        self._device = device
        self._fds = {}
        self._intx_masked = False
        self._lock = threading.Lock()
        self.counts = {INTX: 1 if device.intx_pin else 0, MSI: 0, MSIX: device.vectors, ERR: 1, REQ: 1}

    def set(self, flags, index, start, count, data, fds):
        """SET_IRQS."""
        with self._lock:
            try:
                self._set(flags, index, start, count, data, fds)
            finally:
                for fd in fds:
                    os.close(fd)
        if index == MSIX:
            self._device.listen({vector for irq, vector in self._fds if irq == MSIX})
        self.deliver_intx()

    def _set(self, flags, index, start, count, data, fds):
        if index not in self.counts or start + count > self.counts[index]:
            raise Refused(errno.EINVAL, f"SET_IRQS of {count} from {start} of index {index}")
        if flags & IrqFlag.EVENTFD and flags & IrqFlag.TRIGGER:
            if len(fds) > count:
                raise Refused(errno.EINVAL, f"SET_IRQS with {len(fds)} descriptors for {count} vectors")
            for vector in range(start, start + count):
                self._drop(index, vector)
                if fds:
                    self._fds[index, vector] = fds.pop(0)
        elif flags & IrqFlag.NONE and flags & IrqFlag.TRIGGER:
            if count:
                raise Refused(errno.ENOTSUP, "SET_IRQS to trigger by hand")
            for irq, vector in list(self._fds):
                if irq == index:
                    self._drop(irq, vector)
        elif index == INTX and flags & IrqFlag.NONE and flags & (IrqFlag.MASK | IrqFlag.UNMASK):
            self._intx_masked = bool(flags & IrqFlag.MASK)
        elif not flags & (IrqFlag.MASK | IrqFlag.UNMASK):
            raise Refused(errno.EINVAL, f"SET_IRQS flags {flags:#x}")

    def _drop(self, index, vector):
        fd = self._fds.pop((index, vector), None)
        if fd is not None:
            os.close(fd)

    def deliver(self):
        """Pass on what the device has raised."""
        vectors = self._device.messages()
        with self._lock:
            for vector in vectors:
                fd = self._fds.get((MSIX, vector))
                if fd is not None:
                    os.eventfd_write(fd, 1)
        self.deliver_intx()

    def deliver_intx(self):
        with self._lock:
            fd = self._fds.get((INTX, 0))
            if fd is not None and not self._intx_masked and self._device.intx:
                self._intx_masked = True   # until the client says that the guest has dealt with it
                os.eventfd_write(fd, 1)

    def close(self):
        with self._lock:
            for index, vector in list(self._fds):
                self._drop(index, vector)


class Server:
    """Serve ``device`` at a UNIX socket, one client at a time, until :meth:`close`.

    When a client goes, its memory and interrupts are forgotten and the device is reset; the next one may come. A request
    that breaks the rules is answered with an error; a peer that does not speak the protocol is disconnected.
    """
    def __init__(self, path, device):
        self._path = path
        self._device = device
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(1)
        self._stop, self._stopper = os.pipe()
        self.error = None          # why the last client was disconnected
        self._thread = threading.Thread(target=self._serve, name="vfio-user", daemon=True)
        self._thread.start()

    def close(self):
        """Disconnect the client, end the thread, remove the socket. May be called again."""
        if self._stopper is not None:
            os.close(self._stopper)
            self._stopper = None
            self._thread.join()
            self._listener.close()
            os.close(self._stop)
            if os.path.exists(self._path):
                os.unlink(self._path)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _serve(self):
        while True:
            ready, _, _ = select.select([self._stop, self._listener], [], [])
            if self._stop in ready:
                return
            connection, _ = self._listener.accept()
            client = _Client(connection, self._device)
            try:
                if not client.run(self._stop):
                    return
            except (ProtocolError, OSError) as error:
                self.error = error
            finally:
                client.close()


class _Client:
    def __init__(self, connection, device):
        self._connection = connection
        self._device = device
        self._memory = DmaTable(device)
        self._interrupts = Interrupts(device)
        self._handlers = {
            Command.VERSION:         self._version,
            Command.DMA_MAP:         self._dma_map,
            Command.DMA_UNMAP:       self._dma_unmap,
            Command.GET_INFO:        self._info,
            Command.GET_REGION_INFO: self._region_info,
            Command.GET_IRQ_INFO:    self._irq_info,
            Command.SET_IRQS:        self._set_irqs,
            Command.REGION_READ:     self._region_read,
            Command.REGION_WRITE:    self._region_write,
            Command.RESET:           self._reset,
        }
        self._wake, self._waker = os.pipe()
        self._pump = threading.Thread(target=self._pump_interrupts, name="vfio-user interrupts", daemon=True)
        self._pump.start()

    def run(self, stop):
        """Serve until the client goes (True) or ``stop`` becomes readable (False)."""
        while True:
            ready, _, _ = select.select([stop, self._connection], [], [])
            if stop in ready:
                return False
            message = receive(self._connection)
            if message is None:
                return True
            try:
                self._answer(message)
            finally:
                message.close()

    def close(self):
        os.close(self._waker)
        self._pump.join()
        os.close(self._wake)
        self._connection.close()
        self._interrupts.close()
        self._device.reset()
        self._memory.close()

    def _pump_interrupts(self):
        while True:
            ready, _, _ = select.select([self._wake, self._device.irq_fd], [], [])
            if self._wake in ready:
                return
            os.eventfd_read(self._device.irq_fd)
            self._interrupts.deliver()

    def _answer(self, message):
        handler = self._handlers.get(message.command)
        try:
            if handler is None:
                raise Refused(errno.ENOTSUP, f"Command {message.command}")
            body = handler(message)
        except Refused as refused:
            reply(self._connection, message, error=refused.errno)
        else:
            reply(self._connection, message, body)

    def _version(self, message):
        major, _ = unpack("<HH", message.body)
        if major != 0:
            raise Refused(errno.ENOTSUP, f"Version {major}")
        capabilities = {"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": MAX_BODY,
                                         "pgsizes": 4096, "max_dma_maps": 65535}}
        return struct.pack("<HH", 0, 0) + json.dumps(capabilities).encode() + b"\0"

    def _dma_map(self, message):
        _, flags, offset, address, size = unpack("<IIQQQ", message.body)
        self._memory.add(flags, offset, address, size, message.take_fds())
        return b""

    def _dma_unmap(self, message):
        argsz, flags, address, size = unpack("<IIQQ", message.body)
        self._memory.remove(flags, address, size)
        return struct.pack("<IIQQ", argsz, flags, address, size)

    def _info(self, message):
        unpack("<I", message.body)
        return struct.pack("<IIII", 16, DEVICE_RESET | DEVICE_PCI, REGIONS, IRQS)

    def _region_size(self, index):
        return {BAR_REGION: self._device.bar_size, CONFIG_REGION: CONFIG_SIZE}.get(index, 0)

    def _region_info(self, message):
        _, _, index = unpack("<III", message.body)
        if index >= REGIONS:
            raise Refused(errno.EINVAL, f"Region {index}")
        size = self._region_size(index)
        return struct.pack("<IIIIQQ", 32, READ | WRITE if size else 0, index, 0, size, index << 40)

    def _irq_info(self, message):
        _, _, index = unpack("<III", message.body)
        if index >= IRQS:
            raise Refused(errno.EINVAL, f"IRQ index {index}")
        flags = IRQ_EVENTFD | (IRQ_MASKABLE | IRQ_AUTOMASKED if index == INTX else IRQ_NORESIZE)
        return struct.pack("<IIII", 16, flags, index, self._interrupts.counts[index])

    def _set_irqs(self, message):
        _, flags, index, start, count = unpack("<IIIII", message.body)
        self._interrupts.set(flags, index, start, count, message.body[20:], message.take_fds())
        return b""

    def _span(self, message):
        offset, region, count = unpack("<QII", message.body)
        if not 0 < count <= MAX_BODY or offset + count > self._region_size(region):
            raise Refused(errno.EINVAL, f"{count} bytes at {offset:#x} of region {region}")
        return offset, region, count

    @staticmethod
    def _pieces(offset, count):
        """Naturally aligned pieces of at most 4 bytes."""
        while count:
            size = next(size for size in (4, 2, 1) if offset % size == 0 and size <= count)
            yield offset, size
            offset, count = offset + size, count - size

    def _region_read(self, message):
        offset, region, count = self._span(message)
        read = self._device.config_read if region == CONFIG_REGION else self._device.bar_read
        data = b"".join(read(at, size).to_bytes(size, "little") for at, size in self._pieces(offset, count))
        return message.body[:16] + data

    def _region_write(self, message):
        offset, region, count = self._span(message)
        data = message.body[16:16 + count]
        if len(data) != count:
            raise Refused(errno.EINVAL, f"{len(data)} bytes where {count} are announced")
        write = self._device.config_write if region == CONFIG_REGION else self._device.bar_write
        for at, size in self._pieces(offset, count):
            write(at, size, int.from_bytes(data[at - offset:at - offset + size], "little"))
        return message.body[:16]

    def _reset(self, message):
        self._device.reset()
        return b""
