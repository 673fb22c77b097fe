"""Packets in receive buffers.

Ref: VIRTIO 1.4, 5.1.9.4 "Device Operation: Processing of Incoming Packets", 2.8.9 "Multi-buffer requests".

Buffers come back in an order, and the header in the first one of a packet says how many it takes; so the next packet's
header is where that says. A wrong count shows as a header that is none.
RX-1: num_buffers is at least 1, and no more than become visible. RX-2: without MRG_RXBUF it is 1, and the buffer holds the
header.
RX-3: every buffer of a packet but the last is full, and the last has something in it. RX-4: all of them become visible at once.
PK-B3: "the driver will never observe a partial request in the ring". The used descriptor of the first buffer of a packet is
in a later TLP than the others'; or, of a batch, that of an earlier packet which hides them all is.
RX-6, RX-7, RX-11, RX-13: of gso_type and flags, nothing that was not agreed upon.
"""

import struct

from ...hdl.spec import net

__all__ = ["CLAUSES", "Receive"]

CLAUSES = ("RX-1", "RX-2", "RX-3", "RX-4", "PK-B3", "RX-6", "RX-7", "RX-11", "RX-13")
HEADER = struct.Struct("<BBHHHHH")
RSC_INFO, UDP_TUNNEL_CSUM = 4, 8   # flags
# gso_type, and of which features one lets the device set it
GSO = {1: (net.VIRTIO_NET_F_GUEST_TSO4,), 3: (net.VIRTIO_NET_F_GUEST_UFO,), 4: (net.VIRTIO_NET_F_GUEST_TSO6,),
       5: (net.VIRTIO_NET_F_GUEST_USO4, net.VIRTIO_NET_F_GUEST_USO6)}
TUNNEL = 0x60                      # bits of gso_type
ECN = 0x80
OFFLOADS = {bit for bits in GSO.values() for bit in bits}


class Receive:
    """Judges packets as they become visible."""
    def __init__(self, monitor):
        self.monitor, self.report = monitor, monitor.report

    def group(self, ring, group):
        """These ``(chain, bytes written)`` of a receive queue became visible at once."""
        left = list(group)
        while left and not ring.excused:
            left = self._packet(ring, left)

    def _packet(self, ring, group):
        features, judge = ring.features, self.report.judge
        (first, length), mergeable = group[0], net.VIRTIO_NET_F_MRG_RXBUF in ring.features
        said = f"queue {ring.index}, packet in id {first.id}: "
        if length == 0 and not any(chain.readable == 0 and written for chain, written in group[:1]):
            return group[1:]           # given back, not received into
        # 5.1.9.3.1: a driver's buffers hold a header at least. Where those that do not begin and end nobody can say.
        if short := [chain.writable for chain, _ in group if chain.writable < net.VIRTIO_NET_HDR_SIZE]:
            ring.excuse(f"a receive buffer of {short[0]} bytes")
            return []
        flags, gso, *_, count = HEADER.unpack(first.header)
        judge("RX-1", count >= 1 and (mergeable or count == 1), f"{said}num_buffers is {count}")
        if not mergeable:
            judge("RX-2", count == 1 and length >= net.VIRTIO_NET_HDR_SIZE, f"{said}{length} bytes, num_buffers is {count}")
        kind = gso & ~(ECN | TUNNEL)
        judge("RX-6", not kind or any(bit in features for bit in GSO.get(kind, ())), f"{said}gso_type is {gso:#x}")
        judge("RX-7", (not gso & TUNNEL or net.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO in features)
              and (not flags & UDP_TUNNEL_CSUM or net.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM in features),
              f"{said}gso_type is {gso:#x}, flags {flags:#x}")
        if not OFFLOADS & features:
            judge("RX-11", gso == 0, f"{said}gso_type is {gso:#x}")
        judge("RX-13", not flags & RSC_INFO or net.VIRTIO_NET_F_RSC_EXT in features, f"{said}flags are {flags:#x}")
        if count < 1 or not mergeable:
            return group[1:]
        judge("RX-4", count <= len(group), f"{said}{count} buffers, of which {len(group)} are visible")
        parts = group[:count]
        judge("RX-3", all(written == chain.writable for chain, written in parts[:-1]) and parts[-1][1] > 0, lambda: (
            f"{said}buffers of {[chain.writable for chain, _ in parts]} bytes, filled with {[written for _, written in parts]}"))
        if ring.PACKED and count > 1:
            now = self.report.seq
            judge("PK-B3", count <= len(group) and (
                first.used_seq < now or all(chain.used_seq < now for chain, _ in parts[1:])),
                  f"{said}the first of its used descriptors was not written last")
        return group[count:]
