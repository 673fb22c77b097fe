"""Feature bits: their names for people, and which need which.

Ref: VIRTIO 1.4, 5.1.3.1 "Network Device: Feature bit requirements", 6 "Reserved Feature Bits".
"""

from . import net, virtio

__all__ = ["FEATURE_NAMES", "FEATURE_PREREQUISITES"]


def _constants(module, prefix):
    return {name.removeprefix(prefix): bit for name, bit in vars(module).items() if name.startswith(prefix)}


_BITS = _constants(virtio, "VIRTIO_F_") | _constants(net, "VIRTIO_NET_F_")

# Name, in lower case and without prefix, to bit number: bits 24 to 49 of every device type, the others of virtio-net.
FEATURE_NAMES = {name.lower(): bit for name, bit in _BITS.items()}

# Bit number to what it requires, all of it: a bit number, or a tuple of bit numbers of which one is enough.
FEATURE_PREREQUISITES = {
    _BITS[name]: [tuple(_BITS[other] for other in need) if isinstance(need, tuple) else _BITS[need] for need in needs]
    for name, needs in {
        "GUEST_TSO4":  ["GUEST_CSUM"],
        "GUEST_TSO6":  ["GUEST_CSUM"],
        "GUEST_ECN":   [("GUEST_TSO4", "GUEST_TSO6")],
        "GUEST_UFO":   ["GUEST_CSUM"],
        "GUEST_USO4":  ["GUEST_CSUM"],
        "GUEST_USO6":  ["GUEST_CSUM"],
        "GUEST_UDP_TUNNEL_GSO": ["GUEST_TSO4", "GUEST_TSO6", "GUEST_USO4", "GUEST_USO6"],
        "GUEST_UDP_TUNNEL_GSO_CSUM": ["GUEST_UDP_TUNNEL_GSO"],
        "HOST_TSO4":   ["CSUM"],
        "HOST_TSO6":   ["CSUM"],
        "HOST_ECN":    [("HOST_TSO4", "HOST_TSO6")],
        "HOST_UFO":    ["CSUM"],
        "HOST_USO":    ["CSUM"],
        "HOST_UDP_TUNNEL_GSO": ["HOST_TSO4", "HOST_TSO6", "HOST_USO"],
        "HOST_UDP_TUNNEL_GSO_CSUM": ["HOST_UDP_TUNNEL_GSO"],
        "RSC_EXT":     [("HOST_TSO4", "HOST_TSO6")],
        "CTRL_RX":     ["CTRL_VQ"],
        "CTRL_VLAN":   ["CTRL_VQ"],
        "GUEST_ANNOUNCE": ["CTRL_VQ"],
        "MQ":          ["CTRL_VQ"],
        "CTRL_MAC_ADDR": ["CTRL_VQ"],
        "NOTF_COAL":   ["CTRL_VQ"],
        "VQ_NOTF_COAL": ["CTRL_VQ"],
        "RSS":         ["CTRL_VQ"],
        "HASH_TUNNEL": ["CTRL_VQ", ("RSS", "HASH_REPORT")],
        "RSS_CONTEXT": ["CTRL_VQ", "RSS"],
    }.items()
}
