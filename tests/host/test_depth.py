"""Levels of logic, in netlists made by hand."""

from collections import Counter

import pytest

from ringnic.host.depth import levels

OUTPUTS = {"Q", "Z", "S0", "S1", "COUT", "O", "CO", "DO", "DOA", "DOB", "O6"}


def netlist(*cells):
    """Of ``(type, {port: bits})``."""
    return {"modules": {"other": {"attributes": {}, "cells": {}}, "nic": {"attributes": {"top": "1"}, "cells": {
        "name": {"type": "$scopeinfo", "connections": {}},
        **{str(k): {"type": kind, "connections": ports, "port_directions": {
            port: "output" if port in OUTPUTS else "input" for port in ports}} for k, (kind, ports) in enumerate(cells)}}}}}


def depth_of(bit, *cells):
    """Levels in front of a bit."""
    before, with_it = levels(netlist(*cells)), levels(netlist(*cells, ("TRELLIS_FF", {"DI": [bit]})))
    (found,) = with_it - before
    return found


FF, LUT = ("TRELLIS_FF", {"CLK": [2], "DI": [3], "Q": [4]}), ("LUT4", {"A": [4], "B": ["0"], "C": [5], "Z": [6]})


def test_a_table_is_a_level():
    assert levels(netlist(FF, LUT)) == Counter({0: 2})
    assert depth_of(4, FF, LUT) == 0 and depth_of(6, FF, LUT) == 1
    assert depth_of(7, FF, LUT, ("LUT4", {"A": [5], "B": [6], "Z": [7]})) == 2


def test_every_input_of_a_flip_flop_is_an_endpoint():
    assert levels(netlist(FF, LUT, ("TRELLIS_FF", {"CLK": [2], "DI": [6], "CE": [6], "LSR": ["1"], "Q": [9]}))) == {0: 3, 1: 2}


@pytest.mark.parametrize("kind, free, select, out", [
    ("PFUMX", "ALUT", "C0", "Z"), ("L6MUX21", "D1", "SD", "Z"), ("MUXF7", "I0", "S", "O"), ("MUXF8", "I1", "S", "O")])
def test_multiplexers_of_a_slice(kind, free, select, out):
    assert depth_of(10, LUT, (kind, {free: [6], select: [4], out: [10]})) == 1
    assert depth_of(10, LUT, (kind, {free: [4], select: [6], out: [10]})) == 2


def test_carry_chains_of_ecp5():
    chain = (LUT, ("CCU2C", {"A0": [6], "B1": [4], "CIN": ["0"], "S0": [20], "S1": [21], "COUT": [22]}),
             ("CCU2C", {"A0": [4], "CIN": [22], "S0": [23], "S1": [24], "COUT": [25]}))
    assert [depth_of(bit, *chain) for bit in range(20, 26)] == [2] * 6
    assert depth_of(20, LUT, ("CCU2C", {"A0": [4], "A1": [6], "S0": [20], "S1": [21]})) == 1
    assert depth_of(21, LUT, ("CCU2C", {"A0": [4], "A1": [6], "S0": [20], "S1": [21]})) == 2


def test_carry_chains_of_7_series():
    chain = LUT, ("CARRY4", {"S": [4, 6, 4, 4], "DI": [4, 4, 4, 4], "CI": [4], "O": [30, 31, 32, 33], "CO": [34, 35, 36, 37]})
    assert [depth_of(bit, *chain) for bit in range(30, 38)] == [1, 2, 2, 2, 1, 2, 2, 2]
    chain = LUT, ("CARRY4", {"S": [4, 4], "DI": [6, 4], "CYINIT": ["0"], "O": [30, 31], "CO": [32, 33]})
    assert [depth_of(bit, *chain) for bit in range(30, 34)] == [1, 2, 2, 2]
    assert depth_of(31, LUT, ("CARRY4", {"S": [4, 4], "CI": [6], "O": [30, 31]})) == 1   # an extension of a chain is none


def test_memories_of_tables():
    """What they are read by is passed, and what is written is an endpoint."""
    small = "TRELLIS_DPR16X4", {"RAD": [6, 4], "WAD": [6, 4], "DI": [6], "WRE": [4], "DO": [40]}
    assert levels(netlist(FF, LUT, small)) == {0: 4, 1: 2}
    assert depth_of(40, FF, LUT, small) == 2
    two = "RAM32M", {"ADDRA": [6], "ADDRB": [4], "ADDRD": [4], "DIA": [6], "WE": [6], "DOA": [41], "DOB": [42]}
    assert (depth_of(41, LUT, two), depth_of(42, LUT, two)) == (2, 1)


def test_block_rams_begin_anew():
    ram = "DP16KD", {"ADA0": [6], "CEA": [4], "DO": [50]}
    assert levels(netlist(FF, LUT, ram)) == {0: 3, 1: 1}
    assert depth_of(50, FF, LUT, ram) == 0
