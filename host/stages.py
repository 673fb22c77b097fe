"""``ringnic bench --stages``: where packets wait inside the card, and which stage limits the rate."""

from dataclasses import asdict

from rich.console import Console

from ..sim.bench import DIRECTIONS, FRAME_BYTES, SETUPS
from ..sim.stages import limiting, measure_stages
from .bench import SEED, clocked, named, plain_table, rings_of
from .guest.process import ends_as_exceptions
from .progress import bar
from .results import simulated_build_id, write_json

__all__ = ["run_stages"]

SHORT = FRAME_BYTES[0]
LEGEND = "Of each stream between stages: percent of the cycles in which it moved / in which it waited for who takes from it."


def _shares(flow):
    return "" if flow is None else f"{100 * flow.moves:.0f}/{100 * flow.waits:.0f}"


def _table(setup, found):
    """``found``: flows by ``(direction, ring)``."""
    table = plain_table(f"{clocked(setup)}, {SHORT} bytes", ("Stream",), [f"{way}\n{ring}" for way, ring in found])
    names = list(dict.fromkeys(flow.name for way, _ in found if way == "both" for flow in found[way, _]))
    for name in names:
        flows = [next((flow for flow in flows if flow.name == name), None) for flows in found.values()]
        table.add_row(name, *map(_shares, flows))
    return table


def run_stages(report=None, features=None, setups=SETUPS):
    """Look at every :class:`~ringnic.sim.bench.Setup`, show it, write ``report`` (JSON) if given; return the exit status."""
    console, cases, tables = Console(), [], []
    rings = rings_of(features)
    with ends_as_exceptions(), bar(console, len(setups) * len(rings) * len(DIRECTIONS)) as progress:
        for setup in setups:
            found = {}
            for direction in DIRECTIONS:
                for ring in rings:
                    progress.begins(f"{named(setup)}, {direction}, {SHORT} bytes, {ring.name}")
                    flows = found[direction, ring.name] = measure_stages(setup, direction, SHORT, ring=ring, features=features)
                    cases.append({"link": setup.link, "width": setup.width, "core_mhz": setup.core_mhz, "direction": direction,
                                  "ring": ring.name, "frame_bytes": SHORT, "limited_by": limiting(flows),
                                  "streams": [asdict(flow) for flow in flows]})
                    progress.ends()
            tables.append((setup, found))
    for setup, found in tables:
        console.print(_table(setup, found))
        for (direction, ring), flows in found.items():
            console.print(f"  {direction}, {ring}: limited by {limiting(flows)}", highlight=False)
    console.print(f"[dim]{LEGEND}[/]")
    if report is not None:
        write_json(report, {"cases": cases}, build_id=simulated_build_id(), seed=SEED)
    return 0
