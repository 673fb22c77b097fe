"""Servers that run in a thread while a block runs."""

from contextlib import contextmanager
import threading

__all__ = ["serving"]


@contextmanager
def serving(server):
    """Let a :class:`socketserver.BaseServer` answer in a thread while the block runs, and close it."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
