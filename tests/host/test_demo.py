"""The parts of the demo that need no guest: file server, cable, capture, report, steps."""

import hashlib
from io import StringIO
import json
import socket
import time
import urllib.request

import pytest
from rich.console import Console
from scapy.utils import RawPcapReader
from typer.testing import CliRunner

from ringnic.host.cli import app
from ringnic.host.guest.cable import plugged
from ringnic.host.guest.demo import Steps, negotiated
from ringnic.host.guest.network import Pcap, Watched, open_tap, socket_network, tap_addresses
from ringnic.host.guest.report import Report, mbit_s
from ringnic.host.guest.transfer import Transfer, serve


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Card:
    """The socket's other side, as an end of a cable."""
    def __init__(self, sock):
        sock.setblocking(False)
        self.fileno, self.send = sock.fileno, sock.send
        self._sock = sock

    def recv(self):
        try:
            return self._sock.recv(65536)
        except BlockingIOError:
            return None


def test_transfer():
    data = bytes(range(256)) * 2000
    transfer = Transfer(data)
    with serve(transfer):
        with urllib.request.urlopen(f"http://127.0.0.1:{transfer.port}/file") as answer:
            assert answer.read() == data
        assert transfer.get_done.wait(5) and transfer.sent == len(data) and transfer.get_seconds > 0
        with socket.create_connection(("127.0.0.1", transfer.port)) as sock:  # as netcat does it
            sock.sendall(b"PUT /file HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            sock.shutdown(socket.SHUT_WR)
            assert sock.makefile("rb").read().startswith(b"HTTP/1.0 200")
    assert transfer.received_digest == transfer.digest == hashlib.sha256(data).hexdigest()
    assert transfer.put_seconds > 0


def test_transfer_cut_short():
    transfer = Transfer(b"x" * (8 << 20))
    with serve(transfer):
        with socket.create_connection(("127.0.0.1", transfer.port)) as sock:
            sock.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            sock.recv(100)
        with socket.create_connection(("127.0.0.1", transfer.port)) as sock:
            sock.sendall(b"PUT /file HTTP/1.0\r\nContent-Length: 100\r\n\r\nshort")
            sock.shutdown(socket.SHUT_WR)
            sock.makefile("rb").read()
    assert not transfer.get_done.is_set()
    assert transfer.received_digest != transfer.digest


def test_cable_carries_both_ways():
    with socket_network() as (left, left_card), socket_network() as (right, right_card):
        with plugged(left, right):
            one, other = Card(left_card), Card(right_card)
            for n in range(300):
                one.send(bytes([n % 256]) * (60 + n))
                until(lambda: (got := other.recv()) and got == bytes([n % 256]) * (60 + n))
            other.send(b"back")
            until(lambda: one.recv() == b"back")


def test_cable_tells_of_a_failure():
    with socket_network() as (left, left_card), socket_network() as (right, _right_card):
        def broken(_frame):
            raise RuntimeError("broken")
        right.send = broken
        with pytest.raises(RuntimeError, match="broken"), plugged(left, right):
            left_card.send(b"frame")
            time.sleep(0.1)


def test_network_whose_peer_is_gone():
    with socket_network() as (network, theirs):
        theirs.close()
        network.send(b"lost")
        assert network.recv() is None


def test_pcap(tmp_path):
    times = iter([0.5, 2.000001])
    with socket_network() as (network, theirs), open(tmp_path / "p", "wb") as file:
        seen = Watched(network, Pcap(file, lambda: next(times)).write)
        assert seen.fileno() == network.fileno() and seen.recv() is None
        seen.send(b"a" * 60)
        theirs.send(b"b" * 61)
        assert seen.recv() == b"b" * 61
        assert theirs.recv(100) == b"a" * 60
    with RawPcapReader(str(tmp_path / "p")) as reader:
        assert reader.linktype == 1
        packets = [(data, meta.sec, meta.usec) for data, meta in reader]
    assert packets == [(b"a" * 60, 0, 500000), (b"b" * 61, 2, 1)]


def test_tap_that_is_not_there():
    with pytest.raises(OSError, match="^no-such-tap is no interface with an IPv4 address .*ip tuntap add"):
        tap_addresses("no-such-tap")
    assert tap_addresses("lo")[0] == "127.0.0.1"
    with pytest.raises(OSError, match="^There is no interface no-such-tap. .*ip tuntap add"), open_tap("no-such-tap"):
        pass
    with pytest.raises(OSError, match="^lo is no tap interface"), open_tap("lo"):
        pass


def filled():
    return Report(kernel="6.1", driver="virtio_net", pci_id="1af4:1041", ring="packed", features=["mac", "ring_packed"],
                  queue_pairs=4, ping_rtt_ms=[3.0, 1.0, 2.0], ping_sent=4,
                  transfer_bytes=1_000_000, tcp_rx_seconds=2.0, tcp_tx_seconds=4.0,
                  sha256={"host": "a", "guest": "a", "returned": "a"}, cycles=1000, cycles_per_second=10.0,
                  counters={"packets_tx": 30, "packets_rx": 70, "tlps": 250, "link_bytes": 1000, "kicks": 5, "interrupts": 6,
                            "drops": 0})


def test_report(tmp_path):
    report = filled()
    report.write(tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())
    expected = {"ok": True, "ping_lost": 1, "ping_rtt_ms_median": 2.0, "tcp_rx_mbit_s": 4.0, "tcp_tx_mbit_s": 2.0,
                "sha256_ok": True, "ring": "packed", "features": ["mac", "ring_packed"], "queue_pairs": 4,
                "packets_tx": 30, "tlps_per_packet": 2.5, "link_bytes_per_packet": 10.0, "drops": 0}
    assert {name: found[name] for name in expected} == expected
    assert mbit_s(1, 0) == 0


@pytest.mark.parametrize("sha256", [{}, {"host": "a", "guest": "a"}, {"host": "a", "guest": "a", "returned": "b"}])
def test_report_needs_all_hashes(sha256):
    assert not Report(sha256=sha256).sha256_ok


@pytest.mark.parametrize("report", [Report(), filled()])
def test_table(report):
    text = StringIO()
    Console(file=text, width=100).print(report.table())
    assert ("1,000" in text.getvalue()) == bool(report.counters)
    assert ("4, packed" in text.getvalue() and "mac, ring_packed" in text.getvalue()) == bool(report.ring)


class Answers:
    """A guest with two lines to say."""
    def __init__(self, *lines):
        self.run = lambda command: list(lines)


@pytest.mark.parametrize("bits, pairs, ring, features, said", [
    ({5, 29, 32, 34}, 4, "packed", ["event_idx", "mac", "ring_packed", "version_1"],
     "packed rings, 4 queue pairs, 4 features"),
    ({5, 32}, 1, "split", ["mac", "version_1"], "split rings, 1 queue pair, 2 features"),
])
def test_what_was_agreed_upon(bits, pairs, ring, features, said):
    report, texts = Report(), []
    negotiated(Answers("".join(str(int(bit in bits)) for bit in range(64)), str(pairs)), report, texts.append)
    assert (report.ring, report.features, report.queue_pairs, texts) == (ring, features, pairs, [said])


@pytest.mark.parametrize("arguments, message", [
    (["demo", "--features", "mq"], "mq needs ctrl_vq, which is not offered"),
    (["demo", "--features", "-ctrl_vq"], "mq needs ctrl_vq, which is not offered"),
    (["demo", "--pairs", "1", "--features", "+mq"], "this card does not have mq; it has access_platform, ctrl_vq"),
    (["demo", "--features", "ring_paked"], "did you mean ring_packed?"),
    (["bench", "--features", "rss"], "this card does not have rss"),
    (["test", "--features", "mq"], "mq needs ctrl_vq, which is not offered"),
    (["demo", "--pairs", "17"], "Invalid value for '--pairs'"),
    (["demo", "--board", "ax7230"], "no board is called 'ax7230'; did you mean ax7203"),
    (["demo", "--board", "captain_100t"], "captain_100t has no Ethernet; `ringnic conformance --board captain_100t`"),
    (["demo", "--board", "ax7203", "--pairs", "2"], "--features and --pairs are for `ringnic build`"),
])
def test_cards_that_there_cannot_be(arguments, message):
    done = CliRunner().invoke(app, arguments, env={"TERMINAL_WIDTH": "400", "NO_COLOR": "1"})
    said = " ".join(word for word in done.stderr.split() if word != "│")  # however wide the frame around it is
    assert done.exit_code == 2 and message in said


def test_steps():
    text = StringIO()
    steps = Steps(Console(file=text, width=100))
    with steps("First") as update:
        update("half")
        update("all [of it]")
    with pytest.raises(KeyError), steps("Second") as update:
        update("half")
        raise KeyError
    assert text.getvalue().splitlines()[-2:] == ["✓ First  all [of it]", "✗ Second  half"]
