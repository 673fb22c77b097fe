"""A wrong command line is told of in one line on standard error, in words for people."""

import pytest
from typer.testing import CliRunner

from ringnic.host.cli import app


def run(*argv):
    return CliRunner().invoke(app, argv)


@pytest.mark.parametrize("argv, words", [
    (("serve", "a.sock", "--width", "33"), "'--width': '33' is not one of '64', '128'"),
    (("serve", "a.sock", "--card", "disk"), "'--card': 'disk' is not one of 'net', 'entropy'"),
    (("serve", "a.sock", "--mtu", "10"), "'--mtu': '10' should be greater than or equal to 68"),
    (("serve",), "Missing argument 'SOCKET'"),
    (("demo", "--accel", "foo"), "'--accel': 'foo' is not one of 'tcg', 'kvm', 'auto'"),
    (("demo", "--add", "/no/such/file"), "'--add': file '/no/such/file' does not exist"),
    (("area", "--width", "33"), "'--width': '33' is not one of '64', '128'"),
    (("area", "--pairs", "0"), "'--pairs': '0' should be greater than or equal to 1"),
    (("fuzz", "--seconds", "abc"), "'--seconds': 'abc' should be a valid number"),
    (("test", "--level", "all"), "'--level': 'all' is not one of 'unit'"),
    (("bench", "--nope"), "No such option: --nope"),
    (("demo", "--board"), "Option '--board' requires an argument"),
    (("demo", "--wave-cycles", "9:2"), "cycle 9 comes after cycle 2"),
    (("nope",), "No such command 'nope'"),
])
def test_one_line(argv, words):
    found = run(*argv)
    assert found.exit_code == 2 and found.stdout == ""
    assert found.stderr.startswith("ringnic: ") and found.stderr.count("\n") == 1 and words in found.stderr
    assert "rror" not in found.stderr and "Input" not in found.stderr
    assert "-h` shows what there is" in found.stderr


def test_no_command_is_help():
    found = run()
    assert found.exit_code == 2 and "Usage: " in found.output and found.stderr == ""


def test_what_is_not_wrong_ends_as_before():
    assert run("--version").exit_code == run("demo", "-h").exit_code == 0
    assert run("--version").stdout.startswith("ringnic ")
