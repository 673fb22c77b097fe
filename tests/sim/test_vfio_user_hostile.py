"""What no client should send to the vfio-user server: each gets an error or the door, and the next client is served."""

import array
from contextlib import closing, contextmanager
import errno
import os
import resource
import select
import socket
import struct
import threading
import time

import pytest

from ringnic.sim.vfio_user.server import Server

HEADER = struct.Struct("<HHIII")
VERSION, DMA_MAP, DMA_UNMAP, INFO, REGION, REGION_FDS, IRQ, SET_IRQS, READ, WRITE, DMA_READ, DMA_WRITE, RESET = range(1, 14)
HELLO = HEADER.pack(1, VERSION, HEADER.size + 7, 0, 0) + b"\0\0\0\0{}\0"
FENCE = 0xfe9c  # a message id of a request that is always answered
PAGE = 4096
PATIENCE = 120  # seconds: whatever takes longer hangs


class Peer:
    """Raw bytes to the server and back."""
    def __init__(self, path, hello=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        if hello:
            self.send(HELLO)
            assert self.receive()[:3] == (1, VERSION, 1)

    def close(self):
        self.socket.close()

    def send(self, raw, fds=()):
        """False if the server has closed the connection."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            if rest := raw[self.socket.sendmsg([raw], rights):]:
                self.socket.sendall(rest)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _exactly(self, size):
        data = b""
        try:
            while len(data) < size and (part := self.socket.recv(size - len(data))):
                data += part
        except ConnectionResetError:
            pass
        return data if len(data) == size else None

    def receive(self):
        """One message: id, command, flags, error, body. None if the connection ends before."""
        if (raw := self._exactly(HEADER.size)) is None:
            return None
        ident, command, size, flags, error = HEADER.unpack(raw)
        assert flags in (1, 33) and bool(flags & 32) == bool(error)
        body = self._exactly(size - HEADER.size)
        return None if body is None else (ident, command, flags, error, body)

    def served(self):
        """Whether a proper request is still answered, properly."""
        if not self.send(HEADER.pack(FENCE, INFO, HEADER.size + 16, 0, 0) + struct.pack("<IIII", 16, 0, 0, 0)):
            return False
        while (answer := self.receive()) is not None:
            if answer[0] == FENCE:
                return True
        return False

    def finish(self):
        """Say no more; read what still comes."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        while self.receive() is not None:
            pass


class Card:
    """Accepts everything that is in bounds, and touches the memory it is lent."""
    bar_sizes, vectors, intx_pin, intx = {0: 0x8000}, {1: 0, 2: 4}, 1, False

    def __init__(self):
        self.irq_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.maps = {}
        self.fired = []

    def close(self):
        os.close(self.irq_fd)

    def config_read(self, offset, size):
        assert 0 <= offset <= PAGE - size
        return offset & 0xff

    def config_write(self, offset, size, value):
        assert 0 <= offset <= PAGE - size and 0 <= value < 1 << 8 * size

    def bar_read(self, bar, offset, size):
        assert bar == 0 and 0 <= offset <= 0x8000 - size
        return offset & 0xff

    def bar_write(self, bar, offset, size, value):
        assert bar == 0 and 0 <= offset <= 0x8000 - size and 0 <= value < 1 << 8 * size

    def map(self, iova, memory, writable, offset, size):
        assert iova not in self.maps
        memory[offset], memory[offset + size - 1]
        self.maps[iova] = size

    def unmap(self, iova):
        del self.maps[iova]

    def listen(self, vectors):
        assert vectors <= set(range(self.vectors[2]))

    def reset(self):
        pass

    def fire(self, *vectors):
        self.fired += [(2, vector) for vector in vectors]
        os.eventfd_write(self.irq_fd, 1)

    def messages(self):
        fired, self.fired = self.fired, []
        return fired


def open_fds():
    """Descriptors of this process by number, less the one that lists them."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass
    return {fd: target for fd, target in found.items() if not target.startswith("/proc/")}


@contextmanager
def served(card, path):
    before = open_fds()
    with Server(path, card) as server:
        yield server
        with closing(Peer(path)) as peer:
            assert peer.served()
            after = server._thread
        assert after.is_alive()
    assert open_fds() == before and not card.maps


@pytest.fixture
def card():
    with closing(Card()) as card:
        yield card


@pytest.fixture
def path(tmp_path, card):
    """Socket of a server that in the end still serves, and has closed every descriptor."""
    path = str(tmp_path / "s")
    with served(card, path):
        yield path


def message(command, body=b"", *, ident=2, size=None, flags=0, error=0):
    return HEADER.pack(ident, command, HEADER.size + len(body) if size is None else size, flags, error) + body


def closing_fds(*fds):
    for fd in fds:
        os.close(fd)


# One message

@pytest.mark.parametrize("command", [0, REGION_FDS, DMA_READ, DMA_WRITE, 14, 15, 16, 0x100, 0xffff])
def test_unknown_command(path, command):
    for body in (b"", bytes(100)):
        with closing(Peer(path)) as peer:
            peer.send(message(command, body))
            assert peer.receive() == (2, command, 33, errno.ENOTSUP, b"")
            assert peer.served()


@pytest.mark.parametrize("command, size", [(DMA_MAP, 32), (DMA_UNMAP, 24), (INFO, 4), (REGION, 12), (IRQ, 12), (SET_IRQS, 20),
                                           (READ, 16), (WRITE, 16)])
def test_body_too_short(path, command, size):
    with closing(Peer(path)) as peer:
        for short in range(size):
            peer.send(message(command, b"\x20\0\0\0\1"[:short] + bytes(max(0, short - 5))))
            ident, answered, flags, error, _ = peer.receive()
            assert (ident, answered, flags, error) == (2, command, 33, errno.EINVAL)
        assert peer.served()


@pytest.mark.parametrize("size", [0, 1, 15, (1 << 20) + 81, 1 << 31, 0xffffffff])
def test_impossible_size(path, size):
    with closing(Peer(path)) as peer:
        peer.send(message(INFO, bytes(16), size=size))
        assert peer.receive() is None


@pytest.mark.parametrize("flags", [1, 2, 15, 17, 33])
def test_replies_and_other_types(path, flags):
    with closing(Peer(path)) as peer:
        peer.send(message(INFO, struct.pack("<IIII", 16, 0, 0, 0), flags=flags))
        assert peer.receive() is None


def test_any_message_id_and_error_field(path):
    with closing(Peer(path)) as peer:
        for ident in (0, 1, 1, 0xffff, 0):
            peer.send(message(INFO, struct.pack("<IIII", 16, 0, 0, 0), ident=ident, error=0xffffffff))
            assert peer.receive()[:4] == (ident, INFO, 1, 0)


@pytest.mark.parametrize("fds", [17, 200])
def test_too_many_descriptors(path, fds):
    fd = os.memfd_create("m", os.MFD_CLOEXEC)
    with closing(Peer(path)) as peer:
        peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, 36, 2, 0, 4)), [fd] * fds)
        assert peer.receive() is None
    os.close(fd)


@pytest.mark.parametrize("command", range(16))
def test_descriptors_where_none_belong_are_closed(path, command):
    fds = [os.memfd_create("m", os.MFD_CLOEXEC) for _ in range(16)]
    with closing(Peer(path)) as peer:
        peer.served()
        before = open_fds()
        peer.send(message(command, struct.pack("<IIIIQQ", 32, 0, 0, 0, 0, 0)), fds)
        if peer.receive() is not None:
            assert peer.served() and open_fds() == before
    closing_fds(*fds)


def test_descriptors_in_mid_message_are_nobodys(path):
    fd = os.memfd_create("m", os.MFD_CLOEXEC)
    os.ftruncate(fd, PAGE)
    with closing(Peer(path)) as peer:
        peer.served()
        before = open_fds()
        raw = message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE))
        peer.send(raw[:20])
        peer.send(raw[20:], [fd])  # so the map is one without memory
        assert peer.receive()[2:4] == (1, 0)
        assert peer.served() and open_fds() == before
    os.close(fd)


@pytest.mark.parametrize("cut", [1, 2, 15, 16, 17, 47])
def test_client_dies_in_mid_message(path, cut):
    fd = os.memfd_create("m", os.MFD_CLOEXEC)
    with closing(Peer(path)) as peer:
        peer.send(message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE))[:cut], [fd])
    with closing(Peer(path)) as peer:
        assert peer.served()
    os.close(fd)


def test_client_dies_with_answers_unread(path):
    for _ in range(20):
        with closing(Peer(path)) as peer:
            for _ in range(3):
                peer.send(message(READ, struct.pack("<QII", 0, 0, 0x8000)))


# Whoever is in the way

@pytest.mark.parametrize("state", ["no version", "idle", "in a header", "in a body", "answers unread"])
def test_server_ends_whatever_its_client_does(tmp_path, card, state):
    path = str(tmp_path / "other")
    server = Server(path, card)
    with closing(Peer(path, hello=state != "no version")) as peer:
        if state == "in a header":
            peer.send(message(INFO)[:7])
        elif state == "in a body":
            peer.send(message(INFO, bytes(16))[:20])
        elif state == "answers unread":
            peer.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    peer.socket.sendall(message(READ, struct.pack("<QII", 0, 0, 0x8000)))
        time.sleep(0.02)
        closer = threading.Thread(target=server.close, daemon=True)
        closer.start()
        closer.join(PATIENCE)
        assert not closer.is_alive()
        server.close()  # once more does no harm
    assert not os.path.exists(path)


def test_second_client_waits_for_the_first(path):
    with closing(Peer(path)) as first:
        with closing(Peer(path, hello=False)) as second:
            second.send(HELLO)
            assert first.served()
            assert not select.select([second.socket], [], [], 0.05)[0]
            first.close()
            assert second.receive()[1] == VERSION and second.served()


def test_out_of_descriptors(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(Peer(path)) as peer:
        assert peer.served()
        fd = os.memfd_create("m", os.MFD_CLOEXEC)
        os.ftruncate(fd, PAGE)
        late = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
        try:
            peer.send(message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)), [fd])
            assert peer.receive() is None
            late.settimeout(PATIENCE)
            late.connect(path)   # cannot be accepted now
            time.sleep(0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        late.sendall(HELLO)
        assert late.recv(4)
        late.close()
        os.close(fd)


def test_many_files(path, card):
    fds = [os.memfd_create("m", os.MFD_CLOEXEC) for _ in range(70)]
    with closing(Peer(path)) as peer:
        answers = []
        for k, fd in enumerate(fds):
            os.ftruncate(fd, PAGE)
            peer.send(message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, PAGE * k, PAGE)), [fd])
            answers.append(peer.receive()[3])
        assert answers == [0] * 64 + [errno.EMFILE] * 6
        peer.send(message(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, 0, PAGE)))  # makes room for another
        peer.receive()
        peer.send(message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)), fds[-1:])
        assert peer.receive()[3] == 0
    closing_fds(*fds)


def test_as_many_maps_as_offered(path, card):
    fd = os.memfd_create("m", os.MFD_CLOEXEC)
    os.ftruncate(fd, PAGE)
    with closing(Peer(path)) as peer:
        for first in range(0, 65536, 64):
            for k in range(first, first + 64):
                peer.send(message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, PAGE * (k * 25013 & 0xffff), PAGE)), [fd])
            for k in range(first, first + 64):
                assert peer.receive()[3] == (errno.ENOSPC if k == 65535 else 0)
        assert len(card.maps) == 65535
    os.close(fd)


# Interrupts

@pytest.mark.parametrize("flags, index, start, count, fds", [
    (36, 2, 0, 5, 0), (36, 2, 4, 1, 1), (36, 2, 0xffffffff, 2, 0), (36, 2, 1, 0xffffffff, 1), (36, 1, 0, 1, 1), (36, 5, 0, 1, 1),
    (36, 0xffffffff, 0, 1, 1), (36, 2, 0, 2, 3), (36, 2, 0, 0, 1), (33, 2, 0, 0, 1), (0, 2, 0, 1, 0), (32, 2, 0, 1, 1),
    (4, 2, 0, 1, 1), (37, 2, 0, 1, 1), (39, 2, 0, 1, 1), (60, 2, 0, 1, 1), (100, 2, 0, 1, 1), (0xffffffff, 2, 0, 1, 1)])
def test_set_irqs_that_cannot_be(path, flags, index, start, count, fds):
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    with closing(Peer(path)) as peer:
        peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, flags, index, start, count)), [fd] * fds)
        assert peer.receive() == (2, SET_IRQS, 33, errno.EINVAL, b"")
        assert peer.served()
    os.close(fd)


@pytest.mark.parametrize("flags, index, count", [(33, 2, 1), (34, 2, 1), (9, 2, 1), (17, 2, 1), (10, 0, 1), (20, 0, 1)])
def test_set_irqs_that_is_not_supported(path, flags, index, count):
    with closing(Peer(path)) as peer:
        peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, flags, index, 0, count)))
        assert peer.receive() == (2, SET_IRQS, 33, errno.ENOTSUP, b"")


def test_interrupt_to_what_is_no_eventfd(path):
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    memory = os.memfd_create("m", os.MFD_CLOEXEC)
    with closing(Peer(path)) as peer:
        for fd in (reader, writer, null, memory, peer.socket.fileno()):
            peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, 36, 2, 0, 1)), [fd])
            assert peer.receive()[3] == errno.EINVAL
    closing_fds(reader, writer, null, memory)


def test_interrupt_to_a_full_eventfd_that_blocks(path, card):
    full, other = os.eventfd(0), os.eventfd(0)
    os.eventfd_write(full, (1 << 64) - 2)
    with closing(Peer(path)) as peer:
        peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, 36, 2, 0, 2)), [full, other])
        assert peer.receive()[3] == 0
        card.fire(0)
        card.fire(0, 1)
        assert select.select([other], [], [], PATIENCE)[0]
        assert peer.served()
    closing_fds(full, other)


def ends(server):
    closer = threading.Thread(target=server.close, daemon=True)
    closer.start()
    closer.join(PATIENCE)
    return not closer.is_alive()


@pytest.mark.parametrize("left", [False, True])
def test_an_eventfd_that_is_made_to_block_again(tmp_path, card, left):
    """Its blocking mode and its count are the client's as much as ours."""
    server = Server(str(tmp_path / "other"), card)
    full = os.eventfd(0)
    with closing(Peer(str(tmp_path / "other"))) as peer:
        peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, 36, 2, 0, 1)), [full])
        assert peer.receive()[3] == 0
        os.set_blocking(full, True)
        os.eventfd_write(full, (1 << 64) - 2)
        card.fire(0)
        time.sleep(0.05)
        assert peer.served()  # its own requests are answered meanwhile
        peer.send(message(SET_IRQS, struct.pack("<IIIII", 20, 33, 2, 0, 0)))  # nobody listens any more
        assert peer.receive()[3] == 0
        if not left:
            assert ends(server)
    if left:
        with closing(Peer(str(tmp_path / "other"))) as following:
            assert following.served()
        assert ends(server)
    closing_fds(full)


