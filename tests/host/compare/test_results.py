"""Figures of a comparison: made of a trace, judged, shown and written."""

from collections import Counter
from io import StringIO
import json

import pytest
from rich.console import Console

from ringnic.host.compare.devices import ASSIGNED, DEVICES
from ringnic.host.compare.load import Counted, Load
from ringnic.host.compare.results import as_dict, outside, plot, table
from ringnic.host.guest.qemu import GuestError


def accesses(reads, writes, notifications=0):
    return Counter({("read", "e1000-mmio"): reads, ("write", "e1000-mmio"): writes, ("write", "serial"): 99,
                    ("notify", "virtio_queue_notify"): notifications})


PHASES = {1: accesses(500, 500), 5: accesses(60, 80), 6: accesses(120, 85), 7: accesses(60, 80), 9: accesses(40, 110),
          11: accesses(20, 30)}


def some_load():
    load = Load(pings=20, transfer_bytes=1 << 20, driver="e1000", tso=True)
    load.rounds = [Counted(number, 20, 20, 20 + number - 5) for number in (5, 6, 7)]
    load.tcp_in, load.tcp_out = Counted(9, 30, 70, 50), Counted(11, 25, 15, 8)
    return load


@pytest.fixture
def load():
    found = some_load()
    found.read_trace(PHASES, DEVICES["e1000"].regions)
    return found


def test_figures(load):
    assert load.accesses_per_ping == 7            # of the median round: in one, the driver also read statistics
    assert load.interrupts_per_ping == 21 / 20
    assert load.tcp_in.per_packet == 1.5 and load.tcp_in.interrupts_per_packet == 0.5
    assert load.tcp_out.per_packet == 1.25
    assert (load.tcp_in.reads, load.tcp_in.writes, load.tcp_in.notifications) == (40, 110, 0)


def test_a_trace_without_a_phase():
    with pytest.raises(GuestError, match="command 9 on the guest's console"):
        some_load().read_trace({number: one for number, one in PHASES.items() if number != 9}, ("e1000-",))


def test_as_expected(load):
    assert outside(DEVICES["e1000"], load) == []


@pytest.mark.parametrize("device, wrong", [
    ("rtl8139", ["rtl8139: 7.00 accesses a ping, not 8.9 to 9.1", "rtl8139: 1.25 accesses a packet, TCP out, not 2 to 6"]),
    ("virtio-net-pci", ["virtio-net-pci: 7.00 accesses a ping, not 0.9 to 1.1",
                        "virtio-net-pci: 1.25 accesses a packet, TCP out, not 0.01 to 0.5",
                        "virtio-net-pci: 1.50 accesses a packet, TCP in, not 0.01 to 0.5"]),
])
def test_what_is_not_expected_is_named(load, device, wrong):
    assert outside(DEVICES[device], load) == wrong


def test_no_access_at_all_is_not_as_expected():
    """That the trace calls the device's regions by other names must not look like a good result."""
    load = some_load()
    load.read_trace(PHASES, ("unknown",))
    for name, device in DEVICES.items():
        assert len(outside(device, load)) == (0 if name == ASSIGNED else 3)


def test_report_and_table_and_picture(load, tmp_path):
    found = [as_dict(DEVICES["e1000"], load)]
    [one] = json.loads(json.dumps(found))
    assert one["accesses"] == {"ping": 7, "tcp_out": 1.25, "tcp_in": 1.5}
    assert one["transfer_bytes"] == 1 << 20
    assert one["tcp_in"]["accesses"] == 150 and one["rounds"][1]["reads"] == 120 and one["tso"]
    file = StringIO()
    Console(width=120, file=file).print(table(found))
    shown = file.getvalue()
    assert "e1000" in shown and "7.00" in shown and "1.25" in shown
    plot(tmp_path / "picture.svg", found)
    assert "<svg" in (tmp_path / "picture.svg").read_text()
