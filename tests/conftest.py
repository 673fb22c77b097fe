"""``--seed N`` replays random tests; a failure prints the seed it ran with."""

import random

import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=None, help="seed of random tests; default: another one each run")


@pytest.fixture
def seed(request):
    """The seed of this test: from ``--seed``, else random."""
    chosen = request.config.getoption("--seed")
    chosen = random.SystemRandom().getrandbits(32) if chosen is None else chosen
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
