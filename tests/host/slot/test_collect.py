"""One file about a card in a slot: what is in it and what never is, and that the machine is afterwards as it was."""

import json
import struct

import pytest
from typer.testing import CliRunner

from ringnic.hdl.spec.bar import COUNTERS, COUNTERS_MAGIC
from ringnic.host import selftest
from ringnic.host.bus.vfio import VfioError
from ringnic.host.checkout import ROOT
from ringnic.host.slot.collect import collect, shared, without_serial
from ringnic.host.slot.commands import app
from ringnic.host.slot.sysfs import SlotError

CARD, PORT = "0000:01:00.0", "0000:00:1c.0"
AT = f"/sys/bus/pci/devices/{CARD}"
FOUND = {"bdf": CARD, "build_id": "1a2b3c4d", "rows_passing": 2, "rows_applicable": 2, "failed": [], "rows": [], "measured": {}}
LSPCI = ["0000:01:00.0 Ethernet controller [0200]: Red Hat, Inc. Virtio 1.0 network device [1af4:1041] (rev 01)",
         "\tCapabilities: [a8] Vendor Specific Information: VirtIO: CommonCfg",
         "\tCapabilities: [100 v1] Device Serial Number 00-00-00-01-01-00-0a-35", "\tKernel driver in use: virtio-pci"]
DUMP = [LSPCI[0], "00: f4 1a 41 10 06 04 10 00 01 00 00 02 00 00 00 00",
        "100: 03 00 c1 10 35 0a 00 01 01 00 00 00 00 00 00 00", "10c0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", ""]
DMESG = ["[    0.5] pci 0000:01:00.0: [1af4:1041] type 00", "[    0.6] pci 0000:01:00.1: another",
         "[    0.7] pcieport 0000:00:1c.0: AER: Corrected error received", "[    0.8] pci 0001:01:00.0: another",
         "[    0.9] DMAR: [DMA Read] Request device [01:00.0] fault addr 0x1000",
         "[    1.0] virtio_net virtio3 enx020000000001: renamed from eth0 (0000:01:00.0), 02:00:00:00:00:01"]


def bar(**counts):
    """BAR 0 of a card whose driver is at work."""
    image = bytearray(0x8000)
    for offset, word in ((0x6000, COUNTERS_MAGIC), (0x6004, len(COUNTERS)), (0x6008, 0x1a2b3c4d), (0x14, 0xff0f), (0x10, 9 << 16),
                         (0x2004, 1 << 16)):
        struct.pack_into("<I", image, offset, word)
    for name, count in counts.items():
        struct.pack_into("<Q", image, 0x6010 + 8 * COUNTERS.index(name), count)
    return image


@pytest.fixture
def card(machine, config_space):
    """A card whose BAR can be mapped, on a machine with lspci and dmesg."""
    config = config_space()
    config[4] = 2
    function = machine.add(config=bytes(config), interface="eth0")
    machine.put(f"{AT}/resource0", bar(tx_frames=7))
    machine.put(f"/sys/bus/pci/devices/{PORT}/max_link_width", "4")
    machine.put("/proc/cpuinfo", "vendor_id\t: GenuineIntel\nmodel name\t: A Processor\n\nmodel name\t: A Processor")
    machine.on_look = lambda argv: DMESG if argv == ("dmesg",) else {"-vvv": LSPCI, "-xxxx": DUMP}[argv[3]]
    return function


@pytest.fixture
def tests(machine, monkeypatch):
    """The selftest: what it is asked for; it may be told to end otherwise, by ``ends``."""
    asked, ends = [], []

    def examine(bdf, console, quick):
        asked.append((bdf, machine.function(bdf).driver, *(["quick"] if quick else [])))
        machine.tick()
        machine.put(f"{AT}/resource0", bar(kicks=3))
        if ends:
            raise ends[0]
        return dict(FOUND), []
    monkeypatch.setattr(selftest, "examine", examine)
    monkeypatch.setattr(selftest, "tell", lambda console, found, outcomes: console.print("2 of 2 rows"))
    return asked, ends


