"""The table of lent memory: what may be mapped, what is refused, and what a file may do under it."""

from contextlib import closing, contextmanager
import errno
import fcntl
import os
import random
import time

import pytest

from ringnic.sim.vfio_user.memory import DmaTable
from ringnic.sim.vfio_user.protocol import Refused

PAGE = 4096


class Card:
    """Remembers what is mapped where, as ``(memory, writable, offset, size)``."""
    def __init__(self):
        self.maps = {}

    def map(self, iova, memory, writable, offset, size):
        assert iova not in self.maps and 0 < size <= len(memory) - offset
        memory[offset], memory[offset + size - 1]  # past the end of the file this is the end of us all
        self.maps[iova] = memory, writable, offset, size

    def unmap(self, iova):
        del self.maps[iova]


class Table(DmaTable):
    """With a descriptor of its own in each request, as a socket brings it."""
    def map(self, address, size, *fds, offset=0, flags=3):
        self.add(flags, offset, address, size, [os.dup(fd) for fd in fds])


@pytest.fixture
def card():
    return Card()


@pytest.fixture
def table(card):
    before = os.listdir("/proc/self/fd")
    with closing(Table(card)) as table:
        yield table
    assert not card.maps and len(os.listdir("/proc/self/fd")) == len(before)


@contextmanager
def memfd(size, flags=os.MFD_ALLOW_SEALING):
    fd = os.memfd_create("ram", os.MFD_CLOEXEC | flags)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened(name, flags):
    fd = os.open(name, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def refused(code):
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.errno == code, caught.value


def test_file_is_mapped_once_and_let_go(table, card):
    before = len(os.listdir("/proc/self/fd"))
    with memfd(4 * PAGE) as fd:
        for k in range(4):
            table.map(k << 32, PAGE, fd, offset=k * PAGE)
        assert len({id(memory) for memory, _, _, _ in card.maps.values()}) == 1
        assert len(os.listdir("/proc/self/fd")) == before + 2  # ours, and the one of the mapping
        memory = card.maps[0][0]
        table.remove(2, 0, 0)
        assert memory.closed and len(os.listdir("/proc/self/fd")) == before + 1
        table.map(0, PAGE, fd)


def test_file_that_has_grown(table, card):
    with memfd(PAGE) as fd:
        table.map(0, PAGE, fd)
        os.ftruncate(fd, 4 * PAGE)
        table.map(PAGE, 3 * PAGE, fd, offset=PAGE)
        card.maps[0][0][0] = 1
        assert card.maps[PAGE][0][0] == 1


def test_lent_memory_cannot_shrink(table):
    with memfd(4 * PAGE) as fd:
        table.map(0, 4 * PAGE, fd)
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        with pytest.raises(PermissionError):
            os.ftruncate(fd, PAGE)


def test_file_that_has_shrunk_is_refused_beyond_its_end(table):
    with memfd(4 * PAGE, 0) as fd:  # takes no seal
        table.map(0, PAGE, fd)
        os.ftruncate(fd, PAGE)
        with refused(errno.EINVAL):
            table.map(PAGE, PAGE, fd, offset=PAGE)


def test_no_access_is_no_memory(table, card):
    with memfd(PAGE) as fd:
        table.map(0, PAGE, fd, flags=0)
        table.map(PAGE, PAGE)
        assert not card.maps
        with refused(errno.EEXIST):
            table.map(0, PAGE, fd)


@pytest.mark.parametrize("address, size, offset, flags", [
    (0, 0, 0, 3), (1, PAGE, 0, 3), (0, PAGE + 1, 0, 3), (0, PAGE, 512, 3), (0, 5 * PAGE, 0, 3), (0, PAGE, 4 * PAGE, 3),
    (0, PAGE, (1 << 64) - PAGE, 3), (0, (1 << 64) - PAGE, 0, 3), ((1 << 64) - PAGE, 2 * PAGE, 0, 3), (0, PAGE, 1 << 63, 3),
    (0, PAGE, 0, 4), (0, PAGE, 0, 0xffffffff)])
def test_map_that_cannot_be(table, card, address, size, offset, flags):
    with memfd(4 * PAGE) as fd, refused(errno.EINVAL):
        table.map(address, size, fd, offset=offset, flags=flags)
    assert not card.maps


def test_map_over_another(table):
    with memfd(4 * PAGE) as fd:
        table.map(2 * PAGE, 2 * PAGE, fd)
        table.map(8 * PAGE, PAGE)
        for address, size in ((2, 2), (2, 1), (3, 1), (1, 2), (3, 2), (1, 4), (0, 4), (8, 1), (7, 4)):
            with refused(errno.EEXIST):
                table.map(address * PAGE, size * PAGE, fd)
        table.map(0, 2 * PAGE, fd)
        table.map(4 * PAGE, 4 * PAGE, fd)


@pytest.mark.parametrize("address, pages, flags, code", [
    (1, 1, 0, errno.EINVAL), (2, 1, 0, errno.EINVAL), (0, 2, 0, errno.EINVAL), (2, 2, 0, errno.EINVAL), (1, 2, 1, errno.ENOTSUP),
    (1, 0, 0, errno.EINVAL), (0, 1, 2, errno.EINVAL), (2, (1 << 52) - 1, 0, errno.EINVAL)])
def test_unmap_that_cannot_be(table, card, address, pages, flags, code):
    with memfd(4 * PAGE) as fd:
        table.map(PAGE, 2 * PAGE, fd)
        table.map(3 * PAGE, PAGE, fd)
        with refused(code):
            table.remove(flags, address * PAGE, pages * PAGE)
    assert sorted(card.maps) == [PAGE, 3 * PAGE]


@pytest.mark.parametrize("name, flags", [("/dev/null", os.O_RDWR), ("/dev/zero", os.O_RDWR), ("/", os.O_RDONLY),
                                         (None, os.O_RDONLY), (None, os.O_WRONLY), (None, os.O_PATH)])
def test_descriptors_that_are_no_memory(table, tmp_path, name, flags):
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGE))
    with opened(name or path, flags) as fd, refused(errno.EINVAL):
        table.map(0, PAGE, fd)


