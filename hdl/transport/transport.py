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
from ..spec.virtio import VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, Common
from .access import Access
from .features import FEATURE_BITS, Features
from .interrupts import Interrupts
from .kicks import Kicks
from .queues import Queues
from .status import DeviceStatus

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

        m.submodules.status = status = DeviceStatus()
        m.submodules.access = registers = Access()
        m.submodules.kicks = kicks = Kicks(num_queues=self.num_queues)
        clearing, live = status.clearing, status.live
        m.d.comb += [
            self.driver_ok.eq(status.driver_ok),
            self.features.eq(Mux(status.features_ok, features.accepted, 0)),
        ]

        # Registers.
        wiring.connect(m, wiring.flipped(self.regs), registers.regs)
        access = registers.current
        page, word = access.addr[PAGE_BITS:], access.addr[2:PAGE_BITS]
        in_common, common_write = Signal(), Signal()
        queue_value, isr, generation = Signal(32), Signal(8), Signal(8)
        of_config, of_queue = Signal(), Signal()   # a write to this register is of the vector of a source of interrupts
        m.d.comb += [
            in_common.eq(page == COMMON_OFFSET >> PAGE_BITS),
            of_config.eq((word == VECTOR_WORD) & access.be[:2].all()),
            of_queue.eq((word == SIZE_WORD) & access.be[2:].all() & queues.exists),
            registers.moves.eq(in_common & (of_config | of_queue)),
            registers.withdrawn.eq(interrupts.withdrawn[1]),
            registers.settled.eq(~queues.busy),
            registers.reset_pending.eq(self.reset_pending),
            registers.clearing.eq(clearing),
            common_write.eq(registers.write & in_common),
            # 4.1.4.5.1: reading ISR clears it. A read that does not want byte 0 does not read it.
            interrupts.isr_read.eq(registers.read & (page == ISR_OFFSET >> PAGE_BITS) & (word == 0) & access.be[0]),
        ]
        for part in features, queues:
            m.d.comb += [part.word.eq(word), part.write.eq(common_write), part.be.eq(access.be), part.data.eq(access.data),
                         part.clear.eq(clearing)]
        with m.If(registers.read):
            m.d.sync += isr.eq(interrupts.isr)
        with m.If(registers.chosen):
            m.d.sync += queue_value.eq(queues.value)
        value = registers.value
        with m.Switch(page):
            with m.Case(COMMON_OFFSET >> PAGE_BITS):
                m.d.comb += value.eq(features.value | queue_value)
                with m.If(word == VECTOR_WORD):
                    m.d.comb += value.eq(Cat(interrupts.config_vector, C(self.num_queues, 16)))
                with m.If(word == STATUS_WORD):
                    m.d.comb += value.eq(Cat(status.value, generation, queue_value[16:]))
            with m.Case(ISR_OFFSET >> PAGE_BITS):
                with m.If(word == 0):
                    m.d.comb += value.eq(isr)
            with m.Case(DEVICE_OFFSET >> PAGE_BITS):
                with m.Switch(word):
                    for index in range(-(-self.config_bytes // 4)):
                        with m.Case(index):
                            m.d.comb += value.eq(self.config[32 * index:32 * index + 32])

        m.d.comb += [
            status.write.eq(common_write & (word == STATUS_WORD) & access.be[0]),
            status.wanted.eq(access.data[:8]),
            status.acceptable.eq(features.acceptable),
            status.queue_error.eq(self.queue_error),
            status.reset_done.eq(self.reset_done),
            status.settled.eq(queues.cleared & ~queues.busy),
            self.reset_pending.eq(status.reset_pending),
        ]
        with m.If(self.config_changed):
            m.d.sync += generation.eq(generation + 1)

        m.d.comb += [
            features.offered.eq(self.offered),
            features.frozen.eq(status.features_ok),
            queues.may_enable.eq(status.features_ok),
            queues.may_reset.eq(self.features[VIRTIO_F_RING_RESET]),
            queues.packed.eq(self.features[VIRTIO_F_RING_PACKED]),
            self.setup_valid.eq(queues.setup_valid),
            self.setup.eq(queues.setup),
            self.reset_queue_valid.eq(queues.reset_valid),
            self.reset_queue.eq(queues.reset_queue),
            queues.reset_done.eq(self.reset_queue_done),
            queues.withdrawn.eq(interrupts.withdrawn[0]),
            self.busy.eq(registers.busy | clearing | queues.resetting | interrupts.busy),
        ]

        m.d.comb += [
            kicks.write.eq(registers.write & (page == NOTIFY_OFFSET >> PAGE_BITS)),
            kicks.be.eq(access.be), kicks.data.eq(access.data),
            kicks.notification_data.eq(self.features[VIRTIO_F_NOTIFICATION_DATA]),
            kicks.live.eq(live & ~self.reset_done),
            queues.kick_lookup.eq(kicks.lookup),
            kicks.alive.eq(queues.kick_alive),
            self.kick_valid.eq(kicks.valid), self.kick_queue.eq(kicks.queue), self.kick_next.eq(kicks.next),
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
            interrupts.withdraw.eq(Cat(queues.withdraw, registers.withdraw)),
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
