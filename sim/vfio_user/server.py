"""A vfio-user server: what a stock QEMU's ``vfio-user-pci`` takes for a PCI device in another process."""

from contextlib import ExitStack, closing
import errno
from functools import partial
import json
import os
import select
import socket
import struct
import threading
import time

from ...hdl.spec.pcie import Cfg
from ...hdl.spec.pcie import Command as ConfigCommand
from ...host.sockets import listening
from .device import EngineDevice
from .interrupts import INTX, IRQS, Interrupts
from .memory import MAX_MAPS, PAGE_SIZE, DmaTable
from .protocol import MAX_BODY, MAX_FDS, Command, ProtocolError, Refused, receive, reply, unpack

__all__ = ["Server", "EngineDevice"]

REGIONS, CONFIG_REGION = 9, 7        # those before are BARs, and the ROM
CONFIG_SIZE = 4096                 # 256 would make some firmware refuse a PCIe device
DEVICE_RESET, DEVICE_PCI = 1, 2
READ, WRITE = 1, 2
ACCEPT_AGAIN = 0.05                # seconds
IRQ_EVENTFD, IRQ_MASKABLE, IRQ_AUTOMASKED, IRQ_NORESIZE = 1, 2, 4, 8


class Server:
    """Serve ``device`` at a UNIX socket, one client at a time, until :meth:`close`.

    When a client goes, its memory and interrupts are forgotten and the device is reset; the next one may come. A request
    that breaks the rules is answered with an error; a peer that does not speak the protocol is disconnected.

    Parameters
    ----------
    path : str
        Where; :class:`ringnic.host.sockets.PathError` if there can be no socket.
    device : EngineDevice
        Or what has its methods.
    group : str or None
        Whose members may connect, besides the user.
    watch : callable
        Called by the server's thread when a client has come, with ``(True, None)``, and when it has gone, with ``(False, error)``
        as of :attr:`error`. With ``(True, error)`` if a client that stays will not get far.

    Attributes
    ----------
    error : Exception or None
        Why the last client was disconnected; None if it left by itself.
    """
    def __init__(self, path, device, *, group=None, watch=lambda connected, error: None):
        self._device = device
        self._watch = watch
        self._socket = ExitStack()
        self._listener = self._socket.enter_context(listening(path, group))
        try:
            self._stop, self._stopper = os.pipe()
        except OSError:
            self._socket.close()
            raise
        self._lock = threading.Lock()   # of the following two
        self._closing = False
        self._connection = None
        self.error = None
        self._thread = threading.Thread(target=self._serve, name="vfio-user", daemon=True)
        self._thread.start()

    def close(self):
        """Disconnect the client, end the thread, remove the socket. May be called again."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._connection is not None:
                # Wakes the thread wherever it waits for the client, be it inside a message.
                self._connection.shutdown(socket.SHUT_RDWR)
        os.close(self._stopper)
        self._thread.join()
        self._socket.close()
        os.close(self._stop)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _serve(self):
        poll = select.poll()
        for fd in (self._stop, self._listener.fileno()):
            poll.register(fd, select.POLLIN)
        while self._stop not in (fd for fd, _ in poll.poll()):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                # Out of descriptors: there may be some later. Or the client has gone again.
                self.error = error
                time.sleep(ACCEPT_AGAIN)
                continue
            with connection:
                with self._lock:
                    if self._closing:
                        return
                    self._connection = connection
                self._tell(True, None)
                try:
                    self.error = self._serve_one(connection)
                finally:
                    with self._lock:
                        self._connection = None
                self._tell(False, self.error)

    def _tell(self, connected, error):
        try:
            self._watch(connected, error)
        except Exception as failure:  # clients are served all the same
            self.error = failure

    def _serve_one(self, connection):
        """Serve until the client goes; return what it did wrong, if it did."""
        try:
            with closing(_Client(connection, self._device, partial(self._tell, True))) as client:
                client.run()
        except ConnectionError:     # it has gone before its answer came
            return None
        except Exception as error:  # the engine's too: whatever it is, the client must not wait for an answer
            return error
        return None


class NotShared(Exception):
    """No file is behind the memory of the client's machine."""
    def __str__(self):
        return ("the machine does not share its memory with the card, which can neither read nor write it; give QEMU the whole "
                "line that is printed above, -object and -machine included")


class _Gone(Exception):
    """The client has gone in the middle of its request."""


