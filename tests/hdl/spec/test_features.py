"""Names and prerequisites of feature bits, against the tables of the standard."""

import pytest

from ringnic.hdl.spec import net, virtio
from ringnic.hdl.spec.features import FEATURE_NAMES, FEATURE_PREREQUISITES


@pytest.mark.parametrize("name, bit", [
    ("csum", 0), ("mac", 5), ("mrg_rxbuf", 15), ("ctrl_vq", 17), ("mq", 22), ("indirect_desc", 28), ("event_idx", 29),
    ("version_1", 32), ("ring_packed", 34), ("in_order", 35), ("notification_data", 38), ("ring_reset", 40),
    ("rss", 60), ("speed_duplex", 63), ("ipsec", 70),
])
def test_names(name, bit):
    assert FEATURE_NAMES[name] == bit


def test_every_constant_has_a_name_and_every_bit_has_one():
    constants = [name for module in (net, virtio) for name in vars(module) if name.startswith(("VIRTIO_F_", "VIRTIO_NET_F_"))]
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES.values())) == len(constants)
    assert all(name == name.lower() for name in FEATURE_NAMES)


def test_prerequisites():
    """5.1.3.1, in numbers."""
    assert FEATURE_PREREQUISITES == {
        7: [1], 8: [1], 9: [(7, 8)], 10: [1], 54: [1], 55: [1], 65: [7, 8, 54, 55], 66: [65],
        11: [0], 12: [0], 13: [(11, 12)], 14: [0], 56: [0], 67: [11, 12, 56], 68: [67], 61: [(11, 12)],
        18: [17], 19: [17], 21: [17], 22: [17], 23: [17], 53: [17], 52: [17], 60: [17],
        51: [17, (60, 57)], 64: [17, 60],
    }
