"""Names that somebody may have mistyped, and what was perhaps meant."""

import difflib

__all__ = ["no_board", "no_such"]

HINTS, CLOSE = 3, 0.7  # names that are suggested at most, and how alike they have to be


def no_such(kind, name, known, otherwise):
    """Say in one line that nothing of this kind has this name; add the nearest of the names in ``known``, else ``otherwise``."""
    near = difflib.get_close_matches(name, known, n=HINTS, cutoff=CLOSE)
    hint = f"did you mean {' or '.join(near)}?" if near else otherwise
    return f"no {kind} is called {name!r}; {hint}"


def no_board(name, known):
    """Say that no board has this name, as :func:`no_such`."""
    return no_such("board", name, known, "`ringnic build --list` shows them")