class _Client:
    def __init__(self, connection, device, warn):
        self._connection = connection
        self._warn = warn               # takes an error; once
        self._ends = select.poll()
        self._ends.register(connection, 0)  # tells of POLLHUP alone
        self._device = device
        self._agreed = False            # on a version
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

    def run(self):
        """Serve until the client goes."""
        try:
            while not self._gone() and (message := receive(self._connection)) is not None:
                try:
                    self._answer(message)
                finally:
                    message.close()
        except _Gone:
            pass

    def _gone(self):
        """The client has closed its end, or we have: what it asked for before that, nobody waits for."""
        return bool(self._ends.poll(0))

    def close(self):
        with ExitStack() as last:  # each, even if the device does not answer any more
            last.callback(self._interrupts.close)
            last.callback(self._memory.close)
            last.callback(self._device.reset)

    def _answer(self, message):
        handler = self._handlers.get(message.command)
        if not self._agreed and handler != self._version:
            raise ProtocolError(f"Command {message.command} before a version was agreed on")
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
        if self._agreed:
            raise Refused(errno.EINVAL, "Version for the second time")
        self._agreed = True
        capabilities = {"capabilities": {"max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_BODY,
                                         "pgsizes": PAGE_SIZE, "max_dma_maps": MAX_MAPS}}
        return struct.pack("<HH", 0, 0) + json.dumps(capabilities).encode() + b"\0"

    def _dma_map(self, message):
        _, flags, offset, address, size = unpack("<IIQQQ", message.body)
        self._memory.add(flags, offset, address, size, message.take_fds())
        return b""

    def _dma_unmap(self, message):
        argsz, flags, address, size = unpack("<IIQQ", message.body)
        self._memory.remove(flags, address, size)
        return struct.pack("<IIQQ", argsz, flags, address, size)

    @staticmethod
    def _room(message, size):
        """The client says how much of an answer it can take."""
        argsz, = unpack("<I", message.body)
        if argsz < size:
            raise Refused(errno.EINVAL, f"Room for {argsz} bytes where {size} are needed")

    def _info(self, message):
        self._room(message, 16)
        return struct.pack("<IIII", 16, DEVICE_RESET | DEVICE_PCI, REGIONS, IRQS)

    def _region_size(self, index):
        return CONFIG_SIZE if index == CONFIG_REGION else self._device.bar_sizes.get(index, 0)

    def _region_info(self, message):
        self._room(message, 32)
        _, _, index = unpack("<III", message.body)
        if index >= REGIONS:
            raise Refused(errno.EINVAL, f"Region {index}")
        size = self._region_size(index)
        return struct.pack("<IIIIQQ", 32, READ | WRITE if size else 0, index, 0, size, index << 40)

    def _irq_info(self, message):
        self._room(message, 16)
        _, _, index = unpack("<III", message.body)
        if index >= IRQS:
            raise Refused(errno.EINVAL, f"IRQ index {index}")
        flags = IRQ_EVENTFD | (IRQ_MASKABLE | IRQ_AUTOMASKED if index == INTX else IRQ_NORESIZE)
        return struct.pack("<IIII", 16, flags, index, self._interrupts.counts[index])

    def _set_irqs(self, message):
        _, flags, index, start, count = unpack("<IIIII", message.body)
        self._interrupts.set(flags, index, start, count, message.take_fds())
        return b""

    def _span(self, message):
        offset, region, count = unpack("<QII", message.body)
        if not 0 < count <= MAX_BODY or offset + count > self._region_size(region):
            raise Refused(errno.EINVAL, f"{count} bytes at {offset:#x} of region {region}")
        return offset, region, count

    def _pieces(self, offset, count):
        """Naturally aligned pieces of at most 4 bytes."""
        while count:
            size = next(size for size in (4, 2, 1) if offset % size == 0 and size <= count)
            yield offset, size
            offset, count = offset + size, count - size
            if count and self._gone():
                raise _Gone

    def _region_read(self, message):
        offset, region, count = self._span(message)
        read = self._device.config_read if region == CONFIG_REGION else partial(self._device.bar_read, region)
        data = b"".join(read(at, size).to_bytes(size, "little") for at, size in self._pieces(offset, count))
        return message.body[:16] + data

    def _region_write(self, message):
        offset, region, count = self._span(message)
        data = message.body[16:16 + count]
        if len(data) != count:
            raise Refused(errno.EINVAL, f"{len(data)} bytes where {count} are announced")
        write = self._device.config_write if region == CONFIG_REGION else partial(self._device.bar_write, region)
        for at, size in self._pieces(offset, count):
            write(at, size, int.from_bytes(data[at - offset:at - offset + size], "little"))
        if region == CONFIG_REGION and offset <= Cfg.COMMAND < offset + count:
            self._look_at_memory(data[Cfg.COMMAND - offset])
        return message.body[:16]

    def _look_at_memory(self, command):
        """Warn of a machine whose memory the device will not reach, as soon as the device is to use it."""
        if self._warn is not None and command >> ConfigCommand.BUS_MASTER & 1 and self._memory.lends_nothing:
            self._warn(NotShared())
            self._warn = None

    def _reset(self, message):
        self._device.reset()
        return b""
