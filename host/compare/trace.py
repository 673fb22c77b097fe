"""Read QEMU's trace of device accesses, and cut it into phases.

QEMU writes the trace with ``TRACE_OPTIONS`` and ``-D FILE``: one line for each access that leaves the guest for a device's code
(under KVM, an exit to user space). The guest's console is such a device too. So what the guest wrote to its console is in the
same file, in order, and the marks with which our guests end each command (see ``commands.sh``) say exactly which accesses were
made during which command.
"""

from collections import Counter
import re

__all__ = ["NOTIFICATION", "TRACE_EVENTS", "TRACE_OPTIONS", "count", "phases"]

# Where the notifications of QEMU's own virtio devices are counted. An eventfd takes the write before any region's code sees
# it, so there is no line of an access; the eventfd's reader writes this one.
NOTIFICATION = "virtio_queue_notify"
TRACE_EVENTS = ("memory_region_ops_read", "memory_region_ops_write", NOTIFICATION)
TRACE_OPTIONS = tuple(word for event in TRACE_EVENTS for word in ("-trace", event))

# A line may begin with a time. One that ends early is torn: QEMU was still writing it.
ACCESS = re.compile(r"(?:^|:)memory_region_ops_(read|write) cpu -?\d+ mr \S+ addr (0x[0-9a-f]+) value (0x[0-9a-f]+) size \d+ "
                    r"name '([^']*)'$")
NOTIFY = re.compile(rf"(?:^|:){NOTIFICATION} vdev \S+ n \d+ vq \S+$")
MARK = re.compile(r"@@ (\d+) \d+")

# The first serial port, an 8250: data at offset 0, unless bit 7 of the line control register selects the divisor.
CONSOLE = "serial"
DATA, LINE_CONTROL = 0x3F8, 0x3FB
DIVISOR_LATCH = 0x80


class _Console:
    """What the guest writes to its console, as far as the marks of commands are concerned."""
    def __init__(self):
        self._line = ""
        self._divisor = False

    def write(self, addr, value):
        """Take a write to a register; return the number of the command that it marks the end of, else None."""
        if addr == LINE_CONTROL:
            self._divisor = bool(value & DIVISOR_LATCH)
        if addr != DATA or self._divisor:
            return None
        character = chr(value & 0xFF)
        if character != "\n":
            self._line += character
            return None
        line, self._line = self._line.rstrip("\r"), ""
        mark = MARK.fullmatch(line)
        return int(mark[1]) if mark else None


def phases(lines):
    """Return the accesses of each command, by its number: counters by ``(kind, region)``.

    The kind is "read", "write" or "notify", the region a memory region's name. Accesses since the mark before, while the guest
    idles or boots, belong to the command that comes next. What follows the last mark is left out, and so are lines that are
    torn or of another kind.
    """
    found, number, now = {}, None, Counter()
    console = _Console()
    for line in lines:
        line = line.rstrip("\n")
        if access := ACCESS.search(line):
            kind, addr, value, region = access.groups()
            now[kind, region] += 1
            if region == CONSOLE and kind == "write":
                number = console.write(int(addr, 16), int(value, 16))
        elif NOTIFY.search(line):
            now["notify", NOTIFICATION] += 1
        if number is not None:
            found[number], now, number = now, Counter(), None
    return found


def count(accesses, regions):
    """Return how many of the ``accesses`` are to regions whose names begin with one of ``regions``: a number for each kind."""
    kinds = Counter({"read": 0, "write": 0, "notify": 0})
    for (kind, region), number in accesses.items():
        if region.startswith(regions):
            kinds[kind] += number
    return dict(kinds)
