"""What a person with a card does, step by step, in a machine whose card is the simulated one.

The outer machine has a vIOMMU and the card; the inner guest is started in it by the project's own command and gets the card.
"""

import json
import re
import time

from ...hdl.spec.virtio import VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, Common, Status
from ..conformance import FAILING
from ..guest.demo import DHCP, expect, guest_steps, ping_command, wait_for
from ..guest.network import GATEWAY
from ..guest.patience import Patience
from ..guest.transfer import Transfer, serve
from .image import INNER_INITRAMFS, INNER_KERNEL

__all__ = ["INNER_MB", "Rehearsal", "devmem", "outside_memory"]

INNER_MB = 128
PINGS, FEW_PINGS = 300, 5
TRANSFER = 1 << 19
LONG_TRANSFER, KILLED_AT = 1 << 22, 1 << 17   # bytes of a file, and of it that are through when the inner QEMU is killed
# How long a machine in a machine may stand still.
BOOT_SECONDS, COMMAND_SECONDS = 600, 300
# Of the inner guest: less for a slow machine to do, nothing that concerns the card.
INNER_PARAMETERS = "quiet panic=-1 no_timer_check tsc=reliable mitigations=off nokaslr cryptomgr.notests audit=0 highres=off"
OUTSIDE = 0x4000_0000        # where neither the inner guest's memory nor anything else is mapped
INNER_TTY, INNER_LOG, INNER_STATUS = "/dev/ttyS1", "/tmp/inner.log", "/tmp/inner.status"
QEMU_PROCESS = "ld-linux-x86-64.so.2"  # it runs through a loader of its own
SETTLE_SECONDS = 60
VIRTIO_PCI = "/sys/bus/pci/drivers/virtio-pci"


