"""A machine in a folder that behaves as the kernel does: what is written to its sysfs has the effect that it has there."""

import os
from pathlib import Path
import shutil
import signal
import struct

import pytest

from ringnic.host.slot.sysfs import Machine, SlotError

RELEASE = "6.1.0-test"
CARD = "0000:01:00.0"
PORT = "0000:00:1c.0"
EXP, MSIX, VIRTIO = 0x40, 0x80, 0x90
PLACES = {1: (0x0000, 0x3c), 2: (0x3000, 0x1000), 3: (0x1000, 4), 4: (0x2000, 0x1000), 5: (0, 0)}


def make_config_space(vendor=0x1af4, device=0x1041, vectors=10):
    """256 bytes of a virtio function: MSI-X, and all structures of virtio in BAR 0."""
    config = bytearray(256)
    struct.pack_into("<HHHH", config, 0, vendor, device, 2, 0x10)
    config[0x34] = EXP
    struct.pack_into("<BB", config, EXP, 0x10, MSIX)
    struct.pack_into("<BBHII", config, MSIX, 0x11, VIRTIO, vectors - 1, 0x4000, 0x5000)
    at = VIRTIO
    for kind, (offset, length) in PLACES.items():
        following = at + 20 if kind < 5 else 0
        struct.pack_into("<BBBBIII", config, at, 9, following, 20, kind, 0, offset, length)
        at += 20
    return config


