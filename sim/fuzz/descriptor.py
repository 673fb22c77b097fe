"""Descriptors as the fuzzer's drivers write them."""

import struct

from ...hdl.spec.ethernet import HEADER_BYTES, MAX_VLAN_TAGS, VLAN_TAG_BYTES
from ...hdl.spec.net import MAX_MTU, VIRTIO_NET_HDR_SIZE
from ...hdl.spec.virtio import VirtqDescF

__all__ = ["AVAIL", "DESC", "INDIRECT", "LONGEST", "NEXT", "USED", "WRITE"]

DESC = struct.Struct("<QIHH")   # addr, len; then flags, next (split) or id, flags (packed)
NEXT, WRITE, INDIRECT, AVAIL, USED = (int(VirtqDescF[name]) for name in ("NEXT", "WRITE", "INDIRECT", "AVAIL", "USED"))
LONGEST = VIRTIO_NET_HDR_SIZE + MAX_MTU + HEADER_BYTES + MAX_VLAN_TAGS * VLAN_TAG_BYTES   # bytes of a chain for a packet
