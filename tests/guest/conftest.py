"""A card that is known to be good: QEMU's own virtio-net, at the same seam as ours."""

from contextlib import contextmanager

import pytest

from ringnic.host.guest.network import socket_network


class ReferenceCard:
    def __init__(self, network, theirs):
        self._network = network
        self.pass_fds = (theirs.fileno(),)
        self.qemu_options = ["-netdev", f"dgram,id=net,local.type=fd,local.str={theirs.fileno()}",
                             "-device", "virtio-net-pci,netdev=net,disable-legacy=on,romfile="]
        self.fileno, self.send, self.recv = network.fileno, network.send, network.recv

    def fill(self, report):
        report.counters = {"drops": 0}


@contextmanager
def make_reference_card(_socket_path, *, seed, wave, tlp, update):
    with socket_network() as (network, theirs):
        yield ReferenceCard(network, theirs)


@pytest.fixture
def reference_card():
    return make_reference_card
