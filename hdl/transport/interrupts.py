"""Notifications to the driver: ISR status, MSI-X vectors, INTx.

Ref: VIRTIO 1.4, 2.6.1 "Virtqueue Reset", 4.1.4.5 "ISR status capability", 4.1.5.3 "Used Buffer Notifications", 4.1.5.4
"Notification of Device Configuration Changes".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.interrupt import InterruptPort
from ..spec.virtio import VIRTIO_MSI_NO_VECTOR, Isr

__all__ = ["Interrupts"]


class Interrupts(wiring.Component):
    """Turn notifications into MSI-X vectors, or into ISR bits and INTx while MSI-X is off.

    One notification every three cycles, as fast as ``irq`` takes them; a withdrawal goes first, then a configuration change.
    Nothing is sent while not ``live``.

    A *source* is a queue, by its number, or ``num_queues`` for the configuration. While ``withdraw`` and ``withdrawn`` are high,
    no notification of the named source is pending, and none is taken. When ``withdraw`` falls, one that was pending is looked up
    again: it goes to the vector that the source has then, or vanishes with the source.

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
        config_msix_vector; NO_VECTOR after a write of a vector that does not exist. Written only while it is withdrawn.
    withdraw : In(2), withdraw_source : In(range(num_queues + 1)).array(2), withdrawn : Out(2)
        Two clients, served one after the other: ``withdraw`` stays high until ``withdrawn``, and then for as long as the client
        wants. The vector of a source changes only then.
    lookup : Out(range(num_queues)), vector : In(range(msix_vectors + 1)), alive : In(1)
        Of a queue, a cycle later: its vector, ``msix_vectors`` is none; whether it is enabled and not being reset.
    isr_read : In(1), isr : Out(8)
        The read clears, but for what happens in the same cycle.
    clear : In(1)
        Back to default. What is offered on ``irq`` is forgotten, too, so whoever takes it is reset in the same cycle.
    busy : Out(1)
        Something is about to be sent or withdrawn.
    irq : Out(InterruptPort())
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
            "withdraw":        In(2),
            "withdraw_source": In(range(num_queues + 1)).array(2),
            "withdrawn":       Out(2),
            "lookup":   Out(range(num_queues)),
            "vector":   In(range(msix_vectors + 1)),
            "alive":    In(1),
            "isr_read": In(1),
            "isr":      Out(8),
            "clear":    In(1),
            "busy":     Out(1),
            "irq":      Out(InterruptPort()),
            "intx":     Out(1),
            "notified": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config_due = Signal()
        queue_bit, config_bit = Signal(), Signal()
        m.d.comb += [
            self.isr.eq(Mux(queue_bit, Isr.QUEUE.value, 0) | Mux(config_bit, Isr.CONFIG.value, 0)),
            self.intx.eq(~self.msix_enabled & (queue_bit | config_bit)),  # 4.1.4.5.1
        ]
        with m.If(self.isr_read):
            m.d.sync += [queue_bit.eq(0), config_bit.eq(0)]

        source = Signal(range(self.num_queues + 1))
        client, withdrawing = Signal(), Signal()
        waited = Signal()       # what is withdrawn was pending
        again  = Signal()       # a notification that was withdrawn is looked up anew
        vector, has_vector = Signal(range(self.msix_vectors)), Signal()
        is_config = source == self.num_queues
        m.d.comb += [
            vector.eq(Mux(is_config, self.config_vector, self.vector)),
            has_vector.eq(Mux(is_config, self.config_vector != VIRTIO_MSI_NO_VECTOR, self.vector != self.msix_vectors)),
            self.irq.req.payload.source.eq(source),
            self.irq.req.payload.withdraw.eq(withdrawing),
        ]

        def forget():
            with m.If(self.clear):
                m.next = "IDLE"
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [withdrawing.eq(0), waited.eq(0), again.eq(0)]
                with m.If(self.withdraw.any()):
                    wanted = Mux(self.withdraw[0], self.withdraw_source[0], self.withdraw_source[1])
                    m.d.comb += self.lookup.eq(wanted)
                    m.d.sync += [source.eq(wanted), client.eq(~self.withdraw[0]), withdrawing.eq(1)]
                    m.next = "VECTOR"
                with m.Elif(config_due):
                    m.d.sync += [config_due.eq(0), source.eq(self.num_queues)]
                    m.next = "VECTOR"
                with m.Else():
                    m.d.comb += [self.notify.ready.eq(1), self.lookup.eq(self.notify.payload)]
                    with m.If(self.notify.valid & self.live & (self.notify.payload < self.num_queues)):
                        m.d.sync += source.eq(self.notify.payload)
                        m.next = "VECTOR"
                forget()
            with m.State("VECTOR"):
                m.d.sync += self.irq.req.payload.vector.eq(vector)
                with m.If(withdrawing):
                    m.next = "HELD"
                    with m.If(has_vector):
                        m.next = "SEND"
                with m.Else():
                    m.next = "IDLE"
                    with m.If(self.live & (is_config | self.alive)):  # 2.6.1.1.1: not for a queue that has been reset
                        with m.If(self.msix_enabled & has_vector):  # 4.1.5.3.1, 4.1.5.4.1: no vector, no interrupt
                            m.next = "SEND"
                        with m.If(~self.msix_enabled & ~is_config):
                            m.d.sync += queue_bit.eq(1)
                            m.d.comb += self.notified.eq(~again)
                forget()
            with m.State("SEND"):
                m.d.comb += self.irq.req.valid.eq(1)
                with m.If(self.irq.req.ready):
                    m.d.sync += waited.eq(self.irq.waited)
                    with m.If(withdrawing):
                        m.next = "HELD"
                    with m.Else():
                        m.d.comb += self.notified.eq(~is_config & ~again)
                        m.next = "IDLE"
                forget()
            with m.State("HELD"):
                m.d.comb += self.withdrawn.bit_select(client, 1).eq(1)
                with m.If(~self.withdraw.bit_select(client, 1)):
                    m.d.comb += self.lookup.eq(source)
                    m.d.sync += [withdrawing.eq(0), again.eq(1)]
                    m.next = "IDLE"
                    with m.If(waited):
                        m.next = "VECTOR"
                forget()
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") | config_due)

        with m.If(self.config_event & self.live):
            m.d.sync += [config_due.eq(1), config_bit.eq(1)]  # 4.1.4.5.1: bit before interrupt
        with m.If(self.vector_write):
            m.d.sync += self.config_vector.eq(
                Mux(self.vector_data < self.msix_vectors, self.vector_data, VIRTIO_MSI_NO_VECTOR))
        with m.If(self.clear):
            m.d.sync += [config_due.eq(0), queue_bit.eq(0), config_bit.eq(0),
                         self.config_vector.eq(VIRTIO_MSI_NO_VECTOR)]
        return m
