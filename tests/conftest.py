"""``--seed N`` is for random tests, which else have a seed each, the same in every run; a failure prints it.

``--features LIST`` is what the simulated card offers in tests of whole cards that do not choose themselves.
"""

import random
import zlib

import pytest

from ringnic.host.features import names, parse
from ringnic.host.guest.card import card_features


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=None, help="seed of all random tests; default: one for each, by its name")
    parser.addoption("--features", metavar="LIST", help="device features that simulated cards offer, as for `ringnic demo`")


def _offered(config):
    text = config.getoption("--features")
    try:
        return text and parse(text, card_features())
    except ValueError as error:
        raise pytest.UsageError(f"--features: {error}") from None


def pytest_configure(config):
    _offered(config)  # a bad list is told of at once
    config.addinivalue_line("markers", "clause(*rows): rows of tests/plan that the test shows")


def pytest_report_header(config):
    offered = _offered(config)
    return f"features: {'all' if offered is None else ', '.join(names(offered))}"


@pytest.fixture(scope="session")
def offered(pytestconfig):
    """Numbers of the device features that a card is to offer; None for all."""
    return _offered(pytestconfig)


@pytest.fixture
def seed(request):
    """The seed of this test: from ``--seed``, else by its name."""
    chosen = request.config.getoption("--seed")
    chosen = zlib.crc32(request.node.nodeid.encode()) if chosen is None else chosen
    request.node.user_properties.append(("seed", chosen))
    return chosen


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in item.user_properties:
            if name == "seed":
                report.sections.append(("seed", f"replay with --seed {value}"))
