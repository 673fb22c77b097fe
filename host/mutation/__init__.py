"""Mutation tests: plausible defects of the hardware (``tests/mutation/*.toml``), put one at a time into a copy of its sources.

A file says once which tests follow on the one of a part itself, ``then``. An entry ``[[mutant]]`` has ``name`` and ``notice``,
what a user would notice; perhaps ``tests``, in place of the implied ones, or ``survives``: why no test can tell. Its place is
    class      of hdl/, wherever its file is; or ``function``; or ``file`` alone for code of a module outside of both
    state      name of the FSM state that the statement lies in; required unless the statement is unique without it
    within     headers that enclose it, outermost first, not necessarily all: ["with m.If(a):"]; only if it is ambiguous otherwise
    statement  in any layout; of a compound one the header: "with m.If(a & b):". In ``m.d.sync += [a.eq(b), c.eq(d)]`` each
               element is also a statement of its own: "m.d.sync += a.eq(b)"
and its defect is one of
    change     [old, new]: an expression that the statement (of a compound one its header) has once; any subexpression counts
    drop       an operand that goes from a chain of `&`, `|`, `^`, `+` or `*`, or on the right of any operator
    replace    the statements that take the place of the statement and of its body
    swap       a statement of the same class and state that changes places with it
    delete     true: the statement goes, with its body
``ringnic mutate --check`` lists the mutants that do not fit the sources, and suggests where they may belong now.
"""
