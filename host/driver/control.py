"""The control queue of a network device: commands, one at a time.

Ref: VIRTIO 1.4, 5.1.9.5 "Control Virtqueue". A command is one chain:

    class, command, data...   device-readable, cut into descriptors as the driver likes (2.7.4)
    ack                       one device-writable byte, 0 for "done"
"""

from .virtqueue import DeviceError

__all__ = ["ControlQueue"]

UNANSWERED = 0xff  # no ack there is
ANSWER_POLLS = 2000
POLL_CYCLES = 50


class ControlQueue:
    """Commands over a virtqueue.

    Attributes
    ----------
    queue : Virtqueue or PackedVirtqueue
    """
    def __init__(self, bus, queue):
        self.bus = bus
        self.queue = queue
        self._memory = None

    def command(self, cls, command, data=b"", *, cuts=(), indirect=False):
        """Send a command, wait for its answer and return the ack byte.

        ``cuts``: where class, command and data, taken as one, are cut into descriptors; the last piece may be empty.
        """
        out = bytes((cls, command)) + bytes(data)
        self.free()
        self._memory = self.bus.alloc(len(out) + 1)
        self._memory.view[:] = out + bytes((UNANSWERED,))
        edges = [0, *sorted(cuts), len(out)]
        pieces = [(self._memory.iova + start, end - start) for start, end in zip(edges, edges[1:])]
        self.queue.add_buf(pieces, [(self._memory.iova + len(out), 1)], None, indirect)
        self.queue.kick()
        for _ in range(ANSWER_POLLS):
            if (got := self.queue.get_buf()) is not None:
                break
            self.bus.run(POLL_CYCLES)
        else:
            raise TimeoutError(f"Command {cls}, {command} is not answered")
        if got[1] != 1:
            raise DeviceError(f"Command {cls}, {command} came back without an answer")
        ack = self._memory.view[len(out)]
        self.free()
        return ack

    def free(self):
        """Give memory back: what a command that was never answered has left. The device must have been reset."""
        if self._memory is not None:
            self._memory.free()
            self._memory = None
