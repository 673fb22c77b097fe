"""A stage inside a component that stands for it in a test."""

from amaranth.lib.wiring import Out, connect, flipped

__all__ = ["pass_on"]


def pass_on(m, outer, stage, but):
    """Connect each member of ``stage`` to that of ``outer`` with the same name, all ``but`` these."""
    for name, member in stage.signature.members.items():
        if name in but:
            continue
        if member.is_signature:
            connect(m, flipped(getattr(outer, name)), getattr(stage, name))
        elif member.flow == Out:
            m.d.comb += getattr(outer, name).eq(getattr(stage, name))
        else:
            m.d.comb += getattr(stage, name).eq(getattr(outer, name))
