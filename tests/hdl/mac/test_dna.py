"""The address that is made of a serial number."""

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.mac.dna import DNA_BITS, HASH_BITS, POLYNOMIAL, DnaAddress

MODULUS = 1 << HASH_BITS | POLYNOMIAL


def read(number, *, registered=False):
    """Address made by the hardware of a serial number; ``registered``: DOUT shows a bit one clock later, with SHIFT.

    UG470 "7 Series FPGAs Configuration", "Device DNA": a clock with READ loads the number, clocks with SHIFT bring bit after
    bit, the highest first; behind the last comes what is at DIN.
    """
    dut, lapse, found = DnaAddress(), [], []
    pins = dut.pins

    async def port(ctx):
        before, clocked, shift = 0, 0, 0
        ctx.set(pins.dout, 1)
        while True:
            _, _, clock, loads, shifts = await ctx.tick().sample(pins.clk, pins.read, pins.shift)
            lapse.append(clock)
            if clock and not before:
                assert not (loads and shifts)
                if loads:
                    shift = number
                    ctx.set(pins.dout, 1 if registered else shift >> DNA_BITS - 1 & 1)
                elif shifts:
                    out, shift = shift, shift << 1 & (1 << DNA_BITS) - 1
                    ctx.set(pins.dout, (out if registered else shift) >> DNA_BITS - 1 & 1)
                clocked += 1
            before = clock

    async def main(ctx):
        for _ in range(1000):
            await ctx.tick()
            if ctx.get(dut.valid):
                break
        address = ctx.get(dut.address)
        for _ in range(100):
            await ctx.tick()
            assert (ctx.get(dut.valid), ctx.get(dut.address), ctx.get(pins.clk)) == (1, address, 0)
        found.append(address)

    sim = Simulator(dut)
    sim.add_clock(4e-9)                  # 250 MHz
    sim.add_testbench(port, background=True)
    sim.add_testbench(main)
    sim.run()
    # DS181 "Artix-7 FPGAs Data Sheet", F_DNACK: 100 MHz at most, and both halves of the clock are as long.
    runs = "".join(map(str, lapse)).split("0")
    assert {len(run) for run in runs if run} == {4}
    return found[0]


def expected(bits):
    """Address of so many bits, the first one highest: the remainder of a polynomial, worked out from the left by hand."""
    remainder = bits
    while remainder.bit_length() > HASH_BITS:
        remainder ^= MODULUS << remainder.bit_length() - 1 - HASH_BITS
    return (remainder >> 40) << 44 | 0x2 << 40 | remainder & (1 << 40) - 1


NUMBERS = (0, 1, 1 << 56, (1 << 57) - 1, 0x123_4567_89ab_cdef, 0x0a5_1234_0000_0001)


@pytest.mark.parametrize("number", NUMBERS)
def test_address(number):
    address = read(number)
    assert address == expected(number << 1)
    assert address >> 40 & 0xf == 0b0010   # individual, local; IEEE 802c: AAI, assigned by an administrator


def test_a_port_with_a_register_gives_all_bits_too():
    for number in NUMBERS[:3]:
        assert read(number, registered=True) == expected(1 << 57 | number)


def power(exponent):
    """x to the ``exponent`` modulo the polynomial, over GF(2)."""
    def times(a, b):
        product = 0
        while b:
            product ^= a * (b & 1)
            a, b = a << 1, b >> 1
            a ^= MODULUS * (a >> HASH_BITS & 1)
        return product
    result, square = 1, 2
    while exponent:
        result = times(result, square) if exponent & 1 else result
        square, exponent = times(square, square), exponent >> 1
    return result


def test_the_polynomial_is_primitive():
    """So two numbers that differ in two bits, or in any 44 neighbouring ones, make different addresses."""
    order = (1 << HASH_BITS) - 1
    factors = (3, 5, 23, 89, 397, 683, 2113)
    rest = order
    for factor in factors:
        while rest % factor == 0:
            rest //= factor
    assert rest == 1
    assert power(order) == 1 and all(power(order // factor) != 1 for factor in factors)


def test_neighbours_differ(rng):
    """Serial numbers of a wafer differ in few bits: no two of all that differ from one in up to two bits are the same."""
    base = rng.randrange(1 << 57)
    near = {base} | {base ^ 1 << a ^ (1 << b if b != a else 0) for a in range(57) for b in range(57)}
    assert len({expected(number << 1) for number in near}) == len(near) > 57 * 56 / 2
