"""QEMU's trace, cut into phases by what the guest writes to its console."""

from collections import Counter
import re

import pytest

from ringnic.host.compare.trace import NOTIFICATION, count, phases

# Of a trace of QEMU 11.1.3 with e1000: its accesses of one ping.
PING = """\
memory_region_ops_write cpu 0 mr 0x5555 addr 0xfebc3818 value 0x3b size 4 name 'e1000-mmio'
memory_region_ops_read cpu 0 mr 0x5555 addr 0xfebc00c0 value 0x83 size 4 name 'e1000-mmio'
memory_region_ops_write cpu 0 mr 0x5555 addr 0xfebc00d8 value 0xffffffff size 4 name 'e1000-mmio'
memory_region_ops_read cpu 0 mr 0x5555 addr 0xfebc0008 value 0x80080783 size 4 name 'e1000-mmio'
memory_region_ops_write cpu -1 mr 0x5556 addr 0xfee000b0 value 0x0 size 4 name 'apic-msi'
memory_region_ops_write cpu 0 mr 0x5555 addr 0xfebc2818 value 0x11 size 4 name 'e1000-mmio'
memory_region_ops_write cpu 0 mr 0x5555 addr 0xfebc00d0 value 0x9d size 4 name 'e1000-mmio'
memory_region_ops_read cpu 0 mr 0x5555 addr 0xfebc0008 value 0x80080783 size 4 name 'e1000-mmio'
""".splitlines(keepends=True)
NOTIFY = "virtio_queue_notify vdev 0x55556faee7d0 n 1 vq 0x55556fafcc78\n"


def console(text, addr=0x3F8):
    """The lines of writes to the console."""
    return [f"memory_region_ops_write cpu 0 mr 0x1 addr {addr:#x} value {ord(one):#x} size 1 name 'serial'\n" for one in text]


def mark(number, status=0):
    return console(f"\n@@ {number} {status}\n")


def kinds(lines, number, *regions):
    return count(phases(lines)[number], regions)


def test_accesses_of_a_ping():
    lines = [*mark(1), *PING, *mark(2)]
    assert kinds(lines, 2, "e1000-") == {"read": 3, "write": 4, "notify": 0}


def test_phases_are_parted_by_marks():
    lines = [*PING, *PING, *mark(1), *PING, *mark(2), *mark(3), NOTIFY, *mark(4, 127)]
    assert [sum(kinds(lines, number, "e1000-", NOTIFICATION).values()) for number in (1, 2, 3, 4)] == [14, 7, 0, 1]


def test_output_of_commands_is_no_mark():
    lines = [*mark(1), *PING, *console("@@ 7 0 of 9\n1 packet\r\nsaid @@ 8 0\n@@ 9"), *PING, *console("\r\n"), *PING, *mark(2)]
    assert set(phases(lines)) == {1, 2}
    assert kinds(lines, 2, "e1000-")["read"] == 9


def test_a_mark_with_a_carriage_return():
    assert set(phases(console("\r\n@@ 3 0\r\n"))) == {3}


def test_accesses_between_the_letters_of_a_mark():
    """An interrupt comes when it likes: what it does before the mark's end belongs to the phase."""
    letters = mark(2)
    lines = [*mark(1), *letters[:4], *PING, *letters[4:]]
    assert kinds(lines, 2, "e1000-")["read"] == 3


def test_the_divisor_is_no_output():
    latch, plain = (f"memory_region_ops_write cpu 0 mr 0x1 addr 0x3fb value {value:#x} size 1 name 'serial'\n"
                    for value in (0x93, 0x13))
    half = console("\n@@ ")
    lines = [*half, latch, *console("\x0c"), *console("\0", 0x3F9), plain, *console("4 0\n")]
    assert set(phases(lines)) == {4}


@pytest.mark.parametrize("cut", [1, 10, 40, len(PING[-1]) - 2])
def test_a_torn_last_line_is_left_out(cut):
    lines = [*mark(1), *PING[:-1], PING[-1][:cut]]
    assert set(phases(lines)) == {1}
    assert kinds([*lines, "\n", *mark(2)], 2, "e1000-") == {"read": 2, "write": 4, "notify": 0}


def test_a_torn_mark_ends_no_phase():
    lines = [*mark(1), *PING, *mark(2)]
    assert set(phases(lines[:-1])) == {1}
    assert set(phases([*lines[:-1], lines[-1][:-8]])) == {1}


def test_no_marks_no_phases():
    assert phases(PING) == {} == phases([])


def test_lines_with_a_time_and_other_lines():
    lines = [*mark(1), f"4711@1764438610.123456:{PING[0]}", "qemu: warning: something\n", "\n",
             "vfio_region_write  (0000:01:00.0:region0+0x3000, 0x1, 2)\n", f"4711@1764438610.2:{NOTIFY}", *mark(2)]
    assert phases(lines)[2] == Counter({("write", "e1000-mmio"): 1, ("notify", NOTIFICATION): 1, ("write", "serial"): 8})


def test_unknown_regions_are_not_the_devices():
    lines = [*mark(1), *PING, *mark(2)]
    assert kinds(lines, 2, "rtl8139") == {"read": 0, "write": 0, "notify": 0}
    assert kinds(lines, 2, "rtl8139", "apic-msi")["write"] == 1
