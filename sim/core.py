"""The NIC without its MAC, as synthesis tools want it."""

from ..hdl.nic import RingNIC
from .top import to_verilog

__all__ = ["core_verilog"]


def core_verilog(width, queue_pairs):
    """Verilog of a core below a module ``nic``, see :func:`to_verilog`; :exc:`ValueError` if there is no such core."""
    return to_verilog(RingNIC(width=width, queue_pairs=queue_pairs, mac=None))
