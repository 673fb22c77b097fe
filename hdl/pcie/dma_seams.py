"""The seams within the reader: what its parts tell each other about a tag.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules", 2.3.2 "Completion Handling Rules".
"""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["tag_info", "Issue", "CompletionLookup", "Verdict", "Ended", "AnswerLookup", "bank_write"]


def tag_info(slot_bytes):
    """What is known of a read when it leaves.

    ``word`` and ``offset``: low bits of its address, of the DW and of the byte in it. ``end``: bytes from the beginning of that
    DW to the end of the read. ``last``: the request ends with this read.
    """
    return data.StructLayout({"word": 5, "offset": 2, "end": range(slot_bytes + 1), "last": 1})


def Issue(tags, slot_bytes, clients):
    """A read leaves: ``valid`` is a strobe, there is at least a cycle between two."""
    return Signature({
        "valid":  Out(1),
        "tag":    Out(range(tags)),
        "client": Out(range(clients)),
        "info":   Out(tag_info(slot_bytes)),
    })


def CompletionLookup(tags, slot_bytes):
    """What is known of ``tag``, in the same cycle, seen from who asks.

    ``fresh``: no completion of this read has begun. ``waiting``: the read is awaited. ``late``: it was given up and may still be
    answered. ``begin``, a strobe: a completion of ``begin_tag`` has begun, the tag that was looked up in the cycle before.
    """
    return Signature({
        "tag":       Out(range(tags)),
        "info":      In(tag_info(slot_bytes)),
        "fresh":     In(1),
        "waiting":   In(1),
        "late":      In(1),
        "begin":     Out(1),
        "begin_tag": Out(range(tags)),
    })


def Verdict(tags):
    """What a completion means for its tag. ``valid``: it has ended, and its tag was awaited; or it was late, and the last one.

    ``finish``: no more is awaited; with it ``bad``: the answer is not to be used, and ``broken``: nor is it, and the host may
    still send some. ``forget``: the late tag has had its last completion.
    """
    return Signature({
        "valid":  Out(1),
        "tag":    Out(range(tags)),
        "finish": Out(1),
        "bad":    Out(1),
        "broken": Out(1),
        "forget": Out(1),
    })


def Ended(tags, clients):
    """A read was answered or given up in the cycle before: ``valid`` is a strobe. ``late``: it may still be answered."""
    return Signature({
        "valid":  Out(1),
        "tag":    Out(range(tags)),
        "client": Out(range(clients)),
        "late":   Out(1),
    })


def AnswerLookup(tags, slot_bytes):
    """What is known of ``tag``, a read that has ended, in the same cycle, seen from who asks. ``failed``: the answer is not to be
    used. ``free``, a strobe: ``free_tag`` has been read out of the reorder buffer."""
    return Signature({
        "tag":      Out(range(tags)),
        "info":     In(tag_info(slot_bytes)),
        "failed":   In(1),
        "free":     Out(1),
        "free_tag": Out(range(tags)),
    })


def bank_write(rows):
    """Write of a bank of the reorder buffer: a DW of a row."""
    return Signature({"en": Out(1), "row": Out(range(rows)), "data": Out(32)})
