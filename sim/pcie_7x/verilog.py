"""The model as a Verilog module in the place of the IP."""

from amaranth.back import verilog
from amaranth.hdl import ClockDomain, Module, Signal, Value

from ...hdl.pcie.tlp_stream import tlp_beat
from ...hdl.spec.pcie_7x import block_ports

__all__ = ["link_ports", "to_verilog"]

STREAMS = {"link_rx": "i", "link_tx": "o"}
CONTROLS = ("link_ecrc_error", "link_up", "hot_reset", "link_rate", "link_width", "link_credits", "seed", "stall_rx", "stall_tx")
VERDICTS = ("overflow", "misuse")


def link_ports(block):
    """``{name: (direction, bits)}`` of what the model has besides the ports of the IP, as they are in Verilog."""
    ports = {}
    for stream, way in STREAMS.items():
        back = "o" if way == "i" else "i"
        ports |= {f"{stream}_{name}": (way, field.width) for name, field in tlp_beat(block.width)}
        ports |= {f"{stream}_valid": (way, 1), f"{stream}_ready": (back, 1)}
    ports |= {name: ("i", len(Value.cast(getattr(block, name)))) for name in CONTROLS}
    return ports | {name: ("o", 1) for name in VERDICTS}


def to_verilog(block, name="pcie_s7"):
    """A module with ``clk`` and ``rst``, the ports of the IP, and :func:`link_ports`. Inputs have no defaults there."""
    m = Module()
    m.submodules.block = block
    m.domains.sync = sync = ClockDomain("sync")
    ports = [sync.clk, sync.rst]
    for stream, way in STREAMS.items():
        port = getattr(block, stream)
        for field, value in [*((field, port.payload[field]) for field, _ in tlp_beat(block.width)),
                             ("valid", port.valid), ("ready", port.ready)]:
            flat = Signal(Value.cast(value).shape(), name=f"{stream}_{field}")
            into = (way == "i") != (field == "ready")
            m.d.comb += Value.cast(value).eq(flat) if into else flat.eq(value)
            ports.append(flat)
    names = [*block_ports(lanes=block.lanes, width=block.width), *CONTROLS, *VERDICTS]
    ports += [Value.cast(getattr(block, one)) for one in names]
    return verilog.convert(m, name=name, ports=ports, emit_src=False)
