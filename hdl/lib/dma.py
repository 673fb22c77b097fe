"""The DMA seam: what a room that needs host memory speaks, and nothing of PCIe.

A *read port* carries requests out and beats back, in the order of the requests. A *write port* carries requests
and their data, and a pulse for each write that has left. Beats hold packed bytes, byte ``k`` of a beat in bits
``8k+7:8k``: those of an answer from lane 0, those of a write from any lane.

Where the areas of each virtqueue begin is known to the DMA alone, so that an address of 64 bits is found once, and not in each
stage that reads a ring.
"""

from amaranth import unsigned
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["DMA_LEN_WIDTH", "DMA_LANE_WIDTH", "Area", "AreaBase", "AreaPort", "ReadReq", "WriteReq",
           "read_beat", "write_beat", "ReadPort", "WritePort"]

DMA_LEN_WIDTH = 16
DMA_LANE_WIDTH = 8   # of beats of up to 2048 bits


class Area(enum.Enum, shape=2):
    """What the address of a request counts from: 0, or the beginning of an area of a virtqueue (VIRTIO 1.4, 4.1.4.3)."""
    NONE   = 0
    DESC   = 1
    DRIVER = 2
    DEVICE = 3


class AreaBase(data.Struct):
    """Byte address at which ``area`` of ``queue`` begins; ``area`` is not NONE."""
    queue: unsigned(16)
    area:  Area
    addr:  unsigned(64)


#: Tell the DMA where an area begins: ``valid`` is a strobe, and requests offered two cycles later count from there.
AreaPort = Signature({"valid": Out(1), "p": Out(AreaBase)})


class ReadReq(data.Struct):
    """Read ``len`` bytes (1 to 65535) ``addr`` bytes behind the beginning of ``area`` of ``queue``, any alignment.

    With Area.NONE ``addr`` is the address in host memory, and ``queue`` means nothing.
    """
    addr:  unsigned(64)
    len:   unsigned(DMA_LEN_WIDTH)
    area:  Area
    queue: unsigned(16)


class WriteReq(data.Struct):
    """Write ``len`` bytes (1 to 65535) at byte address ``addr``, any alignment.

    ``lane``: of the first byte in its beat. What the client has in bytes at hand need not be moved; most leave it 0.
    """
    addr: unsigned(64)
    len:  unsigned(DMA_LEN_WIDTH)
    lane: unsigned(DMA_LANE_WIDTH)


def read_beat(width):
    """Beat of an answer: ``count`` valid bytes (0 to ``width // 8``) from lane 0; any beat may be partial.

    ``last`` ends the request, exactly once. ``error`` is valid with ``last``: some part of the request failed, and fewer bytes
    than asked for may have come. Those that came are what the host has sent, from the beginning of the request on.
    """
    return data.StructLayout({"data": width, "count": range(width // 8 + 1), "last": 1, "error": 1})


def write_beat(width):
    """Beat of a write: the first holds bytes from ``lane`` on, all but the last are full, and that holds what remains of ``len``.

    What the other bytes are does not matter, but some of them reach the link, where byte enables mask them: they must be
    nobody's secret.
    """
    return data.StructLayout({"data": width, "last": 1})


def ReadPort(width):
    """Read port, seen from the client.

    The client takes every beat without depending on anything but itself: it asks for no more than it has room for.
    """
    return Signature({
        "req":  Out(stream.Signature(ReadReq)),
        "beat": In(stream.Signature(read_beat(width))),
    })


def WritePort(width):
    """Write port, seen from the client.

    Once a request is accepted the client delivers all its beats without waiting for anything. Writes of all clients
    leave the function in the order in which their requests were accepted. ``done`` is high for one cycle for each
    request of this client, in order, when its last TLP has left, at the earliest two cycles after the request was accepted: a
    read whose request is offered after that is not seen by the host before the write.
    """
    return Signature({
        "req":  Out(stream.Signature(WriteReq)),
        "data": Out(stream.Signature(write_beat(width))),
        "done": In(1),
    })
