"""What the driver writes while the device reads: another process stands for the device, and sees old or new, never a part."""

import mmap
import os
import time
from types import SimpleNamespace

import pytest

from ringnic.host.bus import DmaBuffer
from ringnic.host.driver.packed import FLAGS_AT, PackedVirtqueue
from ringnic.host.driver.virtqueue import Virtqueue

SIZE = 8
SECONDS = 0.5
AT_ONCE = 1000         # looks between two of the clock
STRANGE = mmap.PAGESIZE - 4


def avail_idx(bus):
    queue = Virtqueue(bus, 0, SIZE, notify=None)
    return queue, queue.avail_offset + 2, "H", queue.set_avail_idx, (0x00ff, 0x0100)


def used_event(bus):
    queue = Virtqueue(bus, 0, SIZE, notify=None)
    at = queue.avail_offset + 4 + 2 * SIZE
    return queue, at, "H", lambda value: queue.write_u16(at, value), (0x00ff, 0x0100)


def flags(bus):
    queue = PackedVirtqueue(bus, 0, SIZE, notify=None)
    return queue, queue.desc_offset + FLAGS_AT, "H", lambda value: queue.write_flags(0, value), (0x0080, 0x8000)


def event(bus):
    queue = PackedVirtqueue(bus, 0, SIZE, notify=None)

    def write(value):
        queue.write_event(value >> 16, value & 0x7fff, value >> 15 & 1)
    return queue, queue.avail_offset, "I", write, (0x2_00ff, 0x2_8001)


@pytest.mark.parametrize("field", [avail_idx, used_event, flags, event])
def test_a_field_changes_in_a_single_store(field):
    """The atomicity that a driver written in C gets from a plain store; 2.7.13.3.1 and 2.8 suppose it of index and flags."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)   # shared with the child
    queue, at, form, write, values = field(SimpleNamespace(alloc=lambda size: DmaBuffer(0, memoryview(memory)[:size])))
    write(values[0])
    view = memoryview(memory)
    place, strange = view.cast(form), view[STRANGE:].cast("I")
    index, seen = at // place.itemsize, set()
    child = os.fork()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for _ in range(AT_ONCE):
            if child:
                write(values[1])
                write(values[0])
            elif (value := place[index]) not in values:
                strange[0] = value + 1
            else:
                seen.add(value)
    if not child:
        os._exit(0 if seen else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not strange[0], f"The device saw {strange[0] - 1:#x}, which was never written"
