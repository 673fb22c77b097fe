"""Available buffer notifications.

Ref: VIRTIO 1.4, 2.9 "Driver Notifications", 4.1.4.4 "Notification structure layout".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import NotificationData

__all__ = ["Kicks"]


class Kicks(wiring.Component):
    """Find the queue that a write to the notification structure is for: a 16-bit index, in a write of 2 or 4 bytes; with
    NOTIFICATION_DATA (2.9) one of 4. Two cycles of latency.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    write : In(1), be : In(4), data : In(32)
        Strobe, and what is written; it stays the same for another cycle.
    notification_data : In(1)
        Negotiated.
    live : In(1)
        Notifications are listened to.
    lookup : Out(range(num_queues)), alive : In(1)
        A queue, and in the next cycle whether it is enabled and not being reset.
    valid : Out(1), queue : Out(16), next : Out(16)
        Strobe. See ``kick_next`` of :class:`.transport.Transport`.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        super().__init__({
            "write":  In(1),
            "be":     In(4),
            "data":   In(32),
            "notification_data": In(1),
            "live":   In(1),
            "lookup": Out(range(num_queues)),
            "alive":  In(1),
            "valid":  Out(1),
            "queue":  Out(16),
            "next":   Out(16),
        })

    def elaborate(self, platform):
        m = Module()
        kick = Signal()
        notification = NotificationData(self.data)
        told = Mux(self.notification_data, self.be.all(), self.be[:2].all())
        m.d.comb += self.lookup.eq(notification.vqn)
        m.d.sync += [
            kick.eq(self.write & told & (notification.vqn < self.num_queues) & self.live),
            self.valid.eq(kick & self.alive & self.live),
            self.queue.eq(notification.vqn),
            self.next.eq(notification.next),
        ]
        return m
