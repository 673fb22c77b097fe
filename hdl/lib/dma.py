"""The DMA seam: what a room that needs host memory speaks, and nothing of PCIe.

A *read port* carries requests out and beats back, in the order of the requests. A *write port* carries requests
and their data, and a pulse for each write that has left. Beats hold packed bytes, byte ``k`` of a beat in bits
``8k+7:8k``: those of an answer from lane 0, those of a write from any lane.
"""

from amaranth import unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["DMA_LEN_WIDTH", "DMA_LANE_WIDTH", "ReadReq", "WriteReq", "read_beat", "write_beat", "ReadPort", "WritePort"]

DMA_LEN_WIDTH = 16
DMA_LANE_WIDTH = 8   # of beats of up to 2048 bits


class ReadReq(data.Struct):
    """Read ``len`` bytes (1 to 65535) at byte address ``addr``, any alignment."""
    addr: unsigned(64)
    len:  unsigned(DMA_LEN_WIDTH)


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
