"""A pytest plugin: the fixture ``ringnic_card``. It imports the simulator only when a test asks for a card."""

from contextlib import ExitStack

import pytest

__all__ = ["ringnic_card"]


@pytest.fixture
def ringnic_card():
    """Call it with the keywords of :class:`ringnic.sim.card.Card` for a card, which ends with the test; as often as you like."""
    with ExitStack() as stack:
        def ringnic_card(**options):
            from .card import Card
            return stack.enter_context(Card(**options))
        yield ringnic_card
