"""The form of the sources: what a reader meets in every file."""

import ast
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".cpp", ".h", ".sh", ".toml"}
LINE_LENGTH = 130
FILE_LINES = 300
FUNCTION_LINES = 120
# A generated program, one line of shell.
LONG = {("tests/host/test_launcher.py", '*"-m pip "*')}
FILES = sorted(path for folder in ("hdl", "host", "sim", "boards", "tests") for path in (ROOT / folder).rglob("*")
               if path.suffix in SUFFIXES and "__pycache__" not in path.parts) + [ROOT / "ringnic", ROOT / "pyproject.toml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines(path):
    name, text = str(path.relative_to(ROOT)), path.read_text()
    assert text == "" or text.endswith("\n"), "no newline at the end"
    for number, line in enumerate(text.splitlines(), 1):
        assert line == line.rstrip(), f"line {number} ends in blanks"
        long = len(line) > LINE_LENGTH and not any(name == at and line.startswith(start) for at, start in LONG)
        assert not long, f"line {number} is long"


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".py" and path.stat().st_size],
                         ids=lambda path: path.stem)
def test_every_module_says_what_it_is(path):
    assert re.match(r'(#.*\n)*"""', path.read_text())


@pytest.mark.parametrize("path", [*FILES, ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], ids=lambda path: path.name)
def test_nothing_speaks_of_another_place(path):
    """No paths of a machine: the project speaks of itself alone."""
    assert path == Path(__file__) or not re.search(r"/home/[a-z]|/work/|/root/|\.\./shared", path.read_text())


def longest_function(text):
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return max((node.end_lineno - node.lineno + 1 for node in functions), default=0)


def test_hardware_is_made_of_small_parts():
    """No file of more than FILE_LINES lines, no function of more than FUNCTION_LINES; and no exception that is not needed."""
    hdl = ROOT / "hdl"
    texts = {str(path.relative_to(hdl)): path.read_text() for path in sorted(hdl.rglob("*.py"))}
    long = {name for name, text in texts.items()
            if len(text.splitlines()) > FILE_LINES or longest_function(text) > FUNCTION_LINES}
    assert long == set(), "these are to be taken apart"
