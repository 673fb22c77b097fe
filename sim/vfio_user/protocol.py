"""vfio-user messages: layouts, numbers, and reading them off a socket.

Ref: vfio-user Protocol Specification, version 0.0.
"""

import array
import enum
import errno
import os
import socket
import struct

__all__ = ["MAX_FDS", "MAX_BODY", "Command", "Flag", "IrqFlag", "ProtocolError", "Refused", "Message", "receive", "reply",
           "unpack"]

HEADER = struct.Struct("<HHIII")   # message id, command, size, flags, error
MAX_FDS = 16
MAX_BODY = 1 << 20                 # bytes: what VERSION offers as max_data_xfer_size
BODY_HEADER = 64                   # bytes that may stand before such data


class Command(enum.IntEnum):
    VERSION         = 1
    DMA_MAP         = 2
    DMA_UNMAP       = 3
    GET_INFO        = 4
    GET_REGION_INFO = 5
    GET_IRQ_INFO    = 7
    SET_IRQS        = 8
    REGION_READ     = 9
    REGION_WRITE    = 10
    RESET           = 13


class Flag(enum.IntFlag):
    REPLY    = 1
    TYPE     = 15      # 0 for a request
    NO_REPLY = 1 << 4
    ERROR    = 1 << 5


class IrqFlag(enum.IntFlag):
    NONE    = 1
    BOOL    = 2
    EVENTFD = 4
    MASK    = 8
    UNMASK  = 16
    TRIGGER = 32


class ProtocolError(Exception):
    """The peer does not speak vfio-user: the connection is of no more use."""


class Refused(Exception):
    """A request that cannot be met; ``errno`` is what the peer is told."""
    def __init__(self, code, why):
        super().__init__(why)
        self.errno = code


class Message:
    """One request. ``fds`` belong to the message until somebody takes them with :meth:`take_fds`."""
    def __init__(self, ident, command, flags, body, fds):
        self.ident = ident
        self.command = command
        self.flags = flags
        self.body = body
        self.fds = fds

    def take_fds(self):
        fds, self.fds = self.fds, []
        return fds

    def close(self):
        for fd in self.take_fds():
            os.close(fd)


def _exactly(connection, size):
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ProtocolError("Connection ended inside a message")
        data += part
    return bytes(data)


def receive(connection):
    """Read one message, or return None at the end of the connection.

    File descriptors travel with the first byte of a message. Requests are pipelined, so exactly the header is read
    first: a longer read would mix up whose descriptors are whose.
    """
    size = array.array("i").itemsize
    data, ancillary, told, _ = connection.recvmsg(HEADER.size, socket.CMSG_SPACE(MAX_FDS * size),
                                                  socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[:len(payload) - len(payload) % size])
    message = Message(0, 0, 0, b"", list(fds))
    try:
        if not data:
            message.close()
            return None
        if told & socket.MSG_CTRUNC:
            raise ProtocolError(f"Message with more than {MAX_FDS} descriptors, or more than we can open")
        data += _exactly(connection, HEADER.size - len(data))
        message.ident, message.command, total, message.flags, _ = HEADER.unpack(data)
        if not HEADER.size <= total <= HEADER.size + MAX_BODY + BODY_HEADER:
            raise ProtocolError(f"Message of {total} bytes")
        if message.flags & Flag.TYPE:
            raise ProtocolError(f"Message of type {message.flags & Flag.TYPE}, which is no request")
        message.body = _exactly(connection, total - HEADER.size)
    except BaseException:
        message.close()
        raise
    return message


def reply(connection, message, body=b"", error=0):
    """Answer ``message``, unless it does not want one."""
    if message.flags & Flag.NO_REPLY:
        return
    flags = Flag.REPLY | (Flag.ERROR if error else 0)
    connection.sendall(HEADER.pack(message.ident, message.command, HEADER.size + len(body), flags, error) + body)


def unpack(layout, body):
    """Fields of ``layout`` at the start of ``body``, or :exc:`Refused`."""
    if len(body) < struct.calcsize(layout):
        raise Refused(errno.EINVAL, f"{len(body)} bytes where {struct.calcsize(layout)} are needed")
    return struct.unpack_from(layout, body)
