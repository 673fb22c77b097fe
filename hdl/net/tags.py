"""How long the link's header of a frame is: VLAN tags are counted.

Ref: IEEE 802.1Q, 9.3 "Tag Format".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.frame import frame_beat
from ..spec.ethernet import ETHERTYPE_C_TAG, ETHERTYPE_S_TAG, MAX_VLAN_TAGS

__all__ = ["TagCount"]

# Halfwords of a frame that hold the type of the first tag and of the second, if there are any.
TYPES = 6, 8


class TagCount(wiring.Component):
    """Count the VLAN tags of frames that stream by, customer's and service's alike.

    Parameters
    ----------
    width : int
        Bits per beat: 16 or more.

    Members
    -------
    i : In(frame_beat(width)), valid : In(1)
        The beats of frames, packed, each for one cycle.
    tags : Out(range(3))
        Valid from the beat behind the one that holds byte 17 to the frame's last beat.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i":     In(frame_beat(width)),
            "valid": In(1),
            "tags":  Out(range(MAX_VLAN_TAGS + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 16                       # halfwords a beat
        number = Signal(range(TYPES[-1] // lanes + 2))  # of the beat that comes; stays at the end
        tagged = [Signal(name=f"tagged_{k}") for k in range(len(TYPES))]
        m.d.comb += self.tags.eq(tagged[0] + (tagged[0] & tagged[1]))
        with m.If(self.valid):
            with m.If(number != TYPES[-1] // lanes + 1):
                m.d.sync += number.eq(number + 1)
            for found, at in zip(tagged, TYPES):
                low = 16 * (at % lanes)
                kind = Cat(self.i.data[low + 8:low + 16], self.i.data[low:low + 8])
                with m.If(number == at // lanes):
                    m.d.sync += found.eq((kind == ETHERTYPE_C_TAG) | (kind == ETHERTYPE_S_TAG))
            with m.If(self.i.last):
                m.d.sync += [number.eq(0), *[found.eq(0) for found in tagged]]
        return m
