"""The list of mutants: how an entry selects its statement, what its defect does, and the message where it does not fit."""

import ast
import json

import pytest

from ringnic.host.mutation.mutants import MutantError, fitted, load

PART = '''\
class Part(wiring.Component):
    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.busy.eq(a | b | last),   # the sum of all
            self.done.eq(c), idle.eq(0),
        ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.i.valid & ready):
                    # A comment.
                    m.d.sync += count.eq(count + 1)
                    m.next = "WORK"
                with m.Else():
                    m.d.sync += count.eq(0)
            with m.State("WORK"):
                with m.If(self.o.ready):
                    m.d.sync += count.eq(0)
                    m.next = "IDLE"
                with m.Elif(stop):
                    m.d.sync += count.eq(0)
                m.d.sync += [first.eq(1), second.eq(2)]
        return m


def helper(a, b):
    return a - b


LIMIT = 5
'''
OTHER = '''\
def unrelated(n):
    return n
'''
IF_READY = """\
                with m.If(self.o.ready):
                    m.d.sync += count.eq(0)
                    m.next = "IDLE"
"""
ELIF_STOP = """\
                with m.Elif(stop):
                    m.d.sync += count.eq(0)
"""
BOTH = """\
                m.d.sync += [first.eq(1), second.eq(2)]
"""
BUSY = {"class": "Part", "statement": "m.d.comb += self.busy.eq(a | b | last)"}
IN_IDLE = {"class": "Part", "state": "IDLE"}
IN_WORK = {"class": "Part", "state": "WORK"}
FULL = {"name": "m", "notice": "n"}


@pytest.fixture
def project(tmp_path):
    """Root of a project of two files and their tests."""
    for folder in ("hdl/room", "tests/hdl/room", "tests/mutation"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "hdl/room/part.py").write_text(PART)
    (tmp_path / "hdl/room/other.py").write_text(OTHER)
    for name in ("part", "other", "whole"):
        (tmp_path / f"tests/hdl/room/test_{name}.py").touch()
    return tmp_path


def write_list(root, *entries, then="[]"):
    lines = [f"then = {then}"]
    for fields in entries:
        lines += ["[[mutant]]", *(f"{name} = {json.dumps(value)}" for name, value in (FULL | fields).items())]
    (root / "tests/mutation/list.toml").write_text("\n".join(lines))


def applied(root, fields):
    """Text of the file with the defect of the one entry."""
    write_list(root, fields)
    mutant, = load(root)
    return mutant.applied((root / mutant.file).read_text())


def misfit(root, fields):
    """What is said of the one entry, which does not fit."""
    write_list(root, fields)
    mutants, (message,) = fitted(root)
    assert mutants == []
    with pytest.raises(MutantError) as error:
        load(root)
    assert str(error.value) == message
    return message.removeprefix("list.toml: m does not apply: ")


# What the defects do.

