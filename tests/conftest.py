"""``--seed N`` is for random tests, which else have a seed each, the same in every run; a failure prints it.

``--features LIST`` is what the simulated card offers in tests of whole cards that do not choose themselves.

``--bdf BDF`` lets the conformance tests have a real card, one that is bound to vfio-pci; ``--quick`` only as many of them as
show each of their rows once.

``--tlp FILE`` writes the packets on the link of the card of a test of the level clients to a file, as ``ringnic demo`` does.
"""

import random
import signal
import zlib

import pytest

from ringnic.host.features import names, parse
from ringnic.host.guest.debian import AssetError

pytest.register_assert_rewrite("tests.kit")  # whose failures are read like a test's own


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=None, help="seed of all random tests; default: one for each, by its name")
    parser.addoption("--features", metavar="LIST", help="device features that simulated cards offer, as for `ringnic demo`")
    parser.addoption("--tlp", metavar="FILE", help="tests of clients: write the packets on the PCIe link here, decoded")
    parser.addoption("--bdf", help="conformance tests: of the card at this PCI address, which is bound to vfio-pci")
    parser.addoption("--board", metavar="NAME", help="conformance tests: of the simulated card behind this board's PCIe block")
    parser.addoption("--quick", action="store_true", help="with --bdf: one case for each row that a real card can show")


def _offered(config):
    text = config.getoption("--features")
    if text is None:
        return None
    from ringnic.host.guest.card import card_features  # which brings a simulator: minutes where there is only a card
    try:
        return parse(text, card_features())
    except ValueError as error:
        raise pytest.UsageError(f"--features: {error}") from None


def pytest_configure(config):
    # A shell starts what runs in the background with SIGINT ignored, and so would be what the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _offered(config)  # a bad list is told of at once
    config.addinivalue_line("markers", "clause(*rows): rows of tests/plan that the test shows")
    config.addinivalue_line("markers", "long: the test is slow and rarely fails; it runs with --level long")
    config.addinivalue_line("markers", "simulated(reason): the test needs what only a simulation has")


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
        if call.excinfo.errisinstance(AssetError):
            report.longrepr = f"AssetError: {call.excinfo.value}"  # it says what to do; where it came from does not matter
        for name, value in item.user_properties:
            if name == "seed":
                report.sections.append(("seed", f"replay with --seed {value}"))
