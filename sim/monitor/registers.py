"""What the driver has told the device: features, queues, vectors, status; and resets.

Ref: VIRTIO 1.4, 2.1 "Device Status Field", 2.4 "Device Reset", 2.6.1 "Virtqueue Reset", 4.1.4.3 "Common configuration structure
layout"; PCI Express Base 5.0, 6.6.2 "Function Level Reset", 7.5.1.1.3 "Command Register", 7.7.2 "MSI-X Capability and Table
Structure".

STAT-1: before DRIVER_OK no byte of DMA, no used buffer notification. (Looking at rings would be allowed; no card of ours does.)
RST-2: from the answer in which status is 0 (or, after FLR, the first answer to a configuration read) until DRIVER_OK: no
DMA, no message, no INTx.
QRST-1: from the answer in which queue_reset is 0 until the queue is enabled: no DMA in its rings or its buffers, no
notification on a vector that only this queue has.
CS-6: from the completion of the configuration write after which the function is no bus master (Bus Master Enable, D3hot) until a
write after which it is: no memory request. After FLR: from its end on. Each counts the times that such an interval began.
"""

from ...hdl.spec.bar import (BAR_SIZE, COMMON_OFFSET, DEVICE_OFFSET, ISR_OFFSET, MSIX_TABLE_OFFSET, NOTIFY_MULTIPLIER,
                             NOTIFY_OFFSET)
from ...hdl.spec.net import VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ
from ...hdl.spec.pcie import CapId, Cfg, Command, Exp, MsixCap, Pm, VirtioCap
from ...hdl.spec.virtio import (VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET, VIRTIO_ID_NET, VIRTIO_MSI_NO_VECTOR,
                                VIRTIO_PCI_DEVICE_ID_BASE, CfgType, Common, Status)

__all__ = ["CLAUSES", "QueueSetup", "Registers"]

CLAUSES = ("STAT-1", "RST-2", "QRST-1", "CS-6")
FLR = 0x80                     # in the upper byte of Device Control
MSIX_ENABLE, MSIX_MASK_ALL = 0x80, 0x40  # in the upper byte of Message Control
MAX_PAIRS_AT = 8               # in device configuration (5.1.4)
QUEUE_FIELDS = {Common.QUEUE_SIZE: ("size", 2), Common.QUEUE_MSIX_VECTOR: ("vector", 2), Common.QUEUE_DESC: ("desc", 8),
                Common.QUEUE_DRIVER: ("driver", 8), Common.QUEUE_DEVICE: ("device", 8)}


class QueueSetup:
    """What the registers say of one queue."""
    def __init__(self, index):
        self.index = index
        self.size, self.vector, self.desc, self.driver, self.device = 0, VIRTIO_MSI_NO_VECTOR, 0, 0, 0
        self.enabled = self.resetting = False


