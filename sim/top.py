"""A card with plain top-level ports, as simulators want them."""

from dataclasses import dataclass

from amaranth.hdl import ClockDomain, Module, Signal, Value
from amaranth.back import verilog
from amaranth.lib import data

from ..hdl.lib.synchronizers import MarkedSynchronizers

__all__ = ["Design", "TOP_NAME", "design_of", "outside", "to_verilog"]

TOP_NAME = "nic"


@dataclass(frozen=True)
class Design:
    """Verilog with a top module ``nic`` that has the ports of :func:`to_verilog`, for the fast simulator.

    ``outside``: as :func:`outside` says. ``mdio``: it has the ports ``mdc``, ``mdio``, ``phy_mdio`` and ``phy_drives`` for a PHY,
    ``ethernet_up``, and ``broken``, which is high for good when a model in it was not used as its original has to be.
    ``both_edges``: something in it is clocked by a falling clock. ``mac_address``: it has an input of that name.
    """
    source: str
    width: int
    outside: str | None
    mdio: bool = False
    both_edges: bool = False
    mac_address: bool = False


def outside(card):
    """What a card has besides its link to the host: "frames", "gmii", "rgmii", "random", or None."""
    ports = {"frames_rx": "frames", "gmii_rxd": "gmii", "rgmii_rxd": "rgmii", "random": "random"}
    return next((kind for name, kind in ports.items() if hasattr(card, name)), None)


def _stream(m, name, port, ports, *, into):
    """Ports ``name_<field>``, or ``name_data``, ``name_valid``, ``name_ready`` for a stream; ``into`` the card or out of it."""
    shape = port.payload.shape()
    fields = {field: port.payload[field] for field, _ in shape} if isinstance(shape, data.Layout) else {"data": port.payload}
    for field, value in fields.items():
        signal = Signal(value.shape(), name=f"{name}_{field}")
        m.d.comb += value.eq(signal) if into else signal.eq(value)
        ports.append(signal)
    valid, ready = Signal(name=f"{name}_valid"), Signal(name=f"{name}_ready")
    m.d.comb += [port.valid.eq(valid), ready.eq(port.ready)] if into else [valid.eq(port.valid), port.ready.eq(ready)]
    ports += [valid, ready]


def to_verilog(card, *, offered=None):
    """Verilog of ``card`` below a module ``nic`` with flat ports.

    ``clk`` and ``rst``; ``tlp_rx_*`` in, ``tlp_tx_*`` out; ``offered`` in, if its value is not given; ``mac_address`` in,
    if the card takes it from there; ``busy`` out; and what is outside: ``frame_rx_*`` in, ``frame_tx_*`` out; or the
    ``gmii_*`` signals with ``gmii_rx_clk`` and ``gmii_tx_clk``; both with ``link_up`` in; or the ``rgmii_*`` signals,
    ``mdc`` and ``mdio_*``, with ``gmii_tx_clk``, ``gmii_tx_90_clk`` and ``delay_reference_clk``, where the primitives of
    the FPGA are to come from ``series7.v``; or ``random_*`` in.
    """
    m = Module()
    held = Signal(reset_less=True)
    m.domains.sync = sync = ClockDomain("sync")
    m.submodules.core = card
    # The next state of everything depends on reset: as a register it is not an input whose dependents Verilator
    # recomputes at every evaluation.
    rst = Signal(name="rst")
    m.d.comb += sync.rst.eq(held)
    m.d.sync += held.eq(rst)
    ports = [sync.clk, rst]
    _stream(m, "tlp_rx", card.tlp_rx, ports, into=True)
    _stream(m, "tlp_tx", card.tlp_tx, ports, into=False)
    kind = outside(card)
    if kind == "frames":
        _stream(m, "frame_rx", card.frames_rx, ports, into=True)
        _stream(m, "frame_tx", card.frames_tx, ports, into=False)
    elif kind == "gmii":
        for name in ("gmii_rx", "gmii_tx"):
            domain = ClockDomain(name, reset_less=True)
            m.domains += domain
            ports.append(domain.clk)
        for name in ("gmii_rxd", "gmii_rx_dv", "gmii_rx_er"):
            # As in the pads of a board; and what hangs on an input would be evaluated with each edge of any clock.
            value = Value.cast(getattr(card, name))
            pad = Signal(value.shape(), name=name)
            m.d.gmii_rx += value.eq(pad)
            ports.append(pad)
        ports += [Value.cast(getattr(card, name)) for name in ("gmii_txd", "gmii_tx_en", "gmii_tx_er")]
    elif kind == "rgmii":
        for name in ("gmii_tx", "gmii_tx_90", "delay_reference"):
            domain = ClockDomain(name, reset_less=True)
            m.domains += domain
            ports.append(domain.clk)
        ports += [Value.cast(getattr(card, f"rgmii_{name}")) for name in ("txc", "txd", "tx_ctl", "rxc", "rxd", "rx_ctl")]
        for name in ("mdc", "mdio_o", "mdio_oe"):
            pin = Signal(name=name)
            m.d.comb += pin.eq(getattr(card.mdio, name))
            ports.append(pin)
        mdio_i = Signal(name="mdio_i")
        m.d.comb += card.mdio.mdio_i.eq(mdio_i)
        ports += [mdio_i, card.ethernet_up, card.inband_differs]
    elif kind == "random":
        _stream(m, "random", card.random, ports, into=True)
    ports += [getattr(card, name) for name in ("link_up", "mac_address") if hasattr(card, name)]
    if offered is None:
        ports.append(card.offered)
    else:
        m.d.comb += card.offered.eq(offered)
    ports.append(card.busy)
    return verilog.convert(m, name=TOP_NAME, platform=MarkedSynchronizers(), ports=ports, emit_src=False)


def design_of(card):
    """The :class:`Design` that is ``card`` alone."""
    return Design(to_verilog(card), card.width, outside(card), mac_address=hasattr(card, "mac_address"))