class Rehearsal:
    """The steps; ``found`` gathers what they find.

    Parameters
    ----------
    outer : Guest
        Just started.
    inner : Guest
        The console of whatever guest runs in it.
    card
        The simulated card: its ``stats()`` tell what the outer machine's IOMMU did not let pass.
    steps : Steps
        Where to show them.
    report : Report
        Of the inner guest's main run.
    """
    def __init__(self, outer, inner, card, steps, report, seed=0):
        self.outer, self.inner, self.card, self.steps, self.report = outer, inner, card, steps, report
        self.seed = seed
        self.found = {}

    def run(self):
        """All of it; :exc:`GuestError` where a check does not hold."""
        self.boot()
        self.devices()
        self._monitor()
        self._flash()
        self._refusals()
        self._collect()
        self.bind()
        self.start_inner()
        guest_steps(self.inner, self.report, self.steps, peer=GATEWAY, listen="127.0.0.1", seed=self.seed, size=TRANSFER,
                    pings=PINGS, timeout=BOOT_SECONDS)
        self._reads_outside()
        self.end_inner()
        self._unbind("The card is its host's again")
        self.bind()
        self._kill_inner()
        self._unbind("After the guest was killed, the card is its host's again")

    # The outer machine.

    def _ringnic(self, arguments, update, **options):
        """Run a command of the project in the outer machine, showing what it says."""
        return self.outer.run(f"ringnic {arguments}", timeout=COMMAND_SECONDS, on_line=lambda line: update(line.strip()[:70]),
                              **options)

    def _read_json(self, path):
        return json.loads("".join(self.outer.run(f"cat {path}")))

    def boot(self):
        with self.steps("Boot the machine that has the card") as update:
            start = time.monotonic()
            self.outer.wait_ready(BOOT_SECONDS)
            update(f"{time.monotonic() - start:.1f} s")

    def devices(self):
        with self.steps("ringnic devices") as update:
            self._ringnic("devices --report /tmp/devices.json", update)
            self.found["devices"] = self._read_json("/tmp/devices.json")
            cards = [one for one in self.found["devices"]["cards"] if one["ringnic"]]
            expect(len(cards) == 1, f"ringnic devices shows {len(cards)} cards, not 1")
            card, = cards
            self.bdf = card["address"]
            expect(card["driver"] == "virtio-pci", f"{self.bdf} is with {card['driver']}, not virtio-pci")
            expect(not card["in_the_way"], f"In the way of {self.bdf}: {'; '.join(card['in_the_way'])}")
            update(f"{self.bdf}, build {card['build_id']}, {card['driver']}, IOMMU group {card['iommu_group']}")

    def _monitor(self):
        with self.steps("ringnic monitor") as update:
            self._ringnic(f"monitor {self.bdf} --once --report /tmp/monitor.json", update)
            seen = self._read_json("/tmp/monitor.json")
            expect("DRIVER_OK" in seen["status"], f"ringnic monitor shows status {seen['status']}")
            update(f"build {seen['build_id']}, {', '.join(seen['status'])}")

    def _flash(self):
        """There is no board: only what would be done."""
        with self.steps("ringnic flash --dry-run") as update:
            self.outer.run("echo bits >/tmp/card.bit")
            lines = self._ringnic(f"flash acorn_cle215 /tmp/card.bit --volatile --bdf {self.bdf} --dry-run", update)
            places = [next((at for at, line in enumerate(lines) if word in line), None)
                      for word in ("driver/unbind", f"{self.bdf}/remove", "openFPGALoader -b", "/rescan")]
            expect(None not in places and places == sorted(places), f"ringnic flash would do: {'; '.join(lines)}")
            update(f"{len(places)} actions")

    def _refusals(self):
        """What must not be done is refused, and the reason is one that helps."""
        with self.steps("What cannot be is refused") as update:
            shared = self.outer.run("for g in /sys/kernel/iommu_groups/*/devices; do set -- $(ls $g); "
                                    "[ $# -gt 1 ] && echo $1; done", check=False)[1]
            self.outer.run("ip link set eth0 up")
            wanted = [(f"bind {self.bdf}", "take it down"), ("bind 0000:77:00.0", "0000:77:00.0"),
                      (f"guest {self.bdf}", "ringnic bind"), (f"selftest {self.bdf}", "ringnic bind"),
                      *((f"bind {one}", "no virtio device") for one in shared[:1])]
            for command, word in wanted:
                status, lines = self._ringnic(f"{command} 2>&1", update, check=False)
                expect(status and word in " ".join(lines), f"`ringnic {command}` ended with {status}: {' '.join(lines)[:200]}")
            self.outer.run("ip link set eth0 down")
            update(f"{len(wanted)} commands, a clear word each")

    def _driver(self):
        return self.outer.run(f"basename $(readlink /sys/bus/pci/devices/{self.bdf}/driver)", check=False)[1][-1:]

    def bind(self):
        with self.steps("ringnic bind") as update:
            self._ringnic(f"bind {self.bdf}", update)
            expect(self._driver() == ["vfio-pci"], f"After bind the driver is {self._driver()}")
            update(f"{self.bdf} to vfio-pci")

    def _collect(self):
        """All that a first report has, the selftest among it. The card is lent to vfio-pci, and its driver gets it back."""
        with self.steps("ringnic collect") as update:
            status, lines = self._ringnic(f"collect {self.bdf} --quick --output /tmp/collect.json 2>&1", update, check=False)
            expect(status == 0, f"`ringnic collect` ended with status {status}: {' '.join(lines)[-200:]}")
            collected = self._read_json("/tmp/collect.json")
            self.found["selftest"] = found = collected["selftest"]
            failing = "; ".join(f"{row['id']}: {row['reason']}" for row in found["rows"] if row["status"] == FAILING)
            expect(not failing and not found["failed"], f"Failures of the selftest: {failing or found['failed']}")
            expect(not collected["missing"], f"`ringnic collect` has nothing of {collected['missing']}")
            expect(collected["lspci"] and collected["after"]["driver"] == "virtio-pci" == self._driver()[0],
                   f"After `ringnic collect` the driver is {self._driver()}")
            update(f"{found['rows_passing']} of {found['rows_applicable']} rows of the selftest")

    def _unbind(self, title):
        with self.steps(title) as update:
            self._ringnic(f"unbind {self.bdf}", update)
            expect(self._driver() == ["virtio-pci"], f"After unbind the driver is {self._driver()}")
            self._works(self.outer, update)
            self.outer.run("ip link set eth0 down")

    @staticmethod
    def _works(guest, update):
        """The stock driver has the card, and it carries packets."""
        expect(wait_for(lambda: guest.run("[ -e /sys/class/net/eth0 ]", check=False)[0] == 0, guest.patience(COMMAND_SECONDS)),
               "The stock driver makes no network interface of the card")
        guest.run("ip link set eth0 up")
        guest.run(DHCP, timeout=COMMAND_SECONDS)
        answers = guest.run(ping_command(FEW_PINGS, GATEWAY), timeout=COMMAND_SECONDS, check=False)[1]
        update(f"{len(answers)} of {FEW_PINGS} pings answered")
        expect(len(answers) == FEW_PINGS, "A ping got no answer")

    # The inner guest.

    def start_inner(self, qemu=None):
        """Start the inner guest by ``ringnic guest``; ``qemu``: a program of the outer machine to use in place of QEMU."""
        with self.steps("ringnic guest") as update:
            arguments = (f"guest {self.bdf} --kernel {INNER_KERNEL} --initrd {INNER_INITRAMFS} --memory {INNER_MB} --huge-pages "
                         f"--append '{INNER_PARAMETERS}'" + ("" if qemu is None else f" --qemu {qemu}"))
            self.outer.run(f"rm -f {INNER_STATUS}; stty -F {INNER_TTY} raw -echo; {{ ringnic {arguments} "
                           f"<{INNER_TTY} >{INNER_TTY} 2>{INNER_LOG}; echo $? >{INNER_STATUS}; }} &")
            self._until(f"[ -e {INNER_STATUS} ] || ls -l /proc/*/fd 2>/dev/null | grep -q '/dev/vfio/[0-9]'", "No guest starts")
            said = " ".join(self.outer.run(f"cat {INNER_LOG}"))
            expect(not self._holds(f"[ -e {INNER_STATUS} ]"), f"The guest ended at once: {said[-200:]}")
            update(f"{INNER_MB} MiB on huge pages")

    def _holds(self, condition):
        """Tell whether a condition of the shell holds in the outer machine."""
        return self.outer.run(condition, check=False)[0] == 0

    def _until(self, condition, what):
        expect(wait_for(lambda: self._holds(condition), self.outer.patience(COMMAND_SECONDS)), what)

    def _ended(self):
        self._until(f"[ -e {INNER_STATUS} ]", "The inner guest does not end")

    def end_inner(self):
        with self.steps("The guest ends"):
            self.inner.send("poweroff -f")
            self._ended()

    def _kill_inner(self):
        self.start_inner()
        with self.steps("A guest is killed while a file is on its way") as update:
            self.inner.wait_ready(BOOT_SECONDS)
            self._works(self.inner, update)
            transfer = Transfer(bytes(LONG_TRANSFER))
            with serve(transfer, "127.0.0.1"):
                self.inner.run(f"wget -q -O /dev/null http://{GATEWAY}:{transfer.port}/file &")
                wait_for(lambda: transfer.sent >= KILLED_AT, self.inner.patience(COMMAND_SECONDS, lambda: transfer.sent))
                self.outer.run(f"kill -9 $(pidof {QEMU_PROCESS})")
                self._ended()
                sent = transfer.sent
            expect(KILLED_AT <= sent < LONG_TRANSFER, f"Killed after {sent} bytes of {LONG_TRANSFER}")
            update(f"after {sent >> 10} of {LONG_TRANSFER >> 10} KiB")

    def _reads_outside(self):
        """A driver lets the card read where its guest has no memory: the IOMMU refuses, the card says so, and both go on."""
        with self.steps("DMA outside the guest's memory") as update:
            device, resource = self.inner.run("d=$(basename $(readlink -f /sys/class/net/eth0/device/..)); echo $d; "
                                              "head -n 1 /sys/bus/pci/devices/$d/resource")
            bar = int(resource.split()[0], 16)
            before = self.card.stats()["dma_faults"]
            # Memory and Bus Master on: the driver has switched them off when it left.
            self.inner.run(f"echo {device} >{VIRTIO_PCI}/unbind && "
                           f"printf '\\x06' | dd of=/sys/bus/pci/devices/{device}/config bs=1 seek=4 conv=notrunc 2>/dev/null")
            self.inner.run(devmem(bar, outside_memory()))

            def needs_reset():
                word = self.inner.run(f"devmem {bar + Common.DEVICE_STATUS:#x} 8")[-1]
                return int(word, 16) & Status.DEVICE_NEEDS_RESET
            expect(wait_for(needs_reset, Patience(SETTLE_SECONDS)), "The card's status is without DEVICE_NEEDS_RESET")
            refused = self.card.stats()["dma_faults"] - before
            expect(refused, "No access was refused")
            self.inner.run(f"echo {device} >{VIRTIO_PCI}/bind")
            self._works(self.inner, update)
            update(f"refused {refused} times, DEVICE_NEEDS_RESET; the driver starts again")


