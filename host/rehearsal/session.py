"""``ringnic rehearse``: from a card in a slot to a guest on the network, in a guest whose host is another guest.

Whatever happens, nothing of it stays behind.
"""

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
import socket
import tempfile
import time

from rich.console import Console
from rich.table import Table

from ...hdl.spec.net import DEFAULT_MTU
from ..errors import complain, note, told
from ..guest.assets import AssetError, debian_qemu, find_kernel, find_lspci, find_tools
from ..guest.cable import plugged
from ..guest.card import PAIRS, CardError, rtl_card
from ..guest.demo import Steps, expect, wait_for
from ..guest.network import user_network
from ..guest.process import INTERRUPTED, ends_as_exceptions
from ..guest.qemu import Guest, GuestError, start_guest, vfio_user_device
from ..guest.report import Report
from ..results import write_json
from .image import build_image
from .steps import INNER_MB, Rehearsal

__all__ = ["run_rehearsal", "start_machines"]

OUTER_MB, OUTER_CPUS = 2048, 2
START_SECONDS = 60                # that QEMU may take to start without using a processor
HUGE_PAGES = INNER_MB // 2 + 8    # of 2 MiB
# A vIOMMU that translates, and keeps translating once drivers are at work.
VIOMMU = ("-device", "intel-iommu,intremap=on,caching-mode=on")
# What is in a slot is behind a bridge, which can reset it. QEMU's port says that its link is active, which a kernel waits for
# after such a reset, only if hotplug is native.
SLOT = "slot1"
ROOT_PORT = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
             "-device", f"pcie-root-port,id={SLOT},chassis=1,slot=1")
OUTER_PARAMETERS = f"intel_iommu=on iommu.passthrough=0 hugepages={HUGE_PAGES}"


@dataclass
class Found:
    """Results: the seed, and those of the steps (seconds, by title), of ``ringnic devices`` and ``selftest``, of the inner guest,
    and what failed."""
    seed: int
    seconds: float | None = None
    steps: dict = field(default_factory=dict)
    devices: dict = field(default_factory=dict)
    selftest: dict = field(default_factory=dict)
    guest: dict = field(default_factory=dict)
    failed: list = field(default_factory=list)

    def write(self, path):
        build_id = self.selftest.get("build_id") or self.guest.get("build_id")
        write_json(path, {"ok": not self.failed, **asdict(self)}, build_id=build_id, seed=self.seed)


class _Line:
    """A serial line as a :class:`Guest` wants its machine."""
    def __init__(self, connection):
        self.stdin, self.stdout = connection.makefile("wb"), connection.makefile("rb")

    @staticmethod
    def wait():
        return "unknown, with the machine that it is in"


@contextmanager
def _inner(path, errors, outer):
    """Yield the :class:`Guest` behind the second serial port, a socket at ``path``, of the machine ``outer``."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        line = _Line(connection)
        with line.stdin, line.stdout:
            yield Guest(line, errors, outer.signs, outer.work)


def _table(found, report):
    table = Table(title="Rehearsal", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    if found.selftest:
        table.add_row("Selftest over VFIO, rows", f"{found.selftest['rows_passing']} of {found.selftest['rows_applicable']}")
    if report.kernel:
        rtt = report.ping_rtt_ms_median
        table.add_row("Guest in the guest", f"Linux {report.kernel}, {report.driver}")
        table.add_row("Ping, sent / lost / median",
                      f"{report.ping_sent} / {report.ping_lost} / {'-' if rtt is None else f'{rtt:.1f} ms'}")
        for name, rate in (("to", report.tcp_rx_mbit_s), ("from", report.tcp_tx_mbit_s)):
            table.add_row(f"TCP {name} it", "-" if rate is None else f"{rate:.2f} Mbit/s")
        table.add_row("SHA-256 at all ends", "equal" if report.sha256_ok else "[red]not equal[/]")
    table.add_row("Whole rehearsal", f"{found.seconds:.0f} s")
    return table


def start_machines(stack, steps, say, *, kernel, made=rtl_card, seed=0, mtu=DEFAULT_MTU):
    """Start the outer machine with a card in its slot; return its :class:`Guest`, that of the inner guest, and the card.

    All ends with ``stack``. ``steps`` shows what happens, ``say`` is called with a text when something is fetched.
    """
    qemu, tools, programs = debian_qemu(say), find_tools(say), find_lspci(say)
    kernel = find_kernel(kernel, say)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringnic-")))
    with steps("Build the machine's initramfs") as update:
        image = build_image(kernel, kernel, tools, qemu, programs)
        (folder / "image.cpio").write_bytes(image)
        update(f"{len(image) >> 20} MiB: Python, this project, QEMU, and the inner guest")
    with steps("Build and start the card's model") as update:
        card = stack.enter_context(made(folder / "card.sock", seed=seed, wave=None, tlp=None, update=update, features=None,
                                        pairs=PAIRS, mtu=mtu))
    network = stack.enter_context(user_network(qemu))
    stack.enter_context(plugged(card, network))
    line = folder / "inner.sock"
    devices = [*VIOMMU, *ROOT_PORT, *vfio_user_device(card.socket_path, SLOT),
               "-chardev", f"socket,id=inner,path={line},server=on,wait=off", "-serial", "chardev:inner"]
    outer = stack.enter_context(start_guest(qemu, kernel, folder / "image.cpio", devices, cpus=OUTER_CPUS, memory_mb=OUTER_MB,
                                            append=OUTER_PARAMETERS, signs=(card.progress,)))
    expect(wait_for(line.exists, outer.patience(START_SECONDS)), "QEMU does not open its serial lines")
    inner = stack.enter_context(_inner(line, stack.enter_context(tempfile.TemporaryFile("w+")), outer))
    return outer, inner, card


def _run(found, report, steps, stack, **options):
    outer, inner, card = start_machines(stack, steps, note, **options)
    rehearsal = Rehearsal(outer, inner, card.engine, steps, report, options["seed"])
    try:
        rehearsal.run()
    finally:
        found.devices, found.selftest = (rehearsal.found.get(name, {}) for name in ("devices", "selftest"))
        with suppress(Exception):  # what led here is what to tell
            card.fill(report)
        found.guest = report.as_dict()
    return 0


def run_rehearsal(path=None, *, kernel="6.1", seed=0, mtu=DEFAULT_MTU, card=rtl_card, console=None):
    """Rehearse, show, write the report to ``path``; return the exit status: 0 if every check held.

    ``card`` makes the device: see :func:`..guest.card.rtl_card`.
    """
    console = Console() if console is None else console
    found, report, steps = Found(seed), Report(seed=seed), Steps(console)
    start, status = time.monotonic(), 1
    try:
        with ends_as_exceptions(), ExitStack() as stack:
            status = _run(found, report, steps, stack, made=card, kernel=kernel, seed=seed, mtu=mtu)
    except (AssetError, GuestError, CardError, OSError) as error:
        found.failed.append(told(error).partition("\n")[0])
        complain(error)
    except KeyboardInterrupt:
        found.failed.append("interrupted")
        complain("interrupted")
        status = INTERRUPTED
    found.steps, found.seconds = steps.seconds, round(time.monotonic() - start, 1)
    console.print(_table(found, report))
    if path is not None:
        try:
            found.write(path)
        except OSError as error:
            complain(error)
            return 1
    return status
