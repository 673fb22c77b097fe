"""One process of a design as Python source: a function whose values are global variables."""

from amaranth.hdl import Const, Shape, Signal
from amaranth.hdl._ast import Assign, Concat, Operator, Part, Slice, Switch, SwitchValue

__all__ = ["Process", "Slots", "ones"]

LONG = 1000  # characters, of which an expression may have no more: Python's parser has a limit

BINARY = {operator: operator for operator in ("+", "-", "*", "&", "|", "^", "<<", ">>", "==", "!=", "<", "<=", ">", ">=")}


def ones(width):
    return (1 << width) - 1


class Slots:
    """Numbers of signals and memories, by what they are."""
    def __init__(self):
        self.signals, self.memories, self._index = [], [], {}

    def _number(self, thing, kept):
        index = self._index.get(id(thing))
        if index is None:
            index = self._index[id(thing)] = len(kept)
            kept.append(thing)
        return index

    def signal(self, signal):
        return self._number(signal, self.signals)

    def memory(self, memory):
        if not Shape.cast(memory.shape).signed:
            return self._number(memory, self.memories)
        raise NotImplementedError("A memory of signed values")


class Process:
    """What runs as one.

    Attributes
    ----------
    domain : ClockDomain or None
    inputs, memories : set
        Numbers of what it reads.
    outputs : dict
        Number of a signal: the bits of it that this process decides.
    lines : list of str
        The body of the function, to which the end is added by :func:`source`.
    """
    def __init__(self, slots, domain=None):
        self.slots, self.domain = slots, domain
        self.inputs, self.memories, self.outputs, self.lines = set(), set(), {}, []
        self._indent, self._names = "    ", 0

    def line(self, text):
        self.lines.append(self._indent + text)

    def block(self, head, body, *arguments):
        self.line(head)
        before, self._indent = self._indent, self._indent + " "
        count = len(self.lines)
        body(*arguments)
        if len(self.lines) == count:
            self.line("pass")
        self._indent = before

    def name(self, text):
        self._names += 1
        self.line(f"x{self._names} = {text}")
        return f"x{self._names}"

    def read(self, value, prefix="v"):
        """The value as an expression of the exact number, within the value's shape. With prefix "n" signals are read as they are
        assigned so far, as is needed to assign a part of one."""
        text = self._read(value, prefix)
        return self.name(text) if len(text) > LONG else text

    def bits(self, value, prefix="v"):
        """The same as a number without sign."""
        text = self.read(value, prefix)
        return f"({ones(len(value))} & {text})" if value.shape().signed else text

    def _read(self, value, prefix):
        kind = type(value)
        if kind is Const:
            return f"({value.value})" if value.value < 0 else f"{value.value}"
        if kind is Signal:
            index = self.slots.signal(value)
            if prefix == "v":
                self.inputs.add(index)
            return f"{prefix}{index}"
        if kind is Slice:
            text = self.read(value.value, prefix)
            text = f"{text} >> {value.start}" if value.start else text
            whole = value.stop == len(value.value) and not value.value.shape().signed
            return f"({text})" if whole else f"({text} & {ones(len(value))})"
        if kind is Concat:
            at, parts = 0, []
            for part in value.parts:
                if len(part) and not (type(part) is Const and part.value == 0):
                    parts.append(f"{self.bits(part, prefix)} << {at}" if at else self.bits(part, prefix))
                at += len(part)
            return f"({' | '.join(parts) or 0})"
        if kind is Part:
            return f"({self.read(value.value, prefix)} >> {self.offset(value)} & {ones(value.width)})"
        if kind is SwitchValue:
            tests = self.tests(value.test, [patterns for patterns, _ in value.cases])
            texts = [self.read(one, prefix) for _, one in value.cases]
            return "(" + "".join(f"{text} if {test} else " for test, text in zip(tests, texts)) + "0)"
        if kind is Operator:
            return self._operator(value, prefix)
        raise NotImplementedError(f"{value!r}")

    def _operator(self, value, prefix):
        operator, operands = value.operator, value.operands
        first = self.read(operands[0], prefix)
        if len(operands) == 1:
            width, signed = len(operands[0]), operands[0].shape().signed
            bits = f"({ones(width)} & {first})" if signed else first
            return {
                "~": f"(~{first})" if signed else f"({ones(width)} ^ {first})",
                "-": f"(-{first})",
                "b": f"({first} != 0)",
                "r|": f"({first} != 0)",
                "r&": f"({bits} == {ones(width)})",
                "r^": f"(({bits}).bit_count() & 1)",
                "u": bits,
                "s": first if signed else signed_text(first, width),
            }[operator]
        second = self.read(operands[1], prefix)
        if operator in ("//", "%"):
            return f"({first} {operator} {second} if {second} else 0)"
        return f"({first} {BINARY[operator]} {second})"

    def offset(self, part):
        text = self.bits(part.offset)
        return f"({text} * {part.stride})" if part.stride != 1 else text

    def tests(self, test, cases):
        """Conditions, to be asked one after the other, of cases by their patterns."""
        width = len(test)
        parts = test.parts if type(test) is Concat else [test]
        single = len(parts) == width and all(len(part) == 1 for part in parts)
        if single and all(patterns is None or len(patterns) == 1 and patterns[0].count("1") == 1
                          and patterns[0].count("-") == width - 1 for patterns in cases):
            # As m.If makes them: one bit for each.
            return ["1" if patterns is None else self.truth(parts[width - 1 - patterns[0].index("1")]) for patterns in cases]
        tested = self.name(self.bits(test))
        found = []
        for patterns in cases:
            plain = [int(one or "0", 2) for one in patterns or () if "-" not in one]
            any_of = [f"{tested} & {int(one.replace('0', '1').replace('-', '0'), 2)} == {int(one.replace('-', '0'), 2)}"
                      for one in patterns or () if "-" in one]
            if plain:
                any_of.append(f"{tested} == {plain[0]}" if len(plain) == 1 else f"{tested} in {tuple(plain)}")
            found.append("1" if patterns is None else " or ".join(f"({one})" for one in any_of) or "0")
        return found

    def truth(self, value):
        if type(value) is Operator and value.operator in ("b", "r|"):
            return self.read(value.operands[0])
        return self.read(value)

    def statement(self, stmt):
        if type(stmt) is Assign:
            self.assign(stmt.lhs, self.read(stmt.rhs), stmt.rhs.shape())
        elif type(stmt) is Switch:
            tests = self.tests(stmt.test, [patterns for patterns, _, _ in stmt.cases])
            for k, (test, (_, body, _)) in enumerate(zip(tests, stmt.cases)):
                self.block(f"{'elif' if k else 'if'} {test}:", self.statements, body)
        else:
            raise NotImplementedError(f"{type(stmt).__name__} in a simulated design")

    def statements(self, stmts):
        for stmt in stmts:
            self.statement(stmt)

    def assign(self, target, text, shape):
        """Assign an expression of a shape, which is None if it may be any number."""
        kind = type(target)
        if kind is Signal:
            index, width = self.slots.signal(target), len(target)
            fits = shape is not None and not shape.signed and shape.width <= width - target.shape().signed
            if not fits:
                text = signed_text(f"({text} & {ones(width)})", width) if target.shape().signed else f"{text} & {ones(width)}"
            self.line(f"n{index} = {text}")
        elif kind is Operator:
            self.assign(target.operands[0], text, None)
        elif kind is Slice:
            self._assign_part(target.value, text, f"{target.start}", len(target))
        elif kind is Part:
            self._assign_part(target.value, text, self.offset(target), target.width)
        elif kind is Concat:
            whole, at = self.name(text), 0
            for part in target.parts:
                self.assign(part, f"({whole} >> {at})", None)
                at += len(part)
        elif kind is SwitchValue:
            whole = self.name(text)
            tests = self.tests(target.test, [patterns for patterns, _ in target.cases])
            for k, (test, (_, part)) in enumerate(zip(tests, target.cases)):
                self.block(f"{'elif' if k else 'if'} {test}:", self.assign, part, whole, shape)
        else:
            raise NotImplementedError(f"{target!r}")

    def _assign_part(self, whole, text, offset, width):
        before, mask = self.read(whole, "n"), ones(width)
        self.assign(whole, f"({before} & ~({mask} << {offset}) | ({text} & {mask}) << {offset})", None)

    def begin(self, signal, mask):
        """Say that it assigns these bits of a signal."""
        index = self.slots.signal(signal)
        if self.domain is None:
            self.line(f"n{index} = {signal.init}")
        else:
            self.line(f"n{index} = v{index}")
            self.inputs.add(index)
        self.outputs[index] = None if mask & ones(len(signal)) == ones(len(signal)) else mask

    def reset(self, masks):
        for signal, _ in masks:
            if not signal.reset_less:
                self.line(f"n{self.slots.signal(signal)} = {signal.init}")


def signed_text(bits, width):
    half = 1 << (width - 1) if width else 0
    return f"(({bits} ^ {half}) - {half})"
