"""Streams: what offers, takes and watches."""

from amaranth.hdl import Cat, Elaboratable, Module, ShapeCastable, Signal, Value
from amaranth.lib.wiring import In, Out

__all__ = ["Rules", "always", "collect", "never", "outputs", "pulse", "receive", "send", "transfer"]


def always():
    return True


def never():
    return False


async def transfer(ctx, stream, *signals):
    """Offer what is set until it is taken, and return what ``signals`` are then. Unlike ``until()`` this may be abandoned when
    the simulation ends."""
    ctx.set(stream.valid, 1)
    ready = False
    while not ready:
        _, _, ready, *values = await ctx.tick().sample(stream.ready, *signals)
    ctx.set(stream.valid, 0)
    return values


async def send(ctx, stream, payload, idle=never):
    """Offer ``payload`` until it is taken, after a pause of as long as ``idle()``."""
    while idle():
        await ctx.tick()
    ctx.set(stream.payload, payload)
    await transfer(ctx, stream)


async def receive(ctx, stream):
    """Take one payload and return it."""
    ctx.set(stream.ready, 1)
    valid = False
    while not valid:
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
    ctx.set(stream.ready, 0)
    return payload


async def collect(ctx, stream, take, ready=always):
    """Call ``take(payload)`` for each transfer, for ever; there is none in a cycle without ``ready()``."""
    # A payload is made of its bits only when there is one.
    shape, bits = stream.payload.shape(), Value.cast(stream.payload)
    make = shape.from_bits if isinstance(shape, ShapeCastable) else int
    now = ready()
    ctx.set(stream.ready, now)
    async for _, _, valid, payload in ctx.tick().sample(stream.valid, bits):
        if valid and now:
            take(make(payload))
        before, now = now, ready()
        if now != before:
            ctx.set(stream.ready, now)


async def pulse(ctx, *signals):
    """Raise signals for one cycle."""
    for signal in signals:
        ctx.set(signal, 1)
    await ctx.tick()
    for signal in signals:
        ctx.set(signal, 0)


def outputs(component):
    """Return ``(name, valid, ready, payload)`` of every stream that leaves a component, payloads as plain numbers."""
    signature = getattr(component, "signature", None)
    leaves = {path: (member.flow, value) for path, member, value in (signature.flatten(component) if signature else ())}
    found = []
    for path, (flow, valid) in leaves.items():
        others = [leaves.get((*path[:-1], name)) for name in ("ready", "payload")]
        if path[-1] == "valid" and flow == Out and None not in others and [one[0] for one in others] == [In, Out]:
            (_, ready), (_, payload) = others
            found.append((".".join(map(str, path[:-1])), valid, ready, Value.cast(payload)))
    return found


class Rules(Elaboratable):
    """The rule of a stream: what is offered stays, and stays the same, until it is taken.

    Logic beside the component, because that costs a simulation less than a process that looks at every cycle.

    Parameters
    ----------
    streams : list
        Of :func:`outputs`.
    forget : Signal or None
        After a cycle with it the rule starts anew.

    Attributes
    ----------
    broken : Signal
        Two bits per stream: an offer was withdrawn; it changed. They stay until the rule is kept.
    """
    def __init__(self, streams, forget=None):
        self.streams, self.forget = streams, forget
        self.broken = Signal(2 * len(streams))

    def elaborate(self, platform):
        m = Module()
        broken = []
        for k, (_, valid, ready, payload) in enumerate(self.streams):
            offered, before = Signal(name=f"offered{k}"), Signal(len(payload), name=f"before{k}")
            m.d.sync += [offered.eq(valid & ~ready if self.forget is None else valid & ~ready & ~self.forget), before.eq(payload)]
            broken += [offered & ~valid, offered & valid & (before != payload)]
        m.d.sync += self.broken.eq(Cat(broken))
        return m

    async def watch(self, ctx):
        """Fail when the rule is broken; for the background."""
        async for bits, in ctx.changed(self.broken):
            for k, (name, *_) in enumerate(self.streams):
                assert not bits >> 2 * k & 1, f"{name}: offer withdrawn"
                assert not bits >> 2 * k & 2, f"{name}: offer changed"
