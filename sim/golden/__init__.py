"""The device as the standard says it, without time and without hardware: what the card is judged by.

It shares the facts of ``hdl/spec`` with the card, and no logic.
"""

from .net import GoldenNet
from .oracle import Oracle

__all__ = ["GoldenNet", "Oracle"]
