"""``ringnic serve`` as somebody uses it: the command in a process of its own, and guests attached with the lines it prints."""

from contextlib import ExitStack, contextmanager
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading

import pytest

from ringnic.host.guest.assets import find_kernel, find_qemu
from ringnic.host.guest.demo import ping_command
from ringnic.host.guest.qemu import start_guest

PATIENCE = 600             # seconds, for a build of the model


class Served:
    """``cards``: QEMU options of each, as printed; ``addresses``: MAC addresses."""
    def __init__(self, process, cards):
        self.process = process
        self.cards = []
        self.addresses = []
        text = ""
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        for line in process.stdout:
            text += line
            if "-device" in line and line.startswith("  -object"):
                # The machine's memory is in the lines, too; start_guest() gives a machine the same.
                self.cards.append(shlex.split(line)[4:])
            if found := re.search(r"MAC address (\S+)", line):
                self.addresses.append(found[1])
            if line.startswith("  --memory") and len(self.cards) == cards:
                break
        watchdog.cancel()
        assert len(self.cards) == cards, text


@contextmanager
def serving(*words, cards):
    argv = [sys.executable, "-c", "from ringnic.host.cli import main; main()", "serve", *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Served(process, cards)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture
def start(initramfs, tmp_path):
    """Start a guest that has booted, with these QEMU options for its card."""
    image = tmp_path / "initramfs.gz"
    image.write_bytes(initramfs("6.1"))
    with ExitStack() as stack:
        def start(device, number):
            guest = stack.enter_context(start_guest(find_qemu(), find_kernel(), image, device))
            guest.wait_ready()
            guest.run(f"ip link set eth0 up && ip addr add 10.9.0.{number}/24 dev eth0")
            return guest
        yield start


def ping(guest, number, count=5):
    """Pings without an answer. The first may wait for the guest's link and for an address."""
    return count - len(guest.run(ping_command(count, f"10.9.0.{number}"), check=False)[1])


def test_two_guests_on_a_cable_and_one_after_another(start, tmp_path):
    one, two = tmp_path / "one.sock", tmp_path / "two.sock"
    with serving(one, two, "--mac", "02:00:00:00:00:fe", "--mtu", 1500, cards=2) as served:
        assert served.addresses == ["02:00:00:00:00:fe", "02:00:00:00:00:ff"]
        first, second = start(served.cards[0], 1), start(served.cards[1], 2)
        assert first.run("cat /sys/class/net/eth0/address") == ["02:00:00:00:00:fe"]
        assert ping(first, 2) == ping(second, 1) == 0
        second.send("poweroff -f")
        assert second._process.wait(PATIENCE) == 0
        third = start(served.cards[1], 3)
        assert ping(third, 1) == ping(first, 3) == 0
    assert not one.exists() and not two.exists()


class Noise:
    """A program at the other end of a dgram cable that sends what is no frame, as fast as it can."""
    def __init__(self, ours, theirs):
        self._theirs = theirs
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(ours))
        self._socket.setblocking(False)
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _run(self):
        rng = random.Random(1)
        while not self._stop.wait(0.01):
            raw = rng.randbytes(rng.choice((0, 1, 13, 14, 59, 60, 1518, 1519, 9000, 40_000)))
            try:
                self._socket.sendto(bytes([255] * 6)[:len(raw)] + raw[6:], str(self._theirs))
                self.sent += 1
            except OSError:
                pass  # its queue is full


def test_three_guests_on_a_switch_one_of_them_a_plain_qemu(start, tmp_path):
    """Two cards and QEMU's own network card at the other end of a dgram cable; then a program there that sends noise."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with serving(tmp_path / "one.sock", tmp_path / "two.sock", "--cable", f"dgram:{ours},{theirs}", "--pcap", tmp_path / "p.pcap",
                 cards=2) as served:
        plain = start(["-netdev", f"dgram,id=net,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}",
                       "-device", "virtio-net-pci,netdev=net,mac=02:00:00:00:00:33,romfile="], 3)
        first, second = start(served.cards[0], 1), start(served.cards[1], 2)
        assert ping(first, 2) == ping(second, 3) == ping(plain, 1) == 0
        plain.send("poweroff -f")
        assert plain._process.wait(PATIENCE) == 0
        if os.path.exists(theirs):
            os.unlink(theirs)
        with Noise(theirs, ours) as noise:
            assert ping(first, 2, 20) == ping(second, 1, 20) == 0
        assert noise.sent > 20
    assert (tmp_path / "p.pcap").stat().st_size > 24
