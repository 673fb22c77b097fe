"""What lies in BAR 0: nothing overlaps, everything is where its alignment has to be."""

from ringnic.hdl.spec import bar
from ringnic.hdl.spec.pcie import MSIX_ENTRY_SIZE
from ringnic.hdl.spec.virtio import Common

PAGES = [bar.COMMON_OFFSET, bar.ISR_OFFSET, bar.DEVICE_OFFSET, bar.NOTIFY_OFFSET, bar.MSIX_TABLE_OFFSET,
         bar.MSIX_PBA_OFFSET, bar.COUNTERS_OFFSET]


def test_pages():
    assert PAGES == sorted(set(PAGES)) and all(page % 0x1000 == 0 for page in PAGES)
    assert bar.BAR_SIZE == 1 << bar.REG_ADDR_WIDTH and PAGES[-1] + 0x1000 <= bar.BAR_SIZE
    assert bar.BAR_INDEX in range(6)


def test_structures_fit():
    assert Common.SIZE <= bar.ISR_OFFSET - bar.COMMON_OFFSET
    assert bar.NOTIFY_MULTIPLIER in (2, 4, 8)  # 4.1.4.4.1: an even power of 2, or 0
    assert 16 * MSIX_ENTRY_SIZE <= bar.MSIX_PBA_OFFSET - bar.MSIX_TABLE_OFFSET
    assert bar.COUNTERS_OFFSET + bar.COUNTERS_HEADER_SIZE + 8 * len(bar.COUNTERS) <= bar.BAR_SIZE


def test_link():
    """Behind the counters, at the end of their page, and no bits of a word have two meanings."""
    assert bar.LINK_OFFSET + 4 * bar.LINK_WORDS == bar.COUNTERS_OFFSET + 0x1000 and bar.LINK_WORDS == 2 + bar.LINK_ENTRIES
    assert bar.COUNTERS_OFFSET + bar.COUNTERS_HEADER_SIZE + 8 * len(bar.COUNTERS) <= bar.LINK_OFFSET
    assert bar.LINK_MAGIC.to_bytes(4, "little") == b"LINK" and bar.LINK_ENTRIES.bit_count() == 1
    for kind in (bar.LinkStatus, bar.LinkEntry):
        bits = [bit for name, field in vars(kind).items() if name.isupper()
                for bit in (range(field.start, field.stop) if isinstance(field, slice) else [field])]
        assert len(bits) == len(set(bits)) and set(bits) <= set(range(32))


def test_counters():
    assert bar.COUNTERS_MAGIC.to_bytes(4, "little") == b"RNIC"
    assert len(set(bar.COUNTERS)) == len(bar.COUNTERS)
    assert all(name.isidentifier() and name == name.lower() for name in bar.COUNTERS)
