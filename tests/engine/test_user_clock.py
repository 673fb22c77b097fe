"""The user clock of a board's card stands still, at any moment, and comes again, as when the slot takes its clock away."""

from contextlib import closing

import pytest

from ringnic.boards.table import BOARDS
from ringnic.hdl.spec.bar import BAR_INDEX
from ringnic.host.slot.link import decode, read_link
from ringnic.sim.bus import EngineBus
from ringnic.sim.engine.engine import NET, Engine
from ringnic.sim.pcie_7x.board import LANES, USER_MHZ, WIDTH, board_link
from ringnic.sim.top import design_of

from ..kit.user_clock import StoppingNIC, scanned_words
from .conftest import PACKED, SPLIT, watched
from .test_block import FEATURES

BOARD = BOARDS["ax7203"]
GMII_MHZ = 125
TRAINED_CYCLES = 200          # of a clock that has come again, after which the link is up
SCANNED_CYCLES = 1000         # after which JTAG has read all
# Counters of what must not happen.
FAULTS = ("queue_errors", "dma_read_errors", "dma_timeouts", "cpl_unexpected", "tlps_malformed", "requests_unsupported")
# States of a training, from a reset of the block to L0 at 5 GT/s.
TRAINING = 18


class StandingBus(EngineBus):
    """Resets the slot by taking its clock away for ``cycles``, with which the host gives up what is under way.

    ``fresh``, ``found``: configuration space at the beginning, and when the clock has come again.
    """
    def __init__(self, engine):
        super().__init__(engine)
        self.cycles = SCANNED_CYCLES
        engine.run(TRAINED_CYCLES)
        self.fresh, self.found = self._space(), None

    def _space(self):
        return [self.config_read(at, 4) for at in range(0, 0x100, 4)]

    def _reset_slot(self):
        engine = self.engine
        before = engine.stats()
        engine.set_link(False)
        engine.reset()
        engine.run(self.cycles)
        moved = [name for name in ("mrd_up", "mwr_up", "cpl_up", "cpl_down") if engine.stats()[name] != before[name]]
        assert moved == [], f"{moved} while the clock stands"
        engine.set_link(True)
        engine.run(TRAINED_CYCLES)
        self.found = self._space()


@pytest.fixture(scope="module")
def design():
    return design_of(StoppingNIC(width=WIDTH, lanes=LANES, link_speed=BOARD.generation, **{**NET, "mac": "gmii"}))


@pytest.fixture(params=[SPLIT, PACKED], ids=["split", "packed"])
def standing_rig(request, design, offered, tmp_path):
    engine = Engine(nic=design, link=board_link(BOARD, LANES), gmii_ratio=round(GMII_MHZ / USER_MHZ), features=offered,
                    trace=tmp_path / "no.fst", window=(0, 0))
    engine.set_link(True)
    with watched(request, engine, request.param, offered) as rig:
        rig.bus = StandingBus(engine)
        yield rig


def test_the_card_is_as_new(standing_rig, rng):
    """Under load both ways, from one cycle after it began on; the wire goes on meanwhile."""
    rig = standing_rig
    net = rig.open(FEATURES, queue_size=64)
    for moment in range(1, 1500, 100):
        frames = [rng.randbytes(rng.randrange(60, 1515)) for _ in range(10)]
        rig.to_card(frames)
        rig.send(frames)
        rig.bus.run(moment)
        rig.bus.cycles = rng.randrange(SCANNED_CYCLES, 5 * SCANNED_CYCLES)
        rig.reset(flr=True)
        assert rig.bus.found == rig.bus.fresh
        rig.bus.run(5 * SCANNED_CYCLES)     # for the wire to be quiet
        rig.wire()
        rig.restart(fill=True)
        counters = net.counters()
        assert not any(counters[name] for name in ("tx_frames", *FAULTS))
    rig.works()
    rig.check_dma()
    assert not any(net.counters()[name] for name in FAULTS)


def test_the_record_tells_of_it(standing_rig):
    """JTAG reads it while the clock stands; it goes on where it was when the clock comes again."""
    rig = standing_rig
    rig.open(FEATURES)

    def by_the_bar():
        return read_link(lambda offset: rig.bus.bar_read(BAR_INDEX, offset, 4))
    before = by_the_bar()
    for turn in (1, 2):
        rig.reset(flr=True)
        stood = decode(scanned_words(rig.engine))
        assert "clock of the PCI Express block stands" in stood.summary and not stood.clock
        assert (stood.count, [state.name for state in stood.states]) == (before.count, [state.name for state in before.states])
        assert stood.states[-1].name == "L0" and not any(state.gap for state in stood.states)
        rig.restart(fill=True)
        after = by_the_bar()
        assert after.clock and after.up and after.count == before.count + TRAINING
        assert [state.name for state in after.states] == [state.name for state in before.states]
        before = after
    rig.works()
