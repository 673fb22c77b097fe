"""What Vivado's reports say of a build, and whether that will do."""

from dataclasses import asdict, dataclass, field
import hashlib
import math
import re

from .ip import CELL_READBACK
from .script import FACTS, PADS, REPORTS

__all__ = ["CONFIGURATION_LIMIT_MS", "ReportError", "Verdict", "configuration", "judge", "vivado_errors"]

#: PCI Express: the host may look for the card 100 ms after the power is good (Card Electromechanical Specification, T_PVPERL).
CONFIGURATION_LIMIT_MS = 100

# The rows of `report_utilization` that are kept, by what a report calls them.
ROWS = {"luts": "Slice LUTs", "ffs": "Slice Registers", "rams": "Block RAM Tile", "dsps": "DSPs"}


class ReportError(Exception):
    """A report is missing, or does not look as Vivado's reports do."""


@dataclass
class Verdict:
    """``problems``: what makes the bitstream unfit, one line each. ``warnings``: what its owner should know.

    ``pads``: slack at the pads of Ethernet in ns, by the names of :data:`.script.PADS`.
    """
    vivado: str = ""
    timing: dict = field(default_factory=dict)
    pads: dict = field(default_factory=dict)
    utilization: dict = field(default_factory=dict)
    lanes: list = field(default_factory=list)
    capabilities: dict = field(default_factory=dict)
    configuration: dict = field(default_factory=dict)
    images: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    warnings: list = field(default_factory=list)

    def report(self):
        """All of it as plain data."""
        return asdict(self)


def vivado_errors(log):
    """The lines of a log in which Vivado, or a check of the build script, says what went wrong."""
    return [line.strip() for line in log.splitlines() if line.startswith(("ERROR:", "RINGNIC:"))]


def _read(folder, name):
    try:
        return (folder / name).read_text()
    except OSError as error:
        raise ReportError(f"no {name} in {folder}: {error.strerror}") from None


def timing_summary(text):
    """``{"wns_ns", "tns_ns", "whs_ns", "ths_ns"}`` of a report of `report_timing_summary`."""
    found = re.search(r"^ +WNS\(ns\).*\n[ -]+\n((?: +\S+)+)$", text, re.MULTILINE)
    if found is None:
        raise ReportError("the timing report has no design timing summary")
    names = re.findall(r"(WNS|TNS|WHS|THS|WPWS|TPWS)(?:\(ns\))", found[0].splitlines()[0])
    columns = re.split(r" {2,}", found[0].splitlines()[0].strip())
    values = dict(zip(columns, found[1].split()))
    if "NA" in [values.get(f"{name}(ns)") for name in names]:
        raise ReportError("the timing report says that nothing was timed")
    return {f"{name.lower()}_ns": float(values[f"{name}(ns)"]) for name in names}


def unconstrained(text):
    """``{check: count}`` of a report of `check_timing`: what has no clock, and what is not timed inside."""
    found = {name: int(count) for name, count in re.findall(r"^\s*\d+\. checking (\w+) \((\d+)\)", text, re.MULTILINE)}
    if "no_clock" not in found:
        raise ReportError("the report of check_timing does not say whether clocks are missing")
    return {name: found.get(name, 0) for name in ("no_clock", "unconstrained_internal_endpoints", "loops")}


def utilization(text):
    """``{what: {"used", "available", "percent"}}`` of a report of `report_utilization`."""
    found = {}
    for what, row in ROWS.items():
        head = None
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if "Used" in cells and "Available" in cells:
                head = cells
            elif head is not None and cells[0].rstrip("*") == row and len(cells) == len(head):
                used, available = (float(cells[head.index(name)]) for name in ("Used", "Available"))
                found[what] = {"used": used, "available": available, "percent": round(100 * used / available, 2)}
                break
    if not {"luts", "ffs", "rams"} <= found.keys():
        raise ReportError("the utilization report has no table of LUTs, registers and block RAM")
    return found


