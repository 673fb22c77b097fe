"""Messages of the function: the INTA pin, errors, and the answer to PME_Turn_Off.

Ref: PCI Express Base 5.0, 2.2.8.1 "INTx Interrupt Signaling - Rules", 2.2.8.2 "Power Management Messages", 2.2.8.3 "Error
Signaling Messages", 5.3.3.2.1 "PME Synchronization".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.pcie import MsgCode, MsgRouting
from .header import msg_header
from .tlp_stream import tlp_beat

__all__ = ["Messages"]


class Messages(wiring.Component):
    """Send a message for each change of a level that is seen, and for each strobe; strobes of one kind that wait become one.

    Parameters
    ----------
    width : int
        Bits per beat of the TLP stream.

    Members
    -------
    intx : In(1)
        Level: an interrupt is wanted, and allowed to be signaled.
    err_nonfatal, err_fatal, pme_to_ack : In(1)
        Strobes.
    requester_id : In(16)
    o : Out(stream.Signature(tlp_beat(width)))
    busy : Out(1)
        A message is to be sent.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "intx": In(1),
            "err_nonfatal": In(1),
            "err_fatal":    In(1),
            "pme_to_ack":   In(1),
            "requester_id": In(16),
            "o": Out(stream.Signature(tlp_beat(width))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        beats = max(1, 128 // self.width)
        told, sending, beat = Signal(), Signal(), Signal(range(beats))
        code, routing = Signal(8), Signal(3)
        raw = msg_header(code=code, routing=routing, requester_id=self.requester_id)
        kinds = [("err_nonfatal", MsgCode.ERR_NONFATAL.value, MsgRouting.ROOT_COMPLEX),
                 ("err_fatal", MsgCode.ERR_FATAL.value, MsgRouting.ROOT_COMPLEX),
                 ("pme_to_ack", MsgCode.PME_TO_ACK.value, MsgRouting.GATHERED)]
        due, served = Signal(len(kinds)), Signal(len(kinds))
        m.d.comb += [
            self.o.valid.eq(sending),
            self.o.payload.data.eq(raw.word_select(beat, self.width) if beats > 1 else raw),
            self.o.payload.dws.eq(min(4, self.width // 32)),
            self.o.payload.last.eq(beat == beats - 1),
            self.busy.eq(sending | due.any()),
        ]
        with m.If(~sending):
            m.d.sync += beat.eq(0)
            with m.If(told != self.intx):
                m.d.sync += [
                    told.eq(self.intx), sending.eq(1), routing.eq(MsgRouting.LOCAL.value),
                    code.eq(Mux(self.intx, MsgCode.ASSERT_INTA.value, MsgCode.DEASSERT_INTA.value)),
                ]
            for k, (_, its_code, its_routing) in enumerate(kinds):
                with m.Elif(due[k]):
                    m.d.comb += served[k].eq(1)
                    m.d.sync += [sending.eq(1), code.eq(its_code), routing.eq(its_routing.value)]
        with m.Elif(self.o.ready):
            m.d.sync += [beat.eq(beat + 1), sending.eq(~self.o.payload.last)]
        m.d.sync += due.eq(due & ~served | Cat(getattr(self, name) for name, *_ in kinds))
        return m