def test_what_a_client_asked_for_before_it_left_keeps_nobody_waiting(tmp_path, card, monkeypatch):
    reads = []

    def read(bar, offset, size):
        reads.append(offset)
        time.sleep(0.001)
        return 0
    monkeypatch.setattr(card, "bar_read", read)
    server = Server(str(tmp_path / "other"), card)
    with closing(Peer(str(tmp_path / "other"))) as peer:
        peer.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                peer.socket.sendall(message(READ, struct.pack("<QII", 0, 0, 0x8000), flags=16))  # NO_REPLY
    with closing(Peer(str(tmp_path / "other"))) as following:
        assert following.served()
    assert ends(server) and len(reads) < 0x8000 // 4  # not even one of them was carried out to its end


@pytest.mark.parametrize("connected", [True, False])
def test_a_watcher_that_fails_stops_nobody(tmp_path, card, connected):
    def watch(now, error):
        if now == connected:
            raise BrokenPipeError("nobody reads this")
    with Server(str(tmp_path / "other"), card, watch=watch):
        for _ in range(3):
            with closing(Peer(str(tmp_path / "other"))) as peer:
                assert peer.served()


# Ten thousand

def templates(rng):
    """One good message of each kind, as (command, body, kinds of descriptors)."""
    page = PAGE * rng.randrange(8)
    return rng.choice([
        (VERSION, b"\0\0\0\0{}\0", ""),
        (DMA_MAP, struct.pack("<IIQQQ", 32, rng.choice([1, 3]), PAGE * rng.randrange(4), page, PAGE * rng.choice([1, 2])), "m"),
        (DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, page, PAGE), ""),
        (DMA_UNMAP, struct.pack("<IIQQ", 24, 0, page, PAGE * rng.choice([1, 2, 8])), ""),
        (DMA_UNMAP, struct.pack("<IIQQ", 24, 2, 0, 0), ""),
        (INFO, struct.pack("<IIII", 16, 0, 0, 0), ""),
        (REGION, struct.pack("<IIIIQQ", 32, 0, rng.randrange(10), 0, 0, 0), ""),
        (IRQ, struct.pack("<IIII", 16, 0, rng.randrange(6), 0), ""),
        (SET_IRQS, struct.pack("<IIIII", 20, 36, 2, 0, 2), "ee"),
        (SET_IRQS, struct.pack("<IIIII", 20, 36, 0, 0, 1), "e"),
        (SET_IRQS, struct.pack("<IIIII", 20, rng.choice([9, 17]), 0, 0, 1), ""),
        (SET_IRQS, struct.pack("<IIIII", 20, 33, 2, 0, 0), ""),
        (READ, struct.pack("<QII", rng.randrange(64), rng.choice([0, 7]), rng.randrange(1, 64)), ""),
        (WRITE, struct.pack("<QII", rng.randrange(64), rng.choice([0, 7]), 8) + bytes(8), ""),
        (RESET, b"", ""),
    ])


