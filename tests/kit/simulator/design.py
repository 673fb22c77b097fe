"""A design as Python source.

Amaranth's own engine looks at every process in every delta cycle, and a process is all that a component assigns. Here processes
are smaller, each runs only when one of its inputs changed, and they run in the order in which values depend on each other.
"""

from functools import lru_cache

from amaranth.hdl import Cat
from amaranth.hdl._ast import Switch
from amaranth.hdl._mem import MemoryInstance
from amaranth.hdl._xfrm import LHSMaskCollector

from .process import Process

__all__ = ["compiled", "compiled_expression", "processes", "source"]


def _masks(stmts):
    collector = LHSMaskCollector()
    collector.visit_stmt(stmts)
    return list(collector.masks())


def _groups(stmts):
    """Statements that have to be together, because they assign the same signals, in their order."""
    groups = []  # (ids of signals, [(position, statement)])
    for position, stmt in enumerate(stmts):
        ids, members = {id(signal) for signal, _ in _masks([stmt])}, [(position, stmt)]
        kept = []
        for other in groups:
            if other[0] & ids:
                ids, members = ids | other[0], members + other[1]
            else:
                kept.append(other)
        groups = [*kept, (ids, members)]
    return [[stmt for _, stmt in sorted(members, key=lambda one: one[0])] for _, members in groups]


def _only(stmts, signal):
    """What of statements assigns a signal."""
    found = []
    for stmt in stmts:
        if not any(one is signal for one, _ in _masks([stmt])):
            continue
        if type(stmt) is Switch:
            stmt = Switch(stmt.test, [(patterns, _only(body, signal), None) for patterns, body, _ in stmt.cases])
        found.append(stmt)
    return found


def _process(slots, domain, stmts, only=None):
    """The process of statements, or of what they assign to one signal."""
    process = Process(slots, domain)
    masks = _masks(stmts)
    for signal, mask in masks:
        process.begin(signal, mask)
    process.statements(stmts)
    if domain is not None and domain.rst is not None:
        process.block(f"if {process.read(domain.rst)}:", process.reset, masks)
    if only is not None:
        index = slots.signal(only)
        process.outputs = {index: process.outputs[index]}
    return process


def _made(slots, domain, stmts):
    """Processes of a group of statements: one, unless it would have to run again because of what it assigns itself."""
    whole = _process(slots, domain, stmts)
    if domain is None and whole.inputs & set(whole.outputs) and len(whole.outputs) > 1:
        return [_process(slots, domain, _only(stmts, signal), signal) for signal, _ in _masks(stmts)]
    return [whole]


def _memory_reads(slots, fragment):
    for port in fragment._read_ports:
        if port._domain == "comb":
            process = Process(slots)
            for signal, mask in _masks([port._data.eq(0)]):
                process.begin(signal, mask)
            process.assign(port._data, _row(process, fragment._data, process.bits(port._addr)), port._data.shape())
            yield process


def _row(process, memory, addr):
    index = process.slots.memory(memory)
    process.memories.add(index)
    if memory.depth == 1 << max(memory.depth - 1, 0).bit_length():
        return f"m{index}[{addr}]"
    return f"(m{index}[{addr}] if {addr} < {memory.depth} else 0)"


def _memory_edge(slots, fragment, name):
    """All ports of a memory in a clock domain."""
    domain, memory = fragment.domains[name], fragment._data
    process, index, given = Process(slots, fragment.domains[name]), slots.memory(memory), {}
    process.memories.add(index)
    for k, port in enumerate(fragment._write_ports):
        if port._domain == name:
            enable = Cat(bit.replicate(port._granularity) for bit in port._en)
            given[k] = [process.name(process.bits(value)) for value in (port._addr, port._data, enable)]
            addr, data, mask = given[k]
            process.block(f"if {mask} and {addr} < {memory.depth}:", process.line, f"write({index}, {addr}, {data}, {mask})")
    for port in fragment._read_ports:
        if port._domain != name:
            continue
        masks = _masks([port._data.eq(0)])
        for signal, mask in masks:
            process.begin(signal, mask)

        def fetch(port=port):
            addr = process.name(process.bits(port._addr))
            data = process.name(_row(process, memory, addr))
            for k in port._transparent_for:
                at, new, mask = given[k]
                process.block(f"if {addr} == {at}:", process.line, f"{data} = {data} & ~{mask} | {new} & {mask}")
            process.assign(port._data, data, port._data.shape())
        process.block(f"if {process.read(port._en)}:", fetch)
        if domain.rst is not None:
            process.block(f"if {process.read(domain.rst)}:", process.reset, masks)
    return process


def processes(slots, fragment):
    """All processes of a fragment and of what is in it."""
    made = []
    for name, stmts in fragment.statements.items():
        domain = None if name == "comb" else fragment.domains[name]
        for group in _groups(stmts):
            made += _made(slots, domain, group)
    if isinstance(fragment, MemoryInstance):
        made += _memory_reads(slots, fragment)
        names = dict.fromkeys(port._domain for port in (*fragment._read_ports, *fragment._write_ports))
        made += [_memory_edge(slots, fragment, name) for name in names if name != "comb"]
    for subfragment, _, _ in fragment.subfragments:
        made += processes(slots, subfragment)
    return made


def _ordered(made):
    """Combinational processes, each behind those that it depends on; a loop is cut somewhere."""
    drivers = {}
    for process in made:
        for index in process.outputs:
            drivers.setdefault(index, []).append(process)
    order, seen = [], set()
    for root in made:
        stack = [(root, None)]
        while stack:
            process, rest = stack.pop()
            if rest is None:
                if process in seen:
                    continue
                seen.add(process)
                rest = iter([driver for index in sorted(process.inputs) for driver in drivers.get(index, ())])
            for driver in rest:
                if driver not in seen:
                    stack += [(process, rest), (driver, None)]
                    break
            else:
                order.append(process)
    return order


def source(made):
    """Return the order of processes and their source. Process ``k`` is function ``pk``; those that are combinational come first.

    The source needs ``dirty``, a list with an entry for each process; ``due``, a heap of combinational processes that are
    dirty; ``push``; ``edge``, a list for what changes after a clock edge; and ``write``.
    """
    order = _ordered([process for process in made if process.domain is None])
    count = len(order)
    order += [process for process in made if process.domain is not None]
    readers = {}
    for k, process in enumerate(order):
        for index in process.inputs:
            readers.setdefault(index, []).append(k)
    lines = []
    for k, process in enumerate(order):
        lines.append(f"def p{k}():")
        if process.domain is None and process.outputs:
            lines.append(f"    global {', '.join(f'v{index}' for index in process.outputs)}")
        lines += process.lines or ["    pass"]
        for index, mask in process.outputs.items():
            if mask is not None:
                lines.append(f"    n{index} = v{index} & ~{mask} | n{index} & {mask}")
            lines.append(f"    if n{index} != v{index}:")
            if process.domain is not None:
                lines.append(f"        edge.append(({index}, {'None' if mask is None else mask}, n{index}))")
                continue
            lines.append(f"        v{index} = n{index}")
            for reader in readers.get(index, ()):
                if reader < count:
                    lines.append(f"        if not dirty[{reader}]: dirty[{reader}] = 1; push(due, {reader})")
                else:
                    lines.append(f"        dirty[{reader}] = 1")
    return order, count, readers, "\n".join(lines) + "\n"


@lru_cache(maxsize=16)
def compiled(text):
    """The code of a source; the tests of a component often simulate the same design again."""
    return compile(text, "<design>", "exec")


@lru_cache(maxsize=1024)
def compiled_expression(text):
    return compile(text, "<sample>", "eval")
