"""The vfio-user server on its socket, judged by a client that shares no code with it: what each request does."""

import array
from contextlib import ExitStack, closing, contextmanager
import errno
import json
import mmap
import os
import select
import socket
import struct
import time

import pytest

from ringnic.sim.vfio_user.server import Server

HEADER = struct.Struct("<HHIII")
VERSION, DMA_MAP, DMA_UNMAP, INFO, REGION, REGION_FDS, IRQ, SET_IRQS, READ, WRITE, DMA_READ, DMA_WRITE, RESET = range(1, 14)
NO_REPLY, ERROR = 16, 32
CONFIG = 7
NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER = (1 << n for n in range(6))
INTX, MSI, MSIX, ERR, REQ = range(5)
PAGE = 4096
PATIENCE = 120  # seconds: whatever takes longer hangs


class Refusal(Exception):
    """The server's error reply; its argument is the errno."""


class Closed(Exception):
    """The server has closed the connection."""


class Client:
    """As much of a vfio-user client as the tests need."""
    def __init__(self, path, version=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.ident = 0
        if version:
            self.call(VERSION, struct.pack("<HH", 0, 0) + b"{}\0")

    def close(self):
        self.socket.close()

    def send(self, raw, fds=()):
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            if rest := raw[self.socket.sendmsg([raw], rights):]:
                self.socket.sendall(rest)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def receive(self):
        """One whole message: id, command, flags, error, body."""
        ident, command, size, flags, error = HEADER.unpack(self._exactly(HEADER.size))
        return ident, command, flags, error, self._exactly(size - HEADER.size)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed
            data += part
        return data

    def closed(self):
        """Whether the server closes the connection, with nothing said before."""
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def message(self, command, body=b"", flags=0):
        self.ident = self.ident + 1 & 0xffff
        return HEADER.pack(self.ident, command, HEADER.size + len(body), flags, 0) + body

    def call(self, command, body=b"", fds=()):
        """Send a request; return the body of its answer or raise :exc:`Refusal`."""
        self.send(self.message(command, body), fds)
        ident, answered, flags, error, body = self.receive()
        assert (ident, answered, flags & ~ERROR) == (self.ident, command, 1)
        assert bool(flags & ERROR) == bool(error)
        if error:
            assert not body
            raise Refusal(error)
        return body

    def read(self, region, offset, size):
        body = self.call(READ, struct.pack("<QII", offset, region, size))
        assert body[:16] == struct.pack("<QII", offset, region, size) and len(body) == 16 + size
        return body[16:]

    def write(self, region, offset, data):
        assert self.call(WRITE, struct.pack("<QII", offset, region, len(data)) + data) == \
            struct.pack("<QII", offset, region, len(data))

    def map(self, address, size, fds=(), offset=0, flags=3):
        assert self.call(DMA_MAP, struct.pack("<IIQQQ", 32, flags, offset, address, size), fds) == b""

    def unmap(self, address, size, flags=0):
        body = self.call(DMA_UNMAP, struct.pack("<IIQQ", 24, flags, address, size))
        assert body == struct.pack("<IIQQ", 24, flags, address, size)

    def irqs(self, index, flags, start=0, count=0, fds=()):
        assert self.call(SET_IRQS, struct.pack("<IIIII", 20, flags, index, start, count), fds) == b""


class Card:
    """Registers that remember, memory that is touched where it is mapped."""
    bar_sizes = {0: 0x8000, 2: 0x100}
    vectors = {1: 2, 2: 4}   # MSI, MSI-X
    intx_pin = 1

    def __init__(self):
        self.config = bytearray(PAGE)
        self.bars = {bar: bytearray(size) for bar, size in self.bar_sizes.items()}
        self.maps, self.listened, self.resets = {}, set(), 0
        self.fired, self.intx = [], False
        self.irq_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.broken = None   # raised at the next access

    def close(self):
        os.close(self.irq_fd)

    def _access(self, space, offset, size, data=None):
        assert size in (1, 2, 4) and offset % size == 0 and offset + size <= len(space)
        if self.broken:
            raise self.broken
        if data is not None:
            space[offset:offset + size] = data.to_bytes(size, "little")
        return int.from_bytes(space[offset:offset + size], "little")

    def config_read(self, offset, size):
        return self._access(self.config, offset, size)

    def config_write(self, offset, size, value):
        self._access(self.config, offset, size, value)

    def bar_read(self, bar, offset, size):
        return self._access(self.bars[bar], offset, size)

    def bar_write(self, bar, offset, size, value):
        self._access(self.bars[bar], offset, size, value)

    def map(self, iova, memory, writable, offset, size):
        assert iova not in self.maps and 0 < size <= len(memory) - offset
        memory[offset], memory[offset + size - 1]  # past the end of the file this is the end of us all
        self.maps[iova] = memory, writable, offset, size

    def unmap(self, iova):
        del self.maps[iova]

    def listen(self, vectors):
        self.listened = set(vectors)

    def reset(self):
        if self.broken:
            raise self.broken
        self.resets += 1

    def fire(self, *vectors, index=2):
        self.fired += [(index, vector) for vector in vectors]
        os.eventfd_write(self.irq_fd, 1)

    def messages(self):
        fired, self.fired = self.fired, []
        return fired


@pytest.fixture
def card():
    with closing(Card()) as card:
        yield card


@pytest.fixture
def server(tmp_path, card):
    """A server of a card of nothing; its descriptors are all closed in the end, the client's too."""
    before = open_fds()
    with Server(str(tmp_path / "s"), card) as server:
        server.path = str(tmp_path / "s")
        yield server
    assert not os.path.exists(server.path)
    assert not card.maps
    assert open_fds() == before


@pytest.fixture
def client(server):
    with closing(Client(server.path)) as client:
        yield client


def open_fds():
    """Descriptors of this process, less the one that lists them."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
        except FileNotFoundError:
            pass
    return found


def until(done, what):
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


@contextmanager
def refused(code):
    with pytest.raises(Refusal) as caught:
        yield
    assert caught.value.args == (code,), errno.errorcode[caught.value.args[0]]


@contextmanager
def memfd(size, flags=os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
    fd = os.memfd_create("ram", flags)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def eventfds(count, flags=os.EFD_NONBLOCK):
    fds = [os.eventfd(0, flags) for _ in range(count)]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def count(fd, timeout=0.0):
    """Value of an eventfd, taken; waits for it to be there if asked to."""
    return os.eventfd_read(fd) if select.select([fd], [], [], timeout)[0] else 0


# What a client asks first

def test_version(server):
    with closing(Client(server.path, version=False)) as client:
        with refused(errno.ENOTSUP):
            client.call(VERSION, struct.pack("<HH", 1, 0))
        with refused(errno.EINVAL):
            client.call(VERSION, b"\0\0\0")
        body = client.call(VERSION, struct.pack("<HH", 0, 9))
        assert body[:4] == bytes(4) and body[-1:] == b"\0"
        assert json.loads(body[4:-1]) == {"capabilities": {
            "max_msg_fds": 16, "max_data_xfer_size": 1 << 20, "pgsizes": 4096, "max_dma_maps": 65535}}
        with refused(errno.EINVAL):
            client.call(VERSION, struct.pack("<HH", 0, 0))
        client.call(INFO, struct.pack("<IIII", 16, 0, 0, 0))


@pytest.mark.parametrize("command", [0, *range(2, 16), 0xffff])
def test_nothing_before_the_version(server, command):
    with closing(Client(server.path, version=False)) as client:
        client.send(client.message(command, bytes(32)))
        assert client.closed()
    assert "before a version" in str(server.error)


def test_device_info(client):
    assert client.call(INFO, struct.pack("<IIII", 16, 0, 0, 0)) == struct.pack("<IIII", 16, 3, 9, 5)


def test_region_info(client):
    for index in range(9):
        body = client.call(REGION, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        argsz, flags, same, caps, size, offset = struct.unpack("<IIIIQQ", body)
        assert (argsz, same, caps) == (32, index, 0)
        assert (size, flags) == {0: (0x8000, 3), 2: (0x100, 3), CONFIG: (4096, 3)}.get(index, (0, 0))
    for index in (9, 10, 0xffffffff):
        with refused(errno.EINVAL):
            client.call(REGION, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))


def test_irq_info(client):
    for index, vectors in enumerate((1, 2, 4, 1, 1)):
        flags = 7 if index == INTX else 9
        assert client.call(IRQ, struct.pack("<IIII", 16, 0, index, 0)) == struct.pack("<IIII", 16, flags, index, vectors)
    with refused(errno.EINVAL):
        client.call(IRQ, struct.pack("<IIII", 16, 0, 5, 0))


@pytest.mark.parametrize("command, size", [(INFO, 16), (REGION, 32), (IRQ, 16)])
def test_no_room_for_the_answer(client, command, size):
    for argsz in (0, size - 1):
        with refused(errno.EINVAL):
            client.call(command, struct.pack("<I", argsz) + bytes(size - 4))


# Regions

@pytest.mark.parametrize("region, size", [(CONFIG, 4096), (0, 0x8000), (2, 0x100)], ids=["config", "bar 0", "bar 2"])
def test_region_access_of_every_size_and_alignment(client, card, rng, region, size):
    space = card.config if region == CONFIG else card.bars[region]
    space[:] = rng.randbytes(size)
    assert client.read(region, 0, size) == space
    shadow = bytearray(space)
    spans = [(at, length) for at in range(8) for length in range(1, 12)] + [(size - 1, 1), (size - 4, 4), (size - 7, 7)]
    for offset, length in spans:
        data = rng.randbytes(length)
        assert client.read(region, offset, length) == shadow[offset:offset + length]
        client.write(region, offset, data)
        shadow[offset:offset + length] = data
    assert space == shadow


@pytest.mark.parametrize("region, offset, length", [
    (0, 0x8000, 1), (0, 0x7fff, 2), (0, 0, 0), (0, 0, 0x8001), (0, 0, 0xffffffff), (0, (1 << 64) - 1, 1), (0, (1 << 64) - 4, 8),
    (0, 1 << 63, 4), (CONFIG, 4096, 1), (CONFIG, 4093, 4), (1, 0, 1), (2, 0x100, 1), (2, 0xff, 2), (6, 0, 1), (8, 0, 1),
    (9, 0, 4), (0xffffffff, 0, 4)])
def test_region_access_out_of_bounds(client, region, offset, length):
    head = struct.pack("<QII", offset, region, length)
    with refused(errno.EINVAL):
        client.call(READ, head)
    with refused(errno.EINVAL):
        client.call(WRITE, head + bytes(min(length, 1 << 20)))


def test_write_of_less_than_announced(client, card):
    for length in range(8):
        with refused(errno.EINVAL):
            client.call(WRITE, struct.pack("<QII", 0, 0, 8) + b"\xff" * length)
    assert not any(card.bars[0])


def test_posted_writes_keep_their_order_and_are_not_answered(client, card):
    raw = b"".join(client.message(WRITE, struct.pack("<QIIH", 0x3000 + 2 * k, 0, 2, k), NO_REPLY) for k in range(1000))
    client.send(raw)
    client.send(client.message(WRITE, struct.pack("<QIIH", 0x9000, 0, 2, 1), NO_REPLY))  # an error is not told either
    assert client.read(0, 0x3000, 2000) == struct.pack("<1000H", *range(1000))


def test_pipelined_requests_and_whose_descriptors_are_whose(client, card):
    with ExitStack() as stack:
        files = [stack.enter_context(memfd(PAGE)) for _ in range(40)]
        for k, fd in enumerate(files):
            os.pwrite(fd, bytes([k]), 0)
            client.send(client.message(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, PAGE * k, PAGE)), [fd])
        for _ in files:
            assert client.receive()[2:4] == (1, 0)
    assert [card.maps[PAGE * k][0][0] for k in range(40)] == list(range(40))


def test_a_device_that_gives_up_ends_the_connection_only(server, client, card):
    with memfd(PAGE) as fd, eventfds(1) as events:
        client.map(0, PAGE, [fd])
        client.irqs(MSIX, EVENTFD | TRIGGER, 0, 1, events)
    card.broken = TimeoutError("No completion")
    client.send(client.message(READ, struct.pack("<QII", 0, 0, 4)))
    assert client.closed()
    card.broken = None
    assert not card.maps and not card.listened
    with closing(Client(server.path)) as again:
        assert again.read(0, 0, 4) == bytes(4)


# Memory

def test_map_shares_memory_and_unmap_takes_it_away(client, card):
    with memfd(8 * PAGE) as fd, mmap.mmap(fd, 8 * PAGE) as ram:
        client.map(1 << 40, 2 * PAGE, [fd], offset=4 * PAGE)
        client.map(0, PAGE, [fd], flags=1)
        client.map(PAGE, PAGE)               # as QEMU does for ROM: nothing to reach
        client.map((1 << 64) - PAGE, PAGE, [fd])
        assert sorted(card.maps) == [0, 1 << 40, (1 << 64) - PAGE]
        memory, writable, offset, size = card.maps[1 << 40]
        assert writable and not card.maps[0][1] and (offset, size) == (4 * PAGE, 2 * PAGE)
        memory[offset] = 0xa5
        ram[5 * PAGE] = 0x5a
        assert ram[4 * PAGE] == 0xa5 and memory[offset + PAGE] == 0x5a
        assert card.maps[0][0] is memory      # the file is mapped once
        client.unmap(1 << 40, 2 * PAGE)
        assert sorted(card.maps) == [0, (1 << 64) - PAGE]
        client.unmap(0, 2 * PAGE)             # two maps, one of them ROM
        client.unmap(0x7000, PAGE)            # nothing
        client.map(0, 3 * PAGE, [fd])
        client.unmap(0, 0, flags=2)
        assert not card.maps


BUS_MASTER = struct.pack("<H", 4)


@pytest.mark.parametrize("lends, warned", [("nothing", True), ("everything", False), ("some", False), ("rom", False)])
def test_a_machine_that_does_not_share_its_memory_is_told_of_once(tmp_path, card, lends, warned):
    """As soon as the device is to read and write that memory; a read-only map may be ROM."""
    told = []
    with Server(str(tmp_path / "s"), card, watch=lambda *event: told.append(event)), memfd(PAGE) as fd:
        with closing(Client(str(tmp_path / "s"))) as client:
            client.write(CONFIG, 4, BUS_MASTER)           # nothing is mapped yet
            if lends != "everything":
                client.map(0, PAGE, flags=1 if lends == "rom" else 3)
            if lends in ("everything", "some"):
                client.map(PAGE, PAGE, [fd])
            client.write(CONFIG, 4, b"\0\0")
            assert told == [(True, None)]
            client.write(CONFIG, 4, BUS_MASTER)
            client.write(CONFIG, 2, b"\0\0" + BUS_MASTER)
    warnings = [f"{error}" for connected, error in told if connected and error is not None]
    assert len(warnings) == warned and all("does not share its memory with the card" in text for text in warnings)
    assert told[-1] == (False, None)


def test_memory_that_is_taken_back_does_not_count(tmp_path, card):
    told = []
    with Server(str(tmp_path / "s"), card, watch=lambda *event: told.append(event)):
        with closing(Client(str(tmp_path / "s"))) as client:
            client.map(0, PAGE)
            client.unmap(0, PAGE)
            client.write(CONFIG, 4, BUS_MASTER)
            assert told == [(True, None)]


# Interrupts

def test_vectors_arrive_where_they_are_listened_to(client, card):
    with eventfds(3) as fds:
        client.irqs(MSIX, EVENTFD | TRIGGER, 0, 1)         # QEMU begins with nobody
        assert card.listened == set()
        client.irqs(MSIX, EVENTFD | TRIGGER, 1, 3, fds)
        assert card.listened == {1, 2, 3}
        card.fire(0, 3, 3, 77, 1)
        assert count(fds[0], PATIENCE) == 1 and count(fds[2]) == 2 and count(fds[1]) == 0
        client.irqs(MSIX, EVENTFD | TRIGGER, 2, 1, fds[:1])  # another listener
        client.irqs(MSIX, EVENTFD | TRIGGER, 3, 1)           # none
        assert card.listened == {1, 2}
        card.fire(3, 2)
        assert count(fds[0], PATIENCE) == 1 and count(fds[1]) == count(fds[2]) == 0
        client.irqs(MSIX, NONE | TRIGGER)
        assert card.listened == set()


def test_messages_of_msi_and_of_msix_are_told_apart(client, card):
    with eventfds(4) as fds:
        client.irqs(MSI, EVENTFD | TRIGGER, 0, 2, fds[:2])
        client.irqs(MSIX, EVENTFD | TRIGGER, 0, 2, fds[2:])
        assert card.listened == {0, 1}                     # of MSI-X alone
        card.fire(1, 2, index=MSI)
        assert count(fds[1], PATIENCE) == 1 and not any(count(fds[k]) for k in (0, 2, 3))
        card.fire(0)
        assert count(fds[2], PATIENCE) == 1 and not any(count(fds[k]) for k in (0, 1, 3))
        with refused(errno.EINVAL):
            client.irqs(MSI, EVENTFD | TRIGGER, 1, 2, fds[:2])
        client.irqs(MSI, NONE | TRIGGER)
        card.fire(0, 1, index=MSI)
        card.fire(1)
        assert count(fds[3], PATIENCE) == 1 and not any(count(fds[k]) for k in (0, 1, 2))


def test_pin_interrupt_is_masked_until_the_guest_has_seen_it(client, card):
    with eventfds(1) as (fd,):
        client.irqs(INTX, EVENTFD | TRIGGER, 0, 1, [fd])
        card.intx = True
        card.fire()
        assert count(fd, PATIENCE) == 1
        card.fire()
        assert count(fd, 0.02) == 0
        client.irqs(INTX, NONE | UNMASK, 0, 1)
        assert count(fd, PATIENCE) == 1                    # still high
        card.intx = False
        client.irqs(INTX, NONE | UNMASK, 0, 1)
        assert count(fd, 0.02) == 0
        client.irqs(INTX, NONE | MASK, 0, 1)
        card.intx = True
        card.fire()
        assert count(fd, 0.02) == 0
        client.irqs(INTX, NONE | TRIGGER)
        client.irqs(INTX, NONE | UNMASK, 0, 1)
        assert count(fd) == 0


def test_pin_interrupt_that_was_masked_reaches_the_next_listener(client, card):
    """A driver goes, or the guest reboots, with an interrupt pending: QEMU takes its descriptor away and sends no UNMASK."""
    with eventfds(2) as (fd, later):
        client.irqs(INTX, EVENTFD | TRIGGER, 0, 1, [fd])
        card.intx = True
        card.fire()
        assert count(fd, PATIENCE) == 1
        client.irqs(INTX, NONE | TRIGGER)
        client.irqs(INTX, EVENTFD | TRIGGER, 0, 1, [later])
        assert count(later, PATIENCE) == 1


# Coming and going

def test_reset_and_disconnect_reset_the_device(server, card):
    with memfd(PAGE) as fd, eventfds(1) as events:
        for k in range(5):
            with closing(Client(server.path)) as client:
                client.map(0, PAGE, [fd])
                client.irqs(MSIX, EVENTFD | TRIGGER, 0, 1, events)
                assert client.call(RESET) == b"" and card.maps and card.listened == {0}
            until(lambda: card.resets == 2 * k + 2 and not card.maps and not card.listened, "client forgotten")
            assert server.error is None


def test_path_that_is_taken(server, card):
    with pytest.raises(OSError, match="in use by another process"):
        Server(server.path, card)
    with closing(Client(server.path)) as client:
        assert client.read(0, 0, 4) == bytes(4)
