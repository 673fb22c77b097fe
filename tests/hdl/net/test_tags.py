"""VLAN tags are counted where they are: none, one, two, of either type, and no third."""

import pytest

from ringnic.hdl.net.tags import TagCount

from ...kit.simulator import Simulator

C_TAG, S_TAG, IPV4, QINQ_OF_OLD = "8100", "88a8", "0800", "9100"


def frame(*types, size=90):
    """IEEE 802.1Q, 9.3: each tag is 2 bytes of type and 2 of control information, in front of the frame's own type."""
    return (bytes.fromhex("ff" * 12 + "a0a1".join(types)) + bytes(size)).ljust(size, b"\0")[:size]


CASES = [
    ((IPV4,), 0), ((C_TAG, IPV4), 1), ((S_TAG, IPV4), 1), ((S_TAG, C_TAG, IPV4), 2), ((C_TAG, C_TAG, IPV4), 2),
    ((C_TAG, S_TAG, IPV4), 2), ((S_TAG, C_TAG, C_TAG, IPV4), 2), ((IPV4, C_TAG), 0), ((QINQ_OF_OLD, C_TAG), 0),
    (("0081", "a888"), 0), (("8101", "88a9"), 0), ((C_TAG, "0081"), 1),
]


@pytest.mark.parametrize("width", [16, 32, 64, 128, 256, 512])
def test_tags(width, rng):
    dut, lanes = TagCount(width=width), width // 8
    cases = [(frame(*types), tags) for types, tags in CASES * 2]
    cases += [(frame(C_TAG, C_TAG, size=size), None) for size in (14, 18, 22)]    # too short to matter
    rng.shuffle(cases)
    found = []

    async def bench(ctx):
        for body, tags in cases:
            for at in range(0, len(body), lanes):
                while rng.random() < .3:
                    ctx.set(dut.valid, 0)
                    ctx.set(dut.i.data, rng.getrandbits(width))
                    await ctx.tick()
                part = body[at:at + lanes]
                last = at + lanes >= len(body)
                ctx.set(dut.valid, 1)
                ctx.set(dut.i, {"data": int.from_bytes(part.ljust(lanes, b"\x81"), "little"), "count": len(part), "last": last,
                                "error": 0})
                _, _, seen = await ctx.tick().sample(dut.tags)
            if tags is not None:
                found.append((seen, tags, body[12:24].hex()))
        for seen, tags, types in found:
            assert seen == tags, types
        assert len(found) == 2 * len(CASES)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()
