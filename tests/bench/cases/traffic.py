"""The golden driver's traffic, with cocotbext-pcie as its host and cocotbext-eth on the wire."""

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from cocotb.task import resume
from cocotbext.pcie.core.tlp import TlpType
from rig import MAC_ADDRESS, driven, frame

from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.pcie import Cfg, MsgCode
from ringnic.hdl.spec.virtio import VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, Isr, Status
from ringnic.host.driver.net import FEATURES

BASE = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS}
RX_VECTOR, TX_VECTOR = 1, 2
PEER = "52:54:00:00:00:01"


@driven()
def test_negotiation_and_scapy_frames(rig):
    net = rig.open()
    assert net.mac == MAC_ADDRESS and net.mtu == 9000 and net.link_up and net.speed == 1000
    card = net.mac.hex(":")
    out = [bytes(packet) for packet in (
        Ether(src=card, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
        Ether(src=card, dst=PEER) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP() / bytes(range(56)),
        Ether(src=card, dst=PEER) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / bytes(1400))]
    back = [bytes(Ether(src=PEER, dst=card) / IP(src="10.0.0.2", dst="10.0.0.1") / UDP() / (bytes([k]) * size))
            for k, size in enumerate((18, 19, 100, 1472))]
    rig.send(out)
    rig.feed(back)
    rig.expect_wire(out)
    rig.expect_received(back)
    rig.all_sent()
    assert not rig.host.faults


def clean(rig):
    """Nothing went wrong that the card counts."""
    counters = rig.net.counters()
    wrong = ("tx_dropped", "queue_errors", "dma_read_errors", "dma_timeouts", "cpl_unexpected", "tlps_malformed",
             "requests_unsupported", "mac_rx_bad_fcs", "mac_rx_runt", "mac_rx_overflow")
    assert not {name: counters[name] for name in wrong if counters[name]}
    assert not rig.host.faults, rig.host.faults


def sizes(rig, count=24):
    frames = [frame(60 + 61 * k % 1455, k) for k in range(count)] + [frame(9000)]
    rig.send(frames)
    rig.feed(frames)
    rig.expect_wire(frames)
    rig.expect_received(frames)
    rig.all_sent()


@driven(read_ns=(100, 3000), split=True, seed=3, clauses=("TL-33", "TL-40"))
def test_completions_in_pieces_that_overtake(rig):
    """Cut at every boundary of 64 bytes, mingled across tags, and both streams pause."""
    rig.open()
    sizes(rig)
    clean(rig)


@driven(read_ns=(100, 3000), split=True, seed=4)
def test_every_kind_of_ring(rig):
    """The same on split and on packed rings, with and without IN_ORDER and NOTIFICATION_DATA."""
    latest = {VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA}
    for packed in (set(), {VIRTIO_F_RING_PACKED}):
        for without in (set(), latest):
            net = rig.open(FEATURES - {VIRTIO_F_RING_PACKED} - without | packed)
            assert not (packed | latest - without) - net.features
            sizes(rig, 8)
            clean(rig)
            net.reset()


@driven(read_ns=(500, 1500), payload=0, rcb128=True, memory_base=0x9000_0000, clauses=("TL-31", "TL-35"))
def test_small_payload_below_4_gib(rig):
    """128 bytes a TLP, boundary of 128, headers of 3 DW."""
    rig.open(BASE)
    sizes(rig)
    clean(rig)
    assert rig.card.sent[TlpType.MEM_READ] and rig.card.sent[TlpType.MEM_WRITE]
    assert not {TlpType.MEM_READ_64, TlpType.MEM_WRITE_64} & rig.card.sent.keys()


@driven()
def test_msix_that_the_root_complex_enabled(rig):
    assert resume(rig.device.alloc_irq_vectors)(3, 3) == 3
    net = rig.open()
    seen = set()
    net.tx.enable_cb()
    net.send(frame(60))
    rig.feed([frame(60)])
    rig.until(lambda: seen.update(rig.bus.poll_irq()) or {RX_VECTOR, TX_VECTOR} <= seen, "both vectors")
    assert seen == {RX_VECTOR, TX_VECTOR} and not rig.card.messages
    rig.expect_wire([frame(60)])


@driven()
def test_interrupts_masked_and_unwanted(rig):
    net = rig.open(FEATURES)
    net.tx.disable_cb()
    net.rx.disable_cb()
    rig.works()
    rig.bus.run(1000)
    assert not rig.bus.poll_irq() & {RX_VECTOR, TX_VECTOR}
    function = net.transport.function
    function.mask_vector(RX_VECTOR)
    assert net.rx.enable_cb()
    rig.feed([frame(60)])
    rig.expect_received([frame(60)])
    rig.bus.run(1000)
    assert not rig.bus.poll_irq()
    function.mask_vector(RX_VECTOR, False)  # 6.1.4: what was pending comes
    rig.bus.run(1000)
    assert rig.bus.poll_irq() == {RX_VECTOR}


@driven(clauses=("ISR-3", "ISR-4", "ISR-5"))
def test_intx(rig):
    net = rig.open(BASE)
    net.transport.function.disable_msix()
    assert not rig.card.messages
    for _ in range(2):
        rig.card.messages.clear()
        rig.feed([frame(60)])
        rig.until(lambda: rig.card.intx, "Assert_INTA")
        assert rig.bus.config_read(Cfg.STATUS, 2) >> 3 & 1
        assert net.transport.read_isr() == Isr.QUEUE
        rig.bus.run(200)
        assert rig.card.messages == [MsgCode.ASSERT_INTA, MsgCode.DEASSERT_INTA]
        rig.expect_received([frame(60)])
    assert not rig.bus.poll_irq()


@driven(read_ns=(500, 1500), clauses=("RST-P-5", "RST-P-9"))
def test_flr_under_load(rig):
    net = rig.open()
    for wait in (0, 40, 400):
        for k in range(20):
            net.send(frame(1000, k))
        rig.feed([frame(500, k) for k in range(5)])
        rig.bus.run(wait)
        net.flr()  # its memory is gone with it: DMA after this is a fault
        rig.bus.run(2000)
        assert not rig.host.faults
        rig.wire_in.clear()
        rig.bus.run(1000)
        rig.wire()
        net.restart()
        rig.bus.run(100)
        net.receive()
        rig.works()
    assert not rig.host.faults


@driven()
def test_memory_that_is_not_there(rig):
    """A read is answered with Unsupported Request: the queue stops, the driver is told, reset heals."""
    net = rig.open()
    net.tx.add_buf([(0x7_0000_0000, 100)], [], 0)
    net.tx.kick()
    rig.until(lambda: net.transport.status & Status.DEVICE_NEEDS_RESET or net.tx.get_buf(), "a reaction")
    assert rig.host.faults and all(0x7_0000_0000 <= fault.address < 0x7_0000_0064 for fault in rig.host.faults)
    assert net.counters()["dma_read_errors"]
    assert not rig.wire()
    net.reset()
    net.restart()
    rig.works()


@driven(clauses=("CS-6",))
def test_no_bus_master_no_dma(rig):
    net = rig.open()
    rig.works()
    net.transport.function.set_bus_master(False)
    rig.bus.run(500)
    rig.card.sent.clear()
    rig.bus.poll_irq()
    net.tx.add_buf([(net.tx_memory.iova, 100)], [], 0)
    net.tx.notify()
    rig.feed([frame(100)])
    rig.bus.run(2000)
    assert set(rig.card.sent) <= {TlpType.CPL, TlpType.CPL_DATA} and not rig.bus.poll_irq()
