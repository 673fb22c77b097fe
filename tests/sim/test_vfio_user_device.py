"""The function behind the server: what becomes of one that does not answer any more."""

import pytest

from ringnic.sim.vfio_user import device
from ringnic.sim.vfio_user.device import EngineDevice
from ringnic.sim.vfio_user.function import Bar, Function

BAR0, FLR = 0x10, 1 << 28


class Engine:
    """Configuration space of registers that can be read and written, until it hangs; a reset of the slot clears all."""
    def __init__(self):
        self.registers = {}
        self.hangs = self.dead = False
        self.resets = 0

    def config_read(self, offset, size):
        if self.hangs:
            raise TimeoutError("No completion")
        return self.registers.get(offset, 0)

    def config_write(self, offset, size, value):
        if self.hangs:
            raise TimeoutError("No completion")
        self.registers[offset] = value

    def reset(self):
        self.resets += 1
        self.registers.clear()
        self.hangs = self.dead


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture(params=[False, True], ids=["slot", "flr"])
def card(engine, request, monkeypatch):
    monkeypatch.setattr(device, "read_function", lambda read, write: Function(
        {0: Bar(0, 4096)}, None, None, 0x40 if request.param else None, request.param, 0))
    return EngineDevice(engine)


def test_a_function_that_hangs_is_reset_with_its_slot(engine, card):
    card.reset()
    before = engine.resets
    engine.hangs = True
    card.reset()
    assert engine.resets == before + 1 and not engine.hangs
    card.config_write(BAR0, 4, 0xe000_0000)
    card.reset()
    assert engine.registers[BAR0] == 0xe000_0000  # as after any reset, a BAR is where it was


def test_one_that_a_reset_does_not_help_is_told_of(engine, card):
    engine.hangs = engine.dead = True
    with pytest.raises(TimeoutError):
        card.reset()
    assert engine.resets == 1