@pytest.mark.parametrize("fields, old, new", [
    (BUSY | {"change": ["a | b", "a"]}, "a | b | last", "(a) | last"),
    (BUSY | {"drop": "last"}, "a | b | last", "(a | b)"),
    (BUSY | {"drop": "a"}, "a | b | last", "(b) | last"),
    (BUSY | {"delete": True}, "self.busy.eq(a | b | last),   # the sum of all\n            ", ""),
    ({"class": "Part", "statement": "m.d.comb += self.done.eq(c)", "replace": "m.d.comb += [self.done.eq(d), e.eq(f)]"},
     "self.done.eq(c)", "self.done.eq(d), e.eq(f)"),
    (IN_IDLE | {"statement": "with m.If(self.i.valid & ready):", "drop": "ready"},
     "self.i.valid & ready", "(self.i.valid)"),
    (IN_IDLE | {"statement": "with m.Else():", "delete": True},
     "                with m.Else():\n                    m.d.sync += count.eq(0)\n            with m.State",
     "            with m.State"),
    (IN_IDLE | {"statement": "m.d.sync += count.eq(0)", "delete": True},
     "with m.Else():\n                    m.d.sync += count.eq(0)", "with m.Else():\n                    pass"),
    (IN_IDLE | {"statement": "with m.If(self.i.valid & ready):", "replace": "m.next = 'WORK'\nwith m.If(0):\n    pass"},
     PART[PART.index("with m.If(self.i"):PART.index("                with m.Else")],
     'm.next = "WORK"\n                with m.If(0):\n                    pass\n'),
    (IN_WORK | {"statement": "m.d.sync += first.eq(1)", "delete": True}, "[first.eq(1), second.eq(2)]", "second.eq(2)"),
    (IN_WORK | {"statement": "m.d.sync += second.eq(2)", "change": ["2", "3"]}, "second.eq(2)", "second.eq(3)"),
    (IN_WORK | {"statement": "with m.If(self.o.ready):", "swap": "m.d.sync += [first.eq(1), second.eq(2)]"},
     IF_READY + ELIF_STOP + BOTH, BOTH + ELIF_STOP + IF_READY),
    ({"function": "helper", "statement": "return a-b", "drop": "b"}, "a - b", "(a)"),
    ({"file": "hdl/room/part.py", "statement": "LIMIT = 5", "change": ["5", "6"]}, "LIMIT = 5", "LIMIT = 6"),
])
def test_a_defect(project, fields, old, new):
    assert PART.count(old) == 1
    assert ast.dump(ast.parse(applied(project, fields))) == ast.dump(ast.parse(PART.replace(old, new)))


def test_only_what_is_changed_is_written_anew(project):
    assert applied(project, BUSY | {"change": ["a | b", "a"]}) == PART.replace("a | b |", "(a) |")
    assert applied(project, IN_WORK | {"statement": 'm.next = "IDLE"', "delete": True}) == PART.replace(
        '                    m.next = "IDLE"\n', "")


def test_a_statement_beside_letters_of_several_bytes(project):
    (project / "hdl/room/part.py").write_text('def f(n):\n    return "µs" + n + n\n')
    assert applied(project, {"function": "f", "statement": "return 'µs' + n + n", "change": ["'µs' + n", "'µ'"]}) == (
        'def f(n):\n    return (\'µ\') + n\n')


# What a place survives.

@pytest.mark.parametrize("statement", [
    "m.d.comb += self.busy.eq(a | b | last)", "m.d.comb+=self.busy.eq(a|b|last)",
    "\n   m.d.comb += self.busy.eq(\n       a | b\n       | last)\n"])
def test_layout_does_not_matter(project, statement):
    assert applied(project, BUSY | {"statement": statement, "drop": "last"}) == PART.replace("a | b | last", "(a | b)")
    (project / "hdl/room/part.py").write_text(PART.replace("self.busy.eq(a | b | last)", "self.busy.eq(\n a|b # so\n |last)"))
    assert "(a|b" in applied(project, BUSY | {"statement": statement, "drop": "last"})


def test_order_and_grouping_do_not_matter(project):
    entry = IN_WORK | {"statement": "m.d.sync += first.eq(1)", "change": ["1", "0"]}
    for other in ("[second.eq(2), first.eq(1)]", "first.eq(1)", "[third.eq(3), first.eq(1), *more]"):
        text = PART.replace("[first.eq(1), second.eq(2)]", other)
        (project / "hdl/room/part.py").write_text(text)
        assert applied(project, entry) == text.replace("first.eq(1)", "first.eq((0))")


def test_states_may_change_their_order(project):
    begin, end = PART.index('            with m.State("IDLE")'), PART.index("        return m")
    middle = PART.index('            with m.State("WORK")')
    text = PART[:begin] + PART[middle:end] + PART[begin:middle] + PART[end:]
    (project / "hdl/room/part.py").write_text(text)
    assert applied(project, IN_WORK | {"statement": 'm.next = "IDLE"', "change": ['"IDLE"', '"WORK"']}) == text.replace(
        'm.next = "IDLE"', "m.next = ('WORK')")


