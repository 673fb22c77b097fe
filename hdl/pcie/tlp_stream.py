"""The TLP seam: raw Transaction Layer Packets on a stream.

Header DWs then data, without gaps, as on the wire: byte ``k`` of the TLP is byte ``k mod (width / 8)`` of beat
``k // (width / 8)``, in bits ``8k+7:8k``. So a header DW, which PCIe draws with byte 0 at the left, is byte-swapped
as a number, and a data DW is not. No framing. What comes in may have a digest, if its TD bit says so; what goes out has
neither digest nor prefix.
"""

from amaranth.lib import data

__all__ = ["ALL_CLASSES", "TLP_CLASSES", "tlp_beat"]

#: What flow control tells apart (2.6.1): posted requests (writes, messages), non-posted requests (reads), completions.
TLP_CLASSES = data.StructLayout({"posted": 1, "non_posted": 1, "completion": 1})
ALL_CLASSES = {"posted": 1, "non_posted": 1, "completion": 1}


def tlp_beat(width):
    """``dws``: valid DWs from lane 0; ``width // 32`` but on the last beat. ``valid`` may pause within a TLP."""
    return data.StructLayout({"data": width, "dws": range(width // 32 + 1), "last": 1})
