"""The registers of a running demo, from another program."""

import os
import socket

import pytest

from ringnic.host.guest.registers import NAME, NoDemo, demo_registers, find_demo, serve_registers


@pytest.fixture
def run(tmp_path):
    """Makes the folder of another run of the demo; returns where its registers are."""
    def run(name):
        (tmp_path / f"ringnic-{name}").mkdir()
        return tmp_path / f"ringnic-{name}" / NAME
    return run


def test_reads(run):
    looks, asked = [], []

    def look():
        looks.append(1)

        def read(offset):
            asked.append(offset)
            return offset * 3
        return read
    with serve_registers(path := run("a"), look, "/card.sock"):
        with demo_registers(path) as read, demo_registers(path) as other:
            assert [read(0x6000), other(4), read(0x7ffc)] == [0x12000, 12, 0x17ff4]
            # ISR, what is no DW, and what lies outside
            assert [read(offset) for offset in (0x1000, 0x1ffc, 0x6002, 0x8000, 0xffff_fffc)] == [0xffff_ffff] * 5
    assert asked == [0x6000, 4, 0x7ffc] and len(looks) == 2


def test_the_last_that_lives(run, tmp_path):
    """Not one that was killed and left its socket behind."""
    a, b, dead = run("a"), run("b"), socket.socket(socket.AF_UNIX)
    dead.bind(str(run("c")))
    dead.close()
    with serve_registers(a, lambda: int, "/cards/a.sock"), serve_registers(b, lambda: int, "/cards/b.sock"):
        for path, at in ((a, 100), (b, 200)):
            os.utime(path, (at, at))
        assert find_demo(folder=tmp_path) == b
        os.utime(a, (300, 300))
        assert find_demo(folder=tmp_path) == a
        assert find_demo("/cards/b.sock", tmp_path) == find_demo("/cards/../cards/b.sock", tmp_path) == b
        with pytest.raises(NoDemo, match="^no card is served at c.sock; there are: /cards/a.sock, /cards/b.sock$"):
            find_demo("c.sock", tmp_path)


def test_not_one_of_another_user(run, tmp_path, monkeypatch):
    with serve_registers(run("a"), lambda: int, "/card.sock"):
        find_demo(folder=tmp_path)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(NoDemo, match="^no demo of yours is running here"):
            find_demo(folder=tmp_path)


def test_none(run, tmp_path):
    run("a")
    with pytest.raises(NoDemo, match="^no demo of yours is running here: start `ringnic demo`"):
        find_demo(folder=tmp_path)


def test_the_end_while_somebody_looks(run):
    def card(offset):
        if offset:
            raise ValueError("Engine is closed")
        return 5
    with serve_registers(path := run("a"), lambda: card, "/card.sock"):
        with demo_registers(path) as read:
            assert read(0) == 5
            with pytest.raises(NoDemo, match="^the demo has ended$"):
                read(4)
        with demo_registers(path) as read:   # others are served on
            assert read(0) == 5
    with pytest.raises(NoDemo, match="^the demo has ended$"):
        with demo_registers(path):
            pass
