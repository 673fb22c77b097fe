"""The prover itself: it tells true from false, and what cannot be reached from what can."""

from pathlib import Path

import pytest

from amaranth import *

from prove import broken


def counter(p, most, end=6):
    """A count that goes on while ``go``, and begins again after ``end``."""
    count = Signal(4)
    with p.m.If(p.free(name="go")):
        p.m.d.sync += count.eq(Mux(count == end, 0, count + 1))
    p.check(count != 15)
    p.check(count <= most)
    p.check(count != 14)
    p.cover(count == most)


def test_what_is_true(formal):
    formal.always(lambda p: counter(p, 6))
    formal.bounded(lambda p: counter(p, 6), 20)
    formal.covers(lambda p: counter(p, 6), 8)


def test_what_is_false(formal, tmp_path):
    with pytest.raises(AssertionError, match=r"always: broken .*test_prove\.py:\d+"):
        formal.always(lambda p: counter(p, 5))
    assert (tmp_path / "trace.vcd").exists()
    with pytest.raises(AssertionError, match="bounded: broken"):
        formal.bounded(lambda p: counter(p, 5), 8)
    with pytest.raises(AssertionError, match=r"covers: broken .*test_prove\.py:\d+"):
        formal.covers(lambda p: counter(p, 7), 20)


def test_what_is_not_seen_in_time(formal):
    formal.bounded(lambda p: counter(p, 5), 6)
    formal.refutes(lambda p: counter(p, 5), 7)
    with pytest.raises(AssertionError, match="refutes: proved"):
        formal.refutes(lambda p: counter(p, 5), 6)


def test_a_constant_is_constant(formal):
    def harness(p):
        value = p.const(4)
        p.check(~p.past(C(1)) | (p.past(value) == value))
        p.cover(value == 9)
    formal.always(harness)
    formal.covers(harness, 2)


def test_broken_is_another_module():
    from ringnic.hdl.lib import slice
    other = broken("ringnic.hdl.lib.slice", "full.eq(1)", "full.eq(0)")
    assert other.Slice is not slice.Slice
    times = Path(slice.__file__).read_text().count("m.d")
    assert times > 1
    with pytest.raises(ValueError, match=f"has 'm.d' {times} times, and it should be there once"):
        broken("ringnic.hdl.lib.slice", "m.d", "m.e")
