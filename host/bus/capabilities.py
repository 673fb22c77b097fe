"""The list of capabilities in a function's configuration space.

Ref: PCI Express Base 5.0, 7.5.1.1.11 "Capabilities Pointer".
"""

from ...hdl.spec.pcie import CapId, Cfg, ConfigStatus, DevCap, Exp

__all__ = ["capabilities", "capability", "offers_flr"]


def capabilities(config_read):
    """Yield ``(offset, id)`` in the order of the list.

    ``config_read(offset, size)`` returns a number. Raises :exc:`ValueError` if the list loops, as it does for a function that
    does not answer and reads as all ones.
    """
    if not config_read(Cfg.STATUS, 2) >> ConfigStatus.CAP_LIST & 1:
        return
    at, seen = config_read(Cfg.CAP_POINTER, 1) & ~3, set()
    while at:
        if at in seen:
            raise ValueError(f"Capability list loops at {at:#x}")
        seen.add(at)
        yield at, config_read(at, 1)
        at = config_read(at + 1, 1) & ~3


def capability(config_read, cap_id):
    """Return the offset of the first capability of this id, or None."""
    return next((at for at, found in capabilities(config_read) if found == cap_id), None)


def offers_flr(config_read):
    """Whether the function offers Function Level Reset (7.5.3.3 "Device Capabilities Register")."""
    return bool(config_read(capability(config_read, CapId.EXP) + Exp.DEV_CAP, 4) >> DevCap.FLR & 1)
