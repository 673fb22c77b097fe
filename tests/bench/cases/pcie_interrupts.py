"""Interrupts: MSI-X messages, masks and pending bits; INTx; and what is in memory when either comes."""

from types import SimpleNamespace

from cocotb.task import resume
from cocotbext.pcie.core.tlp import TlpType
from rig import driven, frame

from ringnic.hdl.spec.bar import ISR_OFFSET, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.pcie import CapId, Cfg, Command, ConfigStatus, MsgCode, MsixCap
from ringnic.hdl.spec.virtio import Isr

from .pcie_tap import MEM_WRITES, Tap, change_link

BASE = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS}  # a split ring, every interrupt wanted
CONFIG_VECTOR, RX_VECTOR = 0, 1
ENABLE, MASK_ALL = 1 << 15, 1 << 14
SETTLE = 400  # cycles


class Messages(list):
    """INTx messages, each with the number of TLPs that came before it."""
    def __init__(self, tap):
        super().__init__()
        self.tap, self.places = tap, []

    def append(self, code):
        super().append(code)
        self.places.append(len(self.tap.seen))


def config_change(rig):
    """An interrupt without anything in memory."""
    change_link(rig)
    rig.bus.run(SETTLE)


def is_interrupt(tlp, vector):
    return tlp.fmt_type in MEM_WRITES and (tlp.address, int.from_bytes(tlp.data, "little")) == (vector.addr, vector.data)


def interrupts(rig, tap):
    """Writes to where vectors point, since the last call."""
    found = [tlp for tlp in tap.seen if any(is_interrupt(tlp, vector) for vector in rig.device.msi_vectors)]
    tap.seen.clear()
    return found


def pending(rig):
    return rig.bus.bar_read(0, MSIX_PBA_OFFSET, 4)


@driven(clauses=("INT-1", "INT-2", "INT-3", "INT-4", "INT-5"))
def test_msix(rig):
    tap = Tap(rig)
    function = rig.open(BASE).transport.function
    control = function.find(CapId.MSIX) + MsixCap.CONTROL
    rig.bus.run(SETTLE)
    vector = rig.device.msi_vectors[CONFIG_VECTOR]
    interrupts(rig, tap)

    def expect(count):
        found = interrupts(rig, tap)
        assert len(found) == count, found
        for tlp in found:
            assert is_interrupt(tlp, vector) and (tlp.length, tlp.first_be, tlp.last_be) == (1, 0xf, 0)
            assert tlp.attr == 0 and tlp.tc == 0
    config_change(rig)
    expect(1)
    # The vector's own mask: three of them wait as one.
    function.mask_vector(CONFIG_VECTOR)
    rig.bus.run(SETTLE)
    for _ in range(3):
        config_change(rig)
    expect(0)
    assert pending(rig) == 1 << CONFIG_VECTOR
    rig.feed([frame(60)])  # other vectors go on
    rig.expect_received([frame(60)])
    rig.bus.run(SETTLE)
    found = interrupts(rig, tap)
    assert found and all(is_interrupt(tlp, rig.device.msi_vectors[RX_VECTOR]) for tlp in found)
    function.mask_vector(CONFIG_VECTOR, False)
    rig.bus.run(SETTLE)
    expect(1)
    assert pending(rig) == 0
    # All masked. What the entry says when the message is sent counts, not what it said before.
    rig.bus.config_write(control, 2, ENABLE | MASK_ALL)
    config_change(rig)
    expect(0)
    assert pending(rig) == 1 << CONFIG_VECTOR
    vector = SimpleNamespace(addr=0x3_4567_89a8, data=0xfedc_ba98)
    for dw, value in enumerate((vector.addr & 0xffff_ffff, vector.addr >> 32, vector.data)):
        rig.bus.bar_write(0, MSIX_TABLE_OFFSET + 4 * dw, 4, value)
    rig.bus.config_write(control, 2, ENABLE)
    rig.bus.run(SETTLE)
    sent = [tlp for tlp in tap.seen if is_interrupt(tlp, vector)]
    assert len(sent) == 1 and sent[0].fmt_type == TlpType.MEM_WRITE_64 and not interrupts(rig, tap)
    assert not rig.card.messages and not rig.bus.config_read(Cfg.STATUS, 2) >> ConfigStatus.INTERRUPT & 1
    # Off: no message any more.
    rig.bus.config_write(control, 2, 0)
    config_change(rig)
    expect(0)


