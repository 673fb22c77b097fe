"""The registers of a simulated card that a demo or ``ringnic serve`` has, for who has a look at it from another terminal.

A UNIX socket in a folder of its own, with a link that says where the card is served: each offset in BAR 0 that is sent, a
little-endian DW, is answered by the DW that is there. A connection is for one look, during which the BAR is taken to stay where
it is.
"""

from contextlib import contextmanager
import os
from pathlib import Path
import socket
import socketserver
import struct
import tempfile

from ...hdl.spec.bar import BAR_SIZE, ISR_OFFSET
from .serving import serving

__all__ = ["ALL_ONES", "FOLDER_PREFIX", "NAME", "NoDemo", "demo_registers", "find_demo", "serve_registers"]

NAME = "bar0.sock"
CARD = "card"                # a link to the card's own socket
FOLDER_PREFIX = "ringnic-"   # of a folder below that for temporary files, for each card
PAGE = 0x1000
ALL_ONES = 0xffff_ffff
ENDED = "the demo has ended"
TIMEOUT = 10                 # seconds; a model that is being watched in a waveform takes its time

_DW = struct.Struct("<I")


class NoDemo(Exception):
    """No demo is running, or it has ended."""


def _may_be_read(offset):
    """A look at ISR would take an interrupt from the driver."""
    return offset % _DW.size == 0 and offset < BAR_SIZE and offset // PAGE * PAGE != ISR_OFFSET


@contextmanager
def serve_registers(path, look, card):
    """Answer at ``path`` while the block runs. ``look()`` returns ``read(offset)`` for one connection, in its thread.

    ``card``: where the card itself is served.
    """
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            read = look()
            while len(raw := self.request.recv(_DW.size, socket.MSG_WAITALL)) == _DW.size:
                offset, = _DW.unpack(raw)
                self.request.sendall(_DW.pack(read(offset) if _may_be_read(offset) else ALL_ONES))

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        block_on_close = False   # a handler waits for a client that need never end

        def handle_error(self, request, client_address):
            """A client that leaves in the middle is no error, nor is a card that has ended."""

    link = Path(path).with_name(CARD)
    link.symlink_to(os.path.abspath(card))
    try:
        with serving(Server(str(path), Handler)):
            yield
    finally:
        link.unlink()


def _demos(folder):
    """Yield where registers can be read and where their card is served, of this user's, the last one first."""
    found = []
    for path in folder.glob(f"{FOLDER_PREFIX}*/{NAME}"):
        try:
            state = path.lstat()
            if state.st_uid == os.geteuid():  # another user's may say what it likes
                found.append((state.st_mtime, path, os.readlink(path.with_name(CARD))))
        except OSError:
            continue  # it has just ended, or is of something else
    for _, path, card in sorted(found, reverse=True):
        try:
            with demo_registers(path):
                yield path, card
        except NoDemo:
            continue  # left behind by one that was killed


def find_demo(card=None, folder=None):
    """Return where the registers are of the simulated card that is served at the socket ``card``, else of that which was started
    last; or raise :exc:`NoDemo`."""
    folder = Path(tempfile.gettempdir() if folder is None else folder)
    demos = list(_demos(folder))
    if not demos:
        raise NoDemo("no demo of yours is running here: start `ringnic demo` or `ringnic serve` in another terminal")
    for path, served in demos:
        if card is None or os.path.abspath(card) == served:
            return path
    raise NoDemo(f"no card is served at {card}; there are: {', '.join(served for _, served in demos)}")


@contextmanager
def demo_registers(path):
    """Yield ``read(offset)`` for a look at a demo's card, which raises :exc:`NoDemo` when that has ended, as this does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(str(path))
        except OSError:
            raise NoDemo(ENDED) from None

        def read(offset):
            try:
                sock.sendall(_DW.pack(offset))
                return _DW.unpack(sock.recv(_DW.size, socket.MSG_WAITALL))[0]
            except (OSError, struct.error):
                raise NoDemo(ENDED) from None
        yield read
