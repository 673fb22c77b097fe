"""A RingNIC's 64-bit counters, which are read as two halves while they count."""

from ringnic.hdl.spec.bar import COUNTERS, COUNTERS_HEADER_SIZE, COUNTERS_OFFSET
from ringnic.host.counters import read_counters


class Page:
    """Counters that all have the same value, which grows by ``step`` with each read."""
    def __init__(self, value, step):
        self.value, self.step = value, step

    def __call__(self, offset):
        half = (offset - COUNTERS_OFFSET - COUNTERS_HEADER_SIZE) // 4 % 2
        found = self.value >> 32 * half & 0xffff_ffff
        self.value += self.step
        return found


def test_by_name():
    base = COUNTERS_OFFSET + COUNTERS_HEADER_SIZE
    values = read_counters(lambda offset: (offset - base) // 8 if (offset - base) % 8 == 0 else 5)
    assert values == {name: 5 << 32 | number for number, name in enumerate(COUNTERS)}


def test_a_carry_between_the_halves():
    """Both halves are of one moment, or the counter would seem to jump by 2^32."""
    for before in range(1, 8):
        page = Page((7 << 32) - before, 1)
        first = read_counters(page)[COUNTERS[0]]
        assert (7 << 32) - before <= first <= (7 << 32) + 8
