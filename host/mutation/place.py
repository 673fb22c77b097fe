"""The place of a mutant: a statement of a class or a function, selected by what it says.

Statements are compared as ``ast.unparse`` writes them, so layout, comments, order and line numbers do not matter.
"""

import ast
from dataclasses import dataclass
from functools import cached_property
import textwrap

__all__ = ["BODIES", "Place", "Source", "Statement", "normal_header"]

BODIES = ("body", "orelse", "handlers", "finalbody", "cases")
KINDS = {ast.ClassDef: "class", ast.FunctionDef: "function"}
STATE = "with m.State("


@dataclass(frozen=True)
class Statement:
    """A statement of a file.

    ``text``: unparsed, of a compound statement the header. ``around``: unparsed headers of what encloses it within its class or
    function, outermost first. ``node``: in the tree; ``of``: the ``target += [...]`` of which it is an element, or None.
    ``siblings``: number of statements in its block, or of elements in its list, itself included.
    """
    text: str
    around: tuple
    node: ast.AST
    of: ast.AugAssign | None
    siblings: int

    @property
    def state(self):
        """Name of the innermost FSM state in which it lies, or None."""
        for text in reversed(self.around):
            if text.startswith(STATE):
                name = ast.parse(f"{text} pass").body[0].items[0].context_expr.args[0]
                return name.value if isinstance(name, ast.Constant) else ast.unparse(name)
        return None


@dataclass(frozen=True)
class Place:
    """Where a statement is looked for.

    ``kind``: "class", "function" or "file", of which ``name`` is the name; ``state`` may be None. ``statement`` and ``within``
    are unparsed.
    """
    kind: str
    name: str
    state: str | None
    within: tuple
    statement: str

    def select(self, statements):
        """Those of the ``statements`` of the class that are meant; of a sound place there is one."""
        return [found for found in statements if found.text == self.statement and self._encloses(found)]

    def _encloses(self, statement):
        around = iter(statement.around)
        return self.state in (None, statement.state) and all(text in around for text in self.within)


class Source:
    """A file: ``text``, and its statements by what they belong to."""
    def __init__(self, text):
        self.text = text
        self._tree = ast.parse(text)
        self._statements = {}

    @cached_property
    def scopes(self):
        """Kind and name of each class and function of the module."""
        return [(KINDS[type(node)], node.name) for node in self._tree.body if type(node) in KINDS]

    def statements(self, kind, name):
        """Return the statements of a class or function; those of the module itself if ``kind`` is "file"."""
        if (kind, name) not in self._statements:
            body = [node for node in self._tree.body if type(node) not in KINDS] if kind == "file" else next(
                node.body for node in self._tree.body if (KINDS.get(type(node)), getattr(node, "name", None)) == (kind, name))
            self._statements[kind, name] = list(_statements(body, ()))
        return self._statements[kind, name]


def normal_header(text):
    """Return a statement, or the header of a compound one, as it is unparsed. :exc:`SyntaxError` if it is neither."""
    text = textwrap.dedent(text).strip()
    if text == "else:":
        return text
    body = ast.parse(f"{text} pass" if text.endswith(":") else text).body
    if len(body) != 1:
        raise SyntaxError("one statement is expected")
    return _header(body[0])


def _header(node):
    if not any(hasattr(node, name) for name in BODIES):
        return ast.unparse(node)
    fields = {name: [] if name in BODIES else value for name, value in ast.iter_fields(node)}
    if "body" in fields:
        fields["body"] = [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(type(node)(**fields))).removesuffix("pass").rstrip()


def _statements(body, around):
    for node in body:
        text = _header(node)
        yield Statement(text, around, node, None, len(body))
        if isinstance(node, ast.AugAssign) and isinstance(node.value, ast.List):
            for element in node.value.elts:
                one = ast.unparse(ast.AugAssign(node.target, node.op, element))
                yield Statement(one, around, element, node, len(node.value.elts))
        for name in BODIES:
            inner = (*around, text, "else:") if name == "orelse" else (*around, text)
            yield from _statements(getattr(node, name, ()), inner)
