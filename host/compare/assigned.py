"""The card given to a guest by vfio-pci: measured in the rehearsal's machine, which has the simulated card in a slot.

The guest is a guest of that machine. Its QEMU runs there and writes its trace there; what concerns the card and the console comes
over the outer machine's console.
"""

from contextlib import ExitStack

from rich.console import Console

from ..guest.demo import Steps, expect
from ..guest.report import Report
from ..rehearsal.session import start_machines
from ..rehearsal.steps import BOOT_SECONDS, Rehearsal
from .load import run_load
from .trace import NOTIFICATION, TRACE_EVENTS, phases

__all__ = ["measure_assigned"]

TRACED_QEMU, TRACE, MONITOR = "/tmp/traced-qemu", "/tmp/inner.trace", "/tmp/monitor"
# QEMU with a monitor on two pipes, by which the trace begins: that of the boot would take longer than the boot. QEMU opens the
# file only if it is to trace something from the start on, so it gets the event that there is none of.
WRAPPER = (f'#!/bin/sh\\nexec qemu-system-x86_64 -trace {NOTIFICATION} -D {TRACE} -chardev pipe,id=monitor,path={MONITOR} '
           '-mon chardev=monitor "$@"\\n')
# The driver lets go of the card and takes it again: that is in the trace, as whoever looks for the card's regions will see.
RESTART = ("d=$(basename $(readlink -f /sys/class/net/eth0/device/..)) && cd /sys/bus/pci/drivers/virtio-pci && "
           "echo $d >unbind && echo $d >bind && cd / && "
           "for i in $(seq 600); do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done")
# Of the trace, the outer machine passes on accesses to the card, and of those to the console what makes marks.
PASSED_ON = r"addr 0x3f[8b] .* name 'serial'|name '(0000:|msix-|vfio)"


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
        outer.run(f"mkfifo {MONITOR}.in {MONITOR}.out && printf '{WRAPPER}' >{TRACED_QEMU} && chmod +x {TRACED_QEMU}")
        rehearsal.start_inner(TRACED_QEMU)
        update("the guest in it boots")
        inner.wait_ready(BOOT_SECONDS)
        events = " ".join(f"'trace-event {event} on'" for event in TRACE_EVENTS)
        outer.run(rf"printf '%s\n' {events} >{MONITOR}.in")
        inner.run(RESTART, timeout=BOOT_SECONDS)
        load = run_load(inner, device.driver, update, rounds=rounds, pings=pings, size=size, seed=seed, timeout=BOOT_SECONDS)
        rehearsal.end_inner()
        update("its trace is read")
        lines = outer.run(f"grep -E \"{PASSED_ON}\" {TRACE}", timeout=BOOT_SECONDS)
    found = phases(lines)
    # Without a line of the card at all, its regions would have other names, and no access would mean nothing.
    expect(any(region.startswith(device.regions) for one in found.values() for _, region in one),
           "QEMU's trace has no access to the assigned card, not even of its driver's start")
    load.read_trace(found, device.regions)
    return load
