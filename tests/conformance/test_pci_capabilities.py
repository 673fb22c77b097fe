"""What the function says of itself in configuration space, and the window into its BARs.

Ref: VIRTIO 1.4, 4.1.2 "PCI Device Discovery", 4.1.4 "Virtio Structure PCI Capabilities", 4.1.5.1.2 "MSI-X Vector Configuration".
"""

from dataclasses import dataclass

import pytest

from ringnic.hdl.spec.pcie import MSIX_ENTRY_SIZE, CapId, Cfg, MsixCap, VirtioCap
from ringnic.hdl.spec.virtio import (VIRTIO_ID_NET, VIRTIO_PCI_DEVICE_ID_BASE, VIRTIO_PCI_VENDOR_ID, CfgType, Common, Status)

SHARED_MEMORY, VENDOR = 8, 9   # cfg_type: VIRTIO_PCI_CAP_SHARED_MEMORY_CFG, VIRTIO_PCI_CAP_VENDOR_CFG
CAP_ID = 5                     # byte offset of the id of several structures of a type
SMALLEST = {CfgType.NOTIFY: 20, CfgType.PCI: 20, SHARED_MEMORY: 24}  # bytes of a capability; others have 16
NON_TRANSITIONAL_IDS = range(0x1040, 0x1080)
CONFIG_SPACE = 0x100


@dataclass
class Capability:
    """A virtio capability as it lies in configuration space."""
    at: int
    cap_len: int
    cfg_type: int
    bar: int
    id: int
    offset: int
    length: int
    multiplier: int


@pytest.fixture
def transport(card):
    return card.transport()


@pytest.fixture
def found(transport):
    """All virtio capabilities in the order of the list, whatever a driver thinks of them."""
    read = transport.bus.config_read
    return [Capability(at, read(at + VirtioCap.CAP_LEN, 1), read(at + VirtioCap.CFG_TYPE, 1), read(at + VirtioCap.BAR, 1),
                       read(at + CAP_ID, 1), read(at + VirtioCap.OFFSET, 4), read(at + VirtioCap.LENGTH, 4),
                       read(at + VirtioCap.MULTIPLIER, 4) if at + VirtioCap.MULTIPLIER < CONFIG_SPACE else 0)
            for at, cap_id in transport.function.capabilities if cap_id == CapId.VENDOR]


def of_type(found, cfg_type):
    return [capability for capability in found if capability.cfg_type == cfg_type]


@pytest.mark.clause("ID-1", "ID-2", "ID-3")
def test_identity(transport):
    function, read = transport.function, transport.bus.config_read
    assert function.vendor_id == VIRTIO_PCI_VENDOR_ID == 0x1af4
    assert function.device_id == VIRTIO_PCI_DEVICE_ID_BASE + VIRTIO_ID_NET == 0x1041
    assert function.revision_id >= 1
    assert read(Cfg.SUBSYSTEM_ID, 2) >= 0x40


@pytest.mark.clause("LEG-1")
def test_no_legacy_device_had_this_identity(transport):
    """So no legacy driver binds to it, and nothing needs to answer one: legacy devices had 0x1000 to 0x103f."""
    assert transport.function.device_id in NON_TRANSITIONAL_IDS


@pytest.mark.clause("CAP-1")
def test_capabilities_have_their_whole_length(transport, found):
    starts = sorted([at for at, _ in transport.function.capabilities] + [CONFIG_SPACE])
    for capability in found:
        assert capability.at % 4 == 0
        assert capability.cap_len >= SMALLEST.get(capability.cfg_type, 16)
        assert capability.at + capability.cap_len <= starts[starts.index(capability.at) + 1]


@pytest.mark.clause("CC-2", "NTF-1", "ISR-1", "DEV-2", "PCF-1", "CAP-2")
def test_there_is_one_structure_of_each_type(found):
    """So the first of a type is the best."""
    assert sorted(capability.cfg_type for capability in found) == sorted(CfgType)


