"""``ringnic area --board``: what a board's whole card takes of its FPGA, as yosys maps it.

The IP is not in the figures: the block for PCI Express, its transceivers and the block RAMs of its buffers.
"""

from dataclasses import asdict, dataclass, field
import hashlib
import json
import tempfile

from rich import box
from rich.console import Console
from rich.table import Table

from .area import BRAMS, FFS, LUT_RAMS, LUTS, AreaError, Tools, count
from .build.command import BuildError, find_board
from .build.project import top_name
from .errors import complain
from .guest.card import card_features
from .guest.process import ends_as_exceptions
from .progress import working
from .results import write_json

__all__ = ["EXCLUDED", "PAIRS", "BoardArea", "run_board_area"]

PAIRS = 4
SCRIPT = "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf"
EXCLUDED = "without the IP: the PCI Express block, its transceivers, and the RAMs of its buffers"


@dataclass(frozen=True)
class BoardArea:
    """One card. ``rams``: blocks of 36 kbit, half ones too; the ``_percent`` are of the FPGA's. ``seconds``: of synthesis."""
    board: str
    part: str
    lanes: int
    queue_pairs: int
    luts: int
    luts_percent: float
    lut_rams: int
    ffs: int
    ffs_percent: float
    rams: float
    rams_percent: float
    cells: dict = field(repr=False)
    seconds: float


def _map(tools, board, lanes):
    """Map a card; the count of its cells, from the cache if nothing has changed."""
    from ..sim.board import block_box, board_verilog
    from ..sim.engine.build import sources_digest

    def make():
        (tools.work / "card.v").write_text(block_box(lanes) + board_verilog(
            board, name=top_name(board), lanes=lanes, pairs=PAIRS, mac_address=None, features=card_features(PAIRS), build_id=0))
        seconds = tools.run("yosys", "-q", "-p", f"read_verilog card.v; {SCRIPT} -top {top_name(board)}; check -assert; "
                            "tee -q -o stat.json stat -json")
        stat = json.loads((tools.work / "stat.json").read_text())
        cells = next(iter(stat["modules"].values()))["num_cells_by_type"]
        cells.pop("$scopeinfo", None)
        return {"cells": cells, "seconds": round(seconds, 1)}
    described = hashlib.sha256(repr(board).encode()).hexdigest()
    return tools.kept((sources_digest(), described, lanes, PAIRS, SCRIPT), make)


def board_area(tools, board, lanes):
    """The :class:`BoardArea` of a board's card."""
    found, fpga = _map(tools, board, lanes), board.fpga
    luts, ffs, rams = count(found["cells"], LUTS), count(found["cells"], FFS), count(found["cells"], BRAMS) / 2
    return BoardArea(
        board.name, board.vivado_part, lanes, PAIRS, luts, round(100 * luts / fpga.luts, 1), count(found["cells"], LUT_RAMS),
        ffs, round(100 * ffs / fpga.ffs, 1), rams, round(100 * rams / fpga.rams, 1), **found)


def run_board_area(names, report=None, *, lanes=1):
    """Map the cards of the boards called ``names``; show, and write ``report`` (JSON). Returns the exit status."""
    console = Console()
    try:
        boards = [find_board(name) for name in names]
        with ends_as_exceptions(), tempfile.TemporaryDirectory(prefix="ringnic-area-") as work:
            tools, areas = Tools(work), []
            for board in boards:
                with working(console, f"Synthesis of the card of {board.name} (minutes)"):
                    areas.append(board_area(tools, board, lanes))
    except (AreaError, BuildError) as error:
        complain(error)
        return 1
    table = Table(title=f"Whole cards, {PAIRS} queue pairs, {EXCLUDED}", box=box.SIMPLE_HEAD, pad_edge=False,
                  padding=(0, 1, 0, 0))
    for name in ("Board", "FPGA", "LUTs", "%", "LUT RAM", "FFs", "%", "36k RAMs", "%"):
        table.add_column(name, justify="left" if name in ("Board", "FPGA") else "right", no_wrap=True)
    for area in areas:
        table.add_row(area.board, area.part, f"{area.luts:,}", f"{area.luts_percent:g}", f"{area.lut_rams:,}", f"{area.ffs:,}",
                      f"{area.ffs_percent:g}", f"{area.rams:g}", f"{area.rams_percent:g}")
    console.print(table)
    if report is not None:
        write_json(report, {"tools": tools.versions, "excluded": EXCLUDED, "cases": [asdict(area) for area in areas]})
    return 0
