"""Mistyped names: the nearest ones, else a word on where to look."""

import pytest

from ringnic.host.nearest import no_such

KNOWN = ("ax7203", "ac701", "captain_75t", "captain_100t")


@pytest.mark.parametrize("name, says", [
    ("ax7023", "no board is called 'ax7023'; did you mean ax7203?"),
    ("captain", "no board is called 'captain'; did you mean captain_75t or captain_100t?"),
    ("kc705", "no board is called 'kc705'; look there"),
    ("", "no board is called ''; look there"),
])
def test_hints(name, says):
    assert no_such("board", name, KNOWN, "look there") == says
