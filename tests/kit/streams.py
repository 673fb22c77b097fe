"""Streams: what offers, takes and watches."""

from amaranth.hdl import Value
from amaranth.lib.wiring import In, Out

__all__ = ["Held", "always", "collect", "never", "outputs", "pulse", "receive", "send", "transfer", "watch"]


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
    held = Held()
    while True:
        now = ready()
        ctx.set(stream.ready, now)
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        held.see(valid, now, payload)
        if valid and now:
            take(payload)


async def pulse(ctx, *signals):
    """Raise signals for one cycle."""
    for signal in signals:
        ctx.set(signal, 1)
    await ctx.tick()
    for signal in signals:
        ctx.set(signal, 0)


class Held:
    """The rule of a stream: what is offered stays, and stays the same, until it is taken."""
    def __init__(self, name="stream"):
        self.name, self.before = name, None

    def see(self, valid, ready, payload):
        """One cycle."""
        if self.before is not None:
            assert valid, f"{self.name}: offer withdrawn"
            assert payload == self.before, f"{self.name}: offer changed"
        self.before = payload if valid and not ready else None

    def forget(self):
        self.before = None


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


async def watch(ctx, streams, forget=None):
    """Hold ``streams``, of :func:`outputs`, to the rule for ever. After a cycle with the signal ``forget`` it starts anew."""
    rules = [Held(name) for name, *_ in streams]
    signals = [signal for _, *three in streams for signal in three] + ([] if forget is None else [forget])
    while True:
        _, _, *values = await ctx.tick().sample(*signals)
        for k, rule in enumerate(rules):
            rule.see(*values[3 * k:3 * k + 3])
            if forget is not None and values[-1]:
                rule.forget()
