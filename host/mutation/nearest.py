"""Suggestions for a mutant that no longer fits the sources: where it may belong now."""

import ast
from difflib import SequenceMatcher, get_close_matches
import json

from .edit import expressions
from .place import Place

__all__ = ["nearest_expression", "nearest_place", "told"]

ALIKE = 0.5          # a statement less alike than this is not suggested
ELSEWHERE = 0.8      # how much the same statement counts in another class


def _ratio(one, other, at_least):
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if matcher.real_quick_ratio() <= at_least or matcher.quick_ratio() <= at_least:
        return 0
    return matcher.ratio()


def _scopes(sources):
    for file, source in sources.items():
        yield from ((file, kind, name) for kind, name in (*source.scopes, ("file", file)))


def _home(sources, place):
    """Kind and name of the class or function of a place, or of the one whose name is most alike."""
    names = {name: kind for _, kind, name in _scopes(sources)}
    if names.get(place.name) == place.kind:
        return place.kind, place.name
    alike = get_close_matches(place.name, names, n=1)
    return (names[alike[0]], alike[0]) if alike else None


def nearest_place(sources, place):
    """Return file, :class:`.place.Place` and :class:`.place.Statement` of what is most like the ``place``, or None.

    That is the same statement in another state, one that is much alike in the same class, or the same one in another class.
    """
    home, best, score = _home(sources, place), None, (ALIKE, False)
    for file, kind, name in _scopes(sources):
        for statement in sources[file].statements(kind, name):
            if (kind, name) == home:
                alike = 1 if statement.text == place.statement else _ratio(statement.text, place.statement, score[0] - 0.01)
            else:
                alike = ELSEWHERE if statement.text == place.statement else 0
            found = alike, statement.state == place.state
            if found > score:
                best, score = (file, Place(kind, name, statement.state, (), statement.text), statement), found
    return best


def nearest_expression(statement, old):
    """Return the expression of a statement that is most like ``old``, unparsed, or None."""
    return next(iter(get_close_matches(old, {ast.unparse(node) for node in expressions(statement)}, n=1, cutoff=ALIKE)), None)


def _quoted(text):
    return json.dumps(text, ensure_ascii=False) if "'" in text or "\n" in text else f"'{text}'"


def told(place):
    """A place as the fields of an entry."""
    fields = [(place.kind, place.name), ("state", place.state), ("statement", place.statement)]
    fields[2:2] = [("within", place.within)] if place.within else []
    return ", ".join(f"{name} = [{', '.join(map(_quoted, value))}]" if name == "within" else f"{name} = {_quoted(value)}"
                     for name, value in fields if value is not None)
