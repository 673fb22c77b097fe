"""The NIC with plain top-level ports, as simulators want them."""

from amaranth.hdl import ClockDomain, Module, Signal, Value
from amaranth.back import verilog

__all__ = ["TOP_NAME", "to_verilog"]

TOP_NAME = "nic"


def _stream(m, name, port, ports, *, into):
    """Ports ``name_<field>``, ``name_valid``, ``name_ready`` for a stream; ``into`` the NIC or out of it."""
    for field, _ in port.payload.shape():
        signal = Signal(port.payload[field].shape(), name=f"{name}_{field}")
        m.d.comb += port.payload[field].eq(signal) if into else signal.eq(port.payload[field])
        ports.append(signal)
    valid, ready = Signal(name=f"{name}_valid"), Signal(name=f"{name}_ready")
    m.d.comb += [port.valid.eq(valid), ready.eq(port.ready)] if into else [valid.eq(port.valid), port.ready.eq(ready)]
    ports += [valid, ready]


def to_verilog(nic):
    """Verilog of ``nic`` below a module ``nic`` with flat ports.

    ``clk`` and ``rst``; ``tlp_rx_*`` in, ``tlp_tx_*`` out; ``frame_rx_*`` in, ``frame_tx_*`` out, or the ``gmii_*``
    signals with ``gmii_rx_clk`` and ``gmii_tx_clk``; ``link_up`` in, ``busy`` out.
    """
    m = Module()
    held = Signal(reset_less=True)
    m.domains.sync = sync = ClockDomain("sync")
    m.submodules.core = nic
    # The next state of everything depends on reset: as a register it is not an input whose dependents Verilator
    # recomputes at every evaluation.
    rst = Signal(name="rst")
    m.d.comb += sync.rst.eq(held)
    m.d.sync += held.eq(rst)
    ports = [sync.clk, rst]
    _stream(m, "tlp_rx", nic.tlp_rx, ports, into=True)
    _stream(m, "tlp_tx", nic.tlp_tx, ports, into=False)
    if hasattr(nic, "frames_rx"):
        _stream(m, "frame_rx", nic.frames_rx, ports, into=True)
        _stream(m, "frame_tx", nic.frames_tx, ports, into=False)
    else:
        for name in ("gmii_rx", "gmii_tx"):
            domain = ClockDomain(name, reset_less=True)
            m.domains += domain
            ports.append(domain.clk)
        ports += [Value.cast(getattr(nic, name)) for name in (
            "gmii_rxd", "gmii_rx_dv", "gmii_rx_er", "gmii_txd", "gmii_tx_en", "gmii_tx_er")]
    ports += [nic.link_up, nic.busy]
    return verilog.convert(m, name=TOP_NAME, ports=ports, emit_src=False)
