"""The learning switch: it forwards frames as the standard says, and no peer can exhaust or block it."""

import random
import threading

import pytest

from ringnic.host.serve.switch import ADDRESSES, FRAMES, Switch

A, B, C = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3))
BROADCAST, GROUP = bytes([255] * 6), bytes.fromhex("01005e000001")


def frame(to, sender, payload=b"payload"):
    return to + sender + b"\x08\x00" + payload.ljust(46, b"\0")


@pytest.fixture
def ports():
    with Switch() as switch:
        yield [switch.port() for _ in range(3)]


def waiting(port):
    found = []
    while (one := port.recv()) is not None:
        found.append(one)
    return found


def test_an_unknown_destination_gets_there_by_flooding_and_an_answer_directly(ports):
    one, two, three = ports
    one.send(frame(B, A))
    assert (waiting(one), waiting(two), waiting(three)) == ([], [frame(B, A)], [frame(B, A)])
    two.send(frame(A, B))
    assert (waiting(one), waiting(two), waiting(three)) == ([frame(A, B)], [], [])
    one.send(frame(B, A))
    assert (waiting(one), waiting(two), waiting(three)) == ([], [frame(B, A)], [])


@pytest.mark.parametrize("group", [BROADCAST, GROUP])
def test_groups_get_everywhere_else(ports, group):
    ports[1].send(frame(group, B))
    assert [len(waiting(port)) for port in ports] == [1, 0, 1]


def test_a_station_that_moves_is_found_at_its_new_place(ports):
    one, two, three = ports
    one.send(frame(BROADCAST, A))
    three.send(frame(BROADCAST, A))
    for port in ports:
        waiting(port)
    two.send(frame(A, B))
    assert [len(waiting(port)) for port in ports] == [0, 0, 1]


def test_a_frame_to_ones_own_port_goes_nowhere(ports):
    ports[0].send(frame(BROADCAST, A))
    ports[0].send(frame(BROADCAST, C))
    for port in ports:
        waiting(port)
    ports[0].send(frame(C, A))
    assert [len(waiting(port)) for port in ports] == [0, 0, 0]


def test_a_group_is_no_sender(ports):
    ports[0].send(frame(BROADCAST, GROUP))
    for port in ports:
        waiting(port)
    ports[1].send(frame(GROUP, B))
    assert [len(waiting(port)) for port in ports] == [1, 0, 1]


@pytest.mark.parametrize("last, forwarded", [(0x00, False), (0x01, False), (0x0f, False), (0x10, True)])
def test_reserved_addresses_are_not_forwarded(ports, last, forwarded):
    """802.1Q, 8.6.3: such as pause frames and spanning trees."""
    ports[0].send(frame(bytes.fromhex("0180c20000") + bytes([last]), A))
    assert [len(waiting(port)) for port in ports] == [0, forwarded, forwarded]


@pytest.mark.parametrize("length", range(15))
def test_what_is_shorter_than_a_header_is_dropped(ports, length):
    ports[0].send(bytes(BROADCAST + A + b"\x08\x00")[:length])
    assert [len(waiting(port)) for port in ports] == [0, length == 14, length == 14]


def test_a_port_that_does_not_keep_up_loses_frames_and_holds_up_nobody(ports):
    one, two, three = ports
    for number in range(FRAMES + 5):
        one.send(frame(BROADCAST, A, b"%d" % number))
        assert waiting(three) == [frame(BROADCAST, A, b"%d" % number)]
    assert waiting(two) == [frame(BROADCAST, A, b"%d" % number) for number in range(FRAMES)]
    assert (two.dropped, three.dropped) == (5, 0)


def test_made_up_addresses_do_not_fill_the_memory(ports):
    one, two, three = ports
    two.send(frame(BROADCAST, B))
    for number in range(ADDRESSES + 1):
        one.send(frame(B, b"\x02\x01" + number.to_bytes(4, "big")))
        two.send(frame(A, B))  # heard of again and again, so it is not what is forgotten
    assert len(one._switch._places) == ADDRESSES
    for port in ports:
        waiting(port)
    one.send(frame(B, A))
    assert [len(waiting(port)) for port in ports] == [0, 1, 0]


def test_many_threads(ports):
    """No frame is lost, doubled or made up when all ports send and receive at once."""
    rng = random.Random(1)
    plan = [[rng.randrange(100) for _ in range(2000)] for _ in ports]
    got = [[] for _ in ports]
    sent = threading.Event()

    def send(at):
        for number, value in enumerate(plan[at]):
            while len(ports[(at + 1) % 3]._frames) > FRAMES - 8:
                pass
            ports[at].send(frame(bytes([2, 0, 0, 0, 0, (at + 1) % 3]), bytes([2, 0, 0, 0, 0, at]), b"%d %d" % (number, value)))

    def receive(at):
        while True:
            over = sent.is_set()
            found = waiting(ports[at])
            got[at] += found
            if over and not found:
                return
    for at, port in enumerate(ports):
        port.send(frame(BROADCAST, bytes([2, 0, 0, 0, 0, at])))
    for port in ports:
        waiting(port)
    senders = [threading.Thread(target=send, args=(at,)) for at in range(3)]
    receivers = [threading.Thread(target=receive, args=(at,)) for at in range(3)]
    for thread in senders + receivers:
        thread.start()
    for thread in senders:
        thread.join()
    sent.set()
    for thread in receivers:
        thread.join()
    for at in range(3):
        source = (at - 1) % 3
        assert got[at] == [frame(bytes([2, 0, 0, 0, 0, at]), bytes([2, 0, 0, 0, 0, source]), b"%d %d" % (number, value))
                           for number, value in enumerate(plan[source])]
