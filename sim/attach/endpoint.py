"""Somebody's endpoint as a design for the fast simulator: its ports found and checked, a guard at what it sends."""

from dataclasses import dataclass
import hashlib
import importlib
import os
from pathlib import Path
import sys
import traceback

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ...hdl.pcie.tlp_stream import tlp_beat
from ...host.guest.cache import cache_dir
from ...host.nearest import no_such
from ..top import TOP_NAME, Design, design_of
from .guard import Guard
from .rtl import AttachError, read_verilog

__all__ = ["OPTIONAL", "ROLES", "amaranth_design", "verilog_design"]

WIDTHS = (32, 64, 128, 256, 512)
FIELDS = ("data", "dws", "last")
#: What the ports of an endpoint are for, by the name that each has unless said otherwise: direction.
ROLES = {"clk": "input",
         **{f"tlp_rx_{field}": "input" for field in (*FIELDS, "valid")}, "tlp_rx_ready": "output",
         **{f"tlp_tx_{field}": "output" for field in (*FIELDS, "valid")}, "tlp_tx_ready": "input"}
OPTIONAL = {"rst": "input", "rst_n": "input", "busy": "output"}


def _find_ports(ports, names):
    """Return the port of each role that has one; ``names``: of ports, by role, where they are not called by their role."""
    for role in names:
        if role not in {**ROLES, **OPTIONAL}:
            raise AttachError(no_such("role of a port", role, [*ROLES, *OPTIONAL], f"there are {', '.join([*ROLES, *OPTIONAL])}"))
    found = {}
    for role, direction in {**ROLES, **OPTIONAL}.items():
        name = names.get(role, role)
        if name in ports:
            if ports[name][0] != direction:
                raise AttachError(f"port {name} must be an {direction} and is an {ports[name][0]}")
            found[role] = name
        elif role in ROLES or role in names:
            have = ", ".join(sorted(ports)) or "none"
            raise AttachError(f"{no_such('port', name, ports, f'the ports are {have}')} (--port {role}=NAME names another)")
    if not {"rst", "rst_n"} & found.keys():
        raise AttachError(f"there is neither a port rst nor rst_n; the ports are {', '.join(sorted(ports))} (--port rst=NAME, or "
                          f"rst_n=NAME for one that is active low)")
    return found


