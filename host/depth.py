"""How many levels of logic lie in front of what a netlist ends in: an estimate of its speed, without placing it.

A level is a look-up table, or the way into a carry chain. Within a chain, and through the multiplexers that join the look-up
tables of a slice, there is none.
"""

from collections import Counter
from graphlib import TopologicalSorter

__all__ = ["DEEP", "levels"]

DEEP = 6   # levels; an endpoint with more is what the router has to work for

# Cells through which signals pass, with the inputs that are no level.
LOGIC = {**{f"LUT{n}": () for n in range(1, 7)}, "INV": (), "CCU2C": ("CIN",), "CARRY4": ("CI",), "PFUMX": ("ALUT", "BLUT"),
         "L6MUX21": ("D0", "D1"), "MUXF7": ("I0", "I1"), "MUXF8": ("I0", "I1")}
# Memories that are look-up tables: what they are read by. Their other inputs are endpoints.
READ_BY = {"TRELLIS_DPR16X4": ("RAD",), "RAM32M": ("ADDR",), "RAM64M": ("ADDR",), "RAM32X1D": ("A", "DPRA"),
           "RAM64X1D": ("A", "DPRA"), "RAM128X1D": ("A", "DPRA"), "RAM64X1S": ("A",), "SRL16E": ("A",), "SRLC32E": ("A",)}


def _reaches(kind, source, k, sink, j):
    """Whether bit ``k`` of the input ``source`` of a cell changes bit ``j`` of its output ``sink``."""
    if kind == "CCU2C":      # S0 comes before what is added in S1
        return sink != "S0" or not source.endswith("1")
    if kind == "CARRY4":     # a carry goes up
        return source not in ("S", "DI") or (k < j if source == "DI" and sink == "O" else k <= j)
    if kind in ("RAM32M", "RAM64M"):
        return source[-1] == sink[-1]
    return True


def _inputs(cell, passed):
    """``(port, bits)`` of the inputs of a cell that are passed in the same cycle, or of those that are not."""
    kind = cell["type"]
    return [(port, bits) for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "input" and passed == (kind in LOGIC or port.startswith(READ_BY.get(kind, ())))]


def _steps(cell, sink, j):
    """``(bit, levels)`` of what bit ``j`` of the output ``sink`` depends on in the same cycle."""
    kind = cell["type"]
    for source, bits in _inputs(cell, passed=True):
        for k, bit in enumerate(bits):
            if not isinstance(bit, str) and _reaches(kind, source, k, sink, j):
                yield bit, int(source not in LOGIC.get(kind, ()))


def levels(netlist):
    """Endpoints of a flat netlist (yosys' JSON, as a dict) by their levels, a :class:`collections.Counter`.

    An endpoint is a bit of an input of a flip-flop or a memory. Look-up begins at their outputs, and at the inputs of the design.
    """
    top = next(module for module in netlist["modules"].values() if "top" in module["attributes"])
    cells = [cell for cell in top["cells"].values() if "port_directions" in cell]
    steps = {bit: list(_steps(cell, port, j)) for cell in cells for port, bits in cell["connections"].items()
             if cell["port_directions"][port] == "output" for j, bit in enumerate(bits)}
    depth = {}
    for bit in TopologicalSorter({bit: [source for source, _ in before] for bit, before in steps.items()}).static_order():
        depth[bit] = max((depth[source] + level for source, level in steps.get(bit, ())), default=0)
    return Counter(depth.get(bit, 0) for cell in cells for _, bits in _inputs(cell, passed=False)
                   for bit in bits if not isinstance(bit, str))
