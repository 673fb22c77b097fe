"""The passive checker on beginnings and ends: before DRIVER_OK, after a reset, after a queue's reset."""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MRG_RXBUF
from ringnic.hdl.spec.pcie import Cfg, Exp, Pm
from ringnic.hdl.spec.virtio import VIRTIO_F_RING_RESET
from ringnic.sim.monitor import Monitor

from .conftest import EXP_AT, PM_AT

A = 0x2_0000_0000


def act(script, what):
    if what == "read":
        script.read(script.base + script.DRIVER, bytes(2))
    elif what == "write":
        script.write(script.base + script.DEVICE, bytes(4))
    else:
        script.message(1)


@pytest.mark.parametrize("what", ["read", "write", "message"])
def test_nothing_before_driver_ok(split, what):
    script = split(live=False)
    script.negotiate()
    script.enable(0)
    act(script, what)
    assert script.violations() == ["STAT-1"]
    script = split()
    assert script.observed("STAT-1") == 1 and script.violations() == []


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
@pytest.mark.parametrize("what", ["read", "write", "message"])
def test_nothing_after_a_reset(split, flr, what):
    script = split()
    script.available(0)
    (script.flr if flr else lambda: script.status(0))()
    act(script, "read")                       # is finished
    act(script, what)
    assert script.violations() == []
    if flr:
        script.config(0, bytes.fromhex("f41a4110"))
    else:
        script.status_is(15)
        act(script, "read")
        script.status_is(0)
    assert script.observed("RST-2") == 1 and script.violations() == []
    if flr:
        script.switch_on()
    act(script, what)
    assert script.violations() == ["RST-2"]


@pytest.mark.parametrize("offset, off, on", [(Cfg.COMMAND, 2, 6), (PM_AT + Pm.PMCSR, 3, 0)], ids=["bus_master", "d3hot"])
@pytest.mark.parametrize("what", ["read", "write", "message"])
def test_no_request_of_who_is_no_bus_master(split, what, offset, off, on):
    """PCI Express 5.0, 7.5.1.1.3: from the completion on of the write that ended it."""
    script = split()
    script.available(0)
    script.config_write(offset, off)
    act(script, "read")                       # had begun
    assert script.violations() == []
    script.config_done(offset, off)
    assert script.observed("CS-6") == 1
    act(script, what)
    assert script.violations()[0] == "CS-6"
    before = script.observed("CS-6")
    script.config_done(Cfg.CACHE_LINE_SIZE, 0x10)
    assert script.observed("CS-6") == before
    script.config_write(offset, on)
    act(script, "read")
    assert script.violations() == []


def test_no_request_after_function_level_reset(split):
    script = split()
    script.available(0)
    script.config_done(EXP_AT + Exp.DEV_CTL, 0x8000)
    act(script, "read")                       # is finished
    assert script.violations() == []
    script.config(0, bytes.fromhex("f41a4110"))
    act(script, "read")
    assert script.violations() == ["CS-6", "RST-2"]


def test_line_after_a_reset(split):
    script = split(msix=False)
    script.status(0)
    script.status_is(0)
    script.intx(True)
    assert script.violations() == ["RST-2"]


@pytest.mark.parametrize("what", ["read", "write", "message"])
def test_nothing_of_a_queue_that_was_reset(split, what):
    script = split(VIRTIO_F_RING_RESET)
    script.chain(0, (A, 100, 1 << 1))
    script.reset_queue(0)
    act(script, "read")
    assert script.violations() == []
    script.reset_is_done()
    assert script.observed("QRST-1") == 1 and script.violations() == []
    act(script, what)
    assert script.violations() == ["QRST-1"]
    script.write(A, bytes(10))
    assert script.violations() == ["QRST-1"]
    script.avail = 0
    script.enable(0)
    script.begin()
    script.chain(0, (A, 100, 1 << 1))
    script.write(A, bytes(10))
    assert script.violations() == []


def test_a_queue_goes_on_where_no_queue_can_be_reset(split, packed):
    for ring in split, packed:
        script = ring(queue=1)
        script.reset_queue(1)
        script.reset_is_done()
        if ring is split:
            script.chain(0, (A, 100, 0))
        else:
            script.descriptor(A, 100)
        script.read(A, bytes(100))
        script.use(0)
        script.wish(0)
        script.message(2)
        script.rest()
        assert script.violations() == [] and script.observed("QRST-1") == 0


def test_power_forgets_everything(split):
    script = split()
    script.monitor.take(script.cycle + 1, "reset", b"")
    script.switch_on()
    act(script, "read")
    assert script.violations() == ["STAT-1"]


def test_what_the_link_tells(card):
    script = card()
    script.monitor.link_broken(["2.2.7: crosses 4 KB"])
    with pytest.raises(AssertionError, match=r"PCI-1 in cycle \d+: 2.2.7: crosses 4 KB"):
        script.monitor.check()
    script.monitor.check()


def test_every_row_is_named_once(card):
    assert len(Monitor.CLAUSES) == len(set(Monitor.CLAUSES))
    assert set(card().monitor.observed) == set(Monitor.CLAUSES) and VIRTIO_NET_F_MRG_RXBUF
