"""What a link, and a datapath, can carry at best: the Transaction Layer Packets that one packet costs a virtio-net device.

Every TLP costs its header, its payload and 8 bytes of framing, sequence number and LCRC (PCI Express Base, 3.6.2
"LCRC, Sequence Number, and Retry Management (TLP Transmitter)"; 4.2.2 for 128b/130b, where the sum is the same).
A link gives its raw rate less what DLLPs and ordered sets take. On the datapath a TLP is as many beats as its header and payload
fill, for none begins in the middle of a beat. The device modelled here wastes nothing that batching
can save: it reads 64 ring entries or 16 descriptors at a time and returns 64 packets at once. A packed ring has no index and no
ring of heads to be read, but what comes back takes 16 bytes a packet, not 8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

__all__ = ["GENERATIONS", "LINKS", "Cost", "Ring", "beats", "bytes_per_second", "limit_mpps", "link_bytes",
           "link_bytes_per_second", "packet_cost"]

FRAMING = 8
REQUEST_HEADER = 16          # 64-bit address
COMPLETION_HEADER = 12
DLLP_SHARE = 0.06            # of the raw rate: acknowledgements, credit updates, skip ordered sets
NET_HEADER = 12
BATCH = 64                   # packets a kick, an interrupt, an index write
FETCH = 256                  # bytes a read of ring entries or descriptors

#: PCIe generation: transfers a second, and the share of the symbols that is data (PCI Express Base, 4.2.1 and 4.2.2).
GENERATIONS = {1: (2.5e9, 8 / 10), 2: (5e9, 8 / 10), 3: (8e9, 128 / 130)}
#: name: (generation, lanes). Those that `ringnic bench` shows, and a board's.
LINKS = {"gen1x1": (1, 1), "gen2x1": (2, 1), "gen2x4": (2, 4), "gen3x8": (3, 8), "gen3x16": (3, 16)}


def link_bytes(header, payload):
    """Bytes on the link of a TLP of so many bytes of header and payload."""
    return header + 4 * ceil(payload / 4) + FRAMING


def beats(width):
    """Return the same as :func:`link_bytes`, in beats of ``width`` bits of the datapath."""
    return lambda header, payload: ceil((header + 4 * ceil(payload / 4)) * 8 / width)


@dataclass
class Cost:
    """What one packet costs, towards the host (``up``) and towards the device (``down``), in units of ``of``: what a TLP is, by
    its bytes of header and of payload."""
    of: Callable[[int, int], int] = link_bytes
    up: float = 0.0
    down: float = 0.0

    def read(self, size, share, *, mrrs=512, mps=256):
        """A device read of ``size`` bytes that serves ``share`` packets."""
        self.up += ceil(size / mrrs) * self.of(REQUEST_HEADER, 0) / share
        self.down += sum(self.of(COMPLETION_HEADER, piece) for piece in _cut(size, mps)) / share

    def write(self, size, share, *, mps=256):
        """A device write of ``size`` bytes that serves ``share`` packets."""
        self.up += sum(self.of(REQUEST_HEADER, piece) for piece in _cut(size, mps)) / share

    def mmio(self, share):
        """A register write by the host."""
        self.down += self.of(REQUEST_HEADER, 4) / share

    def __add__(self, other):
        return Cost(self.of, self.up + other.up, self.down + other.down)


def _cut(size, most):
    return [min(most, size - at) for at in range(0, size, most)]


def bytes_per_second(generation, lanes):
    """Bytes of TLPs with framing that a link carries each way: the raw rate less coding, DLLPs and ordered sets."""
    transfers, coding = GENERATIONS[generation]
    return transfers * lanes * coding / 8 * (1 - DLLP_SHARE)


def link_bytes_per_second(link):
    """The same of ``link``, a key of :data:`LINKS`."""
    return bytes_per_second(*LINKS[link])


@dataclass(frozen=True)
class Ring:
    """Format of the virtqueues, and what else was negotiated that changes what is read and written."""
    packed: bool = False
    in_order: bool = False
    notification_data: bool = True

    @property
    def name(self):
        return "packed" if self.packed else "split"


def packet_cost(direction, frame_bytes, ring=Ring(), of=link_bytes):
    """:class:`Cost` of one packet; ``frame_bytes`` is without FCS, ``direction`` "tx", "rx" or "both"."""
    if direction == "both":
        return packet_cost("tx", frame_bytes, ring, of) + packet_cost("rx", frame_bytes, ring, of)
    cost = Cost(of)
    cost.mmio(BATCH)                                   # available buffer notification
    cost.read(FETCH, FETCH // 16)                      # descriptors
    # 2.7.9, 2.8.8: in order one entry stands for a batch, if its other buffers were used completely; transmit buffers were.
    entries = 1 if ring.in_order and direction == "tx" else BATCH
    if ring.packed:
        cost.write(16 * entries, BATCH)                # used descriptors
        cost.write(4, BATCH)                           # Device Event Suppression
        cost.read(4, BATCH)                            # Driver Event Suppression
    else:
        if not ring.notification_data:
            cost.read(4, BATCH)                        # avail.idx
        cost.read(2 * BATCH, BATCH)                    # ring entries
        cost.write(8 * entries, BATCH)                 # used entries
        cost.write(2, BATCH)                           # used.idx
        cost.write(2, BATCH)                           # avail_event
        cost.read(2, BATCH)                            # used_event
    cost.write(4, BATCH)                               # MSI-X
    if direction == "tx":
        cost.read(NET_HEADER + frame_bytes, 1)
    else:
        cost.write(NET_HEADER + frame_bytes, 1)
    return cost


def limit_mpps(link, direction, frame_bytes, ring=Ring(), *, width=None, core_mhz=None):
    """Packets per microsecond (each way, for "both") that ``link`` allows, and, if one is given, a datapath of ``width`` bits,
    which moves a beat each way in each cycle."""
    cost = packet_cost(direction, frame_bytes, ring)
    limit = link_bytes_per_second(link) / max(cost.up, cost.down) / 1e6
    if width is None:
        return limit
    cost = packet_cost(direction, frame_bytes, ring, beats(width))
    return min(limit, core_mhz / max(cost.up, cost.down))
