"""``ringnic verilog``: the core, or a board's whole card, for a flow of one's own; with a table of its ports."""

from dataclasses import dataclass
import os
from pathlib import Path
import re
import tempfile

from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import complain
from ..progress import working
from .command import BuildError, build_id, find_board, mac_of

__all__ = ["Port", "port_table", "run_verilog"]

# What ports are, by what their names begin with; the first that fits.
MEANINGS = (
    ("clk", "clock of the core"), ("rst", "reset, synchronous, high"),
    ("tlp_rx_", "TLPs from the host: raw, header first, bytes in the order of the wire; taken when valid and ready are high"),
    ("tlp_tx_", "TLPs to the host, likewise"),
    ("frame_rx_", "Ethernet frames from the wire, without FCS"), ("frame_tx_", "Ethernet frames to the wire, without FCS"),
    ("gmii_rx_clk", "clock of what comes from the PHY"), ("gmii_tx_clk", "clock of what goes to the PHY, 125 MHz"),
    ("gmii_", "GMII"), ("link_up", "the Ethernet link has a partner"), ("offered", "mask of the feature bits to offer; constant"),
    ("busy", "the card has something in hand"),
    ("pcie_clk_", "reference clock of the slot, 100 MHz"), ("pcie_rst_n", "PERST#"), ("pcie_clkreq_n", "CLKREQ#, held low"),
    ("pcie_rx_", "lanes from the host"), ("pcie_tx_", "lanes to the host"), ("led", "LEDs, as `ringnic build --list` has them"),
    ("osc_clk", "oscillator of the board"), ("eth_mdio", "management of the PHY: data"),
    ("eth_mdc", "management of the PHY: clock"), ("eth_reset_n", "reset of the PHY"), ("eth_", "pads of the PHY"),
)


@dataclass(frozen=True)
class Port:
    """A port of the top module. ``direction``: input, output or inout."""
    name: str
    direction: str
    bits: int

    @property
    def meaning(self):
        """What it is, in a few words."""
        return next((text for start, text in MEANINGS if self.name.startswith(start)), "")


def port_table(verilog, top):
    """The :class:`Port` s of module ``top``, in the order in which they are declared."""
    body = verilog[re.search(rf"^module {top}\b", verilog, re.MULTILINE).start():]
    body = body[:body.index("endmodule")]
    return [Port(name, direction, int(high or 0) + 1)
            for direction, high, name in re.findall(r"^  (input|output|inout) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE)]


def _core(*, width, pairs, mac, offered):
    from ...sim.core import core_verilog
    from ...sim.top import TOP_NAME
    return TOP_NAME, core_verilog(width, pairs, mac=mac, offered=offered)


def _card(board, *, lanes, pairs, mac_address, features):
    from ...sim.board import board_verilog
    from .project import top_name
    top = top_name(board)
    number = build_id(board, lanes, pairs, mac_address, sorted(features))
    return top, board_verilog(board, name=top, lanes=lanes, pairs=pairs, mac_address=mac_address, features=features,
                              build_id=number)


def write(path, text):
    """Put ``text`` into a file, whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.absolute().parent)
    try:
        with open(handle, "w") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink()
        raise


def run_verilog(path, *, board=None, width=64, pairs=4, features=frozenset(), mac=None, address=None, lanes=1):
    """Write the Verilog of the core, or of ``board``'s card, into ``path``, and show its ports. Returns the exit status.

    ``mac``: of a core, "gmii" or None. ``address``, ``lanes``: of a card. ``features``: numbers of the feature bits to offer.
    """
    console = Console()
    try:
        with working(console, "Making the Verilog"):
            if board is None:
                top, text = _core(width=width, pairs=pairs, mac=mac, offered=sum(1 << bit for bit in features))
            else:
                top, text = _card(find_board(board), lanes=lanes, pairs=pairs, mac_address=mac_of(address), features=features)
    except (BuildError, ValueError) as error:
        complain(error)
        return 1
    ports = port_table(text, top)
    lines = [f"//   {port.direction:6} {port.bits:4}  {port.name:20} {port.meaning}".rstrip() for port in ports]
    write(path, "\n".join([f"// Ports of {top}: direction, bits, name", *lines, text]))
    table = Table(title=f"{top}", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Port", "Direction", "Bits", "What"):
        table.add_column(name, justify="right" if name == "Bits" else "left")
    for port in ports:
        table.add_row(port.name, port.direction, str(port.bits), port.meaning)
    console.print(table)
    return 0