def outside_memory():
    """Writes that make a queue of a ring where there is no memory, up to DRIVER_OK: (offset, bytes, value) each.

    The card looks at a queue when it begins, so no notification is needed.
    """
    status = [Status.ACKNOWLEDGE, Status.DRIVER, Status.FEATURES_OK, Status.DRIVER_OK]
    levels = [sum(status[:count]) for count in range(1, 5)]
    features = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_F_ACCESS_PLATFORM
    yield from ((Common.DEVICE_STATUS, 1, level) for level in (0, *levels[:2]))
    for word in range(2):
        yield Common.DRIVER_FEATURE_SELECT, 4, word
        yield Common.DRIVER_FEATURE, 4, features >> 32 * word & 0xffff_ffff
    yield Common.DEVICE_STATUS, 1, levels[2]
    yield Common.QUEUE_SELECT, 2, 1   # that of transmission
    yield Common.QUEUE_SIZE, 2, 4
    for number, field in enumerate((Common.QUEUE_DESC, Common.QUEUE_DRIVER, Common.QUEUE_DEVICE)):
        yield field, 4, OUTSIDE + 0x1000 * number
        yield field + 4, 4, 0
    yield Common.QUEUE_ENABLE, 2, 1
    yield Common.DEVICE_STATUS, 1, levels[3]


def devmem(bar, writes):
    """Return a line of shell that makes the writes to a BAR."""
    return " && ".join(f"devmem {bar + offset:#x} {8 * size} {value:#x}" for offset, size, value in writes)
