"""The interrupt seam: events of a device on one side, MSI-X vectors on the other."""

from amaranth import unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["Interrupt", "InterruptPort"]


class Interrupt(data.Struct):
    """``source`` has an event to signal with ``vector``; with ``withdraw`` it no longer has one.

    A source is whatever has a vector of its own choice; several may share a vector.
    """
    vector:   unsigned(11)
    source:   unsigned(10)
    withdraw: unsigned(1)


def InterruptPort():
    """Interrupt port, seen from the device.

    Every interrupt is accepted within a few cycles, whatever the host does. ``waited`` is valid while a withdrawal is
    transferred: the event had not been signalled, and now it never will be.
    """
    return Signature({
        "req":    Out(stream.Signature(Interrupt)),
        "waited": In(1),
    })
