"""What is decided about the host's side of a card when the card is built."""

from dataclasses import dataclass

__all__ = ["PcieParameters"]


@dataclass(frozen=True)
class PcieParameters:
    """Of one PCIe function.

    Parameters
    ----------
    link_speed, link_width : int
        1 for 2.5 GT/s, 2 for 5 GT/s...; lanes. Shown to the host only.
    max_payload : int
        Largest Max_Payload_Size, coded: 0 for 128 bytes to 5 for 4096.
    tags : int
        Reads that may be outstanding.
    cpl_headers : int or None
        Completions that the receive buffer in front of the function holds; None if its credits protect it.
    hosted : bool
        A PCIe block in front of the function keeps its configuration.
    prefetch : int
        Chains of buffers that are found before they are wanted, a queue: a power of two from 64 to 2048. Half as many are
        in transmission at once. Packets of a busy queue that come while the host answers a few reads, one after the
        other, have to find theirs here.
    hold_cycles : int
        How long used buffers of a busy queue wait for company: see :class:`..virtqueue.pacing.Pacing`.
    timeout_cycles : int
        A read that is not answered in this time (to 1.5 times that) fails: 50 us to 50 ms (7.5.3.16).
    """
    link_speed:     int = 1
    link_width:     int = 1
    max_payload:    int = 1
    tags:           int = 32
    prefetch:       int = 64
    hold_cycles:    int = 256
    timeout_cycles: int = 1 << 20
    cpl_headers:    int | None = None
    hosted:         bool = False
