"""The demo's guest, network and checks, proven with a card that is not ours; and that a run leaves nothing behind."""

from contextlib import contextmanager
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from ringnic.host.guest import demo
from ringnic.host.guest.session import DemoOptions, run_demo


def children(pid):
    """Return the process ids of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has just ended
    return found


def ours():
    """What a run could leave: our child processes, and its temporary folders."""
    return children(os.getpid()), set(Path(tempfile.gettempdir()).glob("ringnic-*"))


@pytest.fixture(autouse=True)
def own_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert ours() == ([], set())


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_demo_holds(kernel, tmp_path, reference_card):
    report = tmp_path / "report.json"
    pcap = tmp_path / "cable.pcap"
    options = DemoOptions(report=report, pcap=pcap, kernel=kernel, size=1 << 20)
    assert run_demo(options, reference_card) == 0
    found = json.loads(report.read_text())
    assert found["ok"] and found["driver"] == "virtio_net" and found["pci_id"] == "1af4:1041"
    assert found["kernel"].startswith(kernel + ".") and found["ping_lost"] == 0 and found["sha256_ok"]
    assert found["tcp_rx_mbit_s"] > 0 and found["tcp_tx_mbit_s"] > 0
    assert len(pcap.read_bytes()) > 2 << 20


def test_a_changed_file_is_noticed(tmp_path, reference_card):
    @contextmanager
    def corrupting(*args, **kwargs):
        with reference_card(*args, **kwargs) as card:
            inner = card.recv

            def recv():
                frame = inner()
                # A TCP payload of the upload, changed with its checksum kept: 16-bit words swapped.
                if frame and len(frame) > 1400 and frame[100:102] != frame[102:104]:
                    frame = frame[:100] + frame[102:104] + frame[100:102] + frame[104:]
                return frame
            card.recv = recv
            yield card
    report = tmp_path / "report.json"
    assert run_demo(DemoOptions(report=report, size=1 << 20), corrupting) == 1
    found = json.loads(report.read_text())
    assert not found["ok"] and "changed on the way" in found["failed"][0]


def test_a_dead_card_is_a_failure_that_says_so(tmp_path, reference_card, monkeypatch):
    monkeypatch.setattr(demo, "DHCP", demo.DHCP.replace("-t 30", "-t 2"))  # of its attempts

    @contextmanager
    def deaf(*args, **kwargs):
        with reference_card(*args, **kwargs) as card:
            card.send = lambda frame: None
            yield card
    report = tmp_path / "report.json"
    assert run_demo(DemoOptions(report=report), deaf) == 1
    assert "udhcpc" in json.loads(report.read_text())["failed"][0]


INTERRUPTED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("cards", {conftest!r})
cards = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cards)
from ringnic.host.guest.card import rtl_card
from ringnic.host.guest.session import DemoOptions, run_demo
reference_card = cards.make_reference_card
sys.exit(run_demo(DemoOptions(size=64 << 20), {card}))
"""


@pytest.mark.parametrize("number, status, until, card", [
    (signal.SIGINT,  130, "✓ Boot", "rtl_card"),
    (signal.SIGINT,  130, "✓ Ping", "reference_card"),
    (signal.SIGTERM, 143, "✓ Ping", "rtl_card"),
    (signal.SIGKILL, -9,  "✓ Ping", "rtl_card"),
])
def test_interrupted_runs_leave_nothing(number, status, until, card, tmp_path):
    program = INTERRUPTED.format(conftest=str(Path(__file__).with_name("conftest.py")), card=card)
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        for line in run.stdout:
            if line.startswith(until):
                break
        running = children(run.pid)
        assert len(running) == 2  # the guest, and the network
        time.sleep(0.3)
        run.send_signal(number)
        run.stdout.read()
        assert run.wait(60) == status
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in running):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = list(tmp_path.glob("ringnic-*"))
    if number == signal.SIGKILL:  # nobody is left to remove a folder; no process stays all the same
        for path in left:
            subprocess.run(["rm", "-r", path], check=True)
    else:
        assert left == []
