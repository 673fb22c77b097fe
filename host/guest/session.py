"""One run of the demo, from fetching what is missing to the report; whatever happens, nothing of it stays behind."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
import tempfile

from rich.console import Console

from ...hdl.spec.net import DEFAULT_MTU
from ..errors import complain, note, told
from .accel import choose_accel
from .assets import AssetError, find_kernel, find_qemu, find_shell_tools, find_tools
from .cable import plugged
from .card import PAIRS, CardError, Wave, rtl_card
from .demo import Steps, check_counters, guest_steps
from .initramfs import build_initramfs
from .network import GATEWAY, Watched, open_pcap, open_tap, tap_addresses, user_network
from .process import INTERRUPTED, ends_as_exceptions
from .qemu import GuestError, run_shell, start_guest
from .registers import FOLDER_PREFIX
from .report import Report

__all__ = ["DemoOptions", "run_demo"]


@dataclass(frozen=True)
class DemoOptions:
    """What the command line asks for; see ``ringnic demo --help``. ``size`` is in bytes; ``features`` are bit numbers, None
    for all; ``add``: files for the guest's ``/files``."""
    report: Path | None = None
    wave: Wave | None = None
    pcap: Path | None = None
    tlp: Path | None = None
    shell: bool = False
    kernel: str = "6.1"
    accel: str = "tcg"
    seed: int = 0
    qemu: Path | None = None
    tap: str | None = None
    size: int = 4 << 20
    features: frozenset | None = None
    pairs: int = PAIRS
    mtu: int = DEFAULT_MTU
    cpus: int = 1
    add: tuple = ()


def _for_a_person(options):
    """What a guest with a shell has besides: modules, and files by their place in it."""
    # tcpdump listens on a packet socket.
    return ("af_packet",), {**find_shell_tools(note), **{f"/files/{path.name}": path for path in options.add}}


def _open_network(options, qemu, stack):
    """Return the network and how the guest is to use it: the keywords of :func:`guest_steps`."""
    if options.tap is None:
        return stack.enter_context(user_network(qemu)), {"peer": GATEWAY, "listen": "127.0.0.1"}
    host, guest = tap_addresses(options.tap)
    return stack.enter_context(open_tap(options.tap)), {"peer": host, "listen": host, "lease": guest}


def _run(options, console, report, card, stack):
    qemu = find_qemu(options.qemu, note)
    kernel = find_kernel(options.kernel, note)
    accel = choose_accel(options.accel, qemu, kernel)
    tools = find_tools(note)
    report.qemu, report.seed = qemu.version, options.seed
    run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)))
    initramfs = run_dir / "initramfs.gz"
    try:
        initramfs.write_bytes(build_initramfs(kernel, tools, *_for_a_person(options) if options.shell else ()))
    except ValueError as error:  # a kernel of another make
        raise AssetError(str(error)) from None
    steps = Steps(console)
    network, addresses = _open_network(options, qemu, stack)
    if options.pcap is not None:
        network = Watched(network, stack.enter_context(open_pcap(options.pcap)).write)
    with steps("Build and start the card's model") as update:
        device = stack.enter_context(card(run_dir / "card.sock", seed=options.seed, wave=options.wave, tlp=options.tlp,
                                          update=update, features=options.features, pairs=options.pairs,
                                          mtu=options.mtu))
    broken = stack.enter_context(plugged(device, network))

    def cable():
        """A sign that does not change; it ends the run with what has ended the cable."""
        if broken:
            raise broken[0]
    machine = (qemu, kernel, initramfs, device.qemu_options)
    signs = (device.progress, cable)
    if options.shell:
        append = f"ringnic.address={addresses['lease']}" if "lease" in addresses else ""
        return run_shell(*machine, accel=accel, cpus=options.cpus, append=append, pass_fds=device.pass_fds,
                         signs=signs)
    guest = stack.enter_context(start_guest(*machine, accel=accel, cpus=options.cpus, pass_fds=device.pass_fds,
                                            signs=signs))
    try:
        guest_steps(guest, report, steps, seed=options.seed, size=options.size, **addresses)
    except BaseException:
        with suppress(Exception):  # what led here is what to tell
            device.fill(report)
        raise
    device.fill(report)
    check_counters(report)
    return 0


def run_demo(options, card=rtl_card, *, console=None, report=None):
    """Run the demo and return its exit status: 0 if every check held, 1 if not, ``INTERRUPTED`` after Ctrl-C.

    ``card`` makes the device: see :func:`.card.rtl_card`. ``console`` and ``report`` may be given to look at afterwards.
    """
    console = Console() if console is None else console
    report = Report() if report is None else report
    status = 1
    try:
        with ends_as_exceptions(), ExitStack() as stack:
            status = _run(options, console, report, card, stack)
    except (AssetError, GuestError, CardError, OSError) as error:
        report.failed.append(told(error).partition("\n")[0])
        complain(error)
    except KeyboardInterrupt:
        report.failed.append("interrupted")
        complain("interrupted")
        status = INTERRUPTED
    if not options.shell:
        if report.kernel:
            console.print(report.table())
        if options.report is not None:
            report.write(options.report)
    return status
