"""Proofs: each harness is decided by :class:`prove.Formal`."""

from pathlib import Path
import sys

import pytest

sys.path.append(str(Path(__file__).parent))  # what lies beside a test is not imported else

from prove import Formal


@pytest.fixture
def formal(tmp_path):
    """Decides harnesses; traces are left in this test's temporary folder."""
    return Formal(tmp_path)