def test_a_class_may_move_to_another_file(project):
    (project / "hdl/room/part.py").write_text("")
    (project / "hdl/room/other.py").write_text(OTHER + "\n\n" + PART)
    write_list(project, BUSY | {"drop": "a"})
    mutant, = load(project)
    assert mutant.file == "hdl/room/other.py" and mutant.tests == ("tests/hdl/room/test_other.py",)


# What does not fit.

@pytest.mark.parametrize("fields, message", [
    ({"class": "Part", "statement": 'm.next = "WORK"', "state": "WORK"},
     "hdl/room/part.py has no class = 'Part', state = 'WORK', statement = \"m.next = 'WORK'\"; "
     "its place may be class = 'Part', state = 'IDLE', statement = \"m.next = 'WORK'\" (hdl/room/part.py:13)"),
    (BUSY | {"statement": "m.d.comb += self.busy.eq(a | last)"},
     "hdl/room/part.py has no class = 'Part', statement = 'm.d.comb += self.busy.eq(a | last)'; "
     "its place may be class = 'Part', statement = 'm.d.comb += self.busy.eq(a | b | last)' (hdl/room/part.py:5)"),
    ({"class": "Prat", "statement": "m.d.comb += self.done.eq(c)"},
     "there is no class Prat in hdl/; "
     "its place may be class = 'Part', statement = 'm.d.comb += self.done.eq(c)' (hdl/room/part.py:6)"),
    ({"function": "unrelated", "statement": "return a - b"},
     "hdl/room/other.py has no function = 'unrelated', statement = 'return a - b'; "
     "its place may be function = 'helper', statement = 'return a - b' (hdl/room/part.py:27)"),
    ({"class": "Nothing", "statement": "with other.thing.of_another_kind(12345):"},
     "there is no class Nothing in hdl/; nothing in hdl/ is like it"),
])
def test_a_place_that_is_not_there(project, fields, message):
    assert misfit(project, fields | {"delete": True}) == message


@pytest.mark.parametrize("fields, message", [
    (BUSY | {"change": ["a | b | first", "a"]},
     "`m.d.comb += self.busy.eq(a | b | last)` (hdl/room/part.py:5) has the expression `a | b | first` 0 times, not once; "
     "the most similar expression is `a | b | last`"),
    (IN_IDLE | {"statement": "m.d.sync += count.eq(count + 1)", "change": ["count", "0"]},
     "`m.d.sync += count.eq(count + 1)` (hdl/room/part.py:12) has the expression `count` 2 times, not once"),
    (IN_IDLE | {"statement": "with m.If(self.i.valid & ready):", "drop": "self.i"},
     "`with m.If(self.i.valid & ready):` (hdl/room/part.py:10) "
     "has no operator of which `self.i` is an operand that may be dropped"),
    ({"function": "helper", "statement": "return a - b", "drop": "a"},
     "`return a - b` (hdl/room/part.py:27) has no operator of which `a` is an operand that may be dropped"),
    (BUSY | {"change": ["a", "a"]}, "`m.d.comb += self.busy.eq(a | b | last)` (hdl/room/part.py:5) is not changed by the defect"),
    (BUSY | {"replace": "m.d.comb += self.busy.eq(a|b|last)"},
     "`m.d.comb += self.busy.eq(a | b | last)` (hdl/room/part.py:5) is not changed by the defect"),
    (BUSY | {"replace": "m.d.sync += self.busy.eq(a)"},
     "`m.d.comb += self.busy.eq(a | b | last)` (hdl/room/part.py:5) is an element of a list that is added to `m.d.comb`, "
     "and what is to replace it is not"),
    (BUSY | {"replace": "m.d.comb +="},
     "`m.d.comb += self.busy.eq(a | b | last)` (hdl/room/part.py:5) is not Python with the defect: invalid syntax"),
    (IN_WORK | {"statement": "with m.If(self.o.ready):", "swap": 'm.next = "IDLE"'},
     "`with m.If(self.o.ready):` (hdl/room/part.py:17) encloses the statement with which it is to change places"),
])
def test_a_defect_that_does_not_fit_its_statement(project, fields, message):
    assert misfit(project, fields) == message


