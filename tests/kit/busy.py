"""What ``busy`` promises of any component, watched in the tests of all that have it.

A component that is not busy, and to which nothing comes, offers nothing on any stream and does not become busy by itself. And it
is busy while one of its DMA reads or writes is under way.
"""

from amaranth.hdl import Cat

__all__ = ["watch"]

STROBES = {"valid", "done", "learn"}   # inputs that ask for something while they are high, by the last part of their name
STEADY = 4                             # cycles in which other inputs may take effect after a change


def _is_strobe(path):
    return str(path[-1]).split("_")[-1] in STROBES


def _ports(leaves):
    """DMA ports by path: their streams, and ``done`` of those for writing."""
    ports = {}
    for path, value in leaves.items():
        if path[-1] == "done" and (*path[:-1], "req", "valid") in leaves:
            ports.setdefault(path[:-1], {})["done"] = value
        elif len(path) > 2 and path[-2] in ("req", "beat"):
            ports.setdefault(path[:-2], {})[path[-2:]] = value
    return {path: port for path, port in ports.items() if "done" in port or ("beat", "valid") in port}


def _ends(port):
    """What says that the oldest request of a port is through."""
    if "done" in port:
        return port["done"]
    return port["beat", "valid"] & port["beat", "ready"] & port["beat", "payload"].last


async def watch(ctx, dut):
    """Hold ``dut.busy`` to its promise; for the background."""
    leaves, outgoing = {}, {}
    for path, member, value in dut.signature.flatten(dut):
        leaves[path], outgoing[path] = value, member.flow.value == "Out"
    ports = list(_ports(leaves).items())
    asked = [leaves[*path, "req", "valid"] & leaves[*path, "req", "ready"] for path, _ in ports]
    ended = [_ends(port) for _, port in ports]
    offers = {path: value for path, value in leaves.items() if path[-1] == "valid" and outgoing[path]}
    inputs = {path: value for path, value in leaves.items() if not outgoing[path] and path[-1] not in ("payload", "ready")}
    comes = Cat(value for path, value in inputs.items() if _is_strobe(path))
    levels = Cat(value for path, value in inputs.items() if not _is_strobe(path))

    def named(bits, values):
        return ", ".join(".".join(map(str, path)) for k, path in enumerate(values) if bits >> k & 1)

    under_way, steady, before, was_idle = [0] * len(ports), 0, None, False
    async for _, reset, busy, coming, level, offered, asks, ends in ctx.tick().sample(
            dut.busy, comes, levels, Cat(offers.values()), Cat(asked), Cat(ended)):
        if reset:
            under_way, was_idle = [0] * len(ports), False
            continue
        steady, before = (steady + 1 if level == before else 0), level
        idle = not busy and not coming and steady > STEADY
        assert not idle or not offered, f"not busy, but offers {named(offered, offers)}"
        assert not (was_idle and busy and not coming and steady), "became busy by itself"
        was_idle = idle
        for k, (path, _) in enumerate(ports):
            under_way[k] -= ends >> k & 1
            assert under_way[k] <= 0 or busy, f"not busy, but {'.'.join(map(str, path))} is under way"
            under_way[k] += asks >> k & 1
