"""The firmware U-Boot: polls, has 32 receive buffers, and returns them to the card without a notification."""

import re
import subprocess
import tempfile
import zlib

import pytest

from ringnic.host.guest.assets import find_qemu
from ringnic.host.guest.clients import find_uboot
from ringnic.host.guest.network import GATEWAY, user_network
from ringnic.host.guest.process import child
from ringnic.host.guest.qemu import Console, machine

FILE_BYTES = 300_000  # in blocks of 1468 bytes: six times as many as there are receive buffers
BUFFERS = 32
LOAD_ADDRESS = 0x100_0000
PROMPT = r"\n=> +$"  # and blanks if the one that stops the boot came late
SECONDS = 120  # that nothing may move
# Its device tree has a bridge at 00:01.0, and would take a card there for it: so there is one, and the card comes next.
BRIDGE = ["-device", "pcie-root-port,id=bridge,addr=1"]


class UBoot(Console):
    """U-Boot's command line."""
    def stop_autoboot(self):
        self.until("stop autoboot", SECONDS, "U-Boot's start")
        self.type(" ", "U-Boot's start")
        self.until(PROMPT, SECONDS, "U-Boot's command line")

    def run(self, command):
        """Return what a command says."""
        self.type(f"{command}\r", f"`{command}`")
        return self.until(PROMPT, SECONDS, f"`{command}`")


@pytest.fixture
def uboot(setup, rng):
    """The command line, the card, and the file that the network has; the guest has not looked for the card yet."""
    image, qemu = find_uboot(), find_qemu()
    files = setup.folder / "tftp"
    files.mkdir()
    (files / "file").write_bytes(rng.randbytes(FILE_BYTES))
    card = setup.card(setup.enter(user_network(qemu, files)))
    errors = setup.enter(tempfile.TemporaryFile("w+"))
    argv = machine(qemu, ["-bios", image], [*BRIDGE, *card.qemu_options], console="pipe")
    process = setup.enter(child(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True))
    guest = UBoot(process, errors, (card.progress,))
    guest.stop_autoboot()
    return guest, card, (files / "file").read_bytes()


def test_uboot_loads_a_file(setup, uboot):
    guest, card, file = uboot
    assert "0x1af4     0x1041" in guest.run("pci")
    guest.run("virtio scan")
    assert re.search(r"virtio-net#0 52:54:00:52:4e:01 active", guest.run("net list"))
    # What is lost is sent again only when nothing else can be the matter, and then not for ever.
    for setting in ("autoload no", "netretry no", "tftptimeout 60000", "tftptimeoutcountmax 1"):
        guest.run(f"setenv {setting}")
    assert "client bound to address 10.0.2.15" in guest.run("dhcp")
    for _ in range(2):  # it starts the device anew for every command
        said = guest.run(f"tftpboot {LOAD_ADDRESS:#x} {GATEWAY}:file")
        assert f"Bytes transferred = {len(file)}" in said, said
        [crc] = re.findall(r"==> ([0-9a-f]{8})", guest.run(f"crc32 {LOAD_ADDRESS:#x} $filesize"))
        assert int(crc, 16) == zlib.crc32(file)
    counters = setup.check(card)
    assert min(counters["packets_tx"], counters["packets_rx"]) > 2 * len(file) // 1468 > 12 * BUFFERS
