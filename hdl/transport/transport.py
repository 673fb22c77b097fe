"""Virtio over PCI: the registers behind the BAR, device status and reset.

Ref: VIRTIO 1.4, 2.1 "Device Status Field", 2.4 "Device Reset", 2.6.1 "Virtqueue Reset", 2.9 "Driver Notifications",
4.1.4 "Virtio Structure PCI Capabilities".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..lib.interrupt import InterruptPort
from ..lib.reg import RegPort
from ..spec.bar import COMMON_OFFSET, DEVICE_OFFSET, ISR_OFFSET, NOTIFY_OFFSET, REG_ADDR_WIDTH
from ..spec.virtio import (
    VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, Common, NotificationData, Status,
)
from .features import FEATURE_BITS, Features
from .interrupts import Interrupts
from .queues import Queues

__all__ = ["Transport"]

PAGE_BITS = 12
SIZE_WORD   = Common.QUEUE_SIZE // 4         # with queue_msix_vector
STATUS_WORD = Common.DEVICE_STATUS // 4      # with config_generation and queue_select
VECTOR_WORD = Common.CONFIG_MSIX_VECTOR // 4  # with num_queues


class Transport(wiring.Component):
    """Common, ISR, device and notification structures of a virtio PCI function, and what follows from them.

    An access takes three to six cycles, ten more where it enables a queue or changes a vector; after a reset the registers wait
    until the memories are back at their defaults, some ``8 * num_queues`` cycles. The driver can only set status bits, and
    clear them all by a reset. Until ``reset_done`` answers a status write of 0, registers read as before and writes vanish.

    Parameters
    ----------
    device_features : int
        Bit mask of what can be offered.
    feature_prerequisites : dict
        As :class:`Features` takes it.
    num_queues, max_queue_size, msix_vectors : int
        As :class:`Queues` takes them.
    config_bytes : int
        Size of the device configuration, in bytes: 1 to 4096.

    Members
    -------
    regs : In(RegPort(REG_ADDR_WIDTH))
        Pages of the four structures; others read 0.
    offered : In(128)
        As :class:`Features` takes it.
    features : Out(128)
        Accepted features: 0 until FEATURES_OK, then stable until reset.
    driver_ok : Out(1)
    setup_valid : Out(1), setup : Out(QueueSetup)
        High for one cycle when the driver has enabled a queue, which it can from FEATURES_OK on.
    kick_valid : Out(1), kick_queue : Out(16), kick_next : Out(16)
        High for one cycle per available buffer notification of an enabled queue, from DRIVER_OK on. With NOTIFICATION_DATA
        ``kick_next`` is the ``next`` of :class:`NotificationData`, untrusted, and a write of fewer than four bytes is
        no notification; else it means nothing.
    reset_queue_valid : Out(1), reset_queue : Out(16), reset_queue_done : In(1)
        ``reset_queue_valid`` is high for one cycle: drain and forget that queue, then make ``reset_queue_done`` high for one
        cycle. No kick of that queue comes in between; kicks, setups and notifications of others do. A reset of the device ends
        it without an answer.
    notify : In(stream.Signature(unsigned(16)))
        Used buffer notification of a queue; always taken, unless ``irq`` is full.
    queue_error : In(1)
        High for one cycle: set DEVICE_NEEDS_RESET and, from DRIVER_OK on, tell the driver.
    config : In(8 * config_bytes)
        The device configuration, read only.
    config_changed : In(1)
        High for one cycle, the one in which ``config`` shows the change.
    irq : Out(InterruptPort())
        To MSI-X. What is offered in the cycle of ``reset_done`` is forgotten.
    msix_enabled : In(1)
    intx : Out(1)
        Level of INTx.
    reset_pending : Out(1), reset_done : In(1)
        The driver wants a reset, until ``reset_done`` is high for one cycle; that alone (FLR) resets as well.
    busy : Out(1)
        An access, a reset, of a queue or behind ``reset_done``, or an interrupt is under way and needs clock cycles.
    events : Out
        ``kicks``, ``notifications``.
    """
    def __init__(self, *, device_features, feature_prerequisites, num_queues, msix_vectors, config_bytes,
                 max_queue_size=1024):
        if config_bytes not in range(1, 4097):
            raise ValueError(f"Device configuration must be 1 to 4096 bytes, not {config_bytes!r}")
        self.num_queues = num_queues
        self.config_bytes = config_bytes
        self._features = Features(device_features, feature_prerequisites)
        self._queues = Queues(num_queues=num_queues, max_queue_size=max_queue_size, msix_vectors=msix_vectors)
        self._interrupts = Interrupts(num_queues=num_queues, msix_vectors=msix_vectors)
        super().__init__({
            "regs":           In(RegPort(REG_ADDR_WIDTH)),
            "offered":        In(FEATURE_BITS, init=(1 << FEATURE_BITS) - 1),
            "features":       Out(FEATURE_BITS),
            "driver_ok":      Out(1),
            "setup_valid":    Out(1),
            "setup":          Out(QueueSetup),
            "kick_valid":     Out(1),
            "kick_queue":     Out(16),
            "kick_next":      Out(16),
            "reset_queue_valid": Out(1),
            "reset_queue":    Out(16),
            "reset_queue_done": In(1),
            "notify":         In(stream.Signature(unsigned(16))),
            "queue_error":    In(1),
            "config":         In(8 * config_bytes),
            "config_changed": In(1),
            "irq":            Out(InterruptPort()),
            "msix_enabled":   In(1),
            "intx":           Out(1),
            "reset_pending":  Out(1),
            "reset_done":     In(1),
            "busy":           Out(1),
            "events":         Out(data.StructLayout({"kicks": 1, "notifications": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.features = features = self._features
        m.submodules.queues = queues = self._queues
        m.submodules.interrupts = interrupts = self._interrupts

        acknowledge, driver, driver_ok, features_ok, needs_reset, failed = (Signal(name=name) for name in (
            "acknowledge", "driver", "driver_ok", "features_ok", "needs_reset", "failed"))
        status = Cat(acknowledge, driver, driver_ok, features_ok, C(0, 2), needs_reset, failed)
        generation = Signal(8)
        clearing = Signal(init=1)  # also after a reset of the domain, which does not reach into memories
        live = Signal()
        m.d.comb += [
            live.eq(driver_ok & ~self.reset_pending & ~clearing),
            self.driver_ok.eq(driver_ok),
            self.features.eq(Mux(features_ok, features.accepted, 0)),
        ]

        # Registers: one access at a time.
        req, resp = self.regs.req, self.regs.resp
        access = Signal.like(req.payload)
        page, word = access.addr[PAGE_BITS:], access.addr[2:PAGE_BITS]
        writing = Signal()         # the cycle in which a write acts
        common_write = Signal()
        value, queue_value = Signal(32), Signal(32)
        isr = Signal(8)
        # A vector is written while its source has no interrupt pending there.
        of_config, of_queue, moving = Signal(), Signal(), Signal()
        m.d.comb += [
            of_config.eq((word == VECTOR_WORD) & access.be[:2].all()),
            of_queue.eq((word == SIZE_WORD) & access.be[2:].all() & queues.exists),
        ]
        m.d.comb += common_write.eq(writing & (page == COMMON_OFFSET >> PAGE_BITS))
        for part in features, queues:
            m.d.comb += [
                part.word.eq(word),
                part.write.eq(common_write),
                part.be.eq(access.be),
                part.data.eq(access.data),
                part.clear.eq(clearing),
            ]
        with m.FSM() as accesses:
            with m.State("IDLE"):
                m.d.comb += req.ready.eq(~clearing)
                m.d.sync += access.eq(req.payload)
                with m.If(req.valid & req.ready):
                    m.next = "ACT"
            with m.State("ACT"):
                with m.If(access.write & (page == COMMON_OFFSET >> PAGE_BITS) & (of_config | of_queue)):
                    m.next = "WITHDRAW"
                with m.Elif(access.write):
                    m.d.comb += writing.eq(~self.reset_pending & ~clearing)
                    m.next = "SETTLE"
                with m.Else():
                    # 4.1.4.5.1: reading ISR clears it. A read that does not want byte 0 does not read it.
                    m.d.comb += interrupts.isr_read.eq(
                        (page == ISR_OFFSET >> PAGE_BITS) & (word == 0) & access.be[0])
                    m.d.sync += isr.eq(interrupts.isr)
                    m.next = "LOOK-UP"
            with m.State("WITHDRAW"):
                m.d.comb += [
                    moving.eq(1),
                    writing.eq(interrupts.withdrawn[1] & ~self.reset_pending & ~clearing),
                ]
                with m.If(interrupts.withdrawn[1] | clearing):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(~queues.busy):
                    m.next = "IDLE"
            with m.State("LOOK-UP"):  # a cycle for the memory, two for what chooses
                m.next = "READ"
            with m.State("READ"):
                m.d.sync += queue_value.eq(queues.value)
                m.next = "COLLECT"
            with m.State("COLLECT"):
                m.d.sync += resp.payload.eq(value)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += resp.valid.eq(1)
                with m.If(resp.ready):
                    m.next = "IDLE"

        with m.Switch(page):
            with m.Case(COMMON_OFFSET >> PAGE_BITS):
                m.d.comb += value.eq(features.value | queue_value)
                with m.If(word == VECTOR_WORD):
                    m.d.comb += value.eq(Cat(interrupts.config_vector, C(self.num_queues, 16)))
                with m.If(word == STATUS_WORD):
                    m.d.comb += value.eq(Cat(status, generation, queue_value[16:]))
            with m.Case(ISR_OFFSET >> PAGE_BITS):
                with m.If(word == 0):
                    m.d.comb += value.eq(isr)
            with m.Case(DEVICE_OFFSET >> PAGE_BITS):
                with m.Switch(word):
                    for index in range(-(-self.config_bytes // 4)):
                        with m.Case(index):
                            m.d.comb += value.eq(self.config[32 * index:32 * index + 32])

        # Device status
        wanted = access.data[:8]
        features_will_be_ok = Signal()
        m.d.comb += features_will_be_ok.eq(
            features_ok | (wanted & Status.FEATURES_OK.value).any() & features.acceptable)  # 2.2.2
        with m.If(common_write & (word == STATUS_WORD) & access.be[0]):
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
        with m.If(self.config_changed):
            m.d.sync += generation.eq(generation + 1)
        with m.If(self.reset_done):
            m.d.sync += clearing.eq(1)
        # 2.4.1: no notification once status shows 0, and it cannot show before the registers answer again.
        with m.Elif(queues.cleared & ~queues.busy):
            m.d.sync += clearing.eq(0)
        with m.If(self.reset_done | clearing):
            m.d.sync += [
                acknowledge.eq(0), driver.eq(0), driver_ok.eq(0), features_ok.eq(0), needs_reset.eq(0), failed.eq(0),
                self.reset_pending.eq(0),
            ]

        m.d.comb += [
            features.offered.eq(self.offered),
            features.frozen.eq(features_ok),
            queues.may_enable.eq(features_ok),
            queues.may_reset.eq(self.features[VIRTIO_F_RING_RESET]),
            queues.packed.eq(self.features[VIRTIO_F_RING_PACKED]),
            self.setup_valid.eq(queues.setup_valid),
            self.setup.eq(queues.setup),
            self.reset_queue_valid.eq(queues.reset_valid),
            self.reset_queue.eq(queues.reset_queue),
            queues.reset_done.eq(self.reset_queue_done),
            queues.withdrawn.eq(interrupts.withdrawn[0]),
            self.busy.eq(~accesses.ongoing("IDLE") | clearing | queues.resetting | interrupts.busy),
        ]

        # Available buffer notifications: a 16-bit index, in a write of 2 or 4 bytes; with NOTIFICATION_DATA (2.9) one of 4.
        kick = Signal()
        notification = NotificationData(access.data)
        told = Mux(self.features[VIRTIO_F_NOTIFICATION_DATA], access.be.all(), access.be[:2].all())
        m.d.comb += queues.kick_lookup.eq(notification.vqn)
        m.d.sync += [
            kick.eq(writing & (page == NOTIFY_OFFSET >> PAGE_BITS) & told & (notification.vqn < self.num_queues) & live),
            self.kick_valid.eq(kick & queues.kick_alive & live & ~self.reset_done),
            self.kick_queue.eq(notification.vqn),  # ``access`` stays until after ``kick``
            self.kick_next.eq(notification.next),
        ]

        # Notifications to the driver
        wiring.connect(m, wiring.flipped(self.notify), interrupts.notify)
        wiring.connect(m, interrupts.irq, wiring.flipped(self.irq))
        m.d.comb += [
            interrupts.live.eq(live),
            interrupts.msix_enabled.eq(self.msix_enabled),
            interrupts.config_event.eq(self.queue_error | self.config_changed),
            interrupts.vector_write.eq(common_write & of_config),
            interrupts.vector_data.eq(access.data[:16]),
            interrupts.withdraw.eq(Cat(queues.withdraw, moving)),
            interrupts.withdraw_source[0].eq(queues.withdraw_queue),
            interrupts.withdraw_source[1].eq(Mux(of_config, self.num_queues, queues.selected)),
            # With ``reset_done``, for MSI-X ends in the same cycle: what nobody has looked at must not move the pin then.
            interrupts.clear.eq(self.reset_done | clearing),
            queues.lookup.eq(interrupts.lookup),
            interrupts.vector.eq(queues.vector),
            interrupts.alive.eq(queues.alive),
            self.intx.eq(interrupts.intx),
            self.events.kicks.eq(self.kick_valid),
            self.events.notifications.eq(interrupts.notified),
        ]
        return m
