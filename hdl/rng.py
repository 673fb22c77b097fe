"""RingRNG: a virtio entropy device; the smallest card there is, and the pattern for one's own."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .entropy.device import EntropyDevice
from .function import VirtioFunction
from .pcie.parameters import PcieParameters
from .pcie.tlp_stream import ALL_CLASSES, TLP_CLASSES, tlp_beat
from .spec.bar import ENTROPY_COUNTERS

__all__ = ["RingRNG"]


class RingRNG(wiring.Component):
    """A source of random numbers that is a virtio entropy device.

    Parameters
    ----------
    width : int
        Bits per beat of the whole datapath.
    max_queue_size : int
        Entries that the queue may have.
    pcie : PcieParameters

    Members
    -------
    tlp_rx : In(stream), tlp_tx : Out(stream)
        Raw TLPs.
    credits : In(TLP_CLASSES)
        Classes of which a TLP may begin, see :class:`.pcie.endpoint.Endpoint`.
    random : In(stream(width))
        Random words.
    offered : In(128)
        Mask of the device features to offer; a constant on a board. Stable while the card is in use.
    busy : Out(1)
        Something is under way inside that needs clock cycles.
    """
    def __init__(self, *, width=64, max_queue_size=256, pcie=PcieParameters()):
        self.width = width
        self.max_queue_size = max_queue_size
        self.pcie = pcie
        super().__init__({
            "tlp_rx":  In(stream.Signature(tlp_beat(width))),
            "tlp_tx":  Out(stream.Signature(tlp_beat(width))),
            "credits": In(TLP_CLASSES, init=ALL_CLASSES),
            "random":  In(stream.Signature(width)),
            "offered": In(128, init=(1 << 128) - 1),
            "busy":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        device = EntropyDevice(width=self.width)
        m.submodules.function = function = VirtioFunction(
            device, width=self.width, counters=ENTROPY_COUNTERS, max_queue_size=self.max_queue_size,
            pcie=self.pcie)
        connect(m, flipped(self.tlp_rx), function.tlp_rx)
        connect(m, function.tlp_tx, flipped(self.tlp_tx))
        m.d.comb += function.credits.eq(self.credits)
        connect(m, flipped(self.random), device.i)
        m.d.comb += [
            function.offered.eq(self.offered),
            self.busy.eq(function.busy),
        ]
        return m