def test_equal_statements_are_told_apart_by_what_encloses_them(project):
    entry = {"class": "Part", "statement": "m.d.sync += count.eq(0)", "change": ["0", "1"]}
    assert misfit(project, entry | {"state": "WORK"}).startswith(
        "hdl/room/part.py has 2 times class = 'Part', state = 'WORK', statement = 'm.d.sync += count.eq(0)': it needs `state` or "
        "`within`: line 18, within ['def elaborate(self, platform):', 'with m.FSM():', \"with m.State('WORK'):\", "
        "'with m.If(self.o.ready):']; line 21, within ")
    assert "has 3 times" in misfit(project, entry)
    elif_ = applied(project, entry | {"within": ['with m.State("WORK"):', "with m.Elif( stop ):"]})
    assert elif_ == PART.replace("m.Elif(stop):\n                    m.d.sync += count.eq(0)",
                                 "m.Elif(stop):\n                    m.d.sync += count.eq((1))")
    assert applied(project, entry | {"within": ["with m.Elif(stop):"]}) == elif_
    wrong_order = {"within": ["with m.Elif(stop):", 'with m.State("WORK"):']}
    assert misfit(project, entry | wrong_order).startswith("hdl/room/part.py has no class = 'Part', within = ")


def test_two_functions_of_one_name(project):
    (project / "hdl/room/other.py").write_text("def helper(a, b):\n    return a - b\n")
    entry = {"function": "helper", "statement": "return a - b", "drop": "b"}
    assert misfit(project, entry) == "hdl/room/other.py and hdl/room/part.py have a function helper: it needs `file`"
    assert applied(project, entry | {"file": "hdl/room/other.py"}) == "def helper(a, b):\n    return (a)\n"


# The list itself.

@pytest.mark.parametrize("fields, message", [
    (BUSY | {"drop": "a", "expects": "x"}, "list.toml: m has unknown expects"),
    ({"class": "Part", "drop": "a"}, "list.toml: m lacks statement"),
    ({"statement": "return", "drop": "a"}, "list.toml: m needs one of `class`, `function` and `file`"),
    (BUSY, "list.toml: m needs one of `change`, `drop`, `replace`, `swap` and `delete = true`"),
    (BUSY | {"drop": "a", "delete": True}, "list.toml: m needs one of `change`, `drop`, `replace`, `swap` and `delete = true`"),
    (BUSY | {"change": ["a"]}, "list.toml: m needs the old and the new expression in `change`"),
    (BUSY | {"drop": "a +"}, "list.toml: m is not Python: invalid syntax: a +"),
    ({"class": "Part", "statement": "a = 1; b = 2", "delete": True}, "list.toml: m is not Python: one statement is expected: "),
    (BUSY | {"drop": "a", "file": "hdl/gone.py"}, "list.toml: m names hdl/gone.py, which is not there"),
    (BUSY | {"drop": "a", "tests": ["tests/gone.py"]}, "list.toml: m names tests/gone.py, which is not there"),
])
def test_a_list_that_is_not_sound(project, fields, message):
    write_list(project, fields)
    with pytest.raises(MutantError) as error:
        load(project)
    assert str(error.value) == message


def test_names_are_unique(project):
    write_list(project, BUSY | {"drop": "a"}, BUSY | {"drop": "b"})
    with pytest.raises(MutantError, match="list.toml: m is there twice"):
        load(project)


def test_the_tests_of_a_mutant(project):
    whole, part = "tests/hdl/room/test_whole.py", "tests/hdl/room/test_part.py"
    own = BUSY | {"drop": "b", "name": "own", "tests": [whole]}
    write_list(project, BUSY | {"drop": "a"}, own, then=json.dumps([whole, part]))
    first, own = load(project)
    assert first.tests == (part, whole) and own.tests == (whole,)
