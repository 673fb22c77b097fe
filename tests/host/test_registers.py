"""The registers of a running demo, from another program."""

import os
import socket

import pytest

from ringnic.host.guest.registers import NAME, NoDemo, demo_registers, serve_registers


@pytest.fixture
def run(tmp_path):
    """Makes the folder of another run of the demo; returns where its registers are."""
    def run(name):
        (tmp_path / f"ringnic-{name}").mkdir()
        return tmp_path / f"ringnic-{name}" / NAME
    return run


def test_reads(run, tmp_path):
    asked = []

    def card(offset):
        asked.append(offset)
        return offset * 3
    with serve_registers(run("a"), card):
        with demo_registers(tmp_path) as read, demo_registers(tmp_path) as other:
            assert [read(0x6000), other(4), read(0x7ffc)] == [0x12000, 12, 0x17ff4]
            # ISR, what is no DW, and what lies outside
            assert [read(offset) for offset in (0x1000, 0x1ffc, 0x6002, 0x8000, 0xffff_fffc)] == [0xffff_ffff] * 5
    assert asked == [0x6000, 4, 0x7ffc]


def test_the_last_that_lives(run, tmp_path):
    """Not one that was killed and left its socket behind."""
    with serve_registers(run("a"), lambda offset: 1), serve_registers(run("b"), lambda offset: 2):
        for name, at in (("a", 100), ("b", 200)):
            os.utime(tmp_path / f"ringnic-{name}" / NAME, (at, at))
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(run("c")))
        dead.close()
        with demo_registers(tmp_path) as read:
            assert read(0) == 2
        os.utime(tmp_path / "ringnic-a" / NAME, (300, 300))
        with demo_registers(tmp_path) as read:
            assert read(0) == 1


def test_none(run, tmp_path):
    run("a")
    with pytest.raises(NoDemo, match="^no demo is running here: start `ringnic demo`"):
        with demo_registers(tmp_path):
            pass


def test_the_end_while_somebody_looks(run, tmp_path):
    def card(offset):
        if offset:
            raise ValueError("Engine is closed")
        return 5
    with serve_registers(run("a"), card):
        with demo_registers(tmp_path) as read:
            assert read(0) == 5
            with pytest.raises(NoDemo, match="^the demo has ended$"):
                read(4)
        with demo_registers(tmp_path) as read:   # others are served on
            assert read(0) == 5
