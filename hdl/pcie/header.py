"""TLP headers: from the bytes of the TLP seam to fields, and back.

Ref: PCI Express Base 5.0, 2.2.4 to 2.2.9 "Transaction Descriptor" to "Completion Rules".

Everything here is combinational and takes values or integers. ``raw`` is a header as it lies on the TLP seam: DW ``n`` in
bits ``32n+31:32n``, byte 0 of the TLP in bits 7:0.
"""

from amaranth import C, Cat, Mux, Value

from ..spec.pcie import (CompletionDw1, CompletionDw2, ConfigDw2, Fmt, HeaderDw0, MessageDw1, RequestDw1, TlpType)

__all__ = ["byteswap", "pack", "Header", "mem_header", "cpl_header", "msg_header"]


def byteswap(dw):
    """The 32-bit value with its bytes in reverse order."""
    dw = Value.cast(dw)
    assert len(dw) == 32
    return Cat(dw[24:32], dw[16:24], dw[8:16], dw[0:8])


def _fit(value, width):
    if isinstance(value, int):
        return C(value, width)
    value = Value.cast(value)
    return value[:width] if len(value) >= width else Cat(value, C(0, width - len(value)))


def pack(layout, **fields):
    """Seam form of a header DW of ``layout``; fields not named are 0."""
    assert fields.keys() <= dict(layout).keys(), fields
    return byteswap(Cat(_fit(fields.get(name, 0), field.width) for name, field in layout))


class Header:
    """Fields of a raw header, each a value; which ones mean something depends on ``type``.

    Members
    -------
    fmt, type, tc, attr, ep, td, at, length
        Any TLP. ``attr`` has 3 bits, ID-based ordering at bit 2; ``length`` is in DWs with 0 for 1024.
    dw4, has_data
        The header has four DWs; data follows.
    requester_id, tag
        Of the request, for requests *and* for completions (there from DW 2).
    first_be, last_be, addr
        Memory and I/O requests; ``addr`` is 64 bits with its two low bits zero.
    register, target_id
        Configuration requests: DW number 0 to 1023, and the bus/device/function addressed.
    code
        Messages.
    completer_id, status, byte_count, lower_address
        Completions; ``byte_count`` is 0 for 4096.
    is_mem, is_cpl, is_msg
        Memory request (not locked), completion (of any kind), message.
    """
    def __init__(self, raw):
        raw = Value.cast(raw)
        assert len(raw) == 128
        dws = [byteswap(raw.word_select(n, 32)) for n in range(4)]
        dw0, dw1, dw2 = HeaderDw0(dws[0]), RequestDw1(dws[1]), ConfigDw2(dws[2])
        self.fmt    = Value.cast(dw0.fmt)
        self.type   = Value.cast(dw0.type)
        self.tc     = dw0.tc
        self.attr   = Cat(dw0.attr, dw0.attr2)
        self.ep     = dw0.ep
        self.td     = dw0.td
        self.at     = dw0.at
        self.length = dw0.length
        self.dw4      = self.fmt[0]
        self.has_data = self.fmt[1]
        self.is_mem = (self.type == TlpType.MEM.value) & ~self.fmt[2]
        self.is_cpl = (self.type[1:] == TlpType.CPL.value >> 1) & ~self.fmt[2] & ~self.fmt[0]
        self.is_msg = (self.type[3:] == TlpType.MSG.value >> 3) & (self.fmt[0] & ~self.fmt[2])

        cpl1, cpl2 = CompletionDw1(dws[1]), CompletionDw2(dws[2])
        self.requester_id = Mux(self.is_cpl, cpl2.requester_id, dw1.requester_id)
        self.tag      = Mux(self.is_cpl, cpl2.tag, dw1.tag)
        self.first_be = dw1.first_be
        self.last_be  = dw1.last_be
        self.code     = MessageDw1(dws[1]).code
        self.addr     = Mux(self.dw4, Cat(C(0, 2), dws[3][2:], dws[2]), Cat(C(0, 2), dws[2][2:], C(0, 32)))
        self.register  = dw2.register
        self.target_id = dw2.completer_id
        self.completer_id  = cpl1.completer_id
        self.status        = cpl1.status
        self.byte_count    = cpl1.byte_count
        self.lower_address = cpl2.lower_address


def _dw0(dw4, has_data, type, length, tc, attr, ep=0):
    attr = _fit(attr, 3)
    return pack(HeaderDw0, fmt=Cat(_fit(dw4, 1), _fit(has_data, 1)), type=int(type), length=length, tc=tc,
                attr=attr[:2], attr2=attr[2], ep=ep)


def mem_header(*, write, addr, length, first_be, last_be, requester_id, tag, tc=0, attr=0, dw4=None):
    """``(raw, dw4)`` of a memory request; ``raw`` is 128 bits, of which 96 count unless ``dw4``.

    The two low bits of ``addr`` are ignored. 2.2.4.1: addresses below 4 GB use the three-DW format; ``dw4``: known already.
    """
    addr = _fit(addr, 64)
    dw4  = addr[32:].any() if dw4 is None else dw4
    low  = byteswap(Cat(C(0, 2), addr[2:32]))
    high = byteswap(addr[32:])
    return Cat(_dw0(dw4, write, TlpType.MEM, length, tc, attr),
               pack(RequestDw1, first_be=first_be, last_be=last_be, tag=tag, requester_id=requester_id),
               Mux(dw4, high, low), low), dw4


def cpl_header(*, has_data, length, completer_id, status, byte_count, requester_id, tag, lower_address, tc=0, attr=0,
               locked=0):
    """96-bit ``raw`` of a completion; ``locked``: it answers a locked read."""
    dw0 = pack(HeaderDw0, fmt=Cat(C(0, 1), _fit(has_data, 1)), type=_fit(locked, 1) | TlpType.CPL.value,
               length=length, tc=tc, attr=_fit(attr, 3)[:2], attr2=_fit(attr, 3)[2])
    return Cat(dw0,
               pack(CompletionDw1, byte_count=byte_count, status=status, completer_id=completer_id),
               pack(CompletionDw2, lower_address=lower_address, tag=tag, requester_id=requester_id))


def msg_header(*, code, routing, requester_id, tag=0):
    """128-bit ``raw`` of a message without data."""
    dw0 = pack(HeaderDw0, fmt=Fmt.DW4.value, type=C(TlpType.MSG.value, 5) | _fit(routing, 3))
    return Cat(dw0, pack(MessageDw1, code=code, tag=tag, requester_id=requester_id), C(0, 64))
