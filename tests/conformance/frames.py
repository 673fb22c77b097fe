"""Frames for the wire: of any size, and of flows that steering can tell apart."""

import struct

__all__ = ["CARD_MAC", "ETHERTYPE_SERVICE_VLAN", "ETHERTYPE_VLAN", "PEER_MAC", "datagram", "flow_of", "frame", "segment",
           "tagged"]

CARD_MAC, PEER_MAC = bytes.fromhex("525400524e01"), bytes.fromhex("525400000001")
US, THEM = (CARD_MAC, b"\x0a\0\0\1", 6000), (PEER_MAC, b"\x0a\0\0\2", 5000)
ETHERNET = struct.Struct(">6s6sH")
IPV4 = struct.Struct(">BBHHHBBH4s4s")
PORTS = struct.Struct(">HH")
PORTS_AT = ETHERNET.size + IPV4.size
ETHERTYPE_TEST, ETHERTYPE_IPV4, ETHERTYPE_VLAN, ETHERTYPE_SERVICE_VLAN = 0x88b5, 0x0800, 0x8100, 0x88a8
UDP, TCP = 17, 6


def frame(size, tag=0, *, dst=CARD_MAC):
    """A frame of ``size`` bytes of an experimental protocol."""
    return ETHERNET.pack(dst, PEER_MAC, ETHERTYPE_TEST) + bytes((7 * k + size + tag) & 0xff for k in range(size - ETHERNET.size))


def tagged(vlan, size, *, priority=0, kinds=(ETHERTYPE_VLAN,)):
    """The same with a VLAN tag, or with one of each kind."""
    plain = frame(size - 4 * len(kinds), vlan)
    return plain[:12] + b"".join(struct.pack(">HH", kind, priority << 13 | vlan) for kind in kinds) + plain[12:]


def _checksum(raw):
    total = sum(struct.unpack(f">{len(raw) // 2}H", raw))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _packet(ends, protocol, payload, tos=0):
    (mac, ip, _), (to_mac, to_ip, _) = ends
    header = [0x45, tos, IPV4.size + len(payload), 0, 0, 64, protocol, 0, ip, to_ip]
    header[7] = _checksum(IPV4.pack(*header))
    return ETHERNET.pack(to_mac, mac, ETHERTYPE_IPV4) + IPV4.pack(*header) + payload


def datagram(flow, tag=0, *, outward, size=90):
    """Number ``tag`` of a flow of UDP, to the peer or back."""
    (_, _, port), (_, _, to_port) = ends = (US, THEM) if outward else (THEM, US)
    ports = (port + flow, to_port) if outward else (port, to_port + flow)
    length = size - PORTS_AT
    body = PORTS.pack(*ports) + struct.pack(">HH", length, 0) + tag.to_bytes(4, "big")
    return _packet(ends, UDP, body.ljust(length, b"\0"))


def flow_of(packet):
    """Flow and tag of a datagram."""
    return max(PORTS.unpack_from(packet, PORTS_AT)) - US[2], int.from_bytes(packet[PORTS_AT + 8:PORTS_AT + 12], "big")


def segment(*, checksum, flags=0x10, tos=0, size=200):
    """A TCP segment to the card, with that checksum, whatever it is."""
    body = struct.pack(">HHIIBBHHH", 80, 1024, 1, 1, 5 << 4, flags, 512, checksum, 0)
    return _packet((THEM, US), TCP, body.ljust(size - PORTS_AT, b"\0"), tos)
