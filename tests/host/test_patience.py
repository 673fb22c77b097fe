"""What decides that a guest does not answer: never the speed of the computer. All clocks here are false ones."""

from functools import partial
import os

import pytest

from ringnic.host.guest import demo
from ringnic.host.guest.patience import Patience, processor_seconds
from ringnic.host.guest.qemu import Guest, GuestError


class World:
    """A clock, and the processor time of a process that gets ``share`` of it; ``moved`` counts packets."""
    def __init__(self, share=0.0):
        self.now, self.share, self.done, self.moved = 1000.0, share, 5.0, 0

    def pass_(self, seconds):
        self.now += seconds
        self.done += seconds * self.share

    def patience(self, seconds, *signs):
        return Patience(seconds, signs, lambda: self.done, clock=lambda: self.now)


def until_over(world, patience, step=1.0):
    """Return the seconds until it is used up."""
    began = world.now
    while not patience.over:
        world.pass_(step)
        assert world.now - began < 1e6
    return world.now - began


@pytest.mark.parametrize("share, seconds", [
    (0.0, 60),      # asleep: the clock counts
    (0.02, 60),     # timers only
    (1.0, 60),      # one that computes for ever is given up
    (0.1, 600),     # on a machine throttled to a tenth it has ten times as long
    (2.0, 60),      # two processors do not shorten it
])
def test_processor_time_counts(share, seconds):
    world = World(share)
    assert until_over(world, world.patience(60)) == pytest.approx(seconds, abs=1.5)


def test_progress_starts_it_over():
    world = World()
    patience = world.patience(60, lambda: world.moved)
    for _ in range(100):
        world.pass_(59)
        assert not patience.over
        world.moved += 1
        assert not patience.over
    assert until_over(world, patience) == pytest.approx(60, abs=1)


def test_one_of_several_signs_is_enough():
    world = World()
    patience = world.patience(60, lambda: 0, lambda: world.moved)
    world.pass_(59)
    world.moved += 1
    assert not patience.over
    assert until_over(world, patience) == pytest.approx(60, abs=1)


def test_a_process_that_has_ended():
    """It has no processor time any more; the clock counts."""
    world = World(0.1)
    patience = world.patience(60)
    world.pass_(100)
    assert not patience.over
    patience = Patience(60, (), lambda: None, clock=lambda: world.now)
    assert until_over(world, patience) == 60


def test_processor_seconds():
    assert processor_seconds(os.getpid()) > 0
    assert processor_seconds(2**22 + 1) is None


class Machine:
    """A guest's console that takes ``pause`` seconds, of a clock that is not this machine's, before each line."""
    def __init__(self, world, pause, monkeypatch):
        self.world, self.pause = world, pause
        self.lines, self.waited = [], 0.0
        self.stdin, self.stdout, self.pid = self, self, 0
        monkeypatch.setattr("ringnic.host.guest.qemu.Patience", partial(Patience, clock=lambda: world.now))
        monkeypatch.setattr("ringnic.host.guest.qemu.selectors.DefaultSelector", lambda: self)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def register(self, *_arguments):
        pass

    def select(self, timeout):
        if not self.lines:
            self.world.pass_(timeout)
            return False
        self.waited += timeout
        self.world.pass_(timeout)
        if self.waited < self.pause:
            return False
        self.waited = 0.0
        return True

    def read1(self, _size):
        return self.lines.pop(0)

    def write(self, command):
        number = command.split()[0]
        self.lines += [b"working\n"] * 20 + [b"@@ " + number + b" 0\n"]

    def flush(self):
        pass


def test_a_slow_guest_is_waited_for(monkeypatch, tmp_path):
    world = World()
    with open(tmp_path / "errors", "w+") as errors:
        guest = Guest(Machine(world, 59, monkeypatch), errors, work=lambda: None)
        began = world.now
        assert guest.run("make it slow", timeout=60) == ["working"] * 20
        assert world.now - began >= 20 * 59
        guest = Guest(Machine(world, 61, monkeypatch), errors, work=lambda: None)
        with pytest.raises(GuestError, match="`hang`: no answer, and nothing has moved for 60 s"):
            guest.run("hang", timeout=60)


def test_a_silent_guest_whose_card_works_is_waited_for(monkeypatch, tmp_path):
    world = World()
    with open(tmp_path / "errors", "w+") as errors:
        machine = Machine(world, 10_000, monkeypatch)
        guest = Guest(machine, errors, signs=[lambda: int(world.now) // 50], work=lambda: None)
        assert guest.run("download", timeout=60)[0] == "working"


def test_waiting_for_a_condition(monkeypatch):
    """The time between two looks does not matter, as long as something moved."""
    world = World()
    monkeypatch.setattr(demo.time, "sleep", lambda seconds: world.pass_(3600))
    answers = iter([False, False, True])
    moved = iter(range(100))
    assert demo.wait_for(lambda: next(answers), Patience(60, [lambda: next(moved)], clock=lambda: world.now))
    assert not demo.wait_for(lambda: False, Patience(60, clock=lambda: world.now))
