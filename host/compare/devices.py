"""The network devices that are compared, and what is expected of each.

Why a ping costs the guest what it costs, read from the trace, in which all pings look the same. A ping is a packet out, its
answer, and the interrupts that tell of both.

rtl8139, driver 8139cp: 9. The transmit poll register is written. The interrupt handler reads mask and status, acknowledges
what it does not leave to the poll, and masks the rest, reading the mask back so that it has arrived; the poll acknowledges
the packet and unmasks, with such a read.

e1000, driver e1000: 7. The transmit tail is written. The interrupt handler reads the cause and masks all, reading the status
register so that the mask has arrived; the poll writes the receive tail for a new buffer and unmasks, with such a read. QEMU's
user network answers while the packet is being sent, so one interrupt tells of packet and answer. With a network that answers
later there are two interrupts, of 5 accesses each, and a ping has up to 12.

e1000e, driver e1000e: 3 and a little. With MSI-X the vector tells the cause, so nothing is read. The transmit tail is
written, and the mask once for each interrupt: one for the packet, one for the answer, at times one more from a timer. The
receive tail is written for 16 buffers at once.

virtio-net-pci and RingNIC, driver virtio_net: 1. The driver notifies the device that there is a packet to send. All else that
they tell each other is in the rings, in the guest's memory.

RingNIC assigned: 0. VFIO lets QEMU map the page of the card's notifications into the guest, so a notification goes to the card
and no program of the host sees it.

TCP has ranges only: how many packets share an interrupt or a notification depends on the speed of everything involved.
"""

from dataclasses import dataclass

from .trace import NOTIFICATION

__all__ = ["ASSIGNED", "DEVICES", "Device", "Expected"]


@dataclass(frozen=True)
class Expected:
    """Least and most accesses: of a ping, and of a packet while TCP goes out of the guest and into it."""
    ping: tuple
    tcp_out: tuple
    tcp_in: tuple


@dataclass(frozen=True)
class Device:
    """``way``: how the guest has it; ``driver``: the guest's; ``regions``: how QEMU's names of its memory regions begin, none if
    its accesses are counted otherwise (:mod:`.assigned`)."""
    name: str
    way: str
    driver: str
    regions: tuple
    expected: Expected


ASSIGNED = "ringnic-assigned"
DEVICES = {device.name: device for device in (
    Device("rtl8139", "emulation", "8139cp", ("rtl8139",),
           Expected(ping=(8.9, 9.1), tcp_out=(2, 6), tcp_in=(0.1, 3))),
    Device("e1000", "emulation", "e1000", ("e1000-",),
           Expected(ping=(6.9, 7.1), tcp_out=(0.3, 4), tcp_in=(0.1, 2))),
    Device("e1000e", "emulation", "e1000e", ("e1000e-", "msix-"),
           Expected(ping=(3, 6), tcp_out=(0.3, 4), tcp_in=(0.1, 2))),
    Device("virtio-net-pci", "paravirtual", "virtio_net", ("virtio-pci-common", "virtio-pci-isr", "virtio-pci-device", "msix-",
                                                           NOTIFICATION),
           Expected(ping=(0.9, 1.1), tcp_out=(0.01, 0.5), tcp_in=(0.01, 0.5))),
    Device("ringnic", "vfio-user", "virtio_net", ("vfio-",),
           Expected(ping=(0.9, 1.1), tcp_out=(0.01, 0.6), tcp_in=(0.01, 0.6))),
    Device(ASSIGNED, "assigned", "virtio_net", (),
           Expected(ping=(0, 0), tcp_out=(0, 0), tcp_in=(0, 0))),
)}
