"""How errors and progress are told, and what a report says of its run."""

import errno
from io import StringIO
import json
import sys

import pytest
from rich.console import Console

import ringnic
from ringnic.host import cli
from ringnic.host.errors import complain, naming, told
from ringnic.host.guest.demo import Steps
from ringnic.host.guest.network import open_pcap
from ringnic.host.progress import bar, working
from ringnic.host.results import write_json

FULL = "/dev/full"


@pytest.mark.parametrize("error, text", [
    (ValueError("a thing is wrong; do this"), "a thing is wrong; do this"),
    (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b: No space left on device"),
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    (OSError("words"), "words"),
])
def test_no_class_and_no_number(error, text, capsys):
    assert told(error) == text
    complain(error)
    assert capsys.readouterr() == ("", f"ringnic: {text}\n")


def test_a_long_line_is_not_broken(capsys):
    complain("x" * 300)
    assert capsys.readouterr().err == f"ringnic: {'x' * 300}\n"


def test_an_error_gets_the_name_of_its_file():
    with pytest.raises(OSError) as unnamed, naming("mine"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError) as named, naming("mine"):
        raise OSError(errno.ENOSPC, "No space left on device", "other")
    assert (unnamed.value.filename, named.value.filename) == ("mine", "other")


def test_a_full_disk_names_the_file():
    with pytest.raises(OSError) as of_capture, open_pcap(FULL):
        pass
    with pytest.raises(OSError) as of_report:
        write_json(FULL, {})
    assert told(of_capture.value) == told(of_report.value) == f"{FULL}: No space left on device"


def test_an_error_that_no_command_expects(monkeypatch, capsys):
    def app():
        raise OSError(errno.ENOSPC, "No space left on device", "/a/b")
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1 and capsys.readouterr() == ("", "ringnic: /a/b: No space left on device\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_steps_tell_of_their_begin_without_a_terminal(terminal, capsys):
    file = StringIO()
    with Steps(Console(file=file, width=40, force_terminal=terminal))("A step") as update:
        update("and what came of it, " * 5)
    begin = capsys.readouterr().err
    assert begin == ("" if terminal else "ringnic: A step ...\n")
    assert terminal or file.getvalue() == f"✓ A step  {'and what came of it, ' * 5}\n"


def test_what_a_report_says_of_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/ringnic", "fuzz", "--report", "a b.json"])
    write_json(tmp_path / "a.json", {"found": 1}, seed=7, build_id="0000beef")
    found = json.loads((tmp_path / "a.json").read_text())
    about = found["ringnic"]
    assert found["found"] == 1 and about["version"] == ringnic.__version__
    assert (about["command"], about["seed"], about["build_id"]) == ("ringnic fuzz --report 'a b.json'", 7, "0000beef")
    assert about["began"] <= about["ended"] and {"commit"} <= about.keys()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_lines_without_a_terminal(terminal, capsys):
    file = StringIO()
    with bar(Console(file=file, width=40, force_terminal=terminal), 2) as progress:
        progress.begins("[one]")
        progress.ends("[one]: done")
        progress.begins("two", "one, two")
        progress.shows("[red]half[/] of two")
        progress.ends()
    assert capsys.readouterr().err == ("" if terminal else "ringnic: [one] ...\nringnic: [one]: done\nringnic: two ...\n")
    assert bool(file.getvalue()) == terminal


def test_nothing_of_a_quiet_console(capsys):
    console = Console(quiet=True)
    with bar(console, 1) as progress, working(console, "a thing"):
        progress.begins("one")
        progress.ends("one: done")
    assert capsys.readouterr() == ("", "")
