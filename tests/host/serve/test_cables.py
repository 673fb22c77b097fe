"""What ``--cable`` means, and another program at the other end."""

from contextlib import contextmanager
import os
import shutil
import socket
import subprocess
import time

import pytest

from ringnic.host.guest.assets import Qemu
from ringnic.host.guest.network import dgram_network
from ringnic.host.serve.cables import Cable, network_of, parse_cable, plug
from ringnic.host.sockets import PathError


@pytest.mark.parametrize("text, cards, cable", [
    (None, 1, Cable("user")),
    (None, 2, Cable("between")),
    ("user", 3, Cable("user")),
    ("none", 1, Cable("none")),
    ("tap:tap0", 1, Cable("tap", tap="tap0")),
    ("dgram:/run/a,/run/b", 1, Cable("dgram", local="/run/a", peer="/run/b")),
    ("dgram:./a,./b", 1, Cable("dgram", local=os.path.abspath("a"), peer=os.path.abspath("b"))),
    ("dgram:127.0.0.1:5000,localhost:5001", 2, Cable("dgram", local=("127.0.0.1", 5000), peer=("localhost", 5001))),
    ("dgram:[::1]:5000,[::1]:5001", 1, Cable("dgram", local=("::1", 5000), peer=("::1", 5001))),
])
def test_cables(text, cards, cable):
    assert parse_cable(text, cards) == cable


@pytest.mark.parametrize("text, cards, what", [
    ("usr", 1, "'usr' is none of user, tap:NAME, dgram:LOCAL,PEER, between, none"),
    ("tap", 1, "'tap' is none of"),
    ("tap:", 1, "'tap:' is none of"),
    ("tap:0123456789abcdef", 1, "'0123456789abcdef' cannot be the name of an interface"),
    ("tap:../x", 1, "'../x' cannot be the name"),
    ("user:x", 1, "'user:x' is none of"),
    ("between", 1, "a cable between cards needs two sockets or more"),
    ("dgram:/a", 1, "dgram needs two places"),
    ("dgram:/a,127.0.0.1:1", 1, "dgram needs two paths, or two of ADDRESS:PORT"),
    ("dgram:127.0.0.1:1,[::1]:2", 1, "dgram needs two IPv4 addresses, or two IPv6 addresses"),
    ("dgram:127.0.0.1:0,127.0.0.1:1", 1, "'127.0.0.1:0' is neither"),
    ("dgram:127.0.0.1:65536,127.0.0.1:1", 1, "'127.0.0.1:65536' is neither"),
    ("dgram:somewhere:1,127.0.0.1:1", 1, "'somewhere' is no IP address"),
])
def test_no_cables(text, cards, what):
    with pytest.raises(ValueError) as caught:
        parse_cable(text, cards)
    assert str(caught.value).startswith(what)


def receive(network):
    for _ in range(1000):
        if (frame := network.recv()) is not None:
            return frame
        time.sleep(0.001)


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_datagrams(tmp_path, kind):
    """One program's frames come, nobody else's; it may start later, and again."""
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        if kind == "unix":
            ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
            stranger.bind(str(tmp_path / "stranger"))
        else:
            ours, theirs = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
        with dgram_network(ours, theirs) as network:
            network.send(b"nobody is there")
            assert network.recv() is None
            for _ in range(2):
                with socket.socket(stranger.family, socket.SOCK_DGRAM) as peer:
                    peer.bind(theirs)
                    stranger.sendto(b"from a stranger", ours)
                    peer.sendto(b"", ours)
                    peer.sendto(b"frame", ours)
                    assert receive(network) == b"frame"
                    network.send(b"answer")
                    assert peer.recv(100) == b"answer"
                if kind == "unix":
                    os.unlink(theirs)
        if kind == "unix":
            assert not os.path.exists(ours)


