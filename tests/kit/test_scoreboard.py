"""The comparison fails at the first item that is wrong, missing or too many."""

import pytest

from tests.kit.scoreboard import Scoreboard


def board():
    board = Scoreboard()
    board.expect(1, 2, key="a")
    board.expect(3, key="b")
    return board


def test_in_order_for_each_key():
    one = board()
    for item, key in ((3, "b"), (1, "a"), (2, "a")):
        assert not one.empty()
        one.got(item, key)
    one.check()
    assert one.empty() and one.count == 3


@pytest.mark.parametrize("item, key, message", [
    (2, "a", "expected of 'a' 1, but there came 2"), (3, "a", "expected of 'a' 1, but there came 3"),
    (1, None, "nothing is expected, but there came 1")])
def test_wrong(item, key, message):
    with pytest.raises(AssertionError, match=f"^{message}"):
        board().got(item, key)


def test_missing_and_too_many():
    one = board()
    one.got(3, "b")
    with pytest.raises(AssertionError, match="^2 items did not come of 'a', the first is 1"):
        one.check()
    with pytest.raises(AssertionError, match="^nothing is expected of 'b', but there came 3"):
        one.got(3, "b")
