"""The golden-model driver: PCI discovery, negotiation, virtqueues, virtio-net. One driver, any :class:`~..bus.Bus`.

It is written to be read by people who learn virtio: each file is one chapter of the standard.
"""

from .control import ControlQueue
from .net import NoSpace, VirtioNet
from .packed import PackedVirtqueue
from .pci import PciFunction
from .transport import NegotiationError, Transport
from .virtqueue import DeviceError, Virtqueue

__all__ = ["PciFunction", "Transport", "NegotiationError", "Virtqueue", "PackedVirtqueue", "DeviceError", "VirtioNet",
           "ControlQueue", "NoSpace"]
