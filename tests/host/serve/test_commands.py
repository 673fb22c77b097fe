"""The command line of ``ringnic serve``: what it refuses before a minute goes into building."""

from contextlib import nullcontext
import errno

import pytest
from typer.testing import CliRunner

from ringnic.host.cli import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    def never(options):
        raise AssertionError(f"begun with {options}")
    monkeypatch.setattr("ringnic.host.serve.command.run_serve", never)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        return CliRunner().invoke(app, ["serve", *words], env={"COLUMNS": "200", "TERM": "dumb"})
    return run


@pytest.mark.parametrize("words, what", [
    ((), "Missing argument"),
    (("a", "./a"), "each card needs a path of its own"),
    (("a", "b", "--tlp", "t"), "the packets of one card can be written, not of several"),
    (("a", "--cable", "usr"), "'usr' is none of user"),
    (("a", "--cable", "between"), "needs two sockets or more"),
    (("a", "--cable", "none", "--restrict"), "only the user network can be closed to the host"),
    (("a", "b", "--restrict"), "only the user network can be closed to the host"),
    (("a", "--mac", "x"), "'x' is no MAC address"),
    (("a", "--mac", "03:00:00:00:00:01"), "is the address of a group of stations"),
    (("a", "--board", "ax7202"), "ax7203"),
    (("a", "--board", "ax7203", "--mtu", "9000"), "are those of its build"),
    (("a", "--card", "entropy", "--cable", "user"), "no option of a network card"),
    (("a", "--card", "entropy", "--mtu", "1000"), "no option of a network card"),
    (("a", "--cable", "none", "--pcap", "p"), "there are no frames without a cable"),
    (("a", "--mtu", "67"), "greater than or equal to 68"),
    (("a", "--width", "96"), "96"),
    (("a", "--features", "no_such"), "no_such"),
])
def test_what_is_refused(run, words, what):
    done = run(*words)
    assert done.exit_code == 2 and what in done.output, done.output


@pytest.mark.parametrize("path, what", [("missing/a.sock", "There is no folder"), ("file", "is there already, and is no socket")])
def test_a_bad_place_is_told_of_at_once(tmp_path, capfd, path, what):
    from ringnic.host.serve.command import ServeOptions, run_serve
    (tmp_path / "file").write_text("mine")
    assert run_serve(ServeOptions((tmp_path / path,))) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("ringnic: ") and what in err and err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_entropy_card_on_a_full_disk(monkeypatch, tmp_path, capfd):
    """The run ends when the disk is full, and names the file."""
    from ringnic.host.guest.card import EntropyCard
    from ringnic.host.serve.command import ServeOptions, run_serve

    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "/the/file")
    monkeypatch.setattr("ringnic.host.serve.command.entropy_card", lambda place, **options: nullcontext(EntropyCard([], full)))
    assert run_serve(ServeOptions((tmp_path / "card.sock",), card="entropy")) == 1
    assert capfd.readouterr().err.endswith("ringnic: /the/file: No space left on device\n")
