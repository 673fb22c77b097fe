"""The NIC's core: without its MAC, as synthesis tools want it, and what it has to offer."""

from ..hdl.function import COMMON_FEATURES
from ..hdl.net.device import net_features
from ..hdl.nic import RingNIC
from ..hdl.pcie.parameters import PcieParameters
from .top import to_verilog

__all__ = ["core_features", "core_verilog"]


def core_verilog(width, queue_pairs, *, mac=None, offered=None, pcie=PcieParameters()):
    """Verilog of a core below a module ``nic``, see :func:`to_verilog`; :exc:`ValueError` if there is no such core."""
    return to_verilog(RingNIC(width=width, queue_pairs=queue_pairs, mac=mac, pcie=pcie), offered=offered)


def core_features(queue_pairs):
    """Numbers of the device features that a core of ``queue_pairs`` has."""
    return frozenset({*COMMON_FEATURES, *net_features(queue_pairs)})
