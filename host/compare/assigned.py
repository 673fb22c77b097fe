"""The card given to a guest by vfio-pci: measured in the rehearsal's machine, which has the simulated card in a slot.

The guest is a guest of that machine. Its QEMU runs there, and translates code on a processor that is itself translated. A trace
of all device accesses, as for the other devices, would take more time than the guest does. So this QEMU writes only what its own
code for the assigned card does: that is rare, because the guest reaches the card's registers directly.
"""

from collections import Counter
from contextlib import ExitStack

from rich.console import Console

from ..guest.demo import Steps, expect
from ..guest.report import Report
from ..rehearsal.session import start_machines
from ..rehearsal.steps import BOOT_SECONDS, Rehearsal
from .load import run_load

__all__ = ["MAKE_TRACED", "PINGS", "READS", "ROUNDS", "SIZE", "WRITES", "accesses", "measure_assigned"]

ROUNDS, PINGS, SIZE = 3, 10, 1 << 18  # less than of the others
TRACED_QEMU, TRACE = "/tmp/traced-qemu", "/tmp/inner.trace"
# Events of QEMU, a line each. A write to the MSI-X table is one only if it masks or unmasks a vector; a driver writes a vector's
# message before it unmasks it.
READS = ("vfio_region_read", "vfio_pci_read_config")
WRITES = ("vfio_region_write", "vfio_pci_write_config", "vfio_msix_vector_do_use", "vfio_msix_vector_release")
# A line may begin with a time.
COUNT = (f"awk '/^([^ ]*:)?({'|'.join(READS)}) / {{r++}} /^([^ ]*:)?({'|'.join(WRITES)}) / {{w++}} "
         f"END {{print r + 0, w + 0}}' {TRACE}")
# A program that is QEMU with a trace.
MAKE_TRACED = (rf"""printf '#!/bin/sh\nexec qemu-system-x86_64 {' '.join(f'-trace {event}' for event in (*READS, *WRITES))} """
               rf"""-D {TRACE} "$@"\n' >{TRACED_QEMU} && chmod +x {TRACED_QEMU}""")


def accesses(outer):
    """Return how many accesses the inner QEMU has handled so far, by their kind."""
    reads, writes = outer.run(COUNT)[-1].split()
    return Counter(read=int(reads), write=int(writes))


def measure_assigned(device, update, say, *, kernel, rounds, pings, size, seed):
    """Return the :class:`~.load.Load` of a guest to which the card was assigned; ``update`` is called with a text on how far it
    is, ``say`` when something is fetched."""
    with ExitStack() as stack:
        steps = Steps(Console(quiet=True))
        update("the machine around it starts")
        outer, inner, card = start_machines(stack, steps, say, kernel=kernel, seed=seed)
        rehearsal = Rehearsal(outer, inner, card.engine, steps, Report())
        for step in (rehearsal.boot, rehearsal.devices, rehearsal.bind):
            step()
        outer.run(MAKE_TRACED)
        rehearsal.start_inner(TRACED_QEMU)
        update("the guest in it boots")
        inner.wait_ready(BOOT_SECONDS)
        # Without a line of its boot, the trace is none, and no access would mean nothing.
        found = accesses(outer)
        expect(found["read"] and found["write"], f"QEMU's trace has {found['read']} reads and {found['write']} writes of the "
               "assigned card's boot, and there have to be some of both")
        load = run_load(inner, device.driver, update, rounds=rounds, pings=pings, size=size, seed=seed, timeout=BOOT_SECONDS,
                        handled=lambda: accesses(outer))
        rehearsal.end_inner()
    return load