def _width(bits_of):
    """The width of both streams; ``bits_of(role)`` returns how wide that port is, and what it is called."""
    width, name = bits_of("tlp_rx_data")
    if width not in WIDTHS:
        raise AttachError(f"{name} has {width} bits; a TLP stream has {', '.join(map(str, WIDTHS))}")
    shapes = {"data": width, "dws": len(Signal(range(width // 32 + 1))), "last": 1, "valid": 1, "ready": 1}
    for role in (f"tlp_{way}_{field}" for way in ("rx", "tx") for field in shapes):
        bits, name = bits_of(role)
        if bits != (wanted := shapes[role.rpartition("_")[2]]):
            raise AttachError(f"{name} must have {wanted} bit{'s' if wanted > 1 else ''} and has {bits}: the streams are {width} "
                              f"bits wide by tlp_rx_data")
    return width


class Attached(wiring.Component):
    """An endpoint with the members of a card.

    Parameters
    ----------
    width : int
    add : function
        Called with the module and this component's ``rx`` and ``tx``, two streams; adds the endpoint, and returns its busy.

    Members
    -------
    tlp_rx : In(stream), tlp_tx : Out(stream)
        Raw TLPs.
    offered : In(128)
        Of no meaning here.
    busy : Out(1)
        As the endpoint says.
    """
    def __init__(self, *, width, add):
        self.width = width
        self._add = add
        super().__init__({
            "tlp_rx":  In(stream.Signature(tlp_beat(width))),
            "tlp_tx":  Out(stream.Signature(tlp_beat(width))),
            "offered": In(128),
            "busy":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.guard = guard = Guard(width=self.width)
        busy = self._add(m, self.tlp_rx, guard.i)
        connect(m, guard.o, flipped(self.tlp_tx))
        m.d.comb += self.busy.eq(busy | guard.busy)
        return m


@dataclass(frozen=True)
class Endpoint:
    """``design``: for an :class:`~ringnic.sim.engine.engine.Engine`. ``never_idle``: it does not say when it has nothing to do,
    so time always passes. ``unconnected``: inputs that stay 0."""
    design: Design
    never_idle: bool
    unconnected: tuple = ()


def _kept(source):
    """Path of a file of this text that stays, named after it: a build is known by what it includes."""
    folder = cache_dir() / "rtl"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:20]}.v"
    if not path.exists():
        work = path.with_suffix(f".{os.getpid()}")
        work.write_text(source)
        os.replace(work, path)
    return path


def _design(width, add, before=""):
    # Both edges: somebody else's endpoint may use the falling one, or have a path from an input to an output.
    made = design_of(Attached(width=width, add=add))
    return Design(before + made.source, width, None, both_edges=True)


def verilog_design(files, top, *, includes=(), parameters=(), names=None):
    """Return the :class:`Endpoint` that module ``top`` of these files is; ``names``: of its ports by role. Raises
    :exc:`AttachError`."""
    rtl = read_verilog(files, top, includes=includes, parameters=parameters)
    if top == TOP_NAME:
        raise AttachError(f"the top module is called {TOP_NAME}, and so is the simulator's; give it another name")
    found = _find_ports(rtl.ports, names or {})

    def bits_of(role):
        name = found[role]
        if (bits := rtl.ports[name][1]) is None:
            raise AttachError(f"{name} is no plain vector")
        return bits, name
    width = _width(bits_of)
    for role in ("clk", *OPTIONAL):
        if role in found and bits_of(role)[0] != 1:
            raise AttachError(f"{found[role]} must have 1 bit and has {bits_of(role)[0]}")

    def add(m, rx, tx):
        busy = Signal(init=1)
        roles = {"clk": ClockSignal(), "rst": ResetSignal(), "rst_n": ~ResetSignal(), "busy": busy,
                 "tlp_rx_valid": rx.valid, "tlp_rx_ready": rx.ready, "tlp_tx_valid": tx.valid, "tlp_tx_ready": tx.ready,
                 **{f"tlp_rx_{field}": rx.payload[field] for field in FIELDS},
                 **{f"tlp_tx_{field}": tx.payload[field] for field in FIELDS}}
        kind = {"input": "i", "output": "o"}
        m.submodules.endpoint = Instance(top, *(("p", name, value) for name, value in parameters), *(
            (kind[rtl.ports[name][0]], name, roles[role]) for role, name in found.items()))
        return busy

    used = set(found.values())
    return Endpoint(_design(width, add, f'`include "{_kept(rtl.source)}"\n'), "busy" not in found,
                    tuple(name for name, (direction, _) in rtl.ports.items() if direction != "output" and name not in used))


def _place(error):
    """Where in somebody's code an exception comes from."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f" ({last.filename}, line {last.lineno})" if not last.filename.startswith("<") else ""


def _component(name, parameters):
    """Make the component that ``MODULE:CLASS`` names, from here or wherever Python looks."""
    module, _, kind = name.partition(":")
    if not module or not kind:
        raise AttachError(f"{name!r} names no component: MODULE:CLASS, such as my.endpoint:Endpoint")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except Exception as error:  # it is somebody else's code
        raise AttachError(f"{module} cannot be imported: {error}{_place(error)}") from None
    if (make := getattr(found, kind, None)) is None:
        classes = [name for name, value in vars(found).items() if isinstance(value, type)]
        raise AttachError(no_such("class", kind, classes, f"{module} has {', '.join(classes) or 'none'}"))
    try:
        component = make(**dict(parameters))
    except Exception as error:
        raise AttachError(f"{name} cannot be made: {error}{_place(error)}") from None
    if not isinstance(component, wiring.Component):
        raise AttachError(f"{name} is no amaranth.lib.wiring.Component")
    return component


def amaranth_design(name, *, parameters=()):
    """Return the :class:`Endpoint` that the component ``MODULE:CLASS`` is, made with these keywords. Raises
    :exc:`AttachError`."""
    component = _component(name, parameters)
    members = component.signature.members
    bits = {}
    for member, flow in (("tlp_rx", In), ("tlp_tx", Out)):
        if member not in members or members[member].is_port or members[member].flow != flow or \
                not isinstance(members[member].signature, stream.Signature):
            raise AttachError(f"{name} must have a member {member}: {flow.name}(stream.Signature(tlp_beat(width)))")
        shape = getattr(component, member).payload.shape()
        fields = {key: Shape.cast(field.shape).width for key, field in shape} if isinstance(shape, data.Layout) else {}
        if fields.keys() != {*FIELDS}:
            raise AttachError(f"the payload of {member} must have the fields {', '.join(FIELDS)} of tlp_beat(width) and has "
                              f"{', '.join(fields) or 'none'}")
        bits |= {f"{member}_{key}": size for key, size in fields.items()} | {f"{member}_valid": 1, f"{member}_ready": 1}
    width = _width(lambda role: (bits[role], role))
    says_busy = "busy" in members

    def add(m, rx, tx):
        m.submodules.endpoint = component
        for (come, go) in ((rx, component.tlp_rx), (component.tlp_tx, tx)):
            m.d.comb += [go.valid.eq(come.valid), come.ready.eq(go.ready),
                         *(go.payload[field].eq(come.payload[field]) for field in FIELDS)]
        return component.busy if says_busy else Const(1)

    return Endpoint(_design(width, add), not says_busy)
