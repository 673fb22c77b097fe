"""``ringnic compare``: what a packet costs a guest with an emulated, a paravirtual, and an assigned network card."""

from rich.console import Console

from ..errors import complain, note
from ..guest.assets import AssetError
from ..guest.card import CardError
from ..guest.demo import Steps
from ..guest.process import INTERRUPTED, ends_as_exceptions
from ..guest.qemu import GuestError
from ..results import simulated_build_id, write_json
from .devices import DEVICES
from .machine import Machines
from .results import as_dict, outside, plot, table

__all__ = ["run_compare"]

ROUNDS, PINGS = 10, 20
SIZE = 2 << 20  # bytes, each way


def run_compare(names, report=None, picture=None, *, accel="tcg", seed=0, rounds=ROUNDS, pings=PINGS, size=SIZE, console=None):
    """Measure the devices of these names, show, write ``report`` (JSON) and ``picture``; return the exit status.

    It is 0 if each figure is as expected. ``rounds`` of ``pings`` each, then ``size`` bytes each way. ``console``: for the
    results, by default standard output; progress and errors go to standard error.
    """
    console = Console() if console is None else console
    errors = Console(stderr=True)
    found, wrong, status = [], [], 1
    machines = None
    try:
        with ends_as_exceptions():
            machines = Machines(note, accel=accel, seed=seed)
            steps = Steps(errors)
            for name in names:
                device = DEVICES[name]
                with steps(f"{name}, {device.way}") as update:
                    load = machines.measure(device, update, rounds=rounds, pings=pings, size=size)
                    wrong += outside(device, load)
                    found.append(as_dict(device, load))
                    update(f"{load.accesses_per_ping:.2f} accesses a ping")
        status = 1 if wrong else 0
    except (AssetError, GuestError, CardError, OSError, ValueError) as error:
        wrong.append(str(error))
    except KeyboardInterrupt:
        wrong.append("interrupted")
        status = INTERRUPTED
    for each in wrong:
        complain(each)
    if not found:
        return status
    console.print(table(found))
    if report is not None:
        write_json(report, {"ok": not wrong, "failed": wrong, "qemu": machines.qemu.version, "kernel": machines.kernel.release,
                            "accel": machines.accel, "devices": found},
                   build_id=simulated_build_id(), seed=seed)
    if picture is not None:
        plot(picture, found)
    return status
