"""What is at the other end of the card's cable: a user network without privileges, or a tap interface.

A network is an object with ``fileno()`` (readable when a frame waits), ``send(frame)`` and ``recv()``, which returns
a frame (bytes, without FCS) or None when none waits.
"""

from contextlib import contextmanager
import fcntl
import ipaddress
import os
import socket
import struct
import subprocess

from .process import child

__all__ = ["GATEWAY", "Pcap", "open_tap", "socket_network", "tap_addresses", "user_network"]

GATEWAY = "10.0.2.2"  # of the user network; connections to it reach the host's 127.0.0.1
FRAME_MAX = 65536

_TUNSETIFF = 0x400454CA
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000


class _SocketNetwork:
    def __init__(self, sock):
        self._sock = sock
        # Sending waits for a full peer, but not for ever: one that died must not hold up the end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))

    def fileno(self):
        return self._sock.fileno()

    def send(self, frame):
        try:
            self._sock.send(frame)
        except OSError:
            pass  # nobody at the other end: a frame lost, as on any network

    def recv(self):
        try:
            return self._sock.recv(FRAME_MAX, socket.MSG_DONTWAIT) or None
        except OSError:
            return None


@contextmanager
def socket_network():
    """Yield ``(network, socket)``: frames sent to one are received at the other, one datagram each."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        yield _SocketNetwork(ours), theirs


@contextmanager
def user_network(qemu, tftp=None):
    """Yield a network with DHCP, a gateway, and the host's loopback behind it: QEMU's user network, with no machine.

    No privileges are needed. The gateway answers pings; TCP and UDP from the guest leave by the host's sockets. ``tftp``: a
    folder whose files the gateway serves by TFTP.
    """
    with socket_network() as (network, theirs):
        options = "" if tftp is None else f",tftp={tftp}"
        argv = [*qemu.argv, "-machine", "none", "-nodefaults", "-display", "none",
                "-netdev", f"user,id=user{options}", "-netdev", "hubport,id=hub-user,hubid=0,netdev=user",
                "-netdev", f"dgram,id=cable,local.type=fd,local.str={theirs.fileno()}",
                "-netdev", "hubport,id=hub-cable,hubid=0,netdev=cable"]
        with child(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL):  # it only warns of "no nics", which is the point
            yield network


class _Tap:
    def __init__(self, fd):
        self._fd = fd

    def fileno(self):
        return self._fd

    def send(self, frame):
        try:
            os.write(self._fd, frame)
        except OSError:
            pass  # the interface is down, or its queue is full

    def recv(self):
        try:
            return os.read(self._fd, FRAME_MAX)
        except OSError:
            return None


def tap_addresses(name):
    """Return the host's address on the tap interface ``name``, and one for the guest as address/mask length.

    Raises
    ------
    OSError
        There is no such interface, or it has no IPv4 address; the message says how to make one.
    """
    request = struct.pack("16s16x", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            # struct ifreq: the name, then a struct sockaddr_in whose address is 4 bytes in.
            address, mask = (fcntl.ioctl(sock, code, request)[20:24] for code in (_SIOCGIFADDR, _SIOCGIFNETMASK))
        except OSError as error:
            raise OSError(
                f"{name} is no interface with an IPv4 address ({error.strerror}). As root: ip tuntap add {name} mode tap "
                f"user USER; ip addr add 192.168.77.1/24 dev {name}; ip link set {name} up") from None
    host = ipaddress.IPv4Interface(f"{ipaddress.IPv4Address(address)}/{ipaddress.IPv4Address(mask)}")
    guest = next((one for one in host.network.hosts() if one != host.ip), None)
    if guest is None:
        raise OSError(f"{name} has the network {host.network}, where there is no address for a guest")
    return str(host.ip), f"{guest}/{host.network.prefixlen}"


@contextmanager
def open_tap(name):
    """Yield the network of the tap interface ``name``."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        yield _Tap(fd)
    finally:
        os.close(fd)


class Pcap:
    """A network seen through: passes frames both ways and writes them to a packet capture.

    Parameters
    ----------
    network
        What to look at.
    file
        Binary file to write to. Times are seconds since ``clock`` began.
    clock : callable
        Returns the time in seconds.
    """
    def __init__(self, network, file, clock):
        self._network = network
        self._file = file
        self._clock = clock
        # draft-ietf-opsawg-pcap: magic (microseconds), version 2.4, zone, accuracy, snap length, LINKTYPE_ETHERNET.
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, FRAME_MAX, 1))

    def _write(self, frame):
        seconds, micros = divmod(int(self._clock() * 1e6), 1_000_000)
        self._file.write(struct.pack("<IIII", seconds, micros, len(frame), len(frame)) + frame)

    def fileno(self):
        return self._network.fileno()

    def send(self, frame):
        self._write(frame)
        self._network.send(frame)

    def recv(self):
        frame = self._network.recv()
        if frame is not None:
            self._write(frame)
        return frame
