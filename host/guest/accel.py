"""Which of QEMU's accelerators runs a guest here."""

import os
import selectors
import subprocess
import tempfile
import time

from ..errors import note
from .process import child
from .qemu import GuestError

__all__ = ["SECONDS", "choose_accel", "kvm_fault"]

SECONDS = 20               # a kernel that runs comes to its end within one
ACCEL, DEVICE = "kvm", "/dev/kvm"
END = b"Kernel panic"      # of a kernel that finds no root


def kvm_fault(qemu, kernel, seconds=SECONDS):
    """Return why KVM runs no guest here, in words, or None if it does: a kernel is started with it, and has to come to its end.

    That the device is there proves nothing, nor that firmware runs: with some nested ones a kernel stands still all the same.
    """
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} may not be used by you: join the group that it belongs to" if os.path.exists(DEVICE) else \
            f"there is no {DEVICE}: switch VT-x or SVM on in the firmware's set-up"
    argv = [*qemu.argv, "-accel", ACCEL, "-machine", "q35", "-nodefaults", "-display", "none", "-m", "256M", "-no-reboot",
            "-chardev", "stdio,id=said,signal=off", "-serial", "chardev:said", "-kernel", str(kernel.image),
            "-append", "console=ttyS0 panic=-1"]
    with tempfile.TemporaryFile("w+") as errors, selectors.DefaultSelector() as selector, \
            child(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
        selector.register(process.stdout, selectors.EVENT_READ)
        said, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and selector.select(left):
            chunk = process.stdout.read1()
            said += chunk
            if END in said:
                return None
            if not chunk:
                break
        else:
            return f"KVM has started no guest within {seconds} s"
        process.wait()
        errors.seek(0)
        lines = errors.read().strip().splitlines()
        return lines[-1].removeprefix("qemu-system-x86_64: ") if lines else "QEMU ended with KVM, without a word"


def choose_accel(accel, qemu, kernel):
    """Return "tcg" or "kvm"; "auto" leaves it to a trial. Raises :exc:`GuestError` if it has to be KVM and that does not run."""
    if accel == "tcg":
        return accel
    fault = kvm_fault(qemu, kernel)
    if fault is None:
        return "kvm"
    if accel == "auto":
        note(f"{fault}; TCG runs the guest instead")
        return "tcg"
    raise GuestError(f"{fault}; --accel tcg needs nothing")
