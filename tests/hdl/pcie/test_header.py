"""TLP headers: fields where the specification has them."""

from amaranth import Const, Module, Signal, Value

from ringnic.hdl.pcie.header import Header, byteswap, cpl_header, mem_header, msg_header
from ringnic.hdl.spec.pcie import CplStatus, MsgCode, MsgRouting

from ...kit.simulator import Simulator


def evaluate(*values):
    """Numbers that the expressions have."""
    m = Module()
    outs = [Signal(len(Value.cast(v))) for v in values]
    m.d.comb += [o.eq(v) for o, v in zip(outs, values)]
    found = []

    async def testbench(ctx):
        await ctx.delay(1e-9)
        found.extend(ctx.get(o) for o in outs)
    sim = Simulator(m)
    sim.add_testbench(testbench)
    sim.run()
    return found


def raw_of(text):
    return Const(int.from_bytes(bytes.fromhex(text).ljust(16, b"\0"), "little"), 128)


def fields(text, *names):
    h = Header(raw_of(text))
    return dict(zip(names, evaluate(*(getattr(h, n) for n in names))))


def test_byteswap():
    assert evaluate(byteswap(Const(0x11223344, 32))) == [0x44332211]


def test_decode_mem_read_4dw():
    assert fields("20 00 50 80 01 08 7a 3f 00 00 00 12 34 56 78 9c", "dw4", "has_data", "is_mem", "is_cpl", "length",
                  "requester_id", "tag", "first_be", "last_be", "addr", "attr", "ep") == dict(
        dw4=1, has_data=0, is_mem=1, is_cpl=0, length=0x080, requester_id=0x0108, tag=0x7a, first_be=0xf, last_be=3,
        addr=0x12_3456789c, attr=1, ep=1)


def test_decode_completion():
    assert fields("4a 30 00 02 00 08 20 08 01 00 05 44", "is_cpl", "has_data", "tc", "length", "completer_id", "status",
                  "byte_count", "requester_id", "tag", "lower_address") == dict(
        is_cpl=1, has_data=1, tc=3, length=2, completer_id=8, status=CplStatus.UR, byte_count=8, requester_id=0x100,
        tag=5, lower_address=0x44)


def test_decode_config():
    assert fields("44 00 00 01 00 00 09 0f 03 18 01 40", "has_data", "type", "register", "target_id", "tag") == dict(
        has_data=1, type=4, register=0x50, target_id=0x318, tag=9)


def test_build_mem():
    def build(addr, write):
        raw, dw4 = mem_header(write=write, addr=Const(addr, 64), length=Const(0x123, 10), first_be=0xe, last_be=0x7,
                              requester_id=0x0203, tag=0x45, tc=2, attr=0b101)
        value, dw4 = evaluate(raw, dw4)
        return value.to_bytes(16, "little")[:16 if dw4 else 12]
    assert build(0x12345678, 0).hex(" ") == "00 24 11 23 02 03 45 7e 12 34 56 78"
    assert build(0x9_12345678, 1).hex(" ") == "60 24 11 23 02 03 45 7e 00 00 00 09 12 34 56 78"


def test_build_completion_and_message():
    raw = cpl_header(has_data=1, length=1, completer_id=0x0108, status=0, byte_count=4, requester_id=0x20, tag=7,
                     lower_address=0x7c)
    assert evaluate(raw)[0].to_bytes(12, "little").hex(" ") == "4a 00 00 01 01 08 00 04 00 20 07 7c"
    raw = cpl_header(has_data=1, length=1, completer_id=0x0108, status=0, byte_count=4, requester_id=0x20, tag=7,
                     lower_address=0x7c, tc=3, attr=0b101)
    assert evaluate(raw)[0].to_bytes(12, "little").hex(" ") == "4a 34 10 01 01 08 00 04 00 20 07 7c"
    raw = msg_header(code=MsgCode.ASSERT_INTA.value, routing=MsgRouting.LOCAL.value, requester_id=0x0108)
    assert evaluate(raw)[0].to_bytes(16, "little").hex(" ") == "34 00 00 00 01 08 00 20" + " 00" * 8
