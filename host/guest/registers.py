"""The registers of a running demo's card, for who has a look at it from another terminal.

A UNIX socket beside the card's own: each offset in BAR 0 that is sent, a little-endian DW, is answered by the DW that is there.
A connection is for one look, during which the BAR is taken to stay where it is.
"""

from contextlib import contextmanager
from pathlib import Path
import socket
import socketserver
import struct
import tempfile

from ...hdl.spec.bar import BAR_SIZE, ISR_OFFSET
from .serving import serving

__all__ = ["FOLDER_PREFIX", "NAME", "NoDemo", "demo_registers", "find_demo", "serve_registers"]

NAME = "bar0.sock"
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
def serve_registers(path, look):
    """Answer at ``path`` while the block runs. ``look()`` returns ``read(offset)`` for one connection, in its thread."""
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

    with serving(Server(str(path), Handler)):
        yield


def find_demo(folder=None):
    """Return where the registers of the demo that was started last are, or raise :exc:`NoDemo`."""
    folder = Path(tempfile.gettempdir() if folder is None else folder)
    found = []
    for path in folder.glob(f"{FOLDER_PREFIX}*/{NAME}"):
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue  # of another user, or it has just ended
    for _, path in sorted(found, reverse=True):
        try:
            with demo_registers(path):
                return path
        except NoDemo:
            continue  # left behind by one that was killed
    raise NoDemo("no demo is running here: start `ringnic demo` or `ringnic demo --shell` in another terminal")


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
