"""The passive checker on notifications, by MSI-X and by INTx: due, forbidden, late."""

import pytest

from ringnic.hdl.spec.bar import MSIX_TABLE_OFFSET
from ringnic.hdl.spec.pcie import Cfg, Pm
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_RESET, VIRTIO_MSI_NO_VECTOR, Common, Status

from .conftest import PM_AT

TX, VECTOR = 1, 2
A = 0x2_0000_0000


def used(script, count=1):
    """So many chains come back at once, and the driver can see it."""
    for k in range(count):
        script.chain((script.used + k) % script.size, (A, 100, 0))
    for k in range(count):
        script.element((script.used + k) % script.size, at=script.used + k)
    script.index(script.used + count)


@pytest.mark.parametrize("flags, told, rows", [(0, True, []), (0, False, ["UNS-3"]), (1, True, ["UNS-2"]), (1, False, [])])
def test_flags(split, flags, told, rows):
    script = split(queue=TX)
    used(script)
    script.wish(flags)
    if told:
        script.message(VECTOR)
    script.rest()
    assert script.violations() == rows
    assert script.observed("UNS-2" if flags else "UNS-3")


@pytest.mark.parametrize("event, told, rows", [
    (0, True, []), (2, True, []), (2, False, ["UNS-5"]), (3, True, ["UNS-6"]), (3, False, []), (0xffff, False, [])])
def test_used_event(split, event, told, rows):
    script = split(VIRTIO_F_EVENT_IDX, queue=TX)
    used(script, 3)
    script.wish(event)
    if told:
        script.message(VECTOR)
    script.rest()
    assert script.violations() == rows
    assert script.observed("UNS-5") + script.observed("UNS-6")


@pytest.mark.parametrize("event_idx, args, due", [
    (False, (0,), True), (False, (1,), False), (True, (2, 0, 1), True), (True, (2, 1, 1), False), (True, (2, 0, 0), False)])
@pytest.mark.parametrize("told", [False, True])
def test_event_structure(packed, event_idx, args, due, told):
    script = packed(*[VIRTIO_F_EVENT_IDX] * event_idx, queue=TX)
    script.descriptor(A, 100)
    script.use(0)
    script.wish(*args)
    if told:
        script.message(VECTOR)
    script.rest()
    assert script.violations() == ([] if due == told else ["PK-B5"])


def test_nobody_looks(split):
    script = split(queue=TX)
    used(script)
    script.rest()
    assert script.violations() == ["UNS-3"]


def test_one_message_for_many(split):
    """Close together they may be one; later ones need their own."""
    script = split(queue=TX)
    for _ in range(3):
        used(script)
        script.wish(0)
    script.message(VECTOR)
    script.rest()
    assert script.violations() == []
    used(script)
    script.wish(0)
    script.rest()
    assert script.violations() == ["UNS-3"]


def test_more_messages_than_are_due(split):
    script = split(queue=TX)
    used(script)
    script.wish(0)
    script.message(VECTOR)
    script.message(VECTOR)
    assert script.violations() == ["UNS-2"]


def test_look_with_nothing_new(split):
    script = split(queue=TX)
    used(script)
    script.wish(1)
    script.wish(0)
    script.message(VECTOR)
    assert script.violations() == ["UNS-2"]


def test_masked_vector(split):
    script = split(queue=TX)
    script.reg_write(MSIX_TABLE_OFFSET + 16 * VECTOR + 12, b"\1\0\0\0")
    used(script)
    script.wish(0)
    script.rest()
    assert script.violations() == []
    script.reg_write(MSIX_TABLE_OFFSET + 16 * VECTOR + 12, bytes(4))
    script.message(VECTOR)
    assert script.violations() == []
    script.message(VECTOR)
    assert script.violations() == ["UNS-2"]


def test_queue_without_vector(split):
    script = split(queue=TX, vectors={None: 0, 0: 1})
    used(script)
    script.wish(0)
    script.rest()
    assert script.violations() == [] and script.observed("MSX-7") == 1
    script.message(VECTOR)
    assert script.violations() == ["MSX-7"]


