"""``--seed N`` is for random tests, which else have a seed each, the same in every run; a failure prints it."""

import random
import zlib

import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=None, help="seed of all random tests; default: one for each, by its name")


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