def test_file_on_a_disk(table, card, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGE))
    with opened(path, os.O_RDWR) as fd:
        table.map(0, PAGE, fd)
    card.maps[0][0][:2] = b"hi"
    assert path.read_bytes()[:3] == b"hi\0"


@pytest.mark.parametrize("size", [0, 1 << 62])
def test_files_of_no_size_and_of_too_much(table, size):
    with memfd(size) as fd, refused(errno.EINVAL):
        table.map(0, PAGE, fd)


def test_two_descriptors(table):
    with memfd(PAGE) as fd, refused(errno.EINVAL):
        table.map(0, PAGE, fd, fd)


def test_random_against_a_set_of_pages(table, card, rng):
    """Sixteen pages of addresses; the model is which map each belongs to."""
    owner = [None] * 16
    with memfd(16 * PAGE) as fd:
        for number in range(5000):
            at = rng.randrange(16)
            pages = rng.randrange(1, 17 - at)
            inside = {one for one in owner[at:at + pages] if one is not None}
            try:
                if rng.random() < 0.5:
                    expected = not inside
                    table.map(at * PAGE, pages * PAGE, fd)
                    owner[at:at + pages] = [number] * pages
                else:
                    expected = not inside & {one for one in owner[:at] + owner[at + pages:]}
                    table.remove(0, at * PAGE, pages * PAGE)
                    owner[at:at + pages] = [None] * pages
                done = True
            except Refused:
                done = False
            assert done == expected
            assert {start // PAGE: size // PAGE for start, (_, _, _, size) in card.maps.items()} == \
                {owner.index(one): owner.count(one) for one in set(owner) - {None}}


def test_tens_of_thousands_of_maps(table, card):
    """As a guest with a vIOMMU has them: the time for one does not grow with their number."""
    def seconds_each(count):
        order = list(range(count))
        random.Random(1).shuffle(order)
        begin = time.process_time()
        for page in order:
            table.map(page * PAGE, PAGE, fd)
        for page in order:
            table.remove(0, page * PAGE, PAGE)
        return (time.process_time() - begin) / count
    with memfd(PAGE) as fd:
        few = min(seconds_each(500) for _ in range(3))
        assert seconds_each(20_000) < 10 * few  # a search of all maps takes 40 times as long
