"""The process that ``ringnic mutate`` runs tests in: ``python -m ringnic.host.mutation.process WORK SECONDS PYTEST-ARGUMENT ...``

It is to be the one of the copy of the project in the folder WORK, and ends after SECONDS of processor time. The tests of a
file are run cheapest first, by what WORK/known says; what they and the whole took is in WORK/took, as JSON like this:
``{"all": seconds, "tests": {name: seconds}}``.
"""

from importlib.util import find_spec
import json
from pathlib import Path
import resource
import sys
import time

import pytest

__all__ = ["Cheapest", "main"]

GRACE_SECONDS = 5  # between the signal and the end


class Cheapest:
    """Pytest plugin: ``known`` seconds by name of test say what comes first, ``took`` is what they take now."""
    def __init__(self, known):
        self.known, self.took = known, {}

    def pytest_collection_modifyitems(self, items):
        files = {file: place for place, file in enumerate(dict.fromkeys(item.path for item in items))}
        items.sort(key=lambda item: (files[item.path], self.known.get(item.nodeid, 0)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        began = time.process_time()
        yielded = yield
        self.took[item.nodeid] = time.process_time() - began
        return yielded


def main(work, seconds, arguments):
    """Return the exit status of pytest."""
    home = Path(find_spec("ringnic.hdl").origin).resolve()
    if not home.is_relative_to(work.resolve()):
        sys.exit(f"The tests would be of {home}, not of the copy in {work}")
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + GRACE_SECONDS))
    plugin = Cheapest(json.loads((work / "known").read_text()))
    status = pytest.main(arguments, plugins=[plugin])
    (work / "took").write_text(json.dumps({"all": time.process_time(), "tests": plugin.took}))
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
