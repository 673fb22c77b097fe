"""What is in the way of passthrough, and that the way out is said."""

import os

import pytest

from ringnic.host.slot.checks import in_the_way, no_permission, wrong_function

CARD = "0000:01:00.0"


def only(function):
    (found,) = in_the_way(function)
    return found


def test_nothing(machine):
    assert in_the_way(machine.add(interface="eth1")) == []


def test_all_ones(machine):
    card = machine.add()
    machine.put(f"{card.folder}/config", b"\xff" * 64)
    assert only(card) == (f"{CARD} does not answer (all ones): its link is down, or it was programmed under the kernel; "
                          f"`echo 1 > {card.folder}/remove; echo 1 > /sys/bus/pci/rescan`, else `ringnic flash` it")


@pytest.mark.parametrize("ids, message", [
    ({"vendor": 0x8086, "device": 0x10d3}, f"{CARD} (8086:10d3) is no virtio device; `ringnic devices` lists the cards"),
    ({"device": 0x1042, "class_code": 0x018000},
     f"{CARD} is a disk controller, not a network card; `ringnic devices` lists the cards"),
    ({"class_code": 0x060400}, f"{CARD} is a bridge, not a network card; `ringnic devices` lists the cards"),
    ({"device": 0x1050, "class_code": 0x038000}, f"{CARD} is a display, not a network card; `ringnic devices` lists the cards"),
    ({}, None),
    ({"device": 0x1044, "class_code": 0xff0000}, None),
])
def test_other_functions(machine, ids, message):
    assert wrong_function(machine.add(driver=None, **ids)) == message


@pytest.mark.parametrize("cpu, line, message", [
    ("GenuineIntel", "quiet", "the IOMMU is off: add `intel_iommu=on` to the kernel's command line and restart "
                              "(VT-d on in the firmware's setup)"),
    ("GenuineIntel", "intel_iommu=on", "there is no IOMMU although the kernel has `intel_iommu=on`: switch VT-d on in the "
                                       "firmware's setup"),
    ("GenuineIntel", "intel_iommu=sm_on,on", "there is no IOMMU although the kernel has `intel_iommu=on`: switch VT-d on in the "
                                             "firmware's setup"),
    ("AuthenticAMD", "quiet",
     "there is no IOMMU: switch IOMMU (AMD-Vi) on in the firmware's setup; the kernel uses it by itself"),
    ("AuthenticAMD", "quiet amd_iommu=off", "the IOMMU is off: take `amd_iommu=off` from the kernel's command line and restart"),
    ("ARM", "", "there is no IOMMU: the firmware must describe one (such as an SMMU) to the kernel"),
])
def test_no_iommu(machine, cpu, line, message):
    card = machine.add(group=None)
    os.rename(machine.path("/sys/class/iommu"), machine.path("/sys/class/none"))
    machine.put("/proc/cpuinfo", f"vendor_id : {cpu}")
    machine.put("/proc/cmdline", line)
    assert only(card) == message


def test_an_iommu_for_others_only(machine):
    assert only(machine.add(group=None)) == f"the IOMMU does not cover {CARD}: try another slot"


def test_no_iommu_mode(machine):
    card = machine.add()
    machine.put("/sys/kernel/iommu_groups/14/name", "vfio-noiommu")
    assert only(card) == f"{CARD} has no IOMMU, only VFIO's no-IOMMU mode, in which a guest reaches all memory"


def test_a_shared_group(machine):
    card = machine.add()
    sound = machine.add("0000:01:00.1", vendor=0x8086, driver="e1000e")
    disk = machine.add("0000:02:00.0", vendor=0x8086, driver="e1000e")
    message = "IOMMU group 14 is shared with {}: use a slot below a port with ACS, or let go of those too"
    assert only(card) == message.format("0000:01:00.1 (e1000e), 0000:02:00.0 (e1000e)")
    machine.detach(str(disk))
    assert only(card) == message.format("0000:01:00.1 (e1000e)")
    machine.detach(str(sound))
    machine.load_vfio()
    machine.attach(str(sound), "vfio-pci")
    machine.add("0000:00:1d.0", vendor=0x8086, class_code=0x060400, driver="pcieport", parent=None)
    assert in_the_way(card) == []


def test_no_module(machine):
    card = machine.add()
    machine.missing_programs.add("modprobe")
    assert only(card) == "the module vfio-pci is not loaded and there is no `modprobe` to load it: install kmod"
    machine.put("/lib/modules/6.1.0-test/modules.dep", "kernel/a/vfio-pci-core.ko.xz: kernel/b.ko\nc/virtio.ko: vfio-pci.ko")
    assert only(card) == ("kernel 6.1.0-test has no module vfio-pci in /lib/modules/6.1.0-test: install what your distribution "
                          "has of it (Ubuntu: linux-modules-extra-6.1.0-test), or a kernel with CONFIG_VFIO_PCI")
    machine.load_vfio()  # or built in
    assert in_the_way(card) == []


def test_an_interface_in_use(machine):
    card = machine.add(interface="eth1", up=True)
    take_down = "take it down first, `ip link set eth1 down`"
    assert only(card) == f"the network interface eth1 of {CARD} is up: {take_down}"
    machine.put("/proc/net/route", "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\neth1\t000200C0\t00000000")
    assert only(card) == f"the network interface eth1 of {CARD} is up: {take_down}"
    machine.put("/proc/net/route", "Iface\tDestination\tGateway\neth1\t00000000\t010200C0")
    assert only(card) == f"the network interface eth1 of {CARD} is up and carries the default route: {take_down}"
    machine.put("/sys/class/net/eth1/flags", "0x1002")
    assert in_the_way(card) == []
    os.symlink(machine.path("/sys/class/net/br0"), machine.path("/sys/class/net/eth1/master"))
    assert only(card) == f"the network interface eth1 of {CARD} is a port of br0: `ip link set eth1 nomaster` first"


@pytest.mark.parametrize("node", ["/dev/vfio/14", "/dev/vfio/devices/vfio0"])
def test_processes(machine, node):
    machine.load_vfio()
    card = machine.add(driver="vfio-pci")
    machine.running(77, "sleep", "/dev/null", "/dev/vfio/vfio", "/dev/vfio/15")
    assert in_the_way(card) == []
    machine.running(812, "qemu-system-x86", "/dev/kvm", node)
    assert only(card) == f"{CARD} is in use by qemu-system-x86 (pid 812): end it first"


def test_several_things_at_once(machine):
    card = machine.add(group=None, interface="eth1", up=True)
    assert len(in_the_way(card)) == 2


def test_permission(machine):
    card = machine.add()
    assert no_permission(card, "bind X") is None
    machine.may_write = lambda name: not name.endswith("driver_override")
    assert no_permission(card, "bind X") == "this needs root, to write to /sys/bus/pci/devices: sudo ringnic bind X"
    machine.path(f"{card.folder}/driver_override").unlink()
    assert no_permission(card, "bind X").startswith(f"the kernel shows no {card.folder}/driver_override: ")
