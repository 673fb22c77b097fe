"""What the documents quote, name and link is there: they cannot rot without a test that fails."""

from pathlib import Path
import re
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"# ([\w./-]+/[\w.-]+)\n")
NAMED = re.compile(r"(?<![\w/.-])(?:hdl|host|sim|boards|tests|docs)/[\w./-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELIDED = "..."


def excerpts(page):
    """The blocks of a page that say of which file they are: ``(path, block)``."""
    for block in BLOCK.findall(page):
        if found := MARKER.match(block):
            yield found[1], block[found.end():]


def is_of(block, text):
    """The pieces of ``block``, parted by lines ``...``, are pieces of ``text``, in any order and whatever their indent."""
    lines = text.splitlines()
    for piece in re.split(rf"^ *{re.escape(ELIDED)}\n", block, flags=re.MULTILINE):
        wanted = dedent(piece).splitlines()
        if not wanted or not any(dedent("\n".join(lines[at:at + len(wanted)])).splitlines() == wanted
                                 for at in range(len(lines) - len(wanted) + 1)):
            return False
    return True


def slugs(page):
    """Anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def missing_links(path):
    for link in LINK.findall(path.read_text()):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or anchor and anchor not in slugs(target.read_text()):
            yield link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_excerpts_are_of_their_files(path):
    wrong = [f"{name}:\n{block}" for name, block in excerpts(path.read_text())
             if not (ROOT / name).is_file() or not is_of(block, (ROOT / name).read_text())]
    assert not wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_named_paths_exist(path):
    named = {name.rstrip("./") for name in NAMED.findall(path.read_text())}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_resolve(path):
    assert list(missing_links(path)) == []


TEXT = "class A:\n    def f(self):\n        one()\n\n        with two():\n            three()\n\n    x = 1\n"


@pytest.mark.parametrize("block, verdict", [
    ("def f(self):\n    one()\n", True),
    ("one()\n\nwith two():\n    three()\n", True),
    ("one()\n...\nthree()\n", True),
    ("x = 1\n    ...\nclass A:\n", True),
    ("one()\nwith two():\n", False),                  # a line is left out
    ("one()\n\nwith two():\nthree()\n", False),        # indent within a piece
    ("one(1)\n", False),
    ("on\n", False),
    ("one()\n...\nfour()\n", False),
    ("one()\n...\n", False),
    ("", False),
])
def test_the_rule_of_excerpts(block, verdict):
    assert is_of(block, TEXT) == verdict


def test_only_marked_blocks_are_excerpts():
    page = "```python\n# a/b.py\none()\n```\n\n```python\nfree()\n```\n\n```\n# a/b.py\n```\n"
    assert list(excerpts(page)) == [("a/b.py", "one()\n")]


def test_the_rule_of_links(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title: `x`\n[a](page.md) [b](#a-title-x) [c](page.md#a-title-x) [d](https://example.org/none)\n"
                    "[e](none.md) [f](#none)\n")
    assert list(missing_links(page)) == ["none.md", "#none"]
