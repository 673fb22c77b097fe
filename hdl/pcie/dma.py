"""The DMA of the function: read and write ports on one side, TLPs on the other."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import Arbiter
from ..lib.dma import AreaPort, ReadPort, WritePort
from ..lib.gate import PacketGate
from .dma_read import Reader
from .dma_write import Writer
from .function_config import CPL_FAULTS
from .tlp_stream import ALL_CLASSES, TLP_CLASSES, tlp_beat

__all__ = ["Dma"]

_EVENTS = ("dma_read_tlps", "dma_write_tlps", "dma_read_errors", "dma_timeouts", "cpl_unexpected", "tlps_malformed")


class Dma(wiring.Component):
    """Carry out clients' reads and writes of host memory.

    Writes leave in the order of acceptance. Reads and writes are merged TLP by TLP; ``done`` of a write is given once the
    merged stream has taken all of it, so a read offered from then on follows it.

    Parameters
    ----------
    width : int
        Datapath, bits.
    read_clients, write_clients : int
        Number of ports.
    tags, slot_bytes, timeout_cycles, num_queues : int
        As for :class:`Reader`.

    Members
    -------
    reads : In(ReadPort(width)).array(read_clients)
    writes : In(WritePort(width)).array(write_clients)
    areas : In(AreaPort)
        Where the areas of virtqueues begin.
    cpl : In(stream.Signature(tlp_beat(width)))
        Completions received; never made to wait.
    tlp : Out(stream.Signature(tlp_beat(width)))
        Memory Read and Memory Write requests.
    requester_id : In(16)
    bus_master : In(1)
        While low no TLP is begun; requests wait.
    credits : In(TLP_CLASSES)
        Classes of which a TLP may begin: while the link takes no reads, writes leave all the same.
    mps, mrrs : In(3)
        As in Device Control: 128 << n bytes.
    ext_tag : In(1)
        Tags above 31 may be used.
    timeout_disable : In(1)
        Wait for completions for ever, but during ``stop``.
    stalled : In(1)
        A TLP waits for the link.
    stop : In(1)
        Accept no request, finish accepted writes (discard them if not ``bus_master``), issue no read more, await
        what is outstanding. To be held until ``reset``.
    stopped : Out(1)
        With ``stop``: nothing is in flight. Tags that have timed out do not count, and are remembered over ``reset``.
    busy : Out(1)
        A read is outstanding or a write not finished.
    leaving : Out(1)
        A TLP has begun and has not left. With ``bus_master`` low none begins, so once this is low nothing comes.
    pending : Out(1)
        A read was issued and not answered.
    reset : In(1)
        One cycle, with ``stopped``: what is known of clients is forgotten.
    faults : Out(CPL_FAULTS)
        Strobes.
    events : Out
        One-cycle strobes for the counters. ``dma_read_errors`` counts requests that failed.
    """
    def __init__(self, *, width, read_clients, write_clients, tags=32, slot_bytes=512, timeout_cycles=1 << 20,
                 cpl_headers=None, num_queues=1):
        self.width = width
        self.read_config  = {"width": width, "clients": read_clients, "tags": tags, "slot_bytes": slot_bytes,
                             "timeout_cycles": timeout_cycles, "cpl_headers": cpl_headers}
        self.num_queues = num_queues
        self.write_config = {"width": width, "clients": write_clients}
        Reader.check(**self.read_config)
        Writer.check(**self.write_config)
        super().__init__({
            "reads":        In(ReadPort(width)).array(read_clients),
            "writes":       In(WritePort(width)).array(write_clients),
            "areas":        In(AreaPort),
            "cpl":          In(stream.Signature(tlp_beat(width))),
            "tlp":          Out(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "bus_master":   In(1),
            "credits":      In(TLP_CLASSES, init=ALL_CLASSES),
            "mps":          In(3),
            "mrrs":         In(3),
            "ext_tag":      In(1),
            "timeout_disable": In(1),
            "stalled":      In(1),
            "stop":         In(1),
            "stopped":      Out(1),
            "busy":         Out(1),
            "leaving":      Out(1),
            "pending":      Out(1),
            "reset":        In(1),
            "faults":       Out(CPL_FAULTS),
            "events":       Out(data.StructLayout({name: 1 for name in _EVENTS})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader  = reader  = Reader(**self.read_config, num_queues=self.num_queues)
        m.submodules.writer  = writer  = Writer(**self.write_config)
        m.submodules.arbiter = arbiter = Arbiter(tlp_beat(self.width), 2)

        for inner, outer in zip(reader.reads, self.reads):
            connect(m, inner, flipped(outer))
        for inner, outer in zip(writer.writes, self.writes):
            connect(m, inner, flipped(outer))
        connect(m, flipped(self.areas), reader.areas)
        connect(m, flipped(self.cpl), reader.cpl)
        m.submodules.writes = writes = PacketGate(tlp_beat(self.width))
        connect(m, writer.tlp, writes.i)
        connect(m, writes.o, arbiter.i[0])
        connect(m, reader.tlp, arbiter.i[1])
        connect(m, arbiter.o, flipped(self.tlp))
        for part in reader, writer:
            m.d.comb += [
                part.requester_id.eq(self.requester_id),
                part.bus_master.eq(self.bus_master),
                part.stop.eq(self.stop),
            ]
        m.d.comb += [
            reader.mrrs.eq(self.mrrs),
            reader.ext_tag.eq(self.ext_tag),
            reader.timeout_disable.eq(self.timeout_disable),
            reader.stalled.eq(self.stalled),
            reader.credits.eq(self.credits.non_posted),
            self.leaving.eq(reader.tlp.valid | writer.leaving),
            writes.hold.eq(~self.credits.posted),
            self.pending.eq(reader.pending),
            reader.reset.eq(self.reset),
            writer.mps.eq(self.mps),
            self.busy.eq(reader.busy | writer.busy),
            self.stopped.eq(self.stop & ~self.busy),
            self.faults.eq(reader.faults),
            self.events.dma_read_tlps.eq(reader.sent),
            self.events.dma_write_tlps.eq(writer.sent),
            self.events.dma_read_errors.eq(reader.error),
            self.events.dma_timeouts.eq(reader.timeout),
            self.events.cpl_unexpected.eq(reader.unexpected),
            self.events.tlps_malformed.eq(reader.malformed),
        ]
        return m
