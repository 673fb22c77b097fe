"""The frame seam: packets of bytes on a stream, between ``net`` and ``mac`` and inside ``lib``."""

from amaranth.lib import data

__all__ = ["frame_beat"]


def frame_beat(width):
    """Beat of a packet: ``count`` valid bytes from lane 0, byte ``k`` in bits ``8k+7:8k``.

    ``count`` is ``width // 8`` but on the last beat, where it is 1 to ``width // 8``; the bytes beyond are 0, or of the same
    packet. ``error`` is valid with ``last``: the packet is damaged and must not be used (the packet queue drops it).
    """
    return data.StructLayout({"data": width, "count": range(width // 8 + 1), "last": 1, "error": 1})
