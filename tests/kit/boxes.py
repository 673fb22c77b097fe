"""Parts with their ports and nothing in them, and who is connected to whom in the Verilog of the rest."""

from amaranth.hdl import Instance
from amaranth.lib.wiring import Out
import re

__all__ = ["box", "instance", "source"]


def _flat(part):
    """``{name: (direction, value)}`` of the members of a component, streams and interfaces by their parts."""
    return {"__".join(map(str, path)): ("o" if member.flow is Out else "i", value)
            for path, member, value in part.signature.flatten(part)}


def box(part):
    """A class like ``part`` that becomes an instance of ``box_<name of the class>``, a module that is not there."""
    def elaborate(self, platform):
        return Instance(f"box_{part.__name__}", **{
            f"{direction}_{name}": value for name, (direction, value) in _flat(self).items()})
    return type(part.__name__, (part,), {"elaborate": elaborate})


def instance(text, module):
    """``{port: what is connected}`` of the one instance of ``module`` in Verilog without hierarchy."""
    found = re.search(rf"^  {module} (?:#\([^;]*?\) )?\S+ +\(\n(.*?)\n  \);", text, re.MULTILINE | re.DOTALL)
    return {port: value.strip() for port, value in re.findall(r"\.(\w+)\(([^\n]*?)\),?$", found[1], re.MULTILINE)}


def source(text, name):
    """From where a net has its value, through assignments of one name to another."""
    assigned = dict(re.findall(r"^  assign (\S+) += (\S+) ?;$", text, re.MULTILINE))
    while name in assigned:
        name = assigned[name]
    return name
