"""Notifications to the driver: ISR status, MSI-X vectors, INTx.

Ref: VIRTIO 1.4, 4.1.4.5 "ISR status capability", 4.1.5.3 "Used Buffer Notifications", 4.1.5.4 "Notification of Device
Configuration Changes".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VIRTIO_MSI_NO_VECTOR, Isr

__all__ = ["Interrupts"]


class Interrupts(wiring.Component):
    """Turn notifications into MSI-X vectors, or into ISR bits and INTx while MSI-X is off.

    One notification every three cycles, as fast as ``irq`` takes them; a configuration change goes first. Nothing is
    sent while not ``live``; what has been offered on ``irq`` stays until it is taken.

    Members
    -------
    live : In(1)
        DRIVER_OK, and no reset asked for.
    msix_enabled : In(1)
    notify : In(stream.Signature(unsigned(16)))
        Used buffer notification of a queue; vanishes if the queue does not exist, is not alive or has no vector.
    config_event : In(1)
        High for one cycle: the driver is to look at the configuration.
    vector_write : In(1), vector_data : In(16), config_vector : Out(16)
        config_msix_vector; NO_VECTOR after a write of a vector that does not exist.
    lookup : Out(range(num_queues)), vector : In(range(msix_vectors + 1)), alive : In(1)
        Of a queue, a cycle later: its vector, ``msix_vectors`` is none; whether it is enabled and not being reset.
    isr_read : In(1), isr : Out(8)
        The read clears, but for what happens in the same cycle.
    clear : In(1)
        Back to default.
    busy : Out(1)
        An interrupt is waiting on ``irq``.
    irq : Out(stream.Signature(unsigned(11)))
    intx : Out(1)
    notified : Out(1)
        High for one cycle for each used buffer notification sent.
    """
    def __init__(self, *, num_queues, msix_vectors):
        self.num_queues = num_queues
        self.msix_vectors = msix_vectors
        super().__init__({
            "live":          In(1),
            "msix_enabled":  In(1),
            "notify":        In(stream.Signature(unsigned(16))),
            "config_event":  In(1),
            "vector_write":  In(1),
            "vector_data":   In(16),
            "config_vector": Out(16, init=VIRTIO_MSI_NO_VECTOR),
            "lookup":   Out(range(num_queues)),
            "vector":   In(range(msix_vectors + 1)),
            "alive":    In(1),
            "isr_read": In(1),
            "isr":      Out(8),
            "clear":    In(1),
            "busy":     Out(1),
            "irq":      Out(stream.Signature(unsigned(11))),
            "intx":     Out(1),
            "notified": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config_due = Signal()
        queue_bit, config_bit = Signal(), Signal()
        is_config = Signal()
        m.d.comb += [
            self.isr.eq(Mux(queue_bit, Isr.QUEUE.value, 0) | Mux(config_bit, Isr.CONFIG.value, 0)),
            self.intx.eq(~self.msix_enabled & (queue_bit | config_bit)),  # 4.1.4.5.1
        ]
        with m.If(self.isr_read):
            m.d.sync += [queue_bit.eq(0), config_bit.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.notify.ready.eq(~config_due)
                m.d.comb += self.lookup.eq(self.notify.payload)
                with m.If(config_due):
                    m.d.sync += config_due.eq(0)
                    # 4.1.5.4.1: no vector, no interrupt
                    with m.If(self.live & self.msix_enabled & (self.config_vector != VIRTIO_MSI_NO_VECTOR)):
                        m.d.sync += [self.irq.payload.eq(self.config_vector), is_config.eq(1)]
                        m.next = "SEND"
                with m.Elif(self.notify.valid & self.live & (self.notify.payload < self.num_queues)):
                    m.d.sync += is_config.eq(0)
                    m.next = "VECTOR"
            with m.State("VECTOR"):
                m.d.sync += self.irq.payload.eq(self.vector)
                m.next = "IDLE"
                with m.If(self.live & self.alive):  # 2.6.1.1.1: not for a queue that has been reset
                    with m.If(~self.msix_enabled):
                        m.d.sync += queue_bit.eq(1)
                        m.d.comb += self.notified.eq(1)
                    with m.Elif(self.vector != self.msix_vectors):  # 4.1.5.3.1
                        m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.irq.valid.eq(1), self.busy.eq(1)]
                with m.If(self.irq.ready):
                    m.d.comb += self.notified.eq(~is_config)
                    m.next = "IDLE"

        with m.If(self.config_event & self.live):
            m.d.sync += [config_due.eq(1), config_bit.eq(1)]  # 4.1.4.5.1: bit before interrupt
        with m.If(self.vector_write):
            m.d.sync += self.config_vector.eq(
                Mux(self.vector_data < self.msix_vectors, self.vector_data, VIRTIO_MSI_NO_VECTOR))
        with m.If(self.clear):
            m.d.sync += [config_due.eq(0), queue_bit.eq(0), config_bit.eq(0),
                         self.config_vector.eq(VIRTIO_MSI_NO_VECTOR)]
        return m
