"""TLP headers as the model of the block reads and writes them. A DW is a number here, as at the block's interfaces.

Ref: PCI Express Base 5.0, 2.2 "Transaction Layer Protocol - Packet Definition".
"""

from amaranth import Cat, Const, Mux, Value
from amaranth.lib import data

from ...hdl.spec.pcie import CompletionDw1, CompletionDw2, ConfigDw2, Fmt, HeaderDw0, MessageDw1, RequestDw1, TlpType

__all__ = ["OWN_TLP", "Fields", "byte_count", "completion", "message", "swap"]

#: A TLP of the block itself: four DWs, or three if not ``long``.
OWN_TLP = data.StructLayout({"dws": data.ArrayLayout(32, 4), "long": 1})


def swap(beat):
    """Each DW of a beat with its bytes in reverse order: wire bytes to numbers, and back."""
    beat = Value.cast(beat)
    return Cat(beat[at + 8 * k:at + 8 * k + 8] for at in range(0, len(beat), 32) for k in (3, 2, 1, 0))


class Fields:
    """What the DWs of a header say; which fields mean something depends on the type."""
    def __init__(self, dws):
        self.dw0, self.dw1, self.dw2 = HeaderDw0(dws[0]), RequestDw1(dws[1]), ConfigDw2(dws[2])
        fmt, kind = Value.cast(self.dw0.fmt), Value.cast(self.dw0.type)
        self.kind = kind
        self.prefix, self.has_data, self.long = fmt[2], fmt[1], fmt[0]
        self.length = Cat(self.dw0.length, self.dw0.length == 0)  # 2.2.2: 0 is 1024 DWs
        self.attr = Cat(self.dw0.attr, self.dw0.attr2)
        # Short address formats have the address in the third DW, long ones its upper half there.
        self.high = Mux(self.long, dws[2], 0)
        self.low  = Mux(self.long, dws[3], dws[2])

        self.is_memory  = kind == TlpType.MEM.value
        self.is_locked  = (kind == TlpType.MEM_LK.value) & ~self.has_data
        self.is_atomic  = self.has_data & ((kind == TlpType.FETCH_ADD.value) | (kind == TlpType.SWAP.value)
                                           | (kind == TlpType.CAS.value))
        self.is_io      = (kind == TlpType.IO.value) & ~self.long
        self.is_config0 = (kind == TlpType.CFG0.value) & ~self.long
        self.is_config1 = (kind == TlpType.CFG1.value) & ~self.long
        self.is_cpl     = (kind[1:] == TlpType.CPL.value >> 1) & ~self.long
        self.is_message = (kind[3:] == TlpType.MSG.value >> 3) & self.long
        self.is_posted  = self.is_message | (self.is_memory & self.has_data)


def _first(enables):
    """Number of the first byte that is enabled."""
    return Mux(enables[0], 0, Mux(enables[1], 1, Mux(enables[2], 2, 3)))


def byte_count(fields):
    """``(byte count, lower address)`` for the only completion of a memory read, or of any other request.

    2.3.1.1 "Data Return for Read Requests": bytes from the first to the last that is enabled; 4 and 0 for other requests.
    """
    first, last = fields.dw1.first_be, fields.dw1.last_be
    skipped = _first(first)
    ends_in = Mux(last != 0, last, first)
    missing = Mux(ends_in[3], 0, Mux(ends_in[2], 1, Mux(ends_in[1], 2, Mux(ends_in[0], 3, skipped + 3))))
    memory = (fields.is_memory & ~fields.has_data) | fields.is_locked
    count = (fields.length << 2) - skipped - missing
    return Mux(memory, count, 4)[:12], Mux(memory, Cat(Const(0, 2), fields.low[2:7]) | skipped, 0)[:7]


def completion(*, status, completer_id, requester_id, tag, tc, attr, byte_count, lower_address, locked=0, data=0, has_data=0):
    """A completion as :data:`OWN_TLP`; with one DW if ``has_data``."""
    attr, has_data = Value.cast(attr), Value.cast(has_data)
    return Cat(
        _pack(HeaderDw0, fmt=Cat(Const(0, 1), has_data), type=Value.cast(locked) | TlpType.CPL.value, length=has_data, tc=tc,
              attr=attr[:2], attr2=attr[2:]),
        _pack(CompletionDw1, byte_count=byte_count, status=status, completer_id=completer_id),
        _pack(CompletionDw2, lower_address=lower_address, tag=tag, requester_id=requester_id),
        Const(data, 32) if isinstance(data, int) else data, has_data)


def message(*, code, routing, requester_id):
    """A message without data as :data:`OWN_TLP`."""
    return Cat(
        _pack(HeaderDw0, fmt=Fmt.DW4.value, type=TlpType.MSG.value | routing),
        _pack(MessageDw1, code=code, requester_id=requester_id), Const(0, 64), Const(1, 1))


def _pack(layout, **fields):
    """A header DW with these fields, the others 0."""
    pieces = []
    for name, field in layout:
        value = fields.pop(name, 0)
        value = Const(value, field.width) if isinstance(value, int) else Value.cast(value)[:field.width]
        pieces += [value, Const(0, field.width - len(value))]
    assert not fields, fields
    return Cat(pieces)
