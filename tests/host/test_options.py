"""Options that commands share."""

import pytest
import typer

from ringnic.host.options import cycle_window, out_file


def test_what_could_not_be_written_at_the_end_is_refused_at_once(tmp_path):
    check = out_file("A file.").callback
    assert check(None) is None
    (tmp_path / "old").write_text("")
    for path in (tmp_path / "new", tmp_path / "old"):
        assert check(path) == path
    for path in (tmp_path, tmp_path / "no" / "new"):
        with pytest.raises(typer.BadParameter, match=f"^cannot write {path}$"):
            check(path)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text, window", [(None, None), ("5:9", (5, 9)), (":9", (0, 9)), ("5:", (5,)), ("7:7", (7, 7)),
                                          (":", (0,))])
def test_cycles(text, window):
    assert cycle_window(text) == window


@pytest.mark.parametrize("text, what", [("5", "'5' is not FIRST:LAST"), ("a:b", "'a:b' is not"), ("-1:5", "'-1:5' is not"),
                                        ("9:5", "cycle 9 comes after cycle 5"), ("", "'' is not")])
def test_no_cycles(text, what):
    with pytest.raises(typer.BadParameter, match=f"^{what}"):
        cycle_window(text)
