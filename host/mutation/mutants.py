"""The list of mutants: reading it, and fitting it to the sources."""

from dataclasses import dataclass
from pathlib import Path
import tomllib

from .edit import Edit, EditError, normal_expression, swapped
from .nearest import nearest_expression, nearest_place, told
from .place import Place, Source, normal_header

__all__ = ["Mutant", "MutantError", "chosen", "fitted", "load"]

SCOPES = ("class", "function", "file")
EDITS = ("change", "drop", "replace", "swap", "delete")
REQUIRED = {"name", "notice", "statement"}
FIELDS = {*REQUIRED, *SCOPES, *EDITS, "state", "within", "tests", "survives"}


class MutantError(Exception):
    """The list of defects, or a run of it, is not sound; the message says where and why."""


class _Misfit(Exception):
    """An entry does not fit the sources; the message says why, and what may fit."""


@dataclass(frozen=True)
class Mutant:
    """A defect, as :mod:`ringnic.host.mutation` describes its fields.

    ``file``: where its class is. ``swap``: place of the statement with which that of ``place`` changes places, or None.
    ``tests``: files, in the order in which they are run.
    """
    name: str
    file: str
    place: Place
    edit: Edit
    swap: Place | None
    notice: str
    tests: tuple
    survives: str = ""

    def applied(self, text):
        """Return the text of its file with the defect; the mutant fits it."""
        return self.fit({self.file: Source(text)})[0]

    def line(self, text):
        """Number of its line in the text of its file."""
        return self.fit({self.file: Source(text)})[1]

    def fit(self, sources):
        """Return the text of its file with the defect, and the number of the line, else :exc:`_Misfit`."""
        text, statement = sources[self.file].text, _only(sources, self.file, self.place)
        try:
            if self.swap is None:
                return self.edit.applied(text, statement), statement.node.lineno
            return swapped(text, statement, _only(sources, self.file, self.swap)), statement.node.lineno
        except EditError as error:
            wanted = self.edit.drop or next(iter(self.edit.change), "")
            near = nearest_expression(statement, wanted)
            hint = f"; the most similar expression is `{near}`" if near not in (None, wanted) else ""
            raise _Misfit(f"`{statement.text}` ({self.file}:{statement.node.lineno}) {error}{hint}") from None


# Fitting an entry to the sources.

def _suggestion(sources, place):
    found = nearest_place(sources, place)
    if found is None:
        return "; nothing in hdl/ is like it"
    file, near, statement = found
    return f"; its place may be {told(near)} ({file}:{statement.node.lineno})"


def _file(sources, place, file):
    """The file that has the class or function of a place; ``file``, perhaps None, says which if several have it."""
    owners = [name for name, source in sources.items() if place.kind == "file" or (place.kind, place.name) in source.scopes]
    files = [name for name in owners if file in (None, name)]
    if len(files) > 1:
        raise _Misfit(f"{' and '.join(files)} have a {place.kind} {place.name}: it needs `file`")
    if not files:
        raise _Misfit(f"there is no {place.kind} {place.name} in {file or 'hdl/'}{_suggestion(sources, place)}")
    return files[0]


def _only(sources, file, place):
    found = place.select(sources[file].statements(place.kind, place.name))
    if not found:
        raise _Misfit(f"{file} has no {told(place)}{_suggestion(sources, place)}")
    if len(found) > 1:
        where = "; ".join(f"line {one.node.lineno}, within {list(one.around)}" for one in found)
        raise _Misfit(f"{file} has {len(found)} times {told(place)}: it needs `state` or `within`: {where}")
    return found[0]


# Reading it.

def mirror(file):
    """The tests of a file of the hardware, by name."""
    path = Path(file)
    return str(Path("tests") / path.with_name(f"test_{path.name}"))


def _checked(where, fields):
    name = fields.get("name", "?")
    for problem, found in (("lacks", REQUIRED - fields.keys()), ("has unknown", fields.keys() - FIELDS)):
        if found:
            raise MutantError(f"{where}: {name} {problem} {', '.join(sorted(found))}")
    if not fields.keys() & set(SCOPES) or {"class", "function"} <= fields.keys():
        raise MutantError(f"{where}: {name} needs one of `class`, `function` and `file`")
    if len(fields.keys() & set(EDITS)) != 1 or fields.get("delete", True) is not True:
        raise MutantError(f"{where}: {name} needs one of `change`, `drop`, `replace`, `swap` and `delete = true`")
    if "change" in fields and len(fields["change"]) != 2:
        raise MutantError(f"{where}: {name} needs the old and the new expression in `change`")


def _entry(root, where, fields, then, sources):
    _checked(where, fields)
    name = fields["name"]
    kind = next(kind for kind in SCOPES if kind in fields)
    try:
        place = Place(kind, fields[kind], fields.get("state"), tuple(map(normal_header, fields.get("within", ()))),
                      normal_header(fields["statement"]))
        swap = Place(kind, fields[kind], fields.get("state"), (), normal_header(fields["swap"])) if "swap" in fields else None
        edit = Edit(tuple(map(normal_expression, fields.get("change", ()))),
                    normal_expression(fields["drop"]) if "drop" in fields else "", fields.get("replace"))
    except SyntaxError as error:
        raise MutantError(f"{where}: {name} is not Python: {error.msg}: {error.text or ''}") from None
    if "file" in fields and fields["file"] not in sources:
        raise MutantError(f"{where}: {name} names {fields['file']}, which is not there")
    file = _file(sources, place, fields.get("file"))
    tests = fields.get("tests") or [mirror(file), *(test for test in then if test != mirror(file))]
    for test in tests:
        if not (root / test).is_file():
            raise MutantError(f"{where}: {name} names {test}, which is not there")
    mutant = Mutant(name, file, place, edit, swap, fields["notice"], tuple(tests), fields.get("survives", ""))
    mutant.fit(sources)
    return mutant


def fitted(root):
    """Return the mutants of the project at ``root`` that fit its sources, in the order of the list, and a line for each other.

    :exc:`MutantError` if the list itself is not sound.
    """
    root = Path(root)
    sources = {str(path.relative_to(root)): Source(path.read_text()) for path in sorted((root / "hdl").rglob("*.py"))}
    mutants, misfits, names = [], [], set()
    for path in sorted((root / "tests" / "mutation").glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise MutantError(f"{path.name}: {error}") from None
        if content.keys() - {"then", "mutant"}:
            raise MutantError(f"{path.name}: only `then` and `mutant` are known, not {', '.join(sorted(content))}")
        for fields in content.get("mutant", ()):
            try:
                mutants.append(_entry(root, path.name, fields, content.get("then", ()), sources))
            except _Misfit as misfit:
                misfits.append(f"{path.name}: {fields['name']} does not apply: {misfit}")
            if fields["name"] in names:
                raise MutantError(f"{path.name}: {fields['name']} is there twice")
            names.add(fields["name"])
    return mutants, misfits


def load(root):
    """Return the mutants of the project at ``root``, in the order of its list. :exc:`MutantError` if one does not fit."""
    mutants, misfits = fitted(root)
    if misfits:
        raise MutantError("\n".join(misfits))
    return mutants


def chosen(mutants, names):
    """Those of the ``names``, all if there are none; :exc:`MutantError` if there is no such mutant."""
    known = {mutant.name for mutant in mutants}
    for name in names:
        if name not in known:
            raise MutantError(f"There is no mutant {name!r}; `--list` names them")
    return [mutant for mutant in mutants if not names or mutant.name in names]
