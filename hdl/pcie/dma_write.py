"""Write requests to Memory Write TLPs.

Ref: PCI Express Base 5.0, 2.2.5 "First/Last DW Byte Enables Rules", 2.2.7 "Memory, I/O, and Configuration Request
Rules".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.dma import DMA_LEN_WIDTH, WritePort, WriteReq, write_beat
from ..lib.slice import Skid, Slice
from .header import mem_header
from .tlp_stream import tlp_beat

__all__ = ["byte_enables", "cut_length", "Writer"]


def byte_enables(offset, length):
    """``(length_dw, first_be, last_be)`` of a request of ``length`` bytes that begins at byte ``offset`` of a DW."""
    end  = offset + length
    dws  = (end + 3)[2:]
    # Bytes of the last DW, from where it ends: 1, 3, 7 or f.
    tail = Cat(C(1, 1), end[:2] != 1, (end[:2] == 0) | (end[:2] == 3), end[:2] == 0)
    head = (C(0xf, 4) << offset)[:4]
    one  = ~length[3:].any() & (offset + length[:3] <= 4)   # a DW: known before how many there are
    return dws, Mux(one, head & tail, head), Mux(one, 0, tail)


def cut_length(addr, length, mask):
    """Bytes of the next TLP of ``length`` bytes at ``addr``: up to the next 4 KiB, and no more DWs than ``mask + 1`` bytes are.

    ``mask`` is ``2**n - 1``. What does not fit ends at a whole DW.
    """
    limit = mask + 1 - addr[:2]
    room  = 4096 - addr[:12]             # 2.2.7: no request crosses a 4 KiB boundary
    return Mux(length > limit, Mux(limit > room, room, limit), Mux(length > room, room, length))


class _Align(wiring.Component):
    """Bytes of one request after another to DWs, as they lie in host memory.

    ``i_job`` names client, offset in the first DW and length; ``o`` has ``dws`` valid DWs from lane 0, full but for the
    last beat of a request. No cycle is lost within a request, and none between two if ``i_job`` names the next one while the one
    before is taken in.
    """
    def __init__(self, width, clients):
        self.width   = width
        self.clients = clients
        self.job     = data.StructLayout({"client": range(clients), "offset": 2, "len": DMA_LEN_WIDTH})
        super().__init__({
            "i_job":  In(stream.Signature(self.job)),
            "i_data": In(stream.Signature(write_beat(width))).array(clients),
            "o":      Out(stream.Signature(tlp_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        size  = self.width // 8

        # A job begins twice: when the client of the one before has given its last beat, and when that beat has been aligned.
        m.submodules.to_read = to_read = Skid(self.job)
        m.submodules.to_align = to_align = Skid(self.job)
        m.d.comb += [
            to_read.i.payload.eq(self.i_job.payload),
            to_read.i.valid.eq(self.i_job.valid & to_align.i.ready),
            to_align.i.payload.eq(self.i_job.payload),
            to_align.i.valid.eq(self.i_job.valid & to_read.i.ready),
            self.i_job.ready.eq(to_read.i.ready & to_align.i.ready),
        ]

        # The client's beats, through registers: nothing of what follows is in the way of a client's data or ready.
        m.submodules.come = come = Slice(self.width)
        client = Signal(range(self.clients))
        unread = Signal(DMA_LEN_WIDTH)       # beats of the client still to come
        with m.Switch(client):
            for k, port in enumerate(self.i_data):
                with m.Case(k):
                    m.d.comb += [
                        come.i.payload.eq(port.payload.data),
                        come.i.valid.eq(port.valid & unread.any()),
                        port.ready.eq(come.i.ready & unread.any()),
                    ]
        comes = Signal()
        m.d.comb += [
            comes.eq(come.i.valid & come.i.ready),
            to_read.o.ready.eq(~unread.any() | (comes & (unread == 1))),
        ]
        with m.If(comes):
            m.d.sync += unread.eq(unread - 1)
        with m.If(to_read.o.valid & to_read.o.ready):
            m.d.sync += [
                client.eq(to_read.o.p.client),
                unread.eq((to_read.o.p.len + (size - 1)) >> (size.bit_length() - 1)),
            ]

        active = Signal()
        offset = Signal(2)
        left   = Signal(DMA_LEN_WIDTH + 1)   # bytes of DWs still to make, offset included
        full   = Signal(DMA_LEN_WIDTH)       # beats of the client still to take
        carry  = Signal(24)

        beat   = Signal(self.width)
        free   = Signal()
        take   = Signal()
        want   = Signal()
        end    = Signal()
        m.d.comb += [
            end.eq(left <= size),
            beat.eq(come.o.payload),
            free.eq(~self.o.valid | self.o.ready),
            want.eq(full.any()),
            take.eq(active & free & (come.o.valid | ~want)),
            come.o.ready.eq(active & free & want),
            to_align.o.ready.eq(~active | (take & end)),
        ]

        shifted = Signal(self.width + 24)
        with m.Switch(offset):
            for k in range(4):
                with m.Case(k):
                    kept = carry[24 - 8 * k:] if k else C(0, 0)
                    m.d.comb += shifted.eq(Cat(kept, beat))
                    with m.If(take):
                        # What is beyond this beat's lanes begins the next beat.
                        if k:
                            m.d.sync += carry[24 - 8 * k:].eq(beat[self.width - 8 * k:])

        with m.If(free):
            m.d.sync += self.o.valid.eq(take)
        with m.If(take):
            m.d.sync += [
                self.o.payload.data.eq(shifted[:self.width]),
                self.o.payload.dws.eq(Mux(end, (left + 3)[2:], lanes)),
                self.o.payload.last.eq(end),
                left.eq(left - size),
                full.eq(full - want),
            ]
            with m.If(end):
                m.d.sync += active.eq(0)
        with m.If(to_align.o.valid & to_align.o.ready):
            job = to_align.o.p
            m.d.sync += [
                active.eq(1),
                offset.eq(job.offset),
                left.eq(job.len + job.offset),
                full.eq((job.len + (size - 1)) >> (size.bit_length() - 1)),
            ]
        return m


class Writer(wiring.Component):
    """Carry out write requests, in the order in which they were accepted.

    A request is cut at 4 KiB boundaries and to Max_Payload_Size; TLPs follow each other
    without a pause while clients keep their data coming.

    Parameters
    ----------
    width : int
        Datapath, bits: 32, 64, 128, ..., else :exc:`ValueError`.
    clients : int
        Number of write ports, at least 1, else :exc:`ValueError`.

    Members
    -------
    writes : In(WritePort(width)).array(clients)
    tlp : Out(stream.Signature(tlp_beat(width)))
    requester_id : In(16)
    mps : In(3)
        Max_Payload_Size as in Device Control: 128 << n bytes.
    bus_master : In(1)
        While low no TLP is begun: accepted writes wait, or are discarded if ``stop``.
    stop : In(1)
        Accept no request.
    busy : Out(1)
        An accepted write is not finished.
    leaving : Out(1)
        A TLP has begun and has not left.
    sent : Out(1)
        One-cycle strobe: a TLP has left.
    """
    @staticmethod
    def check(*, width, clients):
        """Raise what the constructor would."""
        if width < 32 or width & (width - 1):
            raise ValueError(f"Width must be 32 times a power of 2, not {width!r}")
        if clients < 1:
            raise ValueError(f"Writer needs at least one client, not {clients!r}")

    def __init__(self, *, width, clients):
        self.check(width=width, clients=clients)
        self.width   = width
        self.clients = clients
        super().__init__({
            "writes":       In(WritePort(width)).array(clients),
            "tlp":          Out(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "mps":          In(3),
            "bus_master":   In(1),
            "stop":         In(1),
            "busy":         Out(1),
            "leaving":      Out(1),
            "sent":         Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32

        # A request is accepted into both branches at once: its bytes, and its headers.
        m.submodules.align = align = _Align(self.width, self.clients)

        # The client is chosen a cycle ahead: round robin and the request's way to the registers are a cycle each. What is
        # offered stays, but over a reset, which comes during ``stop``.
        last_client = Signal(range(self.clients))
        turn    = Signal(range(self.clients))
        pick    = Signal(range(self.clients))
        picked  = Signal()
        offered = Cat(port.req.valid for port in self.writes)
        round_robin(m, offered, last_client, turn)
        accept = Signal()
        cut_idle = Signal()
        request  = Signal(WriteReq)
        m.d.sync += [pick.eq(turn), picked.eq(offered.any() & ~accept & ~self.stop)]
        m.d.comb += [
            accept.eq(picked & ~self.stop & align.i_job.ready & cut_idle),
            align.i_job.valid.eq(accept),
            align.i_job.payload.client.eq(pick),
            align.i_job.payload.offset.eq(request.addr[:2]),
            align.i_job.payload.len.eq(request.len),
        ]
        with m.If(accept):
            m.d.sync += last_client.eq(pick)
        with m.Switch(pick):
            for k, port in enumerate(self.writes):
                with m.Case(k):
                    m.d.comb += [
                        request.eq(port.req.payload),
                        port.req.ready.eq(accept),
                    ]
        for k, port in enumerate(self.writes):
            m.d.comb += [
                align.i_data[k].payload.eq(port.data.payload),
                align.i_data[k].valid.eq(port.data.valid),
                port.data.ready.eq(align.i_data[k].ready),
            ]

        # Cut: one TLP's length (CUT), then its header (HEAD), while the sender is at work on the one before.
        addr   = Signal(64)
        rest   = Signal(DMA_LEN_WIDTH)
        client = Signal(range(self.clients))
        length = Signal(13)
        mask   = Signal(12)
        m.d.sync += mask.eq((C(0x7f, 7) << self.mps) | ((1 << self.mps) - 1))

        head = Signal(data.StructLayout({
            "raw": 128, "dw4": 1, "dws": 11, "last": 1, "client": range(self.clients)}))
        head_valid = Signal()
        head_take  = Signal()
        with m.If(head_take):
            m.d.sync += head_valid.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += cut_idle.eq(1)
                m.d.sync += [
                    addr.eq(request.addr),
                    rest.eq(request.len),
                    client.eq(pick),
                ]
                with m.If(accept):
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += length.eq(cut_length(addr, rest, mask))
                m.next = "HEAD"
            with m.State("HEAD"):
                with m.If(~head_valid | head_take):
                    dws, first_be, last_be = byte_enables(addr[:2], length)
                    raw, dw4 = mem_header(write=1, addr=addr, length=dws, first_be=first_be, last_be=last_be,
                                          requester_id=self.requester_id, tag=0)
                    m.d.sync += [
                        head.raw.eq(raw),
                        head.dw4.eq(dw4),
                        head.dws.eq(dws),
                        head.last.eq(rest == length),
                        head.client.eq(client),
                        head_valid.eq(1),
                        addr.eq(addr + length),
                        rest.eq(rest - length),
                    ]
                    with m.If(rest == length):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "CUT"

        # DWs of payload in hand: those popped leave from lane 0, those pushed go on top. What may be pushed does not
        # depend on what is popped in the same cycle, so ``ready`` of the link does not reach the clients.
        depth = 3 * lanes
        held  = Signal(32 * depth)
        count = Signal(range(depth + 1))
        pop   = Signal(range(lanes + 1))
        push  = Signal()
        kept  = Signal(range(depth + 1))
        moved = Signal(32 * depth)
        m.d.comb += [
            align.o.ready.eq(count <= 2 * lanes),
            push.eq(align.o.valid & align.o.ready),
            kept.eq(count - pop),
        ]
        with m.Switch(pop):
            for k in range(lanes + 1):
                with m.Case(k):
                    m.d.comb += moved.eq(held[32 * k:])
        m.d.sync += held.eq(moved)
        m.d.sync += count.eq(kept + Mux(push, align.o.payload.dws, 0))
        with m.If(push):
            with m.Switch(kept):
                for k in range(2 * lanes + 1):
                    with m.Case(k):
                        m.d.sync += held[32 * k:32 * (k + lanes)].eq(align.o.payload.data)

        # Send: header DWs, then payload, without a gap.
        sending = Signal()
        discard = Signal()
        raw     = Signal(128)
        head_dw = Signal(range(5))   # header DWs still to send
        left    = Signal(11)         # payload DWs still to send
        closing = Signal()
        owner   = Signal(range(self.clients))
        head_n  = Signal(range(lanes + 1))
        data_n  = Signal(range(lanes + 1))
        end     = Signal()
        step    = Signal()
        # The link's word is late to know.
        m.submodules.out = out = Slice(data.StructLayout({
            "tlp": tlp_beat(self.width), "closes": 1, "client": range(self.clients)}))
        m.d.comb += [
            step.eq(sending & Mux(discard, ~out.o.valid, out.i.ready) & (count >= data_n)),
            pop.eq(Mux(step, data_n, 0)),
        ]
        def plan(head_dw, left):
            """What the next beat takes of ``head_dw`` header DWs and ``left`` of payload, known a cycle ahead."""
            heads, room, ends = Signal(range(lanes + 1)), Signal(range(lanes + 1)), Signal()
            m.d.comb += [
                heads.eq(Mux(head_dw > lanes, lanes, head_dw)),
                room.eq(lanes - heads),
                ends.eq(left <= room),
            ]
            return [head_n.eq(heads), end.eq(ends), data_n.eq(Mux(ends, left, room))]

        beat = Signal(self.width)
        with m.Switch(head_n):
            for k in range(min(lanes, 4) + 1):
                with m.Case(k):
                    m.d.comb += beat.eq(Cat(raw[:32 * k], held))

        with m.If(step):
            m.d.sync += [
                raw.eq(raw >> self.width),
                head_dw.eq(head_dw - head_n),
                left.eq(left - data_n),
                *plan(head_dw - head_n, left - data_n),
            ]
            with m.If(end):
                m.d.sync += sending.eq(0)
        m.d.comb += [
            out.i.valid.eq(step & ~discard),
            out.i.p.tlp.data.eq(beat),
            out.i.p.tlp.dws.eq(head_n + data_n),
            out.i.p.tlp.last.eq(end),
            out.i.p.closes.eq(end & closing),
            out.i.p.client.eq(owner),
            self.tlp.valid.eq(out.o.valid),
            self.tlp.payload.eq(out.o.p.tlp),
            out.o.ready.eq(self.tlp.ready),
        ]

        with m.If(head_valid & (~sending | (step & end)) & (self.bus_master | self.stop)):
            m.d.comb += head_take.eq(1)
            m.d.sync += [
                sending.eq(1),
                discard.eq(~self.bus_master),
                raw.eq(head.raw),
                head_dw.eq(3 + head.dw4),
                left.eq(head.dws),
                *plan(3 + head.dw4, head.dws),
                closing.eq(head.last),
                owner.eq(head.client),
            ]

        left_tlp = self.tlp.valid & self.tlp.ready & self.tlp.payload.last
        m.d.comb += self.sent.eq(left_tlp)
        gone = left_tlp & out.o.p.closes
        lost = step & end & closing & discard
        for k, port in enumerate(self.writes):
            m.d.sync += port.done.eq((gone & (out.o.p.client == k)) | (lost & (owner == k)))
        m.d.comb += self.leaving.eq((sending & ~discard) | self.tlp.valid)
        m.d.comb += self.busy.eq(~cut_idle | head_valid | sending | self.tlp.valid)
        return m