def test_a_peer_of_another_user_is_none(tmp_path, monkeypatch):
    """Whoever was first at the path of the peer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer, \
            dgram_network(str(tmp_path / "a"), str(tmp_path / "b")) as network:
        peer.bind(str(tmp_path / "b"))
        peer.setblocking(False)
        network.send(b"ours")
        assert peer.recv(100) == b"ours"
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        if os.getuid() == 0:  # whose sockets everybody trusts
            os.chown(tmp_path / "b", 65534, -1)
        network.send(b"secret")
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        peer.sendto(b"made up", str(tmp_path / "a"))
        assert network.recv() is None


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_datagrams_where_somebody_is(tmp_path):
    with dgram_network(str(tmp_path / "a"), str(tmp_path / "b")):
        with pytest.raises(PathError, match="in use by another process"), dgram_network(str(tmp_path / "a"), str(tmp_path / "b")):
            pass
    port = free_port()
    with dgram_network(("127.0.0.1", port), ("127.0.0.1", 9)):
        with pytest.raises(OSError, match=f"No socket at 127.0.0.1 port {port}: Address already in use"):
            with dgram_network(("127.0.0.1", port), ("127.0.0.1", 9)):
                pass


class End:
    """An end of a cable that a test holds."""
    def __init__(self, broken=False):
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.theirs.settimeout(10)
        self.fileno = self.ours.fileno
        self._broken = broken

    def send(self, frame):
        if self._broken:
            raise OSError("The disk is full")
        self.ours.send(frame)

    def recv(self):
        try:
            return self.ours.recv(65536)
        except BlockingIOError:
            return None

    def close(self):
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def ends():
    made = [End() for _ in range(3)]
    yield made
    for end in made:
        end.close()


@contextmanager
def together(cable, cards, qemu=None):
    """The cards on a cable to the network that it is about."""
    with network_of(cable, qemu) as networks, plug(cable, cards, networks) as failed:
        yield failed


# Of an EtherType for local experiments, which no firewall looks into (IEEE 802, 9.2.4).
FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + b"hello".ljust(46, b"\0")
ANSWER = bytes.fromhex("02000000000102000000000288b5") + b"hello, too".ljust(46, b"\0")


@pytest.mark.parametrize("cards", [2, 3])
def test_between(ends, cards, tmp_path):
    with plug(Cable("between"), ends[:cards], [], pcap=tmp_path / "p.pcap") as failed:
        ends[0].theirs.send(FRAME)
        for end in ends[1:cards]:
            assert end.theirs.recv(1000) == FRAME
        assert failed() is None
    # A header of 24 bytes, and the frame once behind 16 bytes of its own.
    assert (tmp_path / "p.pcap").stat().st_size == 24 + 16 + len(FRAME)


@pytest.mark.parametrize("cards", [1, 2])
def test_cards_and_a_program(ends, tmp_path, cards):
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    with together(Cable("dgram", local=ours, peer=theirs), ends[:cards]), \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(theirs)
        peer.sendto(FRAME, ours)
        for end in ends[:cards]:
            assert end.theirs.recv(1000) == FRAME
        peer.settimeout(10)
        ends[0].theirs.send(ANSWER)
        assert peer.recv(1000) == ANSWER


def test_a_cable_that_breaks_is_told_of(ends):
    ends[1].close()
    ends[1] = End(broken=True)
    with pytest.raises(OSError, match="The disk is full"), plug(Cable("between"), ends[:2], []) as failed:
        ends[0].theirs.send(FRAME)
        while failed() is None:
            time.sleep(0.001)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def taps():
    """Names of two tap interfaces in a bridge, without addresses."""
    if os.geteuid() or not os.path.exists("/dev/net/tun") or not shutil.which("ip"):
        pytest.skip("root, /dev/net/tun and iproute2 are needed to make a tap interface")
    names = [f"rt{os.getpid() % 10_000}{k}" for k in "ab"]
    bridge = f"rb{os.getpid() % 10_000}"
    try:
        try:
            ip("link", "add", bridge, "type", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no bridge can be made here: {error.stderr.decode().strip()}")
        for name in names:
            ip("tuntap", "add", name, "mode", "tap")
            ip("link", "set", name, "master", bridge, "up")
        ip("link", "set", bridge, "up")
        yield names
    finally:
        for name in (*names, bridge):
            subprocess.run(["ip", "link", "del", name], capture_output=True)


def test_a_tap_in_a_bridge(ends, taps):
    """A card's frame leaves by one tap, passes the kernel's bridge, and comes to another card by the other."""
    with together(Cable("tap", tap=taps[0]), ends[:1]), together(Cable("tap", tap=taps[1]), ends[1:2]):
        with pytest.raises(OSError, match="another program has it open"), together(Cable("tap", tap=taps[0]), ends[2:]):
            pass
        ends[1].theirs.settimeout(0.2)
        for _ in range(100):  # the bridge takes a moment to see that its ports are up
            ends[0].theirs.send(FRAME)
            try:
                while ends[1].theirs.recv(2000) != FRAME:
                    pass
                break
            except TimeoutError:
                pass
        else:
            pytest.fail("No frame has come")


def test_a_tap_that_is_removed_is_told_of(ends, taps):
    with pytest.raises(OSError, match=f"The tap interface {taps[0]} was removed"), \
            together(Cable("tap", tap=taps[0]), ends[:1]) as failed:
        ip("link", "del", taps[0])
        while failed() is None:
            time.sleep(0.01)


def test_a_user_network_that_ends_is_told_of(ends, tmp_path):
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    with together(Cable("user"), ends[:1], lambda: Qemu((str(program),), "11")) as failed:
        while failed() is None:
            time.sleep(0.01)
        assert str(failed()) == "The user network's QEMU has ended"
