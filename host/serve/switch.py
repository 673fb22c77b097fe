"""A learning Ethernet switch whose ports are ends of cables.

Ref: IEEE 802.1Q-2022, 8.6 "The Forwarding Process", 8.7 "The Learning Process", 8.8 "The Filtering Database".
"""

from collections import OrderedDict, deque
import os
import threading

__all__ = ["Port", "Switch"]

ADDRESS = 6                # bytes of a MAC address
HEADER = 14                # bytes of a frame before its payload: both addresses and the EtherType
GROUP = 1                  # bit of the first byte of an address: of a group, or broadcast
RESERVED = bytes.fromhex("0180c2000000")[:5]  # 8.6.3: frames to 01-80-C2-00-00-00 to -0F are never forwarded
FRAMES = 256               # that wait at a port, at most
ADDRESSES = 1024           # that are known, at most: a guest can make up as many as it likes


class Port:
    """An end of a cable (see :mod:`ringnic.host.guest.cable`).

    ``dropped`` counts frames that came while too many others waited to leave here.
    """
    def __init__(self, switch):
        self._switch = switch
        self._frames = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE)  # counts the frames
        self.dropped = 0

    def fileno(self):
        return self._event

    def send(self, frame):
        self._switch.forward(self, frame)

    def recv(self):
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return None
        return self._frames.popleft()

    def put(self, frame):
        """Let a frame leave here; the switch's lock is held."""
        if len(self._frames) >= FRAMES:
            self.dropped += 1
            return
        self._frames.append(frame)
        os.eventfd_write(self._event, 1)

    def close(self):
        os.close(self._event)


class Switch:
    """Forward each frame to where its destination was last seen, and to all other ports if that is unknown or a group.

    A port that does not keep up loses frames, and holds up nobody. ``seen(frame)``, if given, is called with each frame that
    comes.
    """
    def __init__(self, seen=None):
        self._seen = seen
        self._lock = threading.Lock()
        self._ports = []
        self._places = OrderedDict()   # port by address, the one that was heard of last at the end

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for port in self._ports:
            port.close()

    def port(self):
        """Return another :class:`Port`; it is closed with the switch."""
        port = Port(self)
        self._ports.append(port)
        return port

    def forward(self, source, frame):
        if self._seen is not None:
            self._seen(frame)
        if len(frame) < HEADER:
            return
        destination, sender = frame[:ADDRESS], frame[ADDRESS:2 * ADDRESS]
        if destination[:5] == RESERVED and destination[5] < 16:
            return
        with self._lock:
            if not sender[0] & GROUP:  # 8.7: only from individual addresses
                self._places[sender] = source
                self._places.move_to_end(sender)
                if len(self._places) > ADDRESSES:
                    self._places.popitem(last=False)
            known = None if destination[0] & GROUP else self._places.get(destination)
            for port in self._ports if known is None else [known]:
                if port is not source:
                    port.put(frame)
