"""RingNIC: the one place where rooms are wired together."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .lib.counters import Counters
from .lib.frame import frame_beat
from .lib.gate import PacketCut, PacketGate
from .lib.regbus import RegDecoder
from .mac.gmii import Gmii
from .net.device import NetDevice
from .pcie.endpoint import Endpoint
from .pcie.tlp_stream import tlp_beat
from .spec.bar import COUNTERS, COUNTERS_OFFSET, REG_ADDR_WIDTH
from .spec.ethernet import FCS_BYTES
from .spec.virtio import (VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC,
                          VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_ID_NET, VIRTIO_PCI_DEVICE_ID_BASE)
from .transport.transport import Transport
from .virtqueue.engine import Engine

__all__ = ["RingNIC"]

#: Feature bits that the engine and the transport bring to any device.
COMMON_FEATURES = (VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM,
                   VIRTIO_F_ORDER_PLATFORM)


class RingNIC(wiring.Component):
    """A network card that is a virtio-net device.

    Parameters
    ----------
    width : int
        Bits per beat of the whole datapath.
    queue_pairs : int
        Receive and transmit queues.
    mac : "gmii" or None
        The Ethernet side: a GMII (domains ``gmii_rx`` and ``gmii_tx``), or frames as packet streams.
    max_queue_size : int
        Entries that a queue may have.
    mac_address : int
        48 bits, first byte of the address highest.
    mtu : int
        Bytes.
    speed : int
        Mbit/s that the device configuration reports.
    timeout_cycles : int
        Completion timeout.

    Members
    -------
    tlp_rx : In(stream), tlp_tx : Out(stream)
        Raw TLPs.
    frames_rx : In(stream), frames_tx : Out(stream), or the signals of a GMII
        Ethernet frames without FCS, from the wire and to it.
    link_up : In(1)
        The Ethernet link has a partner.
    busy : Out(1)
        Something is under way inside that needs clock cycles: a simulator may stop the clock while it is low.
    """
    def __init__(self, *, width=64, queue_pairs=1, mac="gmii", max_queue_size=256, mac_address=0x5254_0052_4e01,
                 mtu=9000, speed=1000, timeout_cycles=1 << 20):
        if mac not in ("gmii", None):
            raise ValueError(f"MAC must be 'gmii' or None, not {mac!r}")
        self.width = width
        self.queue_pairs = queue_pairs
        self.mac = mac
        self.max_queue_size = max_queue_size
        self.mac_address = mac_address
        self.mtu = mtu
        self.speed = speed
        self.timeout_cycles = timeout_cycles
        wire = {
            "gmii_rxd":   In(8),
            "gmii_rx_dv": In(1),
            "gmii_rx_er": In(1),
            "gmii_txd":   Out(8),
            "gmii_tx_en": Out(1),
            "gmii_tx_er": Out(1),
        } if mac == "gmii" else {
            "frames_rx": In(stream.Signature(frame_beat(width))),
            "frames_tx": Out(stream.Signature(frame_beat(width))),
        }
        super().__init__({
            "tlp_rx":  In(stream.Signature(tlp_beat(width))),
            "tlp_tx":  Out(stream.Signature(tlp_beat(width))),
            "link_up": In(1),
            "busy":    Out(1),
            **wire,
        })

    def elaborate(self, platform):
        m = Module()
        num_queues = 2 * self.queue_pairs
        vectors = num_queues + 1
        stop, reset = Signal(), Signal()
        restart = ResetInserter(reset)

        device = NetDevice(width=self.width, queue_pairs=self.queue_pairs, mac_address=self.mac_address,
                           mtu=self.mtu, speed=self.speed)
        engine = Engine(width=self.width, num_queues=num_queues, ports=2)
        m.submodules.device = restart(device)
        m.submodules.engine = restart(engine)
        m.submodules.transport = transport = Transport(
            device_features=sum(1 << bit for bit in (*COMMON_FEATURES, *device.FEATURES)),
            feature_prerequisites={}, num_queues=num_queues, max_queue_size=self.max_queue_size, msix_vectors=vectors,
            config_bytes=len(device.config) // 8)
        m.submodules.endpoint = endpoint = Endpoint(
            width=self.width, read_clients=len(engine.reads) + 1, write_clients=len(engine.writes) + 1,
            msix_vectors=vectors, device_id=VIRTIO_PCI_DEVICE_ID_BASE + VIRTIO_ID_NET, class_code=0x020000,
            timeout_cycles=self.timeout_cycles)

        # Host side
        connect(m, flipped(self.tlp_rx), endpoint.tlp_rx)
        connect(m, endpoint.tlp_tx, flipped(self.tlp_tx))
        m.submodules.counters = counters = Counters(COUNTERS)
        counters_page = COUNTERS_OFFSET >> 12
        m.submodules.decoder = decoder = RegDecoder(
            REG_ADDR_WIDTH, {**{page: 0 for page in range(4)}, counters_page: 1})
        connect(m, endpoint.regs, decoder.i)
        connect(m, decoder.o[0], transport.regs)
        connect(m, decoder.o[1], counters.regs)
        connect(m, transport.irq, endpoint.irq)

        # Rings
        for k, port in enumerate((*engine.reads, device.read)):
            connect(m, port, endpoint.reads[k])
        for k, port in enumerate((*engine.writes, device.write)):
            connect(m, port, endpoint.writes[k])
        connect(m, device.rx_buffers, engine.buffers[0])
        connect(m, device.tx_buffers, engine.buffers[1])
        connect(m, engine.notify, transport.notify)
        m.d.comb += [
            engine.setup_valid.eq(transport.setup_valid),
            engine.setup.eq(transport.setup),
            engine.enable.eq(transport.driver_ok),
            engine.event_idx.eq(transport.features[VIRTIO_F_EVENT_IDX]),
            engine.indirect.eq(transport.features[VIRTIO_F_INDIRECT_DESC]),
            engine.kick_valid.eq(transport.kick_valid),
            engine.kick_queue.eq(transport.kick_queue),
            transport.queue_error.eq(engine.error),
            transport.msix_enabled.eq(endpoint.msix_enabled),
            endpoint.intx.eq(transport.intx),
        ]

        # Device
        m.d.comb += [
            device.link_up.eq(self.link_up),
            device.features.eq(transport.features),
            device.driver_ok.eq(transport.driver_ok),
            transport.config.eq(device.config),
            transport.config_changed.eq(device.config_changed),
        ]

        # Wire side
        m.submodules.tx_gate = tx_gate = PacketGate(frame_beat(self.width))
        m.submodules.rx_cut  = rx_cut  = PacketCut(frame_beat(self.width))
        connect(m, device.frames_tx, tx_gate.i)
        connect(m, rx_cut.o, device.frames_rx)
        sources = [endpoint, transport, engine, device]
        if self.mac == "gmii":
            m.submodules.mac = mac = Gmii(
                width=self.width, max_frame=device.max_frame + FCS_BYTES)
            connect(m, tx_gate.o, mac.i)
            connect(m, mac.o, rx_cut.i)
            sources.append(mac)
            m.d.comb += [
                mac.drain.eq(stop),
                mac.gmii_rxd.eq(self.gmii_rxd),
                mac.gmii_rx_dv.eq(self.gmii_rx_dv),
                mac.gmii_rx_er.eq(self.gmii_rx_er),
                self.gmii_txd.eq(mac.gmii_txd),
                self.gmii_tx_en.eq(mac.gmii_tx_en),
                self.gmii_tx_er.eq(mac.gmii_tx_er),
            ]
        else:
            connect(m, tx_gate.o, flipped(self.frames_tx))
            connect(m, flipped(self.frames_rx), rx_cut.i)

        # Reset is a drain: first the DMA, then the frame on its way to the wire. The one that is coming is cut: its end may
        # be long in coming, if the wire is dead it never comes.
        m.d.comb += [
            stop.eq(endpoint.flr | transport.reset_pending),
            endpoint.stop.eq(stop),
            tx_gate.hold.eq(stop & endpoint.stopped),
            rx_cut.hold.eq(reset),
            reset.eq(tx_gate.held),
            endpoint.reset.eq(reset),
            transport.reset_done.eq(reset),
        ]

        for source in sources:
            for name, _ in source.events.shape():
                m.d.comb += counters.events[name].eq(source.events[name])
        m.d.comb += self.busy.eq(endpoint.busy | engine.busy | device.busy | stop)
        return m
