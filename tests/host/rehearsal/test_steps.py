"""What the inner guest does by hand to have the card read where it has no memory: the golden device judges it."""

from ringnic.hdl.spec.bar import BAR_INDEX
from ringnic.hdl.spec.virtio import Common, Status
from ringnic.host.driver import PciFunction
from ringnic.host.rehearsal.steps import devmem, outside_memory
from ringnic.sim.bus import GoldenBus
from ringnic.sim.golden.net import GoldenNet


def test_a_queue_without_memory():
    bus = GoldenBus(GoldenNet())
    PciFunction(bus)
    *writes, live = outside_memory()
    for offset, size, value in writes:
        bus.bar_write(BAR_INDEX, offset, size, value)
    agreed = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK
    assert bus.bar_read(BAR_INDEX, Common.DEVICE_STATUS, 1) == agreed
    bus.bar_write(BAR_INDEX, *live)
    assert bus.bar_read(BAR_INDEX, Common.DEVICE_STATUS, 1) == agreed | Status.DRIVER_OK | Status.DEVICE_NEEDS_RESET


def test_lines_of_shell():
    assert devmem(0xfe000000, [(0x14, 1, 3), (0x20, 4, 0x40000000)]) == \
        "devmem 0xfe000014 8 0x3 && devmem 0xfe000020 32 0x40000000"