@driven(clauses=("CS-7", "INT-8", "INT-9", "INT-10"))
def test_intx(rig):
    """The level as the messages tell it, the status bit whatever they do; neither needs Bus Master Enable."""
    net = rig.open(BASE)
    function, messages = net.transport.function, rig.card.messages
    function.disable_msix()
    rig.bus.run(SETTLE)
    assert not messages

    def told():
        rig.bus.run(SETTLE)
        codes = [*messages]
        messages.clear()
        return codes

    def status():
        return rig.bus.config_read(Cfg.STATUS, 2) >> ConfigStatus.INTERRUPT & 1
    on, off = [MsgCode.ASSERT_INTA], [MsgCode.DEASSERT_INTA]
    command = rig.bus.config_read(Cfg.COMMAND, 2)
    for at_work in (command, command & ~(1 << Command.BUS_MASTER)):
        rig.bus.config_write(Cfg.COMMAND, 2, at_work)
        assert not status()
        config_change(rig)
        assert told() == on and status()
        config_change(rig)
        assert told() == []                   # it is on already
        rig.bus.config_write(Cfg.COMMAND, 2, at_work | 1 << Command.INTX_DISABLE)
        assert told() == off and status()
        rig.bus.config_write(Cfg.COMMAND, 2, at_work)
        assert told() == on
        assert net.transport.read_isr() == Isr.CONFIG
        assert told() == off and not status()
        rig.bus.config_write(Cfg.COMMAND, 2, at_work | 1 << Command.INTX_DISABLE)
        config_change(rig)
        assert told() == [] and status()
        assert net.transport.read_isr() == Isr.CONFIG and told() == []


def places(tap, net, begin, end):
    """Of the TLPs from ``begin`` to ``end``: those that write the receive buffers, the used ring's entries, and its idx."""
    rx, buffers = net.rx, net.rx_memory
    found = {"data": [], "entry": [], "idx": []}
    for k, tlp in enumerate(tap.seen[begin:end], begin):
        if tlp.fmt_type not in MEM_WRITES:
            continue
        if buffers.iova <= tlp.address < buffers.iova + len(buffers.view):
            found["data"].append(k)
        elif tlp.address == rx.used_iova and tlp.first_be & 0xc:
            found["idx"].append(k)
        elif rx.used_iova < tlp.address < rx.memory.iova + len(rx.memory.view):
            found["entry"].append(k)
    return found


@driven(seed=31, read_ns=(100, 1500), clauses=("TL-29",))
def test_msix_follows_what_it_tells_of(rig):
    tap = Tap(rig)
    net = rig.open(BASE)
    rig.bus.run(SETTLE)  # what a queue writes when it begins
    vector, begin = rig.device.msi_vectors[RX_VECTOR], len(tap.seen)
    for number in range(10):
        rig.feed([frame(60 + 70 * number, number)])
        rig.until(lambda: RX_VECTOR in rig.bus.poll_irq(), "the vector")
        end = next(k for k in range(begin, len(tap.seen)) if is_interrupt(tap.seen[k], vector))
        found = places(tap, net, begin, end)
        assert found["data"] and max(found["data"]) < min(found["entry"]) and max(found["entry"]) < min(found["idx"])
        rig.expect_received([frame(60 + 70 * number, number)])
        rig.bus.run(SETTLE)
        begin = len(tap.seen)


@driven(seed=32, read_ns=(100, 1500), clauses=("TL-28", "TL-29"))
def test_registers_and_intx_follow_what_they_tell_of(rig):
    """The completion of the read that shows the queue's ISR bit, and Assert_INTA, come after the index in memory."""
    tap = Tap(rig)
    rig.card.messages = messages = Messages(tap)
    net = rig.open(BASE)
    net.transport.function.disable_msix()
    rig.bus.run(SETTLE)
    isr = rig.device.bar_addr[0] + ISR_OFFSET
    for number in range(10):
        begin = len(tap.seen)
        rig.feed([frame(60 + 70 * number, number)])
        if number % 2:
            shown = []
            rig.until(lambda: messages, "Assert_INTA")
            assert places(tap, net, begin, messages.places[0])["idx"]
        else:
            shown = [resume(tap.read)(isr)]
            while not shown[-1][0]:
                shown.append(resume(tap.read)(isr))
            end = next(k for k in range(begin, len(tap.seen)) if tap.seen[k].fmt_type == TlpType.CPL_DATA
                       and tap.seen[k].lower_address == 0 and tap.seen[k].length == 1 and tap.seen[k].data[0])
            assert shown[-1][0] == Isr.QUEUE.value and places(tap, net, begin, end)["idx"]
        rig.expect_received([frame(60 + 70 * number, number)])
        rig.bus.run(SETTLE)
        net.transport.read_isr()
        rig.bus.run(SETTLE)
        messages.clear()
        messages.places.clear()
