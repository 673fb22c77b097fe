"""Feature negotiation.

Ref: VIRTIO 1.4, 2.2 "Feature Bits", 4.1.4.3 "Common configuration structure layout".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VIRTIO_F_VERSION_1, Common

__all__ = ["Features"]

FEATURE_BITS = 128


class Features(wiring.Component):
    """Offer feature bits, take what the driver accepts, and judge it.

    A bit that is not offered does not read back from ``driver_feature``; while one is set, the set is refused.

    Parameters
    ----------
    device_features : int
        Bit mask of what can be offered; has VERSION_1.
    feature_prerequisites : dict
        Bit number to a sequence of what it needs: each item a bit number, or a tuple of bit numbers of which one is
        enough. ``device_features`` obeys it too, else :exc:`ValueError`.

    Members
    -------
    offered : In(128)
        Of ``device_features``, what is offered now; all, if nobody drives it. Stable from reset to reset.
    word : In(10), write : In(1), be : In(4), data : In(32)
        Access to a DW of the common configuration; writes to others than the feature registers are not seen.
    frozen : In(1)
        FEATURES_OK is set: writes to ``driver_feature`` vanish.
    clear : In(1)
        Back to nothing selected, nothing accepted.
    value : Out(32)
        What that DW reads.
    acceptable : Out(1)
        The accepted set may get FEATURES_OK. One cycle after a write.
    accepted : Out(128)
        The offered bits that the driver has written.
    """
    def __init__(self, device_features, feature_prerequisites):
        if device_features not in range(1 << FEATURE_BITS):
            raise ValueError(f"Device features must have {FEATURE_BITS} bits, not {device_features!r}")
        if not device_features >> VIRTIO_F_VERSION_1 & 1:
            raise ValueError("VIRTIO_F_VERSION_1 must be offered")  # 6.2
        self.device_features = device_features
        self.prerequisites = {
            bit: [(need,) if isinstance(need, int) else tuple(need) for need in needs]
            for bit, needs in feature_prerequisites.items() if device_features >> bit & 1
        }
        for bit, needs in self.prerequisites.items():
            for need in needs:
                if not any(device_features >> other & 1 for other in need):  # 2.2.2
                    raise ValueError(f"Feature bit {bit} is offered without any of {need}, which it needs")
        super().__init__({
            "offered": In(FEATURE_BITS, init=(1 << FEATURE_BITS) - 1),
            "word":   In(10),
            "write":  In(1),
            "be":     In(4),
            "data":   In(32),
            "frozen": In(1),
            "clear":  In(1),
            "value":  Out(32),
            "acceptable": Out(1),
            "accepted":   Out(FEATURE_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        # A bit that can never be offered is a constant, and so are the bits that follow from it.
        words = [Cat(self.offered[bit] if self.device_features >> bit & 1 else C(0, 1) for bit in range(shift, shift + 32))
                 for shift in range(0, FEATURE_BITS, 32)]
        device_select, driver_select = Signal(32), Signal(32)
        accepted = Signal(FEATURE_BITS)
        refused = Signal(4 * len(words))  # a byte of driver_feature was written with a bit that is not offered
        beyond = Signal(4)                # so was a byte of a word after the last
        driver_value = Signal(32)
        m.d.comb += self.accepted.eq(accepted)

        # 4.1.4.3.1: any value may be selected; the words beyond read 0.
        device_value = Signal(32)
        for index, word in enumerate(words):
            with m.If(device_select == index):
                m.d.comb += device_value.eq(word)
            with m.If(driver_select == index):
                m.d.comb += driver_value.eq(accepted.word_select(index, 32))
        with m.Switch(self.word):
            for offset, value in [
                (Common.DEVICE_FEATURE_SELECT, device_select), (Common.DEVICE_FEATURE, device_value),
                (Common.DRIVER_FEATURE_SELECT, driver_select), (Common.DRIVER_FEATURE, driver_value),
            ]:
                with m.Case(offset // 4):
                    m.d.comb += self.value.eq(value)

        for lane in range(4):
            byte = self.data.word_select(lane, 8)
            with m.If(self.write & self.be[lane]):
                with m.If(self.word == Common.DEVICE_FEATURE_SELECT // 4):
                    m.d.sync += device_select.word_select(lane, 8).eq(byte)
                with m.If(self.word == Common.DRIVER_FEATURE_SELECT // 4):
                    m.d.sync += driver_select.word_select(lane, 8).eq(byte)
                with m.If((self.word == Common.DRIVER_FEATURE // 4) & ~self.frozen):
                    for index, word in enumerate(words):
                        offered = word.word_select(lane, 8)
                        with m.If(driver_select == index):
                            m.d.sync += [
                                accepted.word_select(4 * index + lane, 8).eq(byte & offered),
                                refused[4 * index + lane].eq((byte & ~offered).any()),
                            ]
                    with m.If(driver_select[2:] != 0):
                        m.d.sync += beyond[lane].eq(byte.any())

        m.d.sync += self.acceptable.eq(
            accepted[VIRTIO_F_VERSION_1] & ~refused.any() & ~beyond.any()
            & Cat(~accepted[bit] | Cat(accepted[other] for other in need).any()
                  for bit, needs in self.prerequisites.items() for need in needs).all())
        with m.If(self.clear):
            m.d.sync += [device_select.eq(0), driver_select.eq(0), accepted.eq(0), refused.eq(0), beyond.eq(0)]
        return m