@pytest.mark.clause("CC-1", "DEV-1")
@pytest.mark.parametrize("cfg_type", [CfgType.COMMON, CfgType.DEVICE])
def test_structures_begin_at_a_multiple_of_4(found, cfg_type):
    assert all(capability.offset % 4 == 0 for capability in of_type(found, cfg_type))


def test_structures_lie_inside_their_bars(transport, found):
    for capability in found:
        if capability.cfg_type != CfgType.PCI:  # which says nothing until the driver does
            assert capability.bar in transport.function.bars
            assert 0 < capability.length <= transport.function.bars[capability.bar].size - capability.offset
    sizes = {CfgType.COMMON: Common.SIZE, CfgType.ISR: 1, CfgType.DEVICE: 17}
    for cfg_type, size in sizes.items():
        assert all(capability.length >= size for capability in of_type(found, cfg_type))


@pytest.mark.clause("NTF-2", "NTF-3")
@pytest.mark.parametrize("size", [2, 4], ids=["index", "data"])
def test_every_queue_has_its_place_for_notifications(transport, found, size):
    """A notification has 2 bytes, or 4 with NOTIFICATION_DATA."""
    for capability in of_type(found, CfgType.NOTIFY):
        assert capability.offset % size == 0
        multiplier = capability.multiplier
        assert multiplier == 0 or multiplier & (multiplier - 1) == 0 and multiplier % size == 0
        assert capability.length >= size
        for queue in range(transport.num_queues):
            transport.common_write(Common.QUEUE_SELECT, 2, queue)
            assert transport.common_read(Common.QUEUE_NOTIFY_OFF, 2) * multiplier + size <= capability.length


@pytest.mark.clause("SHM-1", "SHM-2", "VND-1")
def test_nothing_is_shared_and_nothing_is_the_vendors(found):
    """The rules of shared memory windows and of vendor capabilities hold: there are none."""
    assert not of_type(found, SHARED_MEMORY) and not of_type(found, VENDOR)


# The window (4.1.4.9).

def window(transport):
    """Return ``look(offset, size, value=None)``: an access to the common configuration through the window."""
    bus, at = transport.bus, transport.function.structures[CfgType.PCI].cap
    common = transport.function.structures[CfgType.COMMON]

    def look(offset, size, value=None):
        bus.config_write(at + VirtioCap.BAR, 1, common.bar)
        bus.config_write(at + VirtioCap.OFFSET, 4, common.offset + offset)
        bus.config_write(at + VirtioCap.LENGTH, 4, size)
        if value is None:
            return bus.config_read(at + VirtioCap.PCI_CFG_DATA, size)
        bus.config_write(at + VirtioCap.PCI_CFG_DATA, size, value)
    return look


@pytest.mark.clause("PCF-2")
def test_window_writes_the_bar(transport):
    look = window(transport)
    transport.status = Status.ACKNOWLEDGE
    for size, offset, value in ((4, Common.DRIVER_FEATURE_SELECT, 0x1234_5678), (2, Common.QUEUE_SELECT, 3),
                                (1, Common.DEVICE_STATUS, int(Status.ACKNOWLEDGE | Status.DRIVER)),
                                (4, Common.QUEUE_DESC + 4, 0xcafe), (2, Common.CONFIG_MSIX_VECTOR, 2)):
        before = transport.common_read(offset, size)
        look(offset, size, value)
        assert transport.common_read(offset, size) == value != before


@pytest.mark.clause("PCF-3")
def test_window_reads_the_bar(transport):
    look = window(transport)
    transport.common_write(Common.QUEUE_SELECT, 2, 1)
    transport.common_write(Common.QUEUE_DESC, 4, 0x89ab_cdef)
    for size, offset in ((4, Common.DEVICE_FEATURE), (2, Common.NUM_QUEUES), (2, Common.QUEUE_SELECT), (2, Common.QUEUE_SIZE),
                         (1, Common.DEVICE_STATUS), (4, Common.QUEUE_DESC), (2, Common.QUEUE_DESC + 2), (1, Common.QUEUE_DESC)):
        assert look(offset, size) == transport.common_read(offset, size)


