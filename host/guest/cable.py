"""A cable: carries frames between two ends until unplugged."""

from contextlib import contextmanager
import os
import select
import threading

__all__ = ["plugged"]


@contextmanager
def plugged(one, other):
    """Carry frames both ways between two ends for the length of the block, in a thread. Yield a list, which gets the exception
    that ends it early.

    An end has ``fileno()`` (readable when a frame waits), ``recv()`` (a frame, or None when none waits) and
    ``send(frame)``, which may block: an end that is slow to take frames holds up those behind, and so in the end their sender.
    """
    stop, over = os.eventfd(0, os.EFD_CLOEXEC), threading.Event()
    failure = []

    def carry():
        try:
            poll = select.poll()
            across = {one.fileno(): (one, other), other.fileno(): (other, one)}
            for fd in (*across, stop):
                poll.register(fd, select.POLLIN)
            while True:
                ready = [fd for fd, _event in poll.poll()]
                if stop in ready:
                    return
                for fd in ready:
                    source, sink = across[fd]
                    for _ in range(64):  # then let the other direction have its turn
                        if over.is_set() or (frame := source.recv()) is None:
                            break
                        sink.send(frame)
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=carry, name="cable")
    thread.start()
    try:
        yield failure
    finally:
        over.set()
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)
    if failure:  # and nothing else went wrong
        raise failure[0]
