"""Options that commands share."""

import pytest
import typer

from ringnic.host.options import out_file


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