@pytest.fixture
def ringnic(machine, monkeypatch, tmp_path):
    """Run the command in a folder of its own; return its result, and the file or None."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("ringnic.host.slot.sysfs.Machine", lambda: machine)

    def run(*argv):
        done = CliRunner().invoke(app, ["collect", *argv])
        files = list(folder.iterdir())
        return done, json.loads(files[0].read_text()) if files else None
    return run


def test_everything(machine, card, tests, ringnic):
    before = machine.state()
    done, found = ringnic("01:00.0", "--board", "ax7203")
    assert done.exit_code == 0, done.output
    assert machine.state() == before and tests[0] == [(CARD, "vfio-pci")]
    assert found["schema"] == 1 and found["board"] == "ax7203" and found["collected"].endswith("+00:00")
    about = found["ringnic"]
    assert (about["build_id"], about["command"]) == ("1a2b3c4d", f"ringnic collect {CARD} --board ax7203")
    assert found["host"]["kernel"] == "6.1.0-test" and found["host"]["processor"] == "A Processor"
    assert found["card"] | {"ringnic": True, "build_id": "1a2b3c4d", "iommu_group": "14", "ids": "1af4:1041", "answers": True,
                            "msix_vectors": 10, "reset_methods": ["flr", "pm"]} == found["card"]
    link = {"speed": "2.5 GT/s PCIe", "width": "1", "max_speed": "2.5 GT/s PCIe", "max_width": "1"}
    for when, counts in (("before", {"tx_frames": 7}), ("after", {"kicks": 3})):
        assert found[when] == {
            "driver": "virtio-pci", "link": link, "port": {"address": PORT, "link": link | {"max_width": "4"}},
            "features_agreed": ["mac", "status", "version_1"],
            "status": ["ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK"], "num_queues": 9, "ethernet_link_up": True,
            "loopback": False, "counters": dict.fromkeys(COUNTERS, 0) | counts, "link_training": None}
    assert found["selftest"] == FOUND and found["not_put_back"] is None and found["missing"] == {}
    assert done.stdout == "2 of 2 rows\n" and done.stderr.startswith("ringnic: modprobe vfio-pci\n")
    assert "\nringnic: ringnic-collect.json is written" in done.stderr


def test_a_quick_one(machine, card, tests, ringnic):
    done, found = ringnic(CARD, "--quick")
    assert done.exit_code == 0 and tests[0] == [(CARD, "vfio-pci", "quick")] and found["selftest"] == FOUND
    assert found["ringnic"]["command"] == f"ringnic collect {CARD} --quick"


def test_the_training_of_the_link(machine, card, ringnic):
    image = bar()
    struct.pack_into("<3I", image, 0x6fb8, int.from_bytes(b"LINK", "little"), 1 << 4 | 0b011, 0x1600_03e8)
    machine.put(f"{AT}/resource0", image)
    _, found = ringnic(CARD, "--no-selftest")
    assert found["before"]["link_training"] == {"up": True, "rate": 5.0, "width": 1, "count": 1, "torn": False,
                                                "states": [{"state": "L0", "seconds": 4.096e-3, "gap": False}]}


def test_what_is_in_no_report(machine, card, tests, ringnic):
    _, found = ringnic(CARD)
    assert found["lspci"] == [LSPCI[0], LSPCI[1], LSPCI[3]]
    assert found["config_space"] == [DUMP[0], DUMP[1], "100: 03 00 c1 10 -- -- -- -- -- -- -- -- 00 00 00 00", *DUMP[3:]]
    assert found["dmesg"] == [DMESG[0], DMESG[2], DMESG[4], "[    1.0] virtio_net virtio3 [interface]: renamed from eth0 "
                              "(0000:01:00.0), [MAC address]"]
    assert not {"interfaces", "in_the_way"} & found["card"].keys()


def test_texts_of_others():
    given = {"a": [f"{ROOT}/tests/x.py", ("02-AB-cd-00-00-01", 3)], "b": None, "c": "0000:01:00.0 12:34:56"}
    assert shared(given) == {"a": ["./tests/x.py", ["[MAC address]", 3]], "b": None, "c": "0000:01:00.0 12:34:56"}


def test_a_serial_number_behind_other_capabilities():
    """The list ends where it loops or has nothing; what is no line of a dump stays."""
    first = "100: 01 00 01 12 11 11 11 11 11 11 11 11 11 11 11 11"
    for following in ("10", "12"):
        second = f"120: 03 00 01 {following} 01 02 03 04 05 06 07 08 09 0a 0b 0c"
        assert without_serial([first, second, "?"]) == [first, f"120: 03 00 01 {following} {'-- ' * 8}09 0a 0b 0c", "?"]
    assert without_serial([f"100:{' ff' * 16}"]) == [f"100:{' ff' * 16}"]
    assert without_serial(["00: 03 00 01 12 11 11 11 11 11 11 11 11 11 11 11 11"])[0].endswith("11")


def test_without_a_selftest(machine, card, tests, ringnic, tmp_path):
    """Nothing of the machine changes, although the interface is up."""
    machine.put("/sys/class/net/eth0/flags", "0x1003")
    before = machine.state()
    machine.write = None
    done, found = ringnic(CARD, "--no-selftest")
    assert (done.exit_code, tests[0], machine.state()) == (0, [], before)
    assert (found["selftest"], found["after"]) == (None, None) and found["before"]["counters"]["tx_frames"] == 7


def test_what_bind_refuses(machine, card, tests, ringnic):
    machine.put("/sys/class/net/eth0/flags", "0x1003")
    done, found = ringnic("01:00.0", "--board", "ax7203")
    assert (done.exit_code, found, tests[0]) == (1, None, [])
    assert done.stderr == (f"ringnic: the network interface eth0 of {CARD} is up: take it down first, `ip link set eth0 down`; "
                           f"all but the selftest: ringnic collect {CARD} --board ax7203 --no-selftest\n")


def test_a_card_that_vfio_pci_has(machine, card, tests, ringnic):
    """It stays there; its registers are seen by nobody but who opens it."""
    machine.load_vfio()
    machine.detach(CARD)
    machine.attach(CARD, "vfio-pci")
    machine.put(f"{AT}/config", b"\xf4\x1a\x41\x10" + bytes(252))
    before = machine.state()
    done, found = ringnic(CARD)
    assert (done.exit_code, machine.state(), tests[0]) == (0, before, [(CARD, "vfio-pci")])
    assert found["missing"] == {"before.counters": "in use by vfio-pci", "after.counters": "in use by vfio-pci"}
    assert found["before"]["counters"] is None and found["before"]["driver"] == "vfio-pci"
    machine.running(77, "qemu", "/dev/vfio/14")
    done, _ = ringnic(CARD)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"ringnic: {CARD} is in use by qemu (pid 77): end it first; all but the selftest")


def test_ctrl_c_at_any_moment(machine, card, tests, tmp_path):
    """Before, during and after the selftest: no file, and the machine as it was."""
    def once():
        collect(machine, CARD, tmp_path / "file", machine.say)
    before = machine.state()
    once()
    (tmp_path / "file").unlink()
    moments, machine.moment = machine.moment, 0
    assert moments > 15 and machine.state() == before
    for machine.interrupt_at in range(1, moments + 1):
        machine.moment = 0
        machine.put(f"{AT}/resource0", bar())
        with pytest.raises(KeyboardInterrupt):
            once()
        assert machine.state() == before, f"at moment {machine.interrupt_at} of {moments}"
        assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("ends, status", [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_selftest_that_is_ended(machine, card, tests, ringnic, ends, status):
    before = machine.state()
    tests[1].append(ends)
    done, found = ringnic(CARD)
    assert (done.exit_code, found, machine.state()) == (status, None, before)


def test_a_selftest_that_cannot_run(machine, card, tests, ringnic):
    """What there is besides is written all the same."""
    before = machine.state()
    tests[1].append(VfioError("the card has gone"))
    done, found = ringnic(CARD)
    assert (done.exit_code, machine.state()) == (1, before) and "ringnic: no selftest: the card has gone\n" in done.stderr
    assert found["selftest"] == {"error": "the card has gone"} and found["lspci"] and found["after"]


def test_a_card_that_its_driver_does_not_take_back(machine, card, tests, ringnic):
    """The file has that too, and `ringnic unbind` knows the way back."""
    machine.refuse["/sys/bus/pci/drivers/virtio-pci/bind"] = "No such device"
    before = machine.state()
    done, found = ringnic(CARD)
    says = ("the kernel refused `echo 0000:01:00.0 > /sys/bus/pci/drivers/virtio-pci/bind`: No such device; see `dmesg`; "
            f"{CARD} is not put back: ringnic unbind {CARD}")
    assert done.exit_code == 1 and done.stderr.endswith(f"\nringnic: {says}\n")
    assert (found["selftest"], found["not_put_back"]) == (FOUND, says)
    machine.refuse.clear()
    assert CliRunner().invoke(app, ["unbind", CARD]).exit_code == 0 and machine.state() == before


def test_ctrl_c_and_a_driver_that_does_not_take_it_back(machine, card, tests, ringnic):
    """It is told of, and the exit status is that of Ctrl-C."""
    machine.refuse["/sys/bus/pci/drivers/virtio-pci/bind"] = "No such device"
    tests[1].append(KeyboardInterrupt())
    done, found = ringnic(CARD)
    assert (done.exit_code, found, done.stdout) == (130, None, "")
    assert done.stderr.endswith(f"; {CARD} is not put back: ringnic unbind {CARD}\n")


def test_neither_lent_nor_put_back(machine, card, tests, ringnic):
    """Another try without the selftest is not the way out."""
    machine.refuse |= {f"/sys/bus/pci/drivers/{name}/bind": "Invalid argument" for name in ("vfio-pci", "virtio-pci")}
    done, found = ringnic(CARD)
    assert (done.exit_code, found, tests[0]) == (1, None, [])
    assert done.stderr.endswith(f"ringnic unbind {CARD}\n") and "--no-selftest" not in done.stderr


def test_a_card_that_does_not_answer(machine, card, tests, ringnic):
    machine.put(f"{AT}/config", b"\xff" * 256)
    done, found = ringnic(CARD)
    assert (done.exit_code, found) == (1, None)
    assert done.stderr.startswith(f"ringnic: {CARD} does not answer (all ones): its link is down")
    assert done.stderr.endswith(f"; all but the selftest: ringnic collect {CARD} --no-selftest\n")
    done, found = ringnic(CARD, "--no-selftest")
    assert done.exit_code == 0 and found["missing"] == {"before.counters": "it does not answer (all ones)"}
    assert (found["card"]["answers"], found["card"]["ringnic"], found["before"]["link"]["width"]) == (False, None, "1")


def without_lspci(machine):
    machine.missing_programs.add("lspci")


def another_card(machine):
    machine.put(f"{AT}/resource", "0x0000000000000000 0x0000000000000fff 0x0000000000040200")


def a_disk(machine):
    machine.put(f"{AT}/class", "0x010000")


def not_root(machine):
    machine.put(f"{AT}/config", machine.path(f"{AT}/config").read_bytes()[:64])


def no_dmesg(machine):
    look = machine.on_look

    def fail(argv):
        if argv == ("dmesg",):
            raise SlotError("`dmesg` failed with exit status 1: dmesg: read kernel buffer failed: Operation not permitted")
        return look(argv)
    machine.on_look = fail


@pytest.mark.parametrize("change, argv, says", [
    (None, ("02:00.0",), "there is no PCI function 0000:02:00.0: `ringnic devices` lists the cards, `lspci -D` all"),
    (None, ("eth0",), "'eth0' is no PCI address: it looks like 0000:01:00.0, or 01:00.0; `ringnic devices` lists them"),
    (None, (CARD, "--board", "ax7023"), "no board is called 'ax7023'; did you mean ax7203?"),
    (without_lspci, (CARD,), "lspci is not on this machine: apt-get install pciutils"),
    (not_root, (CARD, "--board", "ax7203"),
     f"this needs root, to read all of configuration space: sudo ringnic collect {CARD} --board ax7203OPTIONS"),
    (another_card, (CARD,), f"{CARD} is no RingNIC, for it has no counters page: `ringnic devices` shows what there is"),
    (a_disk, (CARD,), f"{CARD} is a disk controller, not a network card; `ringnic devices` lists the cards"),
])
def test_one_clear_line(machine, card, tests, ringnic, change, argv, says):
    if change is not None:
        change(machine)
    for options in ((), ("--no-selftest",)):
        done, found = ringnic(*argv, *options)
        line = says.replace("OPTIONS", "".join(f" {option}" for option in options))
        assert (done.exit_code, done.stderr, found, tests[0]) == (1, f"ringnic: {line}\n", None, [])


def test_no_permission_to_change_drivers(machine, card, tests, ringnic, monkeypatch):
    monkeypatch.setattr(machine, "may_write", lambda name: False)
    done, found = ringnic(CARD)
    assert (done.exit_code, found, tests[0]) == (1, None, [])
    assert done.stderr.startswith(f"ringnic: this needs root, to write to /sys/bus/pci/devices: sudo ringnic collect {CARD}; all "
                                  "but")


def test_kernel_messages_that_cannot_be_read(machine, card, tests, ringnic):
    no_dmesg(machine)
    done, found = ringnic(CARD)
    assert done.exit_code == 0 and found["dmesg"] is None and "not permitted" in found["missing"]["dmesg"]


def test_files_that_cannot_be_written(machine, card, tests, ringnic, tmp_path):
    """One that is known to be none is refused before anything is done."""
    before = machine.state()
    done, _ = ringnic(CARD, "--output", str(tmp_path / "no/file"))
    assert (done.exit_code, tests[0]) == (2, []) and "cannot write" in done.output
    done, _ = ringnic(CARD, "--output", "/dev/full")
    assert done.exit_code == 1 and done.stderr.endswith("\nringnic: /dev/full: No space left on device\n")
    assert tests[0] and machine.state() == before