def mutated(rng, kinds):
    """A message gone bad in up to three ways: its bytes, and kinds of descriptors."""
    command, body, wanted = templates(rng)
    raw = bytearray(message(command, body, ident=rng.randrange(0x8000), flags=16 * (rng.random() < 0.05)))
    for _ in range(rng.randrange(4)):
        way = rng.randrange(8)
        if way < 3:      # any byte
            raw[rng.randrange(len(raw))] = rng.choice([0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)])
        elif way == 3 and len(raw) >= 4:   # a word with a value that hurts
            at = rng.randrange(0, len(raw) - 3, 4)
            values = 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000, rng.getrandbits(32)
            raw[at:at + 4] = struct.pack("<I", rng.choice(values))
        elif way == 4:
            del raw[rng.randrange(len(raw)):]
            raw = raw or bytearray(1)
        elif way == 5:
            raw += rng.randbytes(rng.choice([1, 4, 16, 200, 5000]))
        elif way == 6:   # what is there is what is announced
            raw[4:8] = struct.pack("<I", len(raw))
            raw = raw if len(raw) >= HEADER.size else bytearray(message(command, body))
        else:
            wanted = "".join(rng.choice(kinds) for _ in range(rng.choice([0, 1, 2, 3, 16, 20])))
    return bytes(raw), wanted


def test_ten_thousand_mutants(path, card, rng):
    reader, writer = os.pipe()
    memory, small = os.memfd_create("m", os.MFD_ALLOW_SEALING), os.memfd_create("s", 0)
    os.ftruncate(memory, 8 * PAGE), os.ftruncate(small, 100)
    fds = {"m": memory, "s": small, "e": os.eventfd(0), "p": writer, "r": reader, "n": os.open("/dev/null", os.O_RDWR)}
    answered, closed, left = 0, 0, 10_000
    while left:
        with closing(Peer(path)) as peer:
            alive = True
            while alive and left:
                left -= 1
                raw, wanted = mutated(rng, list(fds))
                peer.send(raw, [fds[kind] for kind in wanted])
                if rng.random() < 0.1:
                    card.fire(rng.randrange(5))
                if len(raw) < HEADER.size or struct.unpack_from("<I", raw, 4)[0] != len(raw):
                    peer.finish()  # what comes next would be taken for a part of this one
                    alive = False
                else:
                    alive = peer.served()
                answered, closed = answered + alive, closed + (not alive)
    closing_fds(reader, *(fd for kind, fd in fds.items() if kind != "r"))
    assert answered > 3000 and closed > 1000
