"""The card's Verilog in the form in which Verilator makes the most of it.

Amaranth decides the next state of each register in a process of its own, which begins with what the register holds and is
evaluated whatever happens; a clocked line then takes the result over. Decided and taken over in one clocked process, the
same register costs nothing in a cycle in which it keeps its value. Zeros in memories are left to the model's constructor, for
a statement for each of them is most of what the compiler would have to read.
"""

from collections import Counter
import re

__all__ = ["clocked"]

# As Yosys writes them: an escaped name ends with its blank.
NAME = r"(?:\\\S+ |[A-Za-z_]\w*)"
TAKE_OVER = re.compile(rf"^  always @\(posedge ({NAME})\)\n    ({NAME}) <= ({NAME});\n", re.MULTILINE)
DECISION = re.compile(r"^  always @\* begin\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(rf"^( +)({NAME})(\[[^\]]*\])? = ", re.MULTILINE)
# For simulators that never evaluate ``@*`` of constants.
EVALUATE_ONCE = re.compile(r"^    if \(\\\$auto\S+ \) begin end\n", re.MULTILINE)

INITIAL = re.compile(r"^  initial begin\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
ZERO = re.compile(rf"^ +{NAME}\[\d+\] = \d+'[dh]0+;\n", re.MULTILINE)


def _module(text):
    uses = Counter(re.findall(NAME, text))
    registers = {}
    for taken in TAKE_OVER.finditer(text):
        registers.setdefault(taken[3], []).append(taken)
    merged = set()

    def merge(decision):
        body = decision[1]
        assigned = Counter(found[2] for found in ASSIGNMENT.finditer(body))
        value = next(iter(assigned), None)
        # Nobody else may look at the next state: it is declared, assigned here alone, and taken over once.
        if len(assigned) != 1 or len(registers.get(value, ())) != 1 or uses[value] != assigned[value] + 2:
            return decision[0]
        taken, = registers[value]
        clock, register = taken[1], taken[2]
        merged.add(taken[0])
        body = EVALUATE_ONCE.sub("", body).replace(f"    {value} = {register};\n", "", 1)
        return f"  always @(posedge {clock}) begin\n" + ASSIGNMENT.sub(
            lambda found: f"{found[1]}{register}{found[3] or ''} <= ", body) + "  end\n"

    text = INITIAL.sub(lambda initial: initial[0].replace(initial[1], ZERO.sub("", initial[1])), DECISION.sub(merge, text))
    return TAKE_OVER.sub(lambda taken: "" if taken[0] in merged else taken[0], text)


def clocked(source):
    """Return Verilog that does the same as ``source``, which is Amaranth's, cycle by cycle, where unwritten bits are zeros."""
    return "".join(_module(text) for text in re.split(r"(?<=^endmodule\n)", source, flags=re.MULTILINE))
