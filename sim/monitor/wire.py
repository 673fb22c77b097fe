"""From TLPs at the card's edge to the facts that the checker judges.

Ref: PCI Express Base 5.0, 2.2 "Transaction Layer Protocol - Packet Definition".
"""

import struct

from ...hdl.spec.pcie import TlpType

__all__ = ["hear"]

HEADER = struct.Struct(">III")
UPPER = struct.Struct(">II")
MEM, CFG0, CPL = int(TlpType.MEM), int(TlpType.CFG0), int(TlpType.CPL)
POISONED = 1 << 14
FIRST = [(n & -n).bit_length() - 1 if n else 0 for n in range(16)]  # byte enables of a DW: the first byte, past the last
PAST = [n.bit_length() for n in range(16)]


def size_of(word):
    """Bytes of a TLP, by the first DW of its header."""
    return 4 * (3 + (word >> 29 & 1) + (word & 0x3ff or 1024 if word >> 30 & 1 else 0))


def hear(listener, up, raw):
    """Tell ``listener`` (a :class:`~.monitor.Monitor`) of one TLP, ``up`` if the card has sent it. What is no memory,
    configuration or INTx request and no completion is nobody's business here."""
    if len(raw) < HEADER.size:
        return
    word, second, third = HEADER.unpack_from(raw)
    if not up and (word >> 31 or word & POISONED and word >> 24 & 31 != CPL or len(raw) != size_of(word)):
        return  # a prefix, poisoned, malformed: nothing that a card takes
    kind, long, has_data = word >> 24 & 31, word >> 29 & 1, word >> 30 & 1
    if kind == CPL:
        status, left = second >> 13 & 7, second & 0xfff or 4096
        data = raw[12 + (third & 3):][:left] if has_data else b""
        if word & POISONED:
            status, data = -1, b""
        (listener.host_answer if up else listener.dma_answer)(third >> 8, status, left, data)
    elif kind == MEM or kind == CFG0:
        dws, first, last = word & 0x3ff or 1024, second & 15, second >> 4 & 15
        skip = FIRST[first]
        size = 4 * (dws - 1) + PAST[last if dws > 1 else first] - skip if first or last else 0
        tag, start = second >> 8, 12 + skip  # 2.2.6.2: with the Requester ID, which the completion repeats
        if kind == CFG0:
            if third >> 16 & 7:  # another function's
                return
            address = (third & 0xffc) + skip
            if has_data:
                listener.config_write(address, raw[start:start + size])
            listener.host_read(None, address, 0 if has_data else size, tag)  # answered by a whole DW
            return
        if long:
            upper, third = UPPER.unpack_from(raw, 8)
            address = upper << 32 | third & ~3
            start += 4
        else:
            address = third & ~3
        address += skip
        if has_data:
            (listener.dma_write if up else listener.host_write)(address, raw[start:start + size])
        elif up:
            listener.dma_read(address, size, tag)
        else:
            listener.host_read(address, address, size, tag)
    elif kind & 0x18 == TlpType.MSG:
        listener.message(second & 255)
