"""The defect of a mutant: an edit of the source of one statement. All else, comments included, stays as it is."""

import ast
from dataclasses import dataclass
import textwrap

from .place import BODIES

__all__ = ["Edit", "EditError", "expressions", "normal_expression", "swapped"]

COMMUTATIVE = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Add, ast.Mult)


class EditError(Exception):
    """The edit does not fit the statement; the message says why, and begins with a verb."""


@dataclass(frozen=True)
class Edit:
    """What becomes of a statement: ``change`` (old, new) of an expression; or ``drop`` of an operand; or ``replace``; or it goes.

    Expressions are unparsed.
    """
    change: tuple = ()
    drop: str = ""
    replace: str | None = None

    def applied(self, source, statement):
        """Return the text of the file with the defect. :exc:`EditError`"""
        text = _Text(source)
        if self.change:
            result = _changed(text, statement, *self.change)
        elif self.drop:
            result = _dropped(text, statement, self.drop)
        elif self.replace is not None:
            result = _replaced(text, statement, self.replace)
        else:
            result = _deleted(text, statement)
        _parsed(result)
        return result


def swapped(source, one, other):
    """Return the text of the file in which two statements have changed places. :exc:`EditError`"""
    text = _Text(source)
    first, second = sorted((one, other), key=lambda statement: text.span(statement.node))
    if first.of or second.of:
        raise EditError("cannot change places within a list")
    if text.span(first.node)[1] > text.span(second.node)[0]:
        raise EditError("encloses the statement with which it is to change places")
    moved = text.replaced(text.span(second.node), _indented(text.of(first.node), second.node))
    return _Text(moved).replaced(text.span(first.node), _indented(text.of(second.node), first.node))


def normal_expression(text):
    """Return an expression as it is unparsed. :exc:`SyntaxError` if it is none."""
    return ast.unparse(ast.parse(textwrap.dedent(text).strip(), mode="eval"))


def expressions(statement):
    """The expressions in a statement, without those of its body."""
    pending = [statement.node]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.expr) and not isinstance(node, (ast.Slice, ast.Starred)):
            yield node
        if isinstance(node, ast.JoinedStr):  # in it positions are not those in the file
            continue
        for name, value in ast.iter_fields(node):
            if name not in BODIES or isinstance(node, ast.expr):
                pending += [child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]


class _Text:
    """The source of a file, in which places are as ``ast`` tells them: by line, and byte in the line."""
    def __init__(self, source):
        self._bytes = source.encode()
        self._lines = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def span(self, node):
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def of(self, node):
        """The source of a node, dedented."""
        begin, end = self.span(node)
        return textwrap.dedent(" " * node.col_offset + self._bytes[begin:end].decode())

    def lines(self, node):
        """The span of the lines of a node if there is nothing else on them but a comment, otherwise None."""
        begin, end = self.span(node)
        first, last = self._lines[node.lineno - 1], self._lines[node.end_lineno]
        rest = self._bytes[end:last].strip()
        return (first, last) if not self._bytes[first:begin].strip() and (not rest or rest.startswith(b"#")) else None

    def replaced(self, span, text):
        begin, end = span
        return (self._bytes[:begin] + text.encode() + self._bytes[end:]).decode()


def _indented(text, node):
    margin = " " * node.col_offset
    return textwrap.indent(text, margin).removeprefix(margin)


def _parsed(text):
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise EditError(f"is not Python with the defect: {error.msg}") from None


def _expression(statement, wanted):
    found = [node for node in expressions(statement) if ast.unparse(node) == wanted]
    if len(found) != 1:
        raise EditError(f"has the expression `{wanted}` {len(found)} times, not once")
    return found[0]


def _changed(text, statement, old, new):
    if old == new:
        raise EditError("is not changed by the defect")
    return text.replaced(text.span(_expression(statement, old)), f"({new})")


def _dropped(text, statement, operand):
    gone = _expression(statement, operand)
    for node in expressions(statement):
        if isinstance(node, ast.BinOp) and (node.right is gone or node.left is gone and isinstance(node.op, COMMUTATIVE)):
            rest = node.left if node.right is gone else node.right
            return text.replaced(text.span(node), f"({text.of(rest)})")
    raise EditError(f"has no operator of which `{operand}` is an operand that may be dropped")


def _replaced(text, statement, new):
    new = textwrap.dedent(new).strip()
    body = _parsed(new).body
    if ast.unparse(body) in (statement.text, ast.unparse(statement.node)):
        raise EditError("is not changed by the defect")
    if statement.of is None:
        return text.replaced(text.span(statement.node), _indented(new, statement.node))
    target, elements = ast.unparse(statement.of.target), []
    for node in body:
        if not isinstance(node, ast.AugAssign) or ast.unparse(node.target) != target:
            raise EditError(f"is an element of a list that is added to `{target}`, and what is to replace it is not")
        elements += node.value.elts if isinstance(node.value, ast.List) else [node.value]
    return text.replaced(text.span(statement.node), ", ".join(ast.unparse(element) for element in elements))


def _deleted(text, statement):
    if statement.of is None:
        lines = text.lines(statement.node)
        alone = statement.siblings == 1 or lines is None
        return text.replaced(text.span(statement.node), "pass") if alone else text.replaced(lines, "")
    elements = statement.of.value.elts
    rest = [element for element in elements if element is not statement.node]
    if len(rest) == 1:
        return text.replaced(text.span(statement.of.value), text.of(rest[0]).strip())
    at = elements.index(statement.node)
    begin, end = text.span(statement.node)
    if at + 1 < len(elements):
        end = text.span(elements[at + 1])[0]
    elif at:
        begin = text.span(elements[at - 1])[1]
    return text.replaced((begin, end), "")
