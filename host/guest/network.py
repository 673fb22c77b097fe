"""What is at the other end of a card's cable: a user network without privileges, a tap interface, another program.

A network is an object with ``fileno()`` (readable when a frame waits), ``send(frame)`` and ``recv()``, which returns
a frame (bytes, without FCS) or None when none waits.
"""

from contextlib import contextmanager
import errno
import fcntl
import ipaddress
import os
from pathlib import Path
import socket
import struct
import subprocess
import threading
import time

from ..errors import naming
from ..sockets import bound
from .process import child

__all__ = ["GATEWAY", "Pcap", "Watched", "dgram_network", "open_pcap", "open_tap", "socket_network", "tap_addresses",
           "user_network"]

GATEWAY = "10.0.2.2"  # of the user network; connections to it reach the host's 127.0.0.1
FRAME_MAX = 65536
FOREIGN_MAX = 64          # datagrams that are thrown away before others have their turn

_TUNSETIFF = 0x400454CA
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000


class _SocketNetwork:
    """``fault()`` tells why nothing can be at the other end any more, if that is known."""
    def __init__(self, sock):
        self._sock = sock
        self.fault = lambda: None
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
def user_network(qemu, tftp=None, restrict=False):
    """Yield a network with DHCP, a gateway, and the host's loopback behind it: QEMU's user network, with no machine.

    No privileges are needed. The gateway answers pings; TCP and UDP from the guest leave by the host's sockets. ``tftp``: a
    folder whose files the gateway serves by TFTP. ``restrict``: nothing leaves, neither to the host nor to what is behind it.
    """
    with socket_network() as (network, theirs):
        options = ("" if tftp is None else f",tftp={tftp}") + (",restrict=on" if restrict else "")
        argv = [*qemu.argv, "-machine", "none", "-nodefaults", "-display", "none",
                "-netdev", f"user,id=user{options}", "-netdev", "hubport,id=hub-user,hubid=0,netdev=user",
                "-netdev", f"dgram,id=cable,local.type=fd,local.str={theirs.fileno()}",
                "-netdev", "hubport,id=hub-cable,hubid=0,netdev=cable"]
        with child(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL) as process:  # it only warns of "no nics", which is the point
            network.fault = lambda: None if process.poll() is None else "The user network's QEMU has ended"
            yield network


class _Tap:
    def __init__(self, fd, name):
        self._fd = fd
        self._name = name

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
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise OSError(f"The tap interface {self._name} was removed") from None
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
    """Yield the network of the tap interface ``name``, which need not have an address: it may be a port of a bridge.

    Raises :exc:`OSError`, whose message says what to do: there is no such tap interface, or somebody else has it.
    """
    # The kernel would make an interface that is not there, of a root who mistyped its name.
    if not (interface := Path("/sys/class/net", name)).is_dir():
        raise OSError(f"There is no interface {name}. As root: ip tuntap add {name} mode tap user USER; ip link set {name} up")
    if not (interface / "tun_flags").exists() or not int((interface / "tun_flags").read_text(), 16) & _IFF_TAP:
        raise OSError(f"{name} is no tap interface: make one with `ip tuntap add NAME mode tap user USER`")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(f"/dev/net/tun cannot be opened ({error.strerror}): `modprobe tun`, or a machine that has it") from None
    try:
        try:
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError as error:
            raise OSError(f"{name} cannot be used: " + (
                "another program has it open" if error.errno == errno.EBUSY else
                "it belongs to another user, see `ip -d link show`" if error.errno == errno.EPERM else str(error.strerror))
            ) from None
        yield _Tap(fd, name)
    finally:
        os.close(fd)


class _DatagramNetwork:
    """Of an unconnected socket: what did not come from the peer is not taken, and the peer may start later, and again.

    A peer with a path has to be a socket of this user's or root's: in a folder that others write to, another user may have
    been there first.
    """
    def __init__(self, sock, peer):
        self._sock, self._peer = sock, peer
        self.fileno = sock.fileno

    def _trusted(self):
        return not isinstance(self._peer, str) or os.lstat(self._peer).st_uid in (0, os.geteuid())

    def send(self, frame):
        try:
            if self._trusted():
                self._sock.sendto(frame, socket.MSG_DONTWAIT, self._peer)
        except OSError:
            pass  # no peer yet, or one that does not keep up: a frame lost

    def recv(self):
        for _ in range(FOREIGN_MAX):
            try:
                frame, source = self._sock.recvfrom(FRAME_MAX, socket.MSG_DONTWAIT)
                if frame and source == self._peer and self._trusted():
                    return frame
            except ConnectionRefusedError:
                continue  # of a frame that was sent before
            except OSError:
                return None
        return None


@contextmanager
def dgram_network(local, peer):
    """Yield the network of another program that has each frame in a datagram, as QEMU's ``-netdev dgram``.

    ``local`` and ``peer`` are where we and where the other one listens: both paths of UNIX sockets (str), or both a pair of an
    IPv4 or IPv6 address and a port.
    """
    if isinstance(local, str):
        with bound(local, socket.SOCK_DGRAM) as sock:
            yield _DatagramNetwork(sock, peer)
        return
    family, *_, here = socket.getaddrinfo(*local, type=socket.SOCK_DGRAM)[0]
    there = socket.getaddrinfo(*peer, family=family, type=socket.SOCK_DGRAM)[0][4]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(here)
        except OSError as error:
            raise OSError(f"No socket at {local[0]} port {local[1]}: {error.strerror}") from None
        yield _DatagramNetwork(sock, there)


class Pcap:
    """A packet capture. Several threads may write to it.

    Parameters
    ----------
    file
        Binary file to write to. Times are seconds since ``clock`` began.
    clock : callable
        Returns the time in seconds.
    """
    def __init__(self, file, clock):
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        # draft-ietf-opsawg-pcap: magic (microseconds), version 2.4, zone, accuracy, snap length, LINKTYPE_ETHERNET.
        self._put(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, FRAME_MAX, 1))

    def _put(self, data):
        with naming(getattr(self._file, "name", "capture")):
            self._file.write(data)

    def write(self, frame):
        with self._lock:
            seconds, micros = divmod(int(self._clock() * 1e6), 1_000_000)
            self._put(struct.pack("<IIII", seconds, micros, len(frame), len(frame)) + frame)


@contextmanager
def open_pcap(path):
    """Yield a :class:`Pcap` whose times are real and begin now."""
    start = time.monotonic()
    with open(path, "wb", buffering=0) as file:  # what cannot be written is known at once
        yield Pcap(file, lambda: time.monotonic() - start)


class Watched:
    """An end of a cable (see :mod:`.cable`) seen through: ``seen(frame)`` is called with each frame, both ways."""
    def __init__(self, end, seen):
        self._end = end
        self._seen = seen
        self.fileno = end.fileno

    def send(self, frame):
        self._seen(frame)
        self._end.send(frame)

    def recv(self):
        frame = self._end.recv()
        if frame is not None:
            self._seen(frame)
        return frame
