"""A virtio device as a PCI Express function, whatever its type: everything but the device itself."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .lib.counters import Counters
from .lib.reg import WordPort
from .lib.regbus import RegDecoder
from .pcie.endpoint import Endpoint
from .pcie.function_config import FunctionConfig
from .pcie.soft_config import SoftConfig
from .pcie.tlp_stream import ALL_CLASSES, TLP_CLASSES, tlp_beat
from .spec.bar import COUNTERS_OFFSET, LINK_WORDS, REG_ADDR_WIDTH
from .spec.virtio import (
    VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_NOTIFICATION_DATA,
    VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1, VIRTIO_PCI_DEVICE_ID_BASE,
)
from .transport.transport import Transport
from .virtqueue.engine import Engine

__all__ = ["COMMON_FEATURES", "VirtioFunction"]

#: Feature bits that the engine and the transport bring to any device.
COMMON_FEATURES = (
    VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_PACKED,
    VIRTIO_F_IN_ORDER, VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET)


BATCH = 32                              # split ring: entries or descriptors in one read, at least
# 64 to 2048: one frame may need 64 chains, and half as many descriptors as the most, 16 KiB, are read at once.
PREFETCH = [64 << n for n in range(6)]


class VirtioFunction(wiring.Component):
    """One device with all that makes it a virtio device of a host: endpoint, transport, ring engine, counters; and its reset,
    which is a drain.

    Parameters
    ----------
    device : component
        As :mod:`ringnic.hdl.lib.device` describes it. It becomes a part of the function, which connects its ``host`` and its
        ``events`` and resets it; what it has besides is connected by who made it.
    width : int
        Bits per beat of the whole datapath.
    counters : sequence of str
        What is counted, in the order of the registers: events of the function, of the device, and of what lies behind it.
    max_queue_size : int
        Entries that a queue may have.
    pcie : PcieParameters
        With a ``prefetch`` that is a power of two from 64 to 2048, else :exc:`ValueError`.
    build_id : int
        32 bits that the host can read.
    controls : sequence of str
        What the host may switch for what lies behind the device, see :class:`Counters`.

    Members
    -------
    tlp_rx : In(stream), tlp_tx : Out(stream)
        Raw TLPs.
    credits : In(TLP_CLASSES)
        As of :class:`Endpoint`.
    config : In(FunctionConfig(width))
        From the block that keeps the configuration. There only if it is ``pcie.hosted``.
    link_page : Out(WordPort(LINK_WORDS))
        The record of the link training, see :mod:`.spec.bar`. There only if the configuration is ``pcie.hosted``.
    offered : In(128)
        Mask of the device features to offer; a constant on a board. Stable while the function is in use.
    events : In(data.StructLayout({name: 1}))
        Strobes for the ``counters`` that neither the function nor the device drives.
    controls : Out(data.StructLayout({name: 1}))
        As the host has switched them; 0 after a Function Level Reset. There only with ``controls``.
    stop : Out(1)
        The host wants a reset. From now on nothing new.
    drained : Out(1)
        While ``stop`` is high: no TLP is under way.
    quiet : In(1)
        What lies behind the device can be cut off, now that ``drained`` is high.
    restart : Out(1)
        High for one cycle, in which the device is reset.
    busy : Out(1)
        Something is under way inside that needs clock cycles.
    """
    def __init__(self, device, *, width, counters, max_queue_size, pcie, build_id=0, controls=()):
        if pcie.prefetch not in PREFETCH:
            raise ValueError(
                f"Chains found ahead must be a power of 2 from {PREFETCH[0]} to {PREFETCH[-1]}, not {pcie.prefetch!r}")
        self.device = device
        self.build_id = build_id
        self.control_names = tuple(controls)
        self.counters = tuple(counters)
        num_queues = len(device.host.buffers[0].available)
        vectors = num_queues + 1          # one for configuration changes
        self._engine = Engine(
            width=width, num_queues=num_queues, ports=len(device.host.buffers), prefetch=pcie.prefetch,
            batch=max(BATCH, pcie.prefetch // 8), hold_cycles=pcie.hold_cycles)
        self._transport = Transport(
            device_features=sum(1 << bit for bit in {*COMMON_FEATURES, *device.FEATURES}),
            feature_prerequisites=device.FEATURE_PREREQUISITES, num_queues=num_queues, max_queue_size=max_queue_size,
            msix_vectors=vectors, config_bytes=max(1, len(device.host.config) // 8))
        self._soft_config = None if pcie.hosted else SoftConfig(
            width=width, device_id=VIRTIO_PCI_DEVICE_ID_BASE + device.DEVICE_ID, class_code=device.CLASS_CODE,
            msix_vectors=vectors, pcie=pcie)
        self._endpoint = Endpoint(
            width=width, pcie=pcie, read_clients=len(self._engine.reads) + len(device.host.reads),
            write_clients=len(self._engine.writes) + len(device.host.writes),
            num_queues=num_queues, msix_vectors=vectors, interrupt_sources=num_queues + 1)
        self._sources = {name: unit for unit in (self._endpoint, self._transport, self._engine, device)
                         for name, _ in unit.events.shape()}
        for name in self._sources:
            if name not in self.counters:
                raise ValueError(f"Event {name!r} has no counter")
        super().__init__({
            "tlp_rx":  In(stream.Signature(tlp_beat(width))),
            "tlp_tx":  Out(stream.Signature(tlp_beat(width))),
            "credits": In(TLP_CLASSES, init=ALL_CLASSES),
            "offered": In(128, init=(1 << 128) - 1),
            "events":  In(data.StructLayout({name: 1 for name in self.counters if name not in self._sources})),
            "stop":    Out(1),
            "drained": Out(1),
            "quiet":   In(1, init=1),
            "restart": Out(1),
            "busy":    Out(1),
            **({"config": In(FunctionConfig(width)), "link_page": Out(WordPort(LINK_WORDS))} if pcie.hosted else {}),
            **({"controls": Out(data.StructLayout({name: 1 for name in self.control_names}))} if self.control_names else {}),
        })

    def elaborate(self, platform):
        m = Module()
        endpoint, transport, engine, host = self._endpoint, self._transport, self._engine, self.device.host
        m.submodules.endpoint  = endpoint
        m.submodules.transport = transport
        m.submodules.engine    = ResetInserter(self.restart)(engine)
        m.submodules.device    = ResetInserter(self.restart)(self.device)

        # Host side
        connect(m, flipped(self.tlp_rx), endpoint.tlp_rx)
        connect(m, endpoint.tlp_tx, flipped(self.tlp_tx))
        m.d.comb += endpoint.credits.eq(self.credits)
        hosted = self._soft_config is None
        if hosted:
            connect(m, flipped(self.config), endpoint.config)
        else:
            m.submodules.config = config = self._soft_config
            connect(m, config.function, endpoint.config)
        m.submodules.counters = counters = Counters(
            self.counters, build_id=self.build_id, controls=self.control_names, tail=LINK_WORDS if hosted else 0)
        if hosted:
            connect(m, counters.tail, flipped(self.link_page))
        m.submodules.decoder = decoder = RegDecoder(
            REG_ADDR_WIDTH, {**{page: 0 for page in range(4)}, COUNTERS_OFFSET >> 12: 1})
        connect(m, endpoint.regs, decoder.i)
        connect(m, decoder.o[0], transport.regs)
        connect(m, decoder.o[1], counters.regs)
        connect(m, transport.irq, endpoint.irq)
        m.d.comb += [
            transport.offered.eq(self.offered),
            transport.msix_enabled.eq(endpoint.msix_enabled),
            endpoint.intx.eq(transport.intx),
            *[counters.events[name].eq(unit.events[name]) for name, unit in self._sources.items()],
            *[counters.events[name].eq(self.events[name]) for name, _ in self.events.shape()],
        ]

        # Rings. Features are settled long before a queue is used: a register keeps their gates out of every path.
        features = Signal.like(transport.features)
        m.d.sync += features.eq(transport.features)
        connect(m, engine.notify, transport.notify)
        m.d.comb += [
            engine.setup_valid.eq(transport.setup_valid),
            engine.setup.eq(transport.setup),
            engine.enable.eq(transport.driver_ok),
            engine.event_idx.eq(features[VIRTIO_F_EVENT_IDX]),
            engine.indirect.eq(features[VIRTIO_F_INDIRECT_DESC]),
            engine.packed.eq(features[VIRTIO_F_RING_PACKED]),
            engine.in_order.eq(features[VIRTIO_F_IN_ORDER]),
            engine.notification_data.eq(features[VIRTIO_F_NOTIFICATION_DATA]),
            engine.kick_valid.eq(transport.kick_valid),
            engine.kick_queue.eq(transport.kick_queue),
            engine.kick_next.eq(transport.kick_next),
            engine.reset_valid.eq(transport.reset_queue_valid),
            engine.reset_queue.eq(transport.reset_queue),
            transport.reset_queue_done.eq(engine.reset_done),
            transport.queue_error.eq(engine.error),
        ]

        # Device
        connect(m, engine.areas, endpoint.areas)
        for k, port in enumerate((*engine.reads, *host.reads)):
            connect(m, port, endpoint.reads[k])
        for k, port in enumerate((*engine.writes, *host.writes)):
            connect(m, port, endpoint.writes[k])
        for k, buffers in enumerate(host.buffers):
            connect(m, buffers, engine.buffers[k])
        m.d.comb += [
            host.features.eq(features),
            host.driver_ok.eq(transport.driver_ok),
            transport.config.eq(host.config),
            transport.config_changed.eq(host.config_changed),
        ]

        # Reset is a drain: first the DMA, then what lies behind the device. Then one cycle. Each step leaves a register, for it
        # comes and goes far.
        wanted = endpoint.flr | transport.reset_pending
        m.d.sync += [
            self.stop.eq(wanted & ~self.restart),
            self.drained.eq(self.stop & endpoint.stopped & ~self.restart),
            self.restart.eq(self.drained & self.quiet & ~self.restart),
        ]
        m.d.comb += [
            endpoint.stop.eq(self.stop),
            endpoint.reset.eq(self.restart),
            transport.reset_done.eq(self.restart),
            self.busy.eq(endpoint.busy | transport.busy | engine.busy | host.busy | wanted),
        ]
        if self.control_names:
            m.d.comb += [self.controls.eq(counters.controls), counters.clear.eq(self.restart & endpoint.flr)]
        return m
