"""The passive checker: rules of virtio that hold whatever a test does."""

from .monitor import Monitor
from .notify import LIMIT
from .report import Violation, clauses

__all__ = ["LIMIT", "Monitor", "Violation", "clauses"]
