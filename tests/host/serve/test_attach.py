"""The command line of ``ringnic attach``: what it refuses, what it prints, and how it ends."""

import os
from pathlib import Path
import signal
import socket
import stat
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ringnic.host.cli import app
from ringnic.host.serve.attach import AttachOptions, number_or_text, run_attach

SOURCE = Path(__file__).parents[2] / "sim/attach/scrambler.v"
VERILOG = ("--verilog", "a.v", "--top", "a")


@pytest.mark.parametrize("words, what", [
    (("s",), "either --verilog FILE with --top MODULE, or --amaranth MODULE:CLASS"),
    (("s", *VERILOG, "--amaranth", "a:B"), "either --verilog FILE with --top MODULE, or --amaranth MODULE:CLASS"),
    (("s", "--verilog", "a.v"), "which module of the files is the endpoint?"),
    (("s", "--amaranth", "a:B", "--port", "clk=c"), "--top, --include and --port are for Verilog"),
    (("s", *VERILOG, "--param", "WIDTH"), "'WIDTH' is not NAME=VALUE"),
    (("s", *VERILOG, "--port", "=clk"), "'=clk' is not NAME=VALUE"),
    (("s", *VERILOG, "--tlp", "missing/t"), "cannot write missing/t"),
])
def test_what_is_refused(words, what, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["attach", *words], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 2 and what in done.output, done.output


@pytest.mark.parametrize("path, verilog, what", [
    ("missing/s", "a.v", "There is no folder"), ("file", "a.v", "is there already, and is no socket"),
    ("s", "a.v", "There is no file a.v"),
    ("s", "file", "Verilator does not accept the endpoint; it says:\n%Error: file:1:1: syntax error")])
def test_what_is_wrong_is_told_of_at_once(path, verilog, what, monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert run_attach(AttachOptions(Path(path), verilog=(Path(verilog),), top="a")) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("ringnic: ") and what in err
    assert sorted(os.listdir()) == ["file"]


@pytest.mark.parametrize("text, value", [("64", 64), ("0x10", 16), ("0b101", 5), ("64'h1f", 31), ("4'sb101", 5),
                                         ("'d12_000", 12000),
                                         ("8'hxz", "8'hxz"), ("text", "text")])
def test_numbers_and_texts(text, value):
    assert number_or_text(text) == value


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_serving_until_a_signal(number, status, tmp_path):
    path = tmp_path / "s"
    words = ["attach", path, "--verilog", SOURCE, "--top", "scrambler", "--param", "WIDTH=64", "--param", "KEY=0x11223344"]
    with subprocess.Popen([sys.executable, "-c", "from ringnic.host.cli import main; main()", *map(str, words)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            said = [process.stdout.readline().rstrip("\n") for _ in range(7)]
            assert said[:6] == [str(path), "BAR 0: 0x1000 bytes, 32-bit memory", "BAR 2: 0x4000 bytes, 64-bit memory",
                                "BAR 4: 0x10 bytes, I/O", "interrupts: MSI-X with 2 vectors, MSI with 2 messages, INTx", ""]
            assert said[6].startswith("QEMU (10.1 or later)")
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            while "the client has gone" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status and not path.exists()
