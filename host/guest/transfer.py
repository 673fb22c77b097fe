"""A web server on this machine that the guest fetches a file from and gives it back to."""

from contextlib import contextmanager
import hashlib
import http.server
import socket
import threading
import time

from .serving import serving

__all__ = ["Transfer", "serve"]

CHUNK = 64 * 1024


class Transfer:
    """One file, going out by GET and coming back by PUT.

    ``sent`` and ``received`` count bytes as they pass; ``get_seconds`` and ``put_seconds`` are set when a direction is through:
    from the request to the moment the last byte is known to have arrived at its end.
    """
    def __init__(self, data):
        self.data = data
        self.digest = hashlib.sha256(data).hexdigest()
        self.sent = self.received = 0
        self.get_seconds = self.put_seconds = None
        self.received_digest = None
        self.port = None
        self.get_done = threading.Event()


def _handler(transfer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = time.monotonic()
            # A small buffer: what counts as sent is then nearly what has arrived.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
            self.send_response(200)
            self.send_header("Content-Length", str(len(transfer.data)))
            self.end_headers()
            for at in range(0, len(transfer.data), CHUNK):
                chunk = transfer.data[at:at + CHUNK]
                self.connection.sendall(chunk)
                transfer.sent += len(chunk)
            # The client hangs up when it has all of it.
            while self.connection.recv(CHUNK):
                pass
            transfer.get_seconds = time.monotonic() - start
            transfer.get_done.set()

        def do_PUT(self):
            start = time.monotonic()
            digest = hashlib.sha256()
            left = int(self.headers["Content-Length"])
            while left and (chunk := self.rfile.read1(min(left, CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
                transfer.received += len(chunk)
            transfer.put_seconds = time.monotonic() - start
            transfer.received_digest = digest.hexdigest()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args):
            pass

    return Handler


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, _request, _client_address):
        pass  # the guest hung up or was killed: its side of the run says what is wrong


@contextmanager
def serve(transfer, address="127.0.0.1"):
    """Serve ``transfer`` on ``address``, on a free port, which is written to ``transfer.port``."""
    server = _Server((address, 0), _handler(transfer))
    server.block_on_close = False
    transfer.port = server.server_address[1]
    with serving(server):
        yield