def test_queue_that_was_reset_has_no_vector(split):
    """2.6.1.1.1: it is as after a reset of the device, until the driver gives it one again."""
    script = split(VIRTIO_F_RING_RESET, queue=TX)
    script.reset_queue(TX)
    script.reset_is_done()
    script.vectors = {None: 0, 0: 1}
    script.avail = script.used = 0
    script.enable(TX)
    script.begin()
    used(script)
    script.wish(0)
    script.rest()
    assert script.violations() == [] and script.observed("MSX-7") == 1


@pytest.mark.parametrize("offset, off, on", [(Cfg.COMMAND, 2, 6), (PM_AT + Pm.PMCSR, 3, 0)], ids=["bus_master", "d3hot"])
def test_look_after_a_sleep(split, offset, off, on):
    """What became visible before is looked at when the device may read again, however late, and a message may follow."""
    script = split(queue=TX)
    used(script)
    script.config_done(offset, off)
    script.rest()
    script.config_done(offset, on)
    script.wish(0)
    script.message(VECTOR)
    assert script.violations() == []


def test_configuration_without_vector(split):
    script = split(vectors={None: VIRTIO_MSI_NO_VECTOR, 0: 1, 1: 2})
    script.status_is(int(Status.DEVICE_NEEDS_RESET) | 15)
    assert script.violations() == [] and script.observed("MSX-8") == 1
    script.message(0)
    assert script.violations() == ["MSX-8"]


@pytest.mark.parametrize("value, rows", [(2, []), (3, []), (0, ["ISR-2"]), (1, ["ISR-2"])])
def test_configuration_bit(card, value, rows):
    script = card()
    script.message(0)
    script.isr(value)
    assert script.violations() == rows and script.observed("ISR-2") == 1
    script.isr(0)
    assert script.violations() == []


# INTx

@pytest.fixture
def line(split):
    script = split(queue=TX, msix=False)
    script.later(3000)
    return script


def test_line(line):
    for _ in range(3):
        used(line)
        line.wish(0)
        line.intx(True)
        line.isr(1)
        line.intx(False)
        line.rest()
    assert line.violations() == []
    assert line.observed("ISR-3") == 3 and line.observed("ISR-4") == 6 and line.observed("UNS-3") == 3


@pytest.mark.parametrize("what, rows", [
    ("no_rise", ["ISR-4"]), ("no_bit", ["ISR-3"]), ("no_fall", ["ISR-4"]), ("rises_twice", ["ISR-4"]), ("falls_alone", ["ISR-4"]),
    ("falls_twice", ["ISR-4"]), ("bit_without_reason", ["UNS-2"])])
def test_line_that_is_wrong(line, what, rows):
    if what != "bit_without_reason":
        used(line)
        line.wish(0)
    if what != "no_rise":
        line.intx(True)
    if what == "rises_twice":
        line.intx(True)
    if what == "falls_alone":
        line.intx(False)
    elif what != "no_rise":
        line.isr(2 if what == "no_bit" else 1)
        if what != "no_fall":
            line.intx(False)
    if what == "falls_twice":
        line.intx(False)
    line.rest()
    assert line.violations() == rows


def test_line_that_is_switched_off(line):
    line.config_write(Cfg.COMMAND, 0x0406)
    line.later(3000)
    used(line)
    line.wish(0)
    line.rest()
    assert line.violations() == []
    line.intx(True)
    assert line.violations() == ["ISR-4"]


def test_line_without_a_bit(line):
    line.intx(True)
    line.isr(0)
    line.intx(False)
    assert line.violations() == ["ISR-4"]


def test_vector_that_was_changed(split):
    script = split(queue=TX)
    used(script)
    script.wish(0)
    script.common(Common.QUEUE_SELECT, 2, TX)
    script.common(Common.QUEUE_MSIX_VECTOR, 2, 3)
    script.message(VECTOR)                    # was on its way
    used(script)
    script.wish(0)
    script.message(3)
    assert script.violations() == []
