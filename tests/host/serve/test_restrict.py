"""The user network that ``--restrict`` closes: QEMU's own, with nobody but this test as a guest."""

import socket
import time

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether

from ringnic.host.guest.assets import find_qemu
from ringnic.host.guest.network import GATEWAY, user_network

GUEST, ADDRESS = "52:54:00:00:00:01", "10.0.2.15"
SECONDS = 60               # for an answer


def answer(network, port):
    """Try to open a connection to a port of the host's loopback; the flags of what comes back, or None."""
    who_has = Ether(src=GUEST, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=GUEST, psrc=ADDRESS, pdst=GATEWAY)
    network.send(bytes(who_has).ljust(60, b"\0"))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if (frame := network.recv()) is None:
            time.sleep(0.01)
            continue
        packet = Ether(frame)
        if ARP in packet and packet[ARP].op == 2 and packet[ARP].psrc == GATEWAY:
            syn = Ether(src=GUEST, dst=packet.src) / IP(src=ADDRESS, dst=GATEWAY) / TCP(sport=4000, dport=port, flags="S")
            network.send(bytes(syn).ljust(60, b"\0"))
        elif ARP in packet and packet[ARP].op == 1 and packet[ARP].pdst == ADDRESS:
            reply = Ether(src=GUEST, dst=packet.src) / ARP(op=2, hwsrc=GUEST, psrc=ADDRESS, hwdst=packet.src, pdst=GATEWAY)
            network.send(bytes(reply).ljust(60, b"\0"))
        elif TCP in packet:
            return str(packet[TCP].flags)
    return None


@pytest.mark.parametrize("restrict", [False, True])
def test_the_host_behind_the_user_network(restrict):
    with socket.create_server(("127.0.0.1", 0)) as listener, user_network(find_qemu(), restrict=restrict) as network:
        # RFC 9293, 3.5: SYN and ACK accept, RST and ACK refuse.
        assert answer(network, listener.getsockname()[1]) == ("RA" if restrict else "SA")
        listener.setblocking(False)
        if restrict:
            with pytest.raises(BlockingIOError):
                listener.accept()
        else:
            listener.accept()[0].close()
