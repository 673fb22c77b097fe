"""Somebody else's endpoint in a stock guest: a driver in user space has it through the guest's own VFIO."""

import gzip
from pathlib import Path
import subprocess

import pytest

from ringnic.host.guest.assets import find_kernel, find_qemu, find_tools
from ringnic.host.guest.cpio import Cpio
from ringnic.host.guest.initramfs import add_base
from ringnic.host.guest.qemu import start_guest, vfio_user_device
from ringnic.sim.attach.endpoint import verilog_design
from ringnic.sim.attach.session import attached

HERE = Path(__file__).parent
SOURCE = HERE.parent / "sim/attach/scrambler.v"
IOMMU = ("-device", "intel-iommu,intremap=on,caching-mode=on")  # as the driver of a real machine has it
KEY = 0x1122_3344
EXPECTED = f"""\
BARs 1000, 4000, 10; key {KEY:08x}
BAR 2: 1234ee78 9abcdef0
BAR 4: cafe0001, as BAR 0 has it: cafe0001
MSI-X, vector 0: 16 DWs
MSI-X, vector 1: 16 DWs
MSI, vector 0: 16 DWs
INTx, vector 0: 5 DWs
INTx, vector 0: 10 DWs
INTx, vector 0: 15 DWs
all done"""


@pytest.fixture
def driver(tmp_path):
    path = tmp_path / "driver"
    subprocess.run(["g++", "-static", "-O1", "-o", path, HERE / "scrambler_driver.cpp"], check=True)
    return path.read_bytes()


def test_stock_guest_drives_it(driver, tmp_path):
    kernel = find_kernel("6.1")
    cpio = Cpio()
    add_base(cpio, kernel, find_tools(), ("vfio_iommu_type1", "vfio_pci"))
    cpio.file("/bin/driver", driver, 0o755)
    initramfs = tmp_path / "initramfs.gz"
    initramfs.write_bytes(gzip.compress(cpio.getvalue(), compresslevel=1))
    endpoint = verilog_design([SOURCE], "scrambler", parameters=[("WIDTH", 64), ("KEY", KEY)])
    with attached(endpoint, tmp_path / "s") as served:
        with start_guest(find_qemu(), kernel, initramfs, [*IOMMU, *vfio_user_device(tmp_path / "s")],
                         append="intel_iommu=on iommu.passthrough=0") as guest:
            guest.wait_ready()
            [place] = guest.run("grep -l 0x5c4a /sys/bus/pci/devices/*/device")
            address = place.split("/")[-2]
            resources = [[int(word, 16) for word in line.split()] for line in guest.run(f"head -6 {place[:-6]}resource")]
            assert [end - begin + 1 if end else 0 for begin, end, _ in resources] == [4096, 0, 16384, 0, 16, 0]
            assert resources[2][2] & 0x10_0000 and resources[4][2] & 0x100, "IORESOURCE_MEM_64, IORESOURCE_IO"
            guest.run("echo 1234 5c4a >/sys/bus/pci/drivers/vfio-pci/new_id")
            [group] = guest.run(f"basename $(readlink /sys/bus/pci/devices/{address}/iommu_group)")
            for _ in range(2):                               # another process may have it next
                assert "\n".join(guest.run(f"timeout 60 driver {address} {group}")) == EXPECTED
        assert not list(served.news())
