"""A program: ``ringnic selftest`` on a machine in whose slot is a golden card, its MAC in loopback where it is asked for.

The machine is in the folder that the first argument names; the rest are the command's. If the first of those is ``--late``,
the kernel tells of each interrupt a while after it came, as a busy one does.
"""

from importlib.util import module_from_spec, spec_from_file_location
import os
from pathlib import Path
import sys
from threading import Timer

from ringnic.hdl.spec.bar import CONTROL_OFFSET, COUNTERS_OFFSET
from ringnic.host.bus import vfio
from ringnic.host.slot.commands import app
from ringnic.sim.golden import GoldenNet

PAIRS = 4
SHORTEST = 60  # bytes of a frame, to which the MAC pads
LATE_SECONDS = 0.1
CONTROL = COUNTERS_OFFSET, CONTROL_OFFSET - COUNTERS_OFFSET


class LoopedNet(GoldenNet):
    """A golden card with the control register."""
    loopback = 0

    def _read(self, page, offset, size):
        return self.loopback if (page, offset) == CONTROL else super()._read(page, offset, size)

    def _write(self, page, offset, size, value):
        if (page, offset) == CONTROL:
            self.loopback = value & 1
        else:
            super()._write(page, offset, size, value)

    def _flr(self):
        self.loopback = 0
        super()._flr()


def tell_late(eventfd):
    own = os.dup(eventfd)

    def tell():
        os.eventfd_write(own, 1)
        os.close(own)
    Timer(LATE_SECONDS, tell).start()


def main(root, late):
    place = Path(__file__).parent / "bus/conftest.py"
    spec = spec_from_file_location("fake_vfio", place)
    fake = module_from_spec(spec)
    spec.loader.exec_module(fake)

    class Kernel(fake.FakeKernel):
        def _pump(self):
            sent, self.device.sent[:] = self.device.sent[:], []
            for frame in sent if self.device.loopback else ():
                self.device.receive(frame.ljust(SHORTEST, b"\0"))
            if not late:
                return super()._pump()
            for _, vector in self.device.interrupts():
                tell_late(self._eventfds[vector])

    kernel = Kernel(root, LoopedNet(queue_pairs=PAIRS))
    vfio.Kernel = lambda: kernel
    try:
        app(["selftest", *sys.argv[1:]])
    finally:
        assert not kernel.open_files and not kernel.mapped and not kernel.device.loopback


if __name__ == "__main__":
    root = Path(sys.argv.pop(1))
    late = sys.argv[1:2] == ["--late"]
    del sys.argv[1:1 + late]
    main(root, late)
