"""A PCIe link and the host behind it: what is chosen of them, and what the engine makes of it."""

import ctypes
from dataclasses import dataclass

from ..budget import GENERATIONS, bytes_per_second

__all__ = ["Link", "LinkModel"]


class LinkModel(ctypes.Structure):
    """As the library has it, in cycles and bytes."""
    _fields_ = [("bytes_per_cycle", ctypes.c_double), ("read_latency", ctypes.c_uint32), ("jitter", ctypes.c_uint32),
                ("mps", ctypes.c_uint32), ("rcb", ctypes.c_uint32), ("credits", ctypes.c_uint32),
                ("split", ctypes.c_uint32), ("tear", ctypes.c_uint32),
                ("completion", ctypes.c_uint32), ("seed", ctypes.c_uint64)]


@dataclass(frozen=True)
class Link:
    """A PCIe link and the host behind it.

    ``read_latency_ns``: from a request at the host to its first completion; ``jitter_ns``: up to so much more, drawn
    for each read, so that completions of different reads overtake. ``split``: one completion in so many is cut at a
    read completion boundary, 0 for none more than needed. ``tear_ns``: a host promises no more of a read than that 8 bytes
    belong together; each 8 are looked at in a cycle of their own, drawn from so long a time. ``credits``: bytes
    that the host buffers; a card that sends faster than the link waits for them. The card grants credits without
    end: its own streams hold back what it cannot take. ``mps``: bytes that the host takes with a TLP; ``completion``: of its
    longest completion, which a card must have been allowed by its Max_Payload_Size; as ``mps`` if None.
    """
    gen: int = 2
    lanes: int = 4
    core_mhz: float = 125.0
    read_latency_ns: float = 250.0
    jitter_ns: float = 0.0
    mps: int = 256
    rcb: int = 64
    split: int = 0
    tear_ns: float = 0.0
    credits: int = 2048
    seed: int = 0
    completion: int | None = None

    def __post_init__(self):
        if self.gen not in GENERATIONS:
            raise ValueError(f"PCIe generation must be 1, 2 or 3, not {self.gen!r}")
        if self.lanes not in (1, 2, 4, 8, 16):
            raise ValueError(f"Lanes must be 1, 2, 4, 8 or 16, not {self.lanes!r}")

    @property
    def bytes_per_second(self):
        """As of :func:`ringnic.sim.budget.bytes_per_second`."""
        return bytes_per_second(self.gen, self.lanes)

    def model(self):
        cycle = 1e3 / self.core_mhz  # ns
        return LinkModel(self.bytes_per_second * cycle * 1e-9, round(self.read_latency_ns / cycle),
                          round(self.jitter_ns / cycle), self.mps, self.rcb, self.credits, self.split,
                          round(self.tear_ns / cycle), self.mps if self.completion is None else self.completion, self.seed)