class Registers:
    """Follows the accesses of the driver.

    Attributes
    ----------
    live : bool
        DRIVER_OK is set.
    draining : bool
        A reset was asked for, and has not been seen to be done.
    features : frozenset
    master : bool
        The function may send memory requests, by the configuration writes that it has taken.
    may_request : bool
        The same, by the completions that it has sent.
    config : bytearray
        Configuration space as far as somebody has read or written it.
    """
    def __init__(self, monitor):
        self.monitor, self.report = monitor, monitor.report
        self.config = bytearray(Cfg.SIZE)
        self.power()

    def power(self):
        """Fundamental reset."""
        self.bar = 0
        self.command = self.power_state = 0
        self.msix = self.masked = self.may_request = False
        self.draining = self.was_live = self._ended = False
        self._capabilities = {}
        self.max_pairs = None
        self._asked = self._zero_from = 0
        self._start()

    def _start(self):
        self.live = False
        self.queues = {}
        self.select = self.feature_word = self.status = 0
        self.words = {}
        self.features = frozenset()

    def queue(self, index):
        return self.queues.setdefault(index, QueueSetup(index))

    @property
    def master(self):
        return bool(self.command >> Command.BUS_MASTER & 1) and not self.power_state

    def is_receive(self, index):
        """Is this a receive queue for sure? With VIRTIO_NET_F_MQ the control queue is behind as many pairs as the device has
        (5.1.2), which nobody knows as long as the driver has not read it."""
        if index % 2 or not self.is_net:
            return False
        if VIRTIO_NET_F_CTRL_VQ not in self.features or index == 0:
            return True
        if VIRTIO_NET_F_MQ not in self.features:
            return index != 2
        return self.max_pairs is not None and index != 2 * self.max_pairs

    @property
    def is_net(self):
        device = self.config[Cfg.DEVICE_ID] | self.config[Cfg.DEVICE_ID + 1] << 8
        return device == VIRTIO_PCI_DEVICE_ID_BASE + VIRTIO_ID_NET

    # Configuration space

    def _capability(self, cap_id, cfg_type=None):
        """Where it is, as far as somebody has looked."""
        key = cap_id, cfg_type
        if key not in self._capabilities:
            at, config, seen = self.config[Cfg.CAP_POINTER], self.config, set()
            while at and at not in seen:
                seen.add(at)
                if config[at] == cap_id and cfg_type in (None, config[at + VirtioCap.CFG_TYPE]):
                    self._capabilities[key] = at
                    break
                at = config[at + 1]
        return self._capabilities.get(key)

    def config_write(self, offset, data):
        """A write was taken; what it brings about, the device has done when it is completed."""
        self._config_write(offset, data)
        self.may_request |= self.master

    def completed(self, master):
        """The device has completed a write; ``master``: as it was, once the write had been taken."""
        if self.may_request and not (master or self.master or self.draining == "flr"):
            self.may_request = False
            self.report.held("CS-6")

    def _config_write(self, offset, data):
        end = offset + len(data)

        def byte(at):
            return data[at - offset] if offset <= at < end else None
        if offset < Cfg.BAR0 + 4 and end > Cfg.BAR0:
            self.config[offset:end] = data
            self.bar = int.from_bytes(self.config[Cfg.BAR0:Cfg.BAR0 + 4], "little") & -BAR_SIZE
        if offset < Cfg.COMMAND + 2 and end > Cfg.COMMAND:
            before = self.command
            for k in range(2):
                if (new := byte(Cfg.COMMAND + k)) is not None:
                    self.command = self.command & ~(0xff << 8 * k) | new << 8 * k
            if before != self.command:
                self.monitor.notifications.excuse()
                self.monitor.isr.excuse()
        if end <= 0x40:
            return
        at = self._capability(CapId.MSIX)
        if at is not None and (control := byte(at + MsixCap.CONTROL + 1)) is not None:
            before = self.msix
            self.msix, self.masked = bool(control & MSIX_ENABLE), bool(control & MSIX_MASK_ALL)
            self.monitor.notifications.control(self.msix, self.masked)
            if self.msix != before:
                self.monitor.isr.excuse()
        at = self._capability(CapId.PM)
        if at is not None and (state := byte(at + Pm.PMCSR)) is not None:
            self.power_state = state & 3
            self.monitor.notifications.excuse()
            self.monitor.isr.excuse()
        at = self._capability(CapId.EXP)
        if at is not None and (byte(at + Exp.DEV_CTL + 1) or 0) & FLR:
            self._flr()
        at = self._capability(CapId.VENDOR, CfgType.PCI)
        if at is not None and at <= offset < at + VirtioCap.PCI_CFG_DATA + 4:
            self.config[offset:end] = data
            if offset >= (start := at + VirtioCap.PCI_CFG_DATA):
                address, size = (int.from_bytes(self.config[at + field:at + field + 4], "little")
                                 for field in (VirtioCap.OFFSET, VirtioCap.LENGTH))
                # 4.1.4.9.1: the first bytes of what is there, whichever of them came now.
                self.write(address, bytes(self.config[start:start + min(size, 4)]))

    def config_answer(self, offset, data, seq):
        self.config[offset:offset + len(data)] = data
        if self.draining == "flr" and seq > self._asked:
            self._at_rest()

    # BAR 0

    def write(self, offset, data):
        """``offset`` in BAR 0."""
        if COMMON_OFFSET <= offset < COMMON_OFFSET + Common.SIZE:
            self._common(offset - COMMON_OFFSET, data)
        elif NOTIFY_OFFSET <= offset < MSIX_TABLE_OFFSET:
            if len(data) == 4 and VIRTIO_F_NOTIFICATION_DATA in self.features and self.live:
                ring = self.monitor.rings.get((offset - NOTIFY_OFFSET) // NOTIFY_MULTIPLIER)
                if ring is not None and not ring.excused:
                    ring.kicked(data[2] | data[3] << 8)
        elif offset >= MSIX_TABLE_OFFSET:
            self.monitor.notifications.table_write(offset - MSIX_TABLE_OFFSET, data)

    def _common(self, offset, data):
        value = int.from_bytes(data, "little")
        if offset == Common.DEVICE_STATUS:
            self._status(value & 0xff)
        elif offset == Common.DRIVER_FEATURE_SELECT:
            self.feature_word = value
        elif offset == Common.DRIVER_FEATURE:
            self.words[self.feature_word] = value
        elif offset == Common.CONFIG_MSIX_VECTOR:
            self.monitor.notifications.config_vector = value & 0xffff
        elif offset == Common.QUEUE_SELECT:
            self.select = value & 0xffff
        elif offset == Common.QUEUE_ENABLE:
            if value & 1:
                self._enable(self.queue(self.select))
        elif offset == Common.QUEUE_RESET:
            if value & 1:
                self._reset_queue(self.queue(self.select))
        else:
            for start, (name, width) in QUEUE_FIELDS.items():
                if start <= offset < start + width:
                    self._field(self.queue(self.select), name, 8 * (offset - start), len(data), value)

    def _field(self, queue, name, shift, width, value):
        mask = (1 << 8 * width) - 1 << shift
        setattr(queue, name, getattr(queue, name) & ~mask | value << shift)
        if name == "vector" and (ring := self.monitor.rings.get(queue.index)) is not None:
            ring.vectors.add(queue.vector)

    def answer(self, offset, data, seq, select):
        """A read of BAR 0 was answered; ``select``: the queue that was selected when the device took it."""
        value = int.from_bytes(data, "little")
        if offset == COMMON_OFFSET + Common.DEVICE_STATUS:
            if value & Status.DEVICE_NEEDS_RESET and self.live:
                self.monitor.notifications.needs_reset()
            if value & 0xff == 0 and self.draining and seq > self._asked:
                self._at_rest()
        elif offset == COMMON_OFFSET + Common.QUEUE_SIZE and len(data) == 2:
            self.queue(select).size = value
        elif offset == COMMON_OFFSET + Common.QUEUE_MSIX_VECTOR and len(data) == 2:
            self._field(self.queue(select), "vector", 0, 2, value)
        elif offset == COMMON_OFFSET + Common.CONFIG_MSIX_VECTOR and len(data) == 2:
            self.monitor.notifications.config_vector = value
        elif offset == COMMON_OFFSET + Common.QUEUE_RESET:
            queue = self.queue(select)
            if queue.resetting and seq > queue.resetting and not value & 1:
                queue.resetting = False
                queue.vector = VIRTIO_MSI_NO_VECTOR       # 2.6.1.1.1: the default state
                self.report.held("QRST-1")
                self.monitor.forget_queue(queue.index)
        elif offset <= DEVICE_OFFSET + MAX_PAIRS_AT and offset + len(data) >= DEVICE_OFFSET + MAX_PAIRS_AT + 2:
            self.max_pairs = value >> 8 * (DEVICE_OFFSET + MAX_PAIRS_AT - offset) & 0xffff
        elif offset == ISR_OFFSET:
            self.monitor.isr.answer(data[0], seq)

    # Life

    def _status(self, value):
        before, self.status = self.status, value
        if value == 0:
            self._reset("status")
        elif value & Status.DRIVER_OK and not self.live:
            if self.draining:
                self._at_rest()
            self.live = self.was_live = True
            self.report.held("STAT-1")
            self._fix_features()
        elif value & Status.FEATURES_OK and not before & Status.FEATURES_OK:
            self._fix_features()

    def _fix_features(self):
        self.features = frozenset(32 * word + bit for word, bits in self.words.items() for bit in range(32) if bits >> bit & 1)

    def _reset(self, kind):
        self.draining = kind
        self._ended |= self.live
        self._asked = self.report.seq
        self._start()
        self.monitor.notifications.reset()
        self.monitor.isr.excuse()

    def _flr(self):
        self._reset("flr")
        self.command, self.power_state, self.bar, self.msix, self.masked = 0, 0, 0, False, False
        self.monitor.notifications.masks.reset()

    def _at_rest(self):
        if self.draining == "flr":
            self.may_request = False
        self.draining = False
        if self._ended:
            self.report.held("RST-2")
        self._ended = False
        self.monitor.forget_all()

    def _enable(self, queue):
        if not queue.enabled and queue.size:
            queue.enabled = True
            self.monitor.enable(queue)

    def _reset_queue(self, queue):
        # 4.1.4.3: the field is there only if VIRTIO_F_RING_RESET was negotiated.
        if queue.enabled and VIRTIO_F_RING_RESET in self.features:
            queue.enabled, queue.resetting = False, self.report.seq
            if (ring := self.monitor.rings.get(queue.index)) is not None:
                ring.rest()
