"""The traffic of ``ringnic bench``: the wire is never without a frame, and never has more than the card can keep."""

from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from ringnic.sim.bus import EngineBus
from ringnic.sim.engine.engine import Engine
from ringnic.sim.traffic import Traffic, WatchedNet, datagram


@contextmanager
def traffic(direction, size, pairs=1):
    with Engine() as engine:
        yield engine, Traffic(engine, WatchedNet.open(EngineBus(engine), pairs=pairs), direction, size)


def test_a_frame_and_its_answer_are_one_flow():
    there, back = (Ether(datagram(200, 3, outward)) for outward in (True, False))
    assert (there.src, there.dst) == (back.dst, back.src) and len(there) == len(back) == 200
    assert (there[IP].src, there[IP].dst) == (back[IP].dst, back[IP].src)
    assert (there[UDP].sport, there[UDP].dport) == (back[UDP].dport, back[UDP].sport) and 6003 in (there.sport, there.dport)
    assert there[UDP].len == 200 - 34


@pytest.mark.parametrize("size", [60, 1514])
def test_the_wire_is_never_without_a_frame(size):
    """Frames that have been written but not told of do not count as under way."""
    with traffic("rx", size) as (engine, load):
        load.until(50)
        told_late = 0
        for _ in range(40):
            load.step()
            # At most a window of frames waits for the wire or for the card, and at the end of a step some still do.
            under_way = load.offered - load.net.delivered
            assert 0 < under_way <= load.window
            told_late = max(told_late, load.net.delivered - sum(load.received))
        counters = load.net.counters()
    assert told_late > 0 and counters["rx_dropped_full"] == counters["rx_dropped_no_buffer"] == 0


def test_all_pairs_get_frames_both_ways():
    with traffic("both", 60, pairs=4) as (engine, load):
        sent, received = load.until(1200)[1:]
        assert sent >= 1200 and received >= 1200
        assert min(load.received) > 0.8 * received / 4


def test_a_card_that_does_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr("ringnic.sim.traffic.STALL", 1000)
    with traffic("tx", 60) as (engine, load), pytest.raises(TimeoutError, match="^No 1000000 packets in 1000 cycles"):
        load.until(1_000_000)
