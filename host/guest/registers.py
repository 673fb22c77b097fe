"""The registers of a running demo's card, for who has a look at it from another terminal.

A UNIX socket beside the card's own: each offset in BAR 0 that is sent, a little-endian DW, is answered by the DW that is there.
"""

from contextlib import contextmanager
from pathlib import Path
import socket
import socketserver
import struct
import tempfile
import threading

from ...hdl.spec.bar import BAR_SIZE, ISR_OFFSET

__all__ = ["NAME", "NoDemo", "demo_registers", "serve_registers"]

NAME = "bar0.sock"
FOLDERS = "ringnic-*"        # below the folder for temporary files: one for each run of the demo
PAGE = 0x1000
ALL_ONES = 0xffff_ffff
TIMEOUT = 10                 # seconds; a model that is being watched in a waveform takes its time

_DW = struct.Struct("<I")


class NoDemo(Exception):
    """No demo is running, or it has ended."""


def _may_be_read(offset):
    """A look at ISR would take an interrupt from the driver."""
    return offset % _DW.size == 0 and offset < BAR_SIZE and offset // PAGE * PAGE != ISR_OFFSET


@contextmanager
def serve_registers(path, read):
    """Answer at ``path`` while the block runs. ``read(offset)`` is called from other threads, of several at a time perhaps."""
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            while len(raw := self.request.recv(_DW.size, socket.MSG_WAITALL)) == _DW.size:
                offset, = _DW.unpack(raw)
                self.request.sendall(_DW.pack(read(offset) if _may_be_read(offset) else ALL_ONES))

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        block_on_close = False   # a handler waits for a client that need never end

        def handle_error(self, request, client_address):
            """A client that leaves in the middle is no error, nor is a card that has ended."""

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def demo_registers(folder=None):
    """Yield ``read(offset)`` for the card of the demo that was started last; it, too, raises :exc:`NoDemo`."""
    folder = Path(tempfile.gettempdir() if folder is None else folder)
    found = []
    for path in folder.glob(f"{FOLDERS}/{NAME}"):
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue  # of another user, or it has just ended
    for _, path in sorted(found, reverse=True):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            try:
                sock.connect(str(path))
            except OSError:
                continue  # left behind by one that was killed

            def read(offset):
                try:
                    sock.sendall(_DW.pack(offset))
                    return _DW.unpack(sock.recv(_DW.size, socket.MSG_WAITALL))[0]
                except (OSError, struct.error):
                    raise NoDemo("the demo has ended") from None
            yield read
            return
    raise NoDemo("no demo is running here: start `ringnic demo` or `ringnic demo --shell` in another terminal")