def _facts(text):
    """``(version of Vivado, {lane: [channel, rx_p, rx_n, tx_p, tx_n]}, {property: value}, {pads: slack})``."""
    version, lanes, cell, pads = "", {}, {}, {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        words = rest.split()
        if kind == "vivado":
            version = rest
        elif kind == "lane":
            lanes[int(words[0])] = words[1:]
        elif kind == "cell":
            cell[words[0]] = " ".join(words[1:])
        elif kind == "pads":
            pads[words[0]] = " ".join(words[1:])
    return version, lanes, cell, pads


def _number(text):
    """The value of a literal of Verilog such as ``8'hA8``; other text as it is, in capitals."""
    found = re.fullmatch(r"\d+'h([0-9A-Fa-f_]+)", text)
    return int(found[1], 16) if found else text.upper()


def configuration(board, size):
    """How long the FPGA takes to load ``size`` bytes: ``ms``; or, if its clock is not known, the ``needed_mhz`` for the limit."""
    config, bits = board.configuration, 8 * size
    found = {"bits": bits, "wires": config.spi_width, "mhz": config.rate, "limit_ms": CONFIGURATION_LIMIT_MS}
    cycles = bits / config.spi_width
    if config.rate is None:
        return {**found, "ms": None, "needed_mhz": round(cycles / CONFIGURATION_LIMIT_MS / 1000, 1)}
    return {**found, "ms": round(cycles / config.rate / 1000, 1)}


def _judge_configuration(verdict):
    found = verdict.configuration
    if found["ms"] is None:
        verdict.warnings.append(
            f"the FPGA loads by the board's own clock, whose frequency is not known: it takes {found['needed_mhz']:g} MHz to be "
            f"there within {CONFIGURATION_LIMIT_MS} ms")
    elif found["ms"] > CONFIGURATION_LIMIT_MS:
        verdict.warnings.append(
            f"the FPGA takes {found['ms']:g} ms to load itself, and the host may look for it after {CONFIGURATION_LIMIT_MS} ms: "
            "a warm restart may be needed after the power comes on")


def _judge_lanes(board, lanes, verdict, placed):
    for at, lane in enumerate(board.pcie.lanes[:lanes]):
        words = placed.get(at, [])
        verdict.lanes.append(words)
        expected = [lane.channel, *lane.rx, *lane.tx]
        if not words:
            verdict.problems.append(f"the transceiver of lane {at} is not placed")
        elif words != expected:
            verdict.problems.append(f"lane {at} is at {' '.join(words)}, and the board has it at {' '.join(expected)}")


def _judge_pads(verdict, found):
    """Those of Ethernet. A miss is a warning: all but Ethernet works without them, and its delays are for a board to confirm."""
    for name in PADS:
        try:
            slack = float(found.get(name, ""))
        except ValueError:
            slack = math.nan
        if not math.isfinite(slack):
            raise ReportError(f"{FACTS} does not say what {name} of Ethernet has to spare")
        verdict.pads[name] = slack
        if slack < 0:
            way, _, check = name.partition("_")
            verdict.warnings.append(
                f"at the pads of Ethernet {'received' if way == 'rx' else 'sent'} data miss {check} by {-slack:g} ns: frames may "
                "be lost at 1 Gbit/s (docs/boards/bring-up.md)")


def judge(board, folder, *, lanes, images):
    """The :class:`Verdict` on what Vivado left in ``folder``.

    ``images``: ``(file name, offset in the flash)`` of the bitstreams for flash; the first is the one that counts for the time
    that the FPGA takes to load. Raises :exc:`ReportError` if a report is not there, or is not understood.
    """
    version, placed, cell, pads = _facts(_read(folder, FACTS))
    verdict = Verdict(vivado=version)
    verdict.timing = {**timing_summary(_read(folder, REPORTS["timing"])), **unconstrained(_read(folder, REPORTS["checks"]))}
    verdict.utilization = utilization(_read(folder, REPORTS["utilization"]))
    for name, what in (("wns_ns", "setup"), ("whs_ns", "hold"), ("wpws_ns", "pulse width")):
        if verdict.timing.get(name, 0) < 0:
            verdict.problems.append(f"timing is not met: the worst {what} slack is {verdict.timing[name]:g} ns")
    if verdict.timing["no_clock"]:
        verdict.problems.append(f"{verdict.timing['no_clock']} registers have no clock that is constrained")
    if verdict.timing["unconstrained_internal_endpoints"]:
        verdict.problems.append(f"{verdict.timing['unconstrained_internal_endpoints']} paths inside are not constrained")
    if board.ethernet is not None:
        _judge_pads(verdict, pads)
    _judge_lanes(board, lanes, verdict, placed)
    for name, value in CELL_READBACK.items():
        verdict.capabilities[name] = cell.get(name, "")
        if _number(cell.get(name, "")) != _number(value):
            verdict.problems.append(f"the block has {name} = {cell.get(name) or 'nothing'}, and {value} is needed: drivers would "
                                    "not find the capabilities of virtio")
    for name, offset in images:
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ReportError(f"no {name} in {folder}: {error.strerror}") from None
        digest = hashlib.sha256(content).hexdigest()
        verdict.images.append({"file": name, "offset": offset, "bytes": len(content), "sha256": digest})
        if offset is not None and offset + len(content) > board.configuration.flash_mib << 20:
            verdict.problems.append(f"{name} has {len(content)} bytes, too many for a flash of {board.configuration.flash_mib} "
                                    f"MiB from {offset} on")
        if name.endswith("_fallback.bin") and len(content) > board.configuration.fallback:
            verdict.problems.append(f"{name} has {len(content)} bytes, and the image behind it begins at "
                                    f"{board.configuration.fallback}")
    verdict.configuration = configuration(board, verdict.images[0]["bytes"])
    _judge_configuration(verdict)
    return verdict