@pytest.mark.clause("PCF-2", "PCF-3")
def test_window_keeps_what_it_read(transport):
    """A read leaves what it brought in pci_cfg_data, and a write takes the first cap.length bytes from there, whichever of them
    it brings itself."""
    look, bus = window(transport), transport.bus
    data = transport.function.structures[CfgType.PCI].cap + VirtioCap.PCI_CFG_DATA
    transport.common_write(Common.QUEUE_SELECT, 2, 0)
    transport.common_write(Common.QUEUE_DESC, 4, 0x1122_3344)
    assert look(Common.QUEUE_DESC, 4) == 0x1122_3344
    bus.config_write(data, 1, 0x99)
    assert transport.common_read(Common.QUEUE_DESC, 4) == 0x1122_3399
    bus.config_write(data + 2, 2, 0xaabb)
    assert transport.common_read(Common.QUEUE_DESC, 4) == 0xaabb_3399
    assert look(Common.QUEUE_DESC + 2, 2) & 0xffff == 0xaabb
    bus.config_write(data + 1, 1, 0x55)
    assert transport.common_read(Common.QUEUE_DESC, 4) == 0x55bb_3399


@pytest.mark.clause("PCF-2", "PCF-3")
@pytest.mark.simulated("a hand on the cable")
def test_window_does_what_the_bar_does(card, transport):
    """A write has its effect: a reset; so has a read: of ISR status, which clears it."""
    look = window(transport)
    transport.status = Status.ACKNOWLEDGE
    look(Common.DEVICE_STATUS, 1, 0)
    card.until(lambda: look(Common.DEVICE_STATUS, 1) == 0, "reset by the window")
    net = card.open()
    net.transport.function.disable_msix()
    card.wire.set_link(False)
    card.rest()
    isr, at = net.transport.function.structures[CfgType.ISR], net.transport.function.structures[CfgType.PCI].cap
    card.bus.config_write(at + VirtioCap.BAR, 1, isr.bar)
    card.bus.config_write(at + VirtioCap.OFFSET, 4, isr.offset)
    card.bus.config_write(at + VirtioCap.LENGTH, 4, 1)
    assert [card.bus.config_read(at + VirtioCap.PCI_CFG_DATA, 1) for _ in range(2)] == [2, 0]


# The MSI-X table.

@pytest.mark.clause("MSX-1", "MSX-2")
@pytest.mark.simulated("the MSI-X table, which the kernel keeps")
def test_msix_table_has_as_many_entries_as_it_says(card, transport):
    function = transport.function
    count = function.msix_vectors
    # More than one for each queue and one for configuration changes is of no use.
    assert 2 <= count <= min(0x800, transport.num_queues + 1)
    msix = function.find(CapId.MSIX)
    table, pending = (card.bus.config_read(msix + at, 4) for at in (MsixCap.TABLE, MsixCap.PBA))
    bar, at = table & 7, table & ~7
    assert at + MSIX_ENTRY_SIZE * count <= function.bars[bar].size
    assert (pending & ~7) + -(-count // 64) * 8 <= function.bars[pending & 7].size
    for vector in range(count):
        card.bus.bar_write(bar, at + MSIX_ENTRY_SIZE * vector + 8, 4, 0x1000 + vector)
    assert [card.bus.bar_read(bar, at + MSIX_ENTRY_SIZE * vector + 8, 4) for vector in range(count)] == [
        0x1000 + vector for vector in range(count)]
    # The last can be had, and none after it.
    for vector, back in ((count - 1, count - 1), (count, 0xffff)):
        transport.common_write(Common.CONFIG_MSIX_VECTOR, 2, vector)
        assert transport.common_read(Common.CONFIG_MSIX_VECTOR, 2) == back
