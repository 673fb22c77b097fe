"""TLPs as bytes on the wire: made, taken apart, put into streams and taken out of them."""

from types import SimpleNamespace

from . import streams

__all__ = ["beats", "byte_enables", "completion", "config", "header", "memory", "parse", "put", "take"]

REQUESTER, CARD = 0x0100, 0x0508
CPL, CPL_LOCKED, CONFIG, MESSAGE = 0x0a, 0x0b, 0x04, 0x10


def header(*dws):
    return b"".join(dw.to_bytes(4, "big") for dw in dws)


def memory(write, addr, length=1, first=0xf, last=None, *, data=b"", tag=1, rid=REQUESTER, tc=0, attr=0, dw4=False, type=0, ep=0):
    """A request for ``length`` DWs at the byte address ``addr``, which is taken as it is."""
    last = (0xf if length > 1 else 0) if last is None else last
    dw0 = (2 * write + dw4) << 29 | type << 24 | tc << 20 | (attr >> 2) << 18 | ep << 14 | (attr & 3) << 12 | length & 0x3ff
    place = [addr >> 32] if dw4 else []
    return header(dw0, rid << 16 | tag << 8 | last << 4 | first, *place, addr & 0xffff_ffff) + data


def config(write, reg, first=0xf, *, data=b"", tag=1, rid=REQUESTER, target=CARD, type=CONFIG):
    return header((2 * write) << 29 | type << 24 | 1, rid << 16 | tag << 8 | first, target << 16 | reg) + data


def completion(tag, length, byte_count, lower, data, *, status=0, ep=0, rid=CARD, completer=0):
    """``data``: None for a completion without any."""
    fmt = 0 if data is None else 2
    return header(fmt << 29 | CPL << 24 | ep << 14 | length & 0x3ff, completer << 16 | status << 13 | byte_count & 0xfff,
                  rid << 16 | tag << 8 | lower & 0x7f) + (data or b"")


def byte_enables(first, last, length):
    """A bit for each byte of a request."""
    return [(first if n == 0 else last if n == length - 1 else 0xf) >> k & 1 for n in range(length) for k in range(4)]


def parse(tlp):
    """Fields of a TLP by name, checked to be as long as it says."""
    dws = [int.from_bytes(tlp[k:k + 4], "big") for k in range(0, min(len(tlp), 16), 4)]
    kind = tlp[0] & 0x1f
    fields = SimpleNamespace(kind=tlp[0], write=bool(tlp[0] & 0x40), tc=dws[0] >> 20 & 7, length=dws[0] & 0x3ff or 1024,
                             attr=dws[0] >> 12 & 3 | dws[0] >> 16 & 4, ep=dws[0] >> 14 & 1)
    size = 16 if tlp[0] & 0x20 else 12
    fields.data = tlp[size:]
    if kind in (CPL, CPL_LOCKED):
        assert fields.write or dws[0] & 0x3ff == 0
        fields.cid, fields.status, fields.byte_count = dws[1] >> 16, dws[1] >> 13 & 7, dws[1] & 0xfff or 4096
        fields.rid, fields.tag, fields.lower = dws[2] >> 16, dws[2] >> 8 & 0xff, dws[2] & 0x7f
    else:
        fields.rid, fields.tag = dws[1] >> 16, dws[1] >> 8 & 0xff
        if kind & 0x18 == MESSAGE:
            fields.code = dws[1] & 0xff
        else:
            fields.addr = int.from_bytes(tlp[8:size], "big")
            fields.first, fields.last = dws[1] & 0xf, dws[1] >> 4 & 0xf
            enables = enumerate(byte_enables(fields.first, fields.last, fields.length))
            fields.places = [fields.addr + k for k, enabled in enables if enabled]
    assert len(fields.data) == (4 * fields.length if fields.write else 0), f"wrong length: {tlp.hex()}"
    return fields


def beats(tlp, width):
    """What a part must not look at is no zero."""
    step = width // 8
    for at in range(0, len(tlp), step):
        piece = tlp[at:at + step]
        yield {"data": int.from_bytes(piece.ljust(step, b"\xa5"), "little"), "dws": len(piece) // 4,
               "last": at + step >= len(tlp)}


async def put(ctx, port, tlp, width, idle=streams.never):
    """Offer one TLP, with a pause before each beat as long as ``idle()``."""
    for beat in beats(tlp, width):
        await streams.send(ctx, port, beat, idle)


async def take(ctx, port, width, found, idle=streams.never):
    """Call ``found(tlp)`` for what comes, for ever; take nothing in a cycle of ``idle()``. Beats are full."""
    tlp = b""

    def piece(beat):
        nonlocal tlp
        assert beat.last or beat.dws == width // 32
        assert 1 <= beat.dws <= width // 32
        tlp += int(beat.data).to_bytes(width // 8, "little")[:4 * beat.dws]
        if beat.last:
            found(tlp)
            tlp = b""
    await streams.collect(ctx, port, piece, lambda: not idle())
