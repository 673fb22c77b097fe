"""The guest of each device: started, taken through the load, and its trace read."""

from contextlib import ExitStack
from pathlib import Path
import tempfile

from ..guest.accel import choose_accel
from ..guest.assets import find_generic_kernel, find_qemu, find_tools
from ..guest.cable import plugged
from ..guest.card import rtl_card
from ..guest.initramfs import build_initramfs
from ..guest.network import user_network
from ..guest.qemu import start_guest
from ..guest.registers import FOLDER_PREFIX
from . import assigned
from .assigned import measure_assigned
from .devices import ASSIGNED, DEVICES
from .load import run_load
from .trace import TRACE_OPTIONS, phases

__all__ = ["Machines"]

# Debian's kernel for all machines: its kernel for clouds has no drivers of emulated cards.
KERNEL = "6.1"
SIMULATED = "ringnic"


class Machines:
    """Guests that differ in their network device and in nothing else.

    Parameters
    ----------
    say : callable
        Called with a text when something is fetched.
    accel : str
        QEMU's accelerator; "auto" for KVM if it runs a guest here.
    seed : int
        Of the file's content and of the simulated card's delays.
    """
    def __init__(self, say, *, accel="tcg", seed=0):
        self.qemu, self._tools = find_qemu(say=say), find_tools(say)
        # Emulated cards need no more than their driver: with the wrong card it does nothing, so all have all.
        drivers = tuple(sorted({device.driver for device in DEVICES.values()}))
        self.kernel = find_generic_kernel(KERNEL, drivers, say)
        self._initramfs = build_initramfs(self.kernel, self._tools, drivers)
        self._say, self._seed = say, seed
        self.accel = choose_accel(accel, self.qemu, self.kernel)

    def _attach(self, device, folder, stack, update):
        """Return the QEMU options that give a guest the device, with a network behind it, and signs of its progress."""
        if device.name != SIMULATED:
            return ["-netdev", "user,id=net", "-device", f"{device.name},netdev=net,romfile="], ()
        card = stack.enter_context(rtl_card(folder / "card.sock", seed=self._seed, wave=None, tlp=None, update=update))
        stack.enter_context(plugged(card, stack.enter_context(user_network(self.qemu))))
        return card.qemu_options, (card.progress,)

    def measure(self, device, update, *, rounds, pings, size):
        """Return the :class:`~.load.Load` of a guest with ``device``; ``update`` is called with a text on how far it is."""
        if device.name == ASSIGNED:
            return measure_assigned(device, update, self._say, kernel=KERNEL, rounds=min(rounds, assigned.ROUNDS),
                                    pings=min(pings, assigned.PINGS), size=min(size, assigned.SIZE), seed=self._seed)
        with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as name:
            folder = Path(name)
            (folder / "initramfs.gz").write_bytes(self._initramfs)
            trace = folder / "trace"
            with ExitStack() as stack:
                options, signs = self._attach(device, folder, stack, update)
                guest = stack.enter_context(start_guest(
                    self.qemu, self.kernel, folder / "initramfs.gz", [*options, *TRACE_OPTIONS, "-D", str(trace)],
                    accel=self.accel, signs=signs))
                update("boots")
                guest.wait_ready()
                load = run_load(guest, device.driver, update, rounds=rounds, pings=pings, size=size, seed=self._seed)
            with open(trace, errors="replace") as lines:
                load.read_trace(phases(lines), device.regions)
        return load