class FakeMachine(Machine):
    """A machine with vfio-pci as a module, an Intel processor and an IOMMU; functions are added to it.

    ``interrupt_at``: the moment at which a Ctrl-C comes, counted in what happens: before and after each write and program,
    and before each action that is told of. ``refuse``: files whose writes fail, by what the kernel would say.
    ``silent``: files whose writes change nothing. ``on_program``, ``on_look``: what becomes of programs that act, and of those
    that only look: exit status, and lines.
    """
    def __init__(self, root):
        super().__init__(root)
        self.moment, self.interrupt_at = 0, None
        self.refuse, self.silent = {}, set()
        self.said, self.runs, self.specs, self.missing_programs = [], [], {}, set()
        self.on_program = lambda argv: 0
        self.on_look = lambda argv: []
        for name in ("bus/pci/devices", "devices", "kernel/iommu_groups", "class/net", "class/iommu", "module"):
            self.path(f"/sys/{name}").mkdir(parents=True)
        for name in ("rescan", "drivers_probe"):
            self.put(f"/sys/bus/pci/{name}", "")
        self.put("/sys/class/iommu/dmar0/x", "")
        self.put("/proc/cpuinfo", "vendor_id\t: GenuineIntel")
        self.put("/proc/cmdline", "quiet intel_iommu=on")
        self.put("/proc/sys/kernel/osrelease", RELEASE)
        self.put(f"/lib/modules/{RELEASE}/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz")
        self.put("/dev/vfio/vfio", "")
        for name in ("virtio-pci", "e1000e", "pcieport"):
            self.path(f"/sys/bus/pci/drivers/{name}").mkdir(parents=True)

    # What a test says
    def put(self, name, content):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if isinstance(content, (bytes, bytearray)) else path.write_text(f"{content}\n")

    def add(self, address=CARD, *, vendor=0x1af4, device=0x1041, class_code=0x020000, driver="virtio-pci", group="14",
            parent=PORT, interface=None, up=False, config=None, bar_size=0x8000):
        """Add a function, below a port unless ``parent`` is None, and give it to a driver."""
        spec = dict(vendor=vendor, device=device, class_code=class_code, driver=driver, group=group, parent=parent,
                    interface=interface, up=up, config=config, bar_size=bar_size)
        self.specs[address] = spec
        bus = self.path("/sys/devices/pci0000:00")
        if parent is not None:
            if parent not in self.specs:
                self.add(parent, vendor=0x8086, device=0xa340, class_code=0x060400, driver="pcieport", group="2", parent=None)
            bus /= parent
        folder = bus / address
        folder.mkdir(parents=True)
        os.symlink(folder, self.path(f"/sys/bus/pci/devices/{address}"))
        at = f"/sys/bus/pci/devices/{address}"
        for name, content in {
            "vendor": f"0x{vendor:04x}", "device": f"0x{device:04x}", "class": f"0x{class_code:06x}", "driver_override": "(null)",
            "remove": "", "rescan": "", "current_link_speed": "2.5 GT/s PCIe", "current_link_width": "1",
            "max_link_speed": "2.5 GT/s PCIe", "max_link_width": "1", "reset_method": "flr pm", "numa_node": "-1",
            "power_state": "D0", "config": config or make_config_space(vendor, device), "resource0": bytes(bar_size),
            "resource": f"0x00000000fe800000 0x{0xfe800000 + bar_size - 1:016x} 0x0000000000040200",
        }.items():
            self.put(f"{at}/{name}", content)
        if group is not None:
            members = self.path(f"/sys/kernel/iommu_groups/{group}")
            (members / "devices").mkdir(parents=True, exist_ok=True)
            os.symlink(folder, members / "devices" / address)
            os.symlink(members, folder / "iommu_group")
        if driver is not None:
            self.attach(address, driver)
        return self.function(address)

    def running(self, pid, command, *files):
        """Add a process that has files open."""
        self.put(f"/proc/{pid}/comm", command)
        self.path(f"/proc/{pid}/fd").mkdir()
        for fd, name in enumerate(files):
            os.symlink(name, self.path(f"/proc/{pid}/fd/{fd}"))

    def load_vfio(self):
        for name in ("/sys/bus/pci/drivers/vfio-pci", "/sys/module/vfio_pci"):
            self.path(name).mkdir(parents=True, exist_ok=True)

    def say(self, line):
        self.tick()
        self.said.append(line)

    def state(self):
        """All that binding may change, to compare."""
        files = {str(path.relative_to(self.root)): path.read_text() for folder in ("etc", "run") for path in
                 sorted((self.root / folder).rglob("*")) if path.is_file() and path.name != "lock"}
        return ({function.address: (function.driver, function.override) for function in self.functions()}, files,
                self.list("/sys/module"), self.list("/dev/vfio"))

    # What the kernel does
    def tick(self):
        self.moment += 1
        if self.moment == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)

    def attach(self, address, driver):
        at, spec = f"/sys/bus/pci/devices/{address}", self.specs[address]
        os.symlink(self.path(f"/sys/bus/pci/drivers/{driver}"), self.path(f"{at}/driver"))
        self.put(f"{at}/driver/unbind", "") if not self.exists(f"/sys/bus/pci/drivers/{driver}/unbind") else None
        if driver == "vfio-pci":
            self.put(f"/dev/vfio/{spec['group']}", "")
            self.put(f"{at}/vfio-dev/vfio0/dev", "")
            self.put("/dev/vfio/devices/vfio0", "")
        elif spec["vendor"] == 0x1af4:
            self.put(f"{at}/virtio3/features", "".join(str(int(bit in (5, 16, 32))) for bit in range(64)))
        if spec["interface"] and driver not in ("vfio-pci", "pcieport"):
            self.path(f"{at}/{'virtio3/' if driver == 'virtio-pci' else ''}net/{spec['interface']}").mkdir(parents=True)
            self.put(f"/sys/class/net/{spec['interface']}/flags", "0x1003" if spec["up"] else "0x1002")

    def detach(self, address):
        at, spec = self.path(f"/sys/bus/pci/devices/{address}"), self.specs[address]
        if (at / "driver").is_symlink():
            driver = self.link(f"/sys/bus/pci/devices/{address}/driver")
            (at / "driver").unlink()
            for folder in ("virtio3", "net", "vfio-dev"):
                shutil.rmtree(at / folder, ignore_errors=True)
            if driver == "vfio-pci":
                self.path(f"/dev/vfio/{spec['group']}").unlink()
                shutil.rmtree(self.path("/dev/vfio/devices"), ignore_errors=True)

    def takes(self, driver, address):
        function, spec = self.function(address), self.specs[address]
        if function.override is not None:
            return driver == function.override
        return driver == {0x1af4: "virtio-pci", 0x8086: "pcieport"}.get(spec["vendor"])

    def write(self, name, value):
        self.tick()
        path = self.path(name)
        if not path.parent.is_dir():
            raise SlotError(f"the kernel refused `echo {value} > {name}`: No such file or directory; see `dmesg`")
        if name in self.refuse:
            raise SlotError(f"the kernel refused `echo {value} > {name}`: {self.refuse[name]}; see `dmesg`")
        if name not in self.silent:
            self.obey(name, path, value)
        self.tick()

    def obey(self, name, path, value):
        address = path.parent.parent.name if path.parent.name == "driver" else path.parent.name
        if path.name == "driver_override":
            self.put(name, value or "(null)")
        elif path.name == "unbind":
            assert value == address
            self.detach(address)
        elif path.name == "bind":
            if self.function(value).driver is not None or not self.takes(path.parent.name, value):
                raise SlotError(f"the kernel refused `echo {value} > {name}`: No such device; see `dmesg`")
            self.attach(value, path.parent.name)
        elif path.name == "drivers_probe":
            for driver in self.list("/sys/bus/pci/drivers"):
                if self.function(value).driver is None and self.takes(driver, value):
                    self.attach(value, driver)
        elif path.name == "remove":
            self.detach(address)
            for group in self.list("/sys/kernel/iommu_groups"):
                self.path(f"/sys/kernel/iommu_groups/{group}/devices/{address}").unlink(missing_ok=True)
            shutil.rmtree(os.path.realpath(path.parent))
            path.parent.unlink()
        elif path.name == "rescan":
            for found, spec in list(self.specs.items()):
                if not self.exists(f"/sys/bus/pci/devices/{found}") and not spec.get("dead"):
                    driver = spec["driver"]
                    self.add(found, **spec | {"driver": None})
                    self.specs[found]["driver"] = driver
                    self.obey("/sys/bus/pci/drivers_probe", Path("drivers_probe"), found)
        else:
            raise AssertionError(f"nobody writes to {name}")

    def run(self, argv, whole=False):
        self.tick()
        self.runs.append(list(argv))
        status = 0
        if argv[0] == "modprobe":
            if "-r" in argv:
                for name in ("/sys/bus/pci/drivers/vfio-pci", "/sys/module/vfio_pci"):
                    shutil.rmtree(self.path(name))
            else:
                self.load_vfio()
        else:
            status = self.on_program(argv)
        self.tick()
        return status

    def output(self, argv):
        self.tick()
        return self.on_look(argv)

    def which(self, program):
        return program not in self.missing_programs


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)


@pytest.fixture
def config_space():
    """Makes 256 bytes of configuration space."""
    return make_config_space
