"""The buffers seam: what a virtio device type sees of its virtqueues.

A device takes the next *chain* of a queue on a *take* port, gets its *segments* in order, does what it likes with
them through DMA ports of its own, and gives the chain back as *used*.
"""

from amaranth import unsigned
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["TakeOp", "Take", "ChainId", "Segment", "Used", "QueueSetup", "BufferPort"]


class TakeOp(enum.Enum, shape=2):
    """TAKE: hand out the next chain, and COMMIT ``count`` of those before it. COMMIT: the oldest ``count`` chains taken of this
    queue since the last COMMIT are kept; all of them, if there are not so many. REWIND: forget the takes of this queue that
    are not kept, the same chains come again. KEEP: hand out the next chain, and keep all, this one as well."""
    TAKE   = 0
    COMMIT = 1
    REWIND = 2
    KEEP   = 3


class Take(data.Struct):
    """``count``: chains that a COMMIT or TAKE keeps; a TAKE with 0 only takes. Of others it means nothing."""
    op:    TakeOp
    queue: unsigned(16)
    count: unsigned(16)


class ChainId(data.Struct):
    """What names a chain to the engine; a device gives it back as it came. ``id`` is the driver's, untrusted.

    ``count``: entries of the ring that the chain takes. ``writable``: it has a device-writable buffer.
    """
    id:       unsigned(16)
    count:    unsigned(16)
    writable: unsigned(1)


class Segment(data.Struct):
    """One descriptor's buffer. ``write``: device-writable. ``last`` ends the chain, exactly once; ``chain`` is valid with it.

    ``error`` is valid with ``last``: the chain is malformed or could not be read; the queue has stopped, the device
    drops what it has of the chain and does not give it back. ``len`` (bytes) is untrusted and may be 0.
    """
    queue: unsigned(16)
    chain: ChainId
    addr:  unsigned(64)
    len:   unsigned(32)
    write: unsigned(1)
    last:  unsigned(1)
    error: unsigned(1)


class Used(data.Struct):
    """Give a chain back with ``len`` bytes written.

    ``more``: further chains of the same packet follow and become visible together with this one (MRG_RXBUF).
    ``flush``: the device has nothing else in hand, publish without waiting for company.
    """
    queue: unsigned(16)
    chain: ChainId
    len:   unsigned(32)
    more:  unsigned(1)
    flush: unsigned(1)


class QueueSetup(data.Struct):
    """One queue as configured by the driver at the moment it wrote queue_enable = 1: ``size`` in entries, addresses in bytes."""
    queue:        unsigned(16)
    size:         unsigned(16)
    queue_desc:   unsigned(64)
    queue_driver: unsigned(64)
    queue_device: unsigned(64)


def BufferPort(num_queues):
    """Buffers seam, seen from the device.

    ``enabled``: bit per queue, high while it is set up and has not failed; who waits for chains of any other waits in vain.
    ``available``: bit per queue, high while a TAKE of that queue would be answered; a TAKE is offered only then.
    ``take``: acts in order. What is said of a TAKE is true of a KEEP. COMMIT and REWIND are offered only for chains in hand, and
    so is the ``count`` of a TAKE. A device may TAKE further chains before it knows how many it needs, COMMIT those, and REWIND
    the others.
    ``segment``: chains in the order of the TAKEs; the device accepts them without depending on anything but itself.
    ``used``: of each queue in the order of its TAKEs, for IN_ORDER may have been negotiated.
    ``pause``: a queue is being reset. The device takes nothing more, and gives back or rewinds what it has taken, of all
    queues; ``holds`` is high as long as it has chains in hand, from the cycle in which it offers the TAKE until the ``used`` (or
    REWIND, or COMMIT of a chain that had an error) has been accepted; so nothing is offered on ``take`` while it is low, and a
    queue that was reset hears of no operation before it is set up again. During a pause that ends by itself, whatever the world
    outside does.
    ``untold``: bit per queue, high while used entries of chains that were given back are not all on their way: what the device
    writes afterwards is seen after them.
    ``wants``: bit per queue, high while the device has something that waits for a chain of that queue. Its ring is read from time
    to time then, because a driver may have added a buffer without a notification. Low during a ``pause``.
    """
    return Signature({
        "enabled":   In(num_queues),
        "available": In(num_queues),
        "take":      Out(stream.Signature(Take)),
        "segment":   In(stream.Signature(Segment)),
        "used":      Out(stream.Signature(Used)),
        "pause":     In(1),
        "holds":     Out(1),
        "untold":    In(num_queues),
        "wants":     Out(num_queues),
    })
