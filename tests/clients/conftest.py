"""A simulated card with a network of one's choice, for whatever is to use it."""

from contextlib import ExitStack
from pathlib import Path
import tempfile

import pytest

from ringnic.host.guest.cable import plugged
from ringnic.host.guest.card import DROPS, rtl_card
from ringnic.host.guest.demo import FAULTS
from ringnic.host.guest.report import Report


class Setup:
    """``folder``: for files of the test; ``enter``: enters a context until its end; ``callback``: calls a function then."""
    def __init__(self, stack, offered, pytestconfig):
        self.enter, self.callback = stack.enter_context, stack.callback
        self.folder = Path(self.enter(tempfile.TemporaryDirectory(prefix="ringnic-")))
        self._offered = offered
        self._tlp = pytestconfig.getoption("--tlp")

    def card(self, network, features=None):
        """Return a card plugged into ``network``; ``features``: numbers of those that it offers, else as ``--features`` says."""
        card = self.enter(rtl_card(self.folder / "card.sock", seed=0, wave=None, tlp=self._tlp, update=lambda text: None,
                                   features=self._offered if features is None else features))
        self.enter(plugged(card, network))
        return card

    @staticmethod
    def check(card):
        """Return the card's counters; nothing went wrong that it counts."""
        report = Report()
        card.fill(report)
        assert report.counters["drops"] is not None  # its own counters could be read
        assert not {name: report.counters[name] for name in {*DROPS, *FAULTS} if report.counters[name]}
        return report.counters


@pytest.fixture
def setup(offered, pytestconfig):
    with ExitStack() as stack:
        yield Setup(stack, offered, pytestconfig)
