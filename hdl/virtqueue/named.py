"""What the last notification of each queue named.

Ref: VIRTIO 1.4, 2.9 "Driver Notifications".
"""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Named"]


class Named(wiring.Component):
    """Keep for each queue what its last notification named, and whether that is still to be looked at.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: forget what was named of this queue.
    kick_valid : In(1), kick_queue : In(16), kick_next : In(16)
        Strobe: a notification names this.
    queue : In(range(num_queues))
        The queue of which all that follows speaks.
    valid : Out(1), next : Out(16)
        Something was named and is to be looked at, and what; the latter is there in the cycle after that in which ``queue`` is.
    clear, keep : In(1)
        Strobes: it has been looked at; it is to be looked at again. A notification in the same cycle wins, and a set-up wins over
        both.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "kick_next":   In(16),
            "queue":       In(range(max(2, num_queues))),
            "valid":       Out(1),
            "next":        Out(16),
            "clear":       In(1),
            "keep":        In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.names = names = memory.Memory(shape=16, depth=max(2, self.num_queues), init=[])
        write = names.write_port()
        read = names.read_port(transparent_for=[write])  # as old as ``has``, else it says what was long ago
        has = Signal(self.num_queues)

        def of(queue):
            return has.bit_select(queue[:len(self.queue)], 1)
        m.d.comb += [
            write.addr.eq(self.kick_queue),
            write.data.eq(self.kick_next),
            write.en.eq(self.kick_valid),
            read.addr.eq(self.queue),
            self.valid.eq(of(self.queue)),
            self.next.eq(read.data),
        ]
        with m.If(self.clear | self.keep):
            m.d.sync += of(self.queue).eq(self.keep)
        with m.If(self.kick_valid):
            m.d.sync += of(self.kick_queue).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += of(self.setup_queue).eq(0)
        return m
