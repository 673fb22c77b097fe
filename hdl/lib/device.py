"""The device seam: all that a virtio device type and the function it lives in have to do with each other.

A device type is a component with

- ``DEVICE_ID``, ``CLASS_CODE``: what it is to a driver (5 "Device Types") and to a host (PCI, 24 bits);
- ``FEATURES``: numbers of the feature bits that it brings; ``FEATURE_PREREQUISITES``: which of them needs which, as
  :data:`ringnic.hdl.spec.features.FEATURE_PREREQUISITES`;
- ``host``: its side of this seam, ``Out(DevicePort(...))``, whose sizes say how many queues, buffer ports and DMA ports it wants;
- ``events : Out``: strobes for counters of these names;

and whatever it has towards its own world. The function it lives in resets it: no device has a reset of its own.
"""

from amaranth.lib.wiring import In, Out, Signature

from .buffers import BufferPort
from .dma import ReadPort, WritePort

__all__ = ["DevicePort"]


def DevicePort(width, *, num_queues, buffers, reads, writes, config_bytes):
    """Device seam, seen from the device.

    ``buffers``: buffer ports; each has a walker of its own in the engine, whichever queues are taken there.
    ``reads``, ``writes``: DMA of ``width`` bits a beat. ``features``: negotiated bits, 0 until FEATURES_OK, then stable.
    ``driver_ok``: the driver is ready. ``config``: device configuration, byte 0 lowest; ``config_changed`` is a strobe.
    ``busy``: something is under way inside that needs clock cycles.
    """
    return Signature({
        "buffers":        Out(BufferPort(num_queues)).array(buffers),
        "reads":          Out(ReadPort(width)).array(reads),
        "writes":         Out(WritePort(width)).array(writes),
        "features":       In(128),
        "driver_ok":      In(1),
        "config":         Out(8 * config_bytes),
        "config_changed": Out(1),
        "busy":           Out(1),
    })
