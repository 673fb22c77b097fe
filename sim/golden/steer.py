"""Which flow a frame belongs to.

Ref: VIRTIO 1.4, 5.1.9.5.5 "Automatic receive steering in multiqueue mode"; RFC 791, RFC 8200.
"""

from ...hdl.spec.ethernet import HEADER_BYTES

__all__ = ["flow"]

ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN = b"\x08\x00", b"\x86\xdd", b"\x81\x00"
VLAN_TAG_BYTES = 4
TCP, UDP = 6, 17
IPV4_HEADER_BYTES, IPV6_HEADER_BYTES = 20, 40
IPV4_FRAGMENT = 0x3fff  # MF and the offset


def flow(frame):
    """Return what is the same for all frames of a TCP or UDP connection, in both directions; None if it is none."""
    at = HEADER_BYTES
    if frame[at - 2:at] == ETHERTYPE_VLAN:
        at += VLAN_TAG_BYTES
    ethertype, packet = frame[at - 2:at], frame[at:]
    if ethertype == ETHERTYPE_IPV4 and len(packet) >= IPV4_HEADER_BYTES and packet[0] >> 4 == 4:
        if int.from_bytes(packet[6:8], "big") & IPV4_FRAGMENT:
            return None
        protocol, addresses, ports = packet[9], packet[12:20], 4 * (packet[0] & 15)
    elif ethertype == ETHERTYPE_IPV6 and len(packet) >= IPV6_HEADER_BYTES and packet[0] >> 4 == 6:
        protocol, addresses, ports = packet[6], packet[8:40], IPV6_HEADER_BYTES
    else:
        return None
    ends = packet[ports:ports + 4]
    if protocol not in (TCP, UDP) or len(ends) < 4:
        return None
    half = len(addresses) // 2
    return protocol, *sorted([(addresses[:half], ends[:2]), (addresses[half:], ends[2:])])
