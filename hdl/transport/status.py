"""Device status and reset.

Ref: VIRTIO 1.4, 2.1 "Device Status Field", 2.4 "Device Reset".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import Status

__all__ = ["DeviceStatus"]


class DeviceStatus(wiring.Component):
    """Keep the device status: the driver can only set bits, and clear them all by a reset.

    Members
    -------
    write : In(1), wanted : In(8)
        Strobe: the driver writes device_status.
    acceptable : In(1)
        With ``write``: the features that the driver has accepted can be had (2.2.2).
    queue_error : In(1)
        Strobe: set DEVICE_NEEDS_RESET.
    reset_done : In(1), settled : In(1)
        The reset, in whose cycle whatever else happens is forgotten; the registers are back at their defaults.
    value : Out(8)
    features_ok, driver_ok : Out(1)
        Bits of it.
    reset_pending : Out(1)
        The driver wants a reset, until ``reset_done``.
    clearing : Out(1)
        From ``reset_done``, or a reset of the domain, which does not reach into memories, until ``settled``.
    live : Out(1)
        The driver is ready, and no reset is pending or under way.
    """
    write:         In(1)
    wanted:        In(8)
    acceptable:    In(1)
    queue_error:   In(1)
    reset_done:    In(1)
    settled:       In(1)
    value:         Out(8)
    features_ok:   Out(1)
    driver_ok:     Out(1)
    reset_pending: Out(1)
    clearing:      Out(1, init=1)
    live:          Out(1)

    def elaborate(self, platform):
        m = Module()
        acknowledge, driver, needs_reset, failed = (Signal(name=name) for name in (
            "acknowledge", "driver", "needs_reset", "failed"))
        features_ok, driver_ok, wanted = self.features_ok, self.driver_ok, self.wanted
        features_will_be_ok = Signal()
        m.d.comb += [
            self.value.eq(Cat(acknowledge, driver, driver_ok, features_ok, C(0, 2), needs_reset, failed)),
            self.live.eq(driver_ok & ~self.reset_pending & ~self.clearing),
            features_will_be_ok.eq(features_ok | (wanted & Status.FEATURES_OK.value).any() & self.acceptable),
        ]
        with m.If(self.write):
            with m.If(wanted == 0):
                m.d.sync += self.reset_pending.eq(1)
            with m.Else():
                m.d.sync += [
                    acknowledge.eq(acknowledge | (wanted & Status.ACKNOWLEDGE.value).any()),
                    driver.eq(driver | (wanted & Status.DRIVER.value).any()),
                    failed.eq(failed | (wanted & Status.FAILED.value).any()),
                    features_ok.eq(features_will_be_ok),
                    driver_ok.eq(driver_ok | (wanted & Status.DRIVER_OK.value).any() & features_will_be_ok),
                ]
        with m.If(self.queue_error):
            m.d.sync += needs_reset.eq(1)
        with m.If(self.reset_done):
            m.d.sync += self.clearing.eq(1)
        # 2.4.1: no notification once status shows 0, and it cannot show before the registers answer again.
        with m.Elif(self.settled):
            m.d.sync += self.clearing.eq(0)
        with m.If(self.reset_done | self.clearing):
            m.d.sync += [
                acknowledge.eq(0), driver.eq(0), driver_ok.eq(0), features_ok.eq(0), needs_reset.eq(0), failed.eq(0),
                self.reset_pending.eq(0),
            ]
        return m
