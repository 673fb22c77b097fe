"""Programming a board: off the bus before, on it again after, whatever happens in between."""

import hashlib
import json
import re
import struct

import pytest

from ringnic.boards.table import BOARDS
from ringnic.hdl.spec.bar import COUNTERS_MAGIC
from ringnic.host.slot.bitstream import board_code
from ringnic.host.slot.flash import flash
from ringnic.host.slot.sysfs import SlotError

from ...kit.bitstream import bitstream

CARD = "0000:01:00.0"
PORT = "0000:00:1c.0"
AT = f"/sys/bus/pci/devices/{CARD}"


@pytest.fixture
def image(tmp_path):
    """A bitstream, by its suffix."""
    def image(suffix=".bin", content=b"\xff"):
        path = tmp_path / f"top{suffix}"
        path.write_bytes(content)
        return path
    return image


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("ringnic.host.slot.flash.COMES_BACK_SECONDS", 0)


def refused(message):
    return pytest.raises(SlotError, match=f"^{re.escape(message)}$")


def dance(path):
    return [f"echo {CARD} > {AT}/driver/unbind", f"echo 1 > {AT}/remove", f"openFPGALoader -b acornCle215 -f {path}",
            f"until [ -e {AT} ]; do echo 1 > /sys/bus/pci/devices/{PORT}/rescan; sleep 0.5; done"]


# The table

@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_the_table(board):
    for how in filter(None, (board.volatile, board.flash)):
        words = " ".join(how.argv)
        assert words.count("{file}") == 1 and words.count("{cable}") == (board.cable is not None)
        assert how.argv[0] in ("openFPGALoader", "openocd") and all(suffix.startswith(".") for suffix in how.suffixes)
        assert how.argv[0] == "openocd" or ("-f" in how.argv) == (how is board.flash)
    assert board.source and board.part and re.fullmatch(r"[a-z0-9_]+", board.name)


def test_the_boards_that_come_first():
    assert list(BOARDS)[:4] == ["ax7203", "acorn_cle215", "litefury", "nitefury"]


# What is done

def test_the_dance(machine, image, capsys):
    machine.add(interface="eth1")
    before = machine.state()
    there = []
    machine.on_program = lambda argv: there.append(machine.exists(AT)) or 0
    flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    assert capsys.readouterr().err == (
        "ringnic: SQRL Acorn CLE-215+, XC7A200T-SBG484: unverified, nobody has run this on one yet (known from openFPGALoader's "
        "list of boards); it needs a JTAG cable on its connector\n")
    assert machine.said == dance(image()) and there == [False]
    assert machine.state() == before


def test_a_card_of_vfio_pci_is_so_again(machine, image):
    machine.load_vfio()
    machine.add(driver="vfio-pci")
    machine.put(f"{AT}/driver_override", "vfio-pci")
    before = machine.state()
    flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD, dry_run=True)
    assert machine.state() == before
    told = list(machine.said)
    machine.said.clear()
    flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    assert machine.said == told and told[-3:] == [
        f"echo {CARD} > {AT}/driver/unbind", f"echo vfio-pci > {AT}/driver_override",
        f"echo {CARD} > /sys/bus/pci/drivers/vfio-pci/bind"]
    assert machine.state() == before


def test_on_a_root_bus_and_without_a_driver(machine, image):
    machine.add(driver=None, parent=None)
    flash(machine, "litefury", image(".bit"), machine.say, bdf=CARD, volatile=True, cable="ft4232")
    assert machine.said[:3] == [f"echo 1 > {AT}/remove",
                                f"openFPGALoader -c ft4232 --fpga-part xc7a100tfgg484 {image('.bit')}",
                                f"until [ -e {AT} ]; do echo 1 > /sys/bus/pci/rescan; sleep 0.5; done"]
    assert machine.function(CARD).driver == "virtio-pci"  # the kernel's choice for what it is now


def test_a_link_that_takes_its_time(machine, image, monkeypatch):
    """A board that loads itself anew is not there at the first look."""
    monkeypatch.setattr("ringnic.host.slot.flash.COMES_BACK_SECONDS", 10)
    machine.add()
    before = machine.state()
    looks = []

    def program(argv):
        machine.specs[CARD]["dead"] = True
        return 0

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            del machine.specs[CARD]["dead"]
    machine.on_program = program
    monkeypatch.setattr("ringnic.host.slot.flash.time.sleep", sleep)
    flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    assert len(looks) == 3 and machine.state() == before


def test_another_device_than_before(machine, image):
    """Whoever had it has no use for it now."""
    machine.add(vendor=0x8086, device=0x7024, driver="e1000e")

    def program(argv):
        machine.specs[CARD] |= {"vendor": 0x1af4, "device": 0x1041}
        return 0
    machine.on_program = program
    flash(machine, "nitefury", image(), machine.say, bdf=CARD)
    assert machine.function(CARD).driver == "virtio-pci"


def test_a_board_that_nobody_has_seen_yet(machine, image):
    machine.add("0000:02:00.0", group="15")
    flash(machine, "versa_ecp5_5g", image(".svf"), machine.say, volatile=True)
    assert machine.runs[0][0] == "openocd" and f"svf -quiet {{{image('.svf')}}}" in machine.runs[0]
    assert machine.said[-1] == "echo 1 > /sys/bus/pci/rescan" and len(machine.said) == 2


def test_a_board_elsewhere(machine, image):
    """Nothing of this machine is touched, and nobody has to be root."""
    machine.may_write = lambda name: False
    machine.put("/run", "where nothing can be written")
    flash(machine, "nitefury", image(), machine.say, bdf="none")
    assert machine.said == [f"openFPGALoader -c digilent_hs3 --fpga-part xc7a200tfbg484 -f {image()}"]


def test_a_dry_run_needs_nothing(machine, image):
    machine.add()
    machine.missing_programs.add("openFPGALoader")
    machine.may_write = lambda name: False
    before = machine.state()
    flash(machine, "acorn_cle215", image(), machine.say, bdf="01:00.0", dry_run=True)
    assert machine.said == dance(image()) and machine.state() == before and machine.runs == []


# What goes wrong

def test_a_failure_brings_the_card_back(machine, image):
    machine.add(interface="eth1")
    before = machine.state()
    machine.on_program = lambda argv: 1
    with refused("openFPGALoader failed with exit status 1: what it said is above; is the cable plugged in, may you use it (its "
                 "udev rules), is it another's meanwhile?"):
        flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    assert machine.said == dance(image()) and machine.state() == before


@pytest.mark.parametrize("override", [None, "vfio-pci"])
def test_an_interruption_at_any_moment(machine, image, override):
    machine.load_vfio()
    machine.add(driver=override or "virtio-pci")
    if override:
        machine.put(f"{AT}/driver_override", override)
    before = machine.state()
    flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    steps = machine.moment
    for moment in range(1, steps + 1):
        machine.interrupt_at = machine.moment + moment
        with pytest.raises(KeyboardInterrupt):
            flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
        assert machine.state() == before, moment


def test_a_driver_that_does_not_let_go(machine, image):
    machine.add()
    before = machine.state()
    machine.silent.add(f"{AT}/driver/unbind")
    with refused(f"virtio-pci does not let go of {CARD}; see `dmesg`"):
        flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    assert machine.state() == before and machine.runs == []


@pytest.mark.parametrize("status", [0, 1])
def test_a_card_that_does_not_come_back(machine, image, status):
    machine.add()

    def program(argv):
        machine.specs[CARD]["dead"] = True
        return status
    machine.on_program = program
    with pytest.raises(SlotError, match=f"{CARD} did not come back within 0 s: if it is programmed, a warm restart") as caught:
        flash(machine, "acorn_cle215", image(), machine.say, bdf=CARD)
    assert str(caught.value).startswith("openFPGALoader failed with exit status 1") == bool(status)


@pytest.mark.parametrize("name, message", [
    ("acorn_cle", "no board is called 'acorn_cle'; did you mean acorn_cle215?"),
    ("captain", "no board is called 'captain'; did you mean captain_75t or captain_100t?"),
    ("alibaba_u3p", "no board is called 'alibaba_u3p'; `ringnic build --list` shows them"),
])
def test_no_such_board(machine, image, name, message):
    with refused(message):
        flash(machine, name, image(), machine.say)


def test_no_way_to_write_the_flash(machine, image):
    with refused("no way to write the flash of ax7325b is documented: load it until the power goes, with --volatile"):
        flash(machine, "ax7325b", image(), machine.say)


def test_a_cable_for_a_board_that_knows_its_own(machine, image):
    with refused("acorn_cle215 is programmed without --cable: openFPGALoader knows its own"):
        flash(machine, "acorn_cle215", image(), machine.say, cable="ft232")


def test_bitstreams_that_are_none(machine, image, tmp_path):
    for path, message in (
            (tmp_path / "no.bin", f"cannot read the bitstream {tmp_path}/no.bin: No such file or directory"),
            (tmp_path, f"cannot read the bitstream {tmp_path}: Is a directory"),
            (image(".bin", b""), f"the bitstream {tmp_path}/top.bin is empty: build it again"),
            (image(".svf"), f"{tmp_path}/top.svf is no bitstream for nitefury: what goes into its flash ends in .bin or .bit")):
        with refused(message):
            flash(machine, "nitefury", path, machine.say)
    with refused(f"{tmp_path}/top.bin is no bitstream for nitefury: what goes into its FPGA ends in .bit"):
        flash(machine, "nitefury", image(), machine.say, volatile=True)


def test_no_tool(machine, image):
    machine.missing_programs |= {"openFPGALoader", "openocd"}
    with pytest.raises(SlotError, match="^openFPGALoader is not on this machine: install it: `apt install openfpgaloader`, or "):
        flash(machine, "nitefury", image(), machine.say)
    with pytest.raises(SlotError, match="^openocd is not on this machine: install it: `apt install openocd`$"):
        flash(machine, "versa_ecp5_5g", image(".svf"), machine.say, volatile=True)


def test_no_permission(machine, image):
    machine.may_write = lambda name: False
    with refused("this needs root, to look for the card after: sudo ringnic flash ..., or say `--bdf none`"):
        flash(machine, "nitefury", image(), machine.say)


def test_wrong_functions(machine, image):
    machine.add("0000:02:00.0", vendor=0x8086, class_code=0x010802, driver=None)
    machine.add("0000:03:00.0", vendor=0x8086, driver="e1000e", interface="eth3", up=True)
    machine.add("0000:04:00.0")
    machine.add("0000:04:00.1")
    for bdf, message in (
            ("02:00.0", "0000:02:00.0 is a disk controller, not the board; `ringnic devices` lists the cards"),
            ("03:00.0", "the network interface eth3 of 0000:03:00.0 is up: take it down first, `ip link set eth3 down`"),
            ("04:00.0", "0000:04:00.0 has 0000:04:00.1 beside it on the same card, and RingNIC has one function: is it the "
                        "board?"),
            ("05:00.0", "there is no PCI function 0000:05:00.0: `ringnic devices` lists the cards, `lspci -D` all")):
        with refused(message):
            flash(machine, "nitefury", image(), machine.say, bdf=bdf)


def test_a_ringnic_is_there_but_not_named(machine, image, config_space):
    """To program it under its driver could hang the machine."""
    config, page = config_space(), bytearray(0x8000)
    config[4] = 2
    struct.pack_into("<I", page, 0x6000, COUNTERS_MAGIC)
    machine.add(config=config)
    machine.put(f"{AT}/resource0", page)
    refusal = (f"{CARD} looks like a RingNIC: say `--bdf {CARD}` if that is the board, or `--bdf none` if the board is in no "
               "slot of this machine")
    with refused(refusal):
        flash(machine, "nitefury", image(), machine.say)
    machine.put(f"{AT}/power_state", "D3hot")  # as vfio-pci leaves it
    with refused(refusal):
        flash(machine, "nitefury", image(), machine.say)
    machine.put(f"{AT}/config", b"\xff" * 256)
    machine.put(f"{AT}/power_state", "D0")
    with refused(refusal):
        flash(machine, "nitefury", image(), machine.say)


# What `ringnic build` has left

@pytest.fixture
def build(tmp_path, monkeypatch):
    """Leaves a build of a board; returns its folder."""
    monkeypatch.chdir(tmp_path)

    def build(board="ax7203", contents=None):
        folder = tmp_path / "build" / board
        folder.mkdir(parents=True)
        images = []
        for kind, offset in ((".bin", 0), (".bit", None), ("_update.bin", 0x80_0000)):
            name = f"ringnic_{board}{kind}"
            content = (contents or bitstream(BOARDS[board].fpga.idcode, board_code(board))) + name.encode()
            (folder / name).write_bytes(content)
            images.append({"file": name, "offset": offset, "sha256": hashlib.sha256(content).hexdigest()})
        (folder / "report.json").write_text(json.dumps({"board": board, "images": images}))
        return folder
    return build


@pytest.mark.parametrize("volatile, words", [
    (False, "-f build/ax7203/ringnic_ax7203.bin"), (True, "build/ax7203/ringnic_ax7203.bit")])
def test_the_default_is_what_was_built(machine, build, volatile, words):
    build()
    flash(machine, "ax7203", None, machine.say, bdf="none", volatile=volatile)
    assert machine.runs == [["openFPGALoader", "-c", "ft232", "--fpga-part", "xc7a200tfbg484", *words.split()]]


def test_an_image_that_has_its_place(machine, build):
    folder = build()
    flash(machine, "ax7203", folder / "ringnic_ax7203_update.bin", machine.say, bdf="none")
    assert machine.runs[0][-4:] == ["-f", "-o", f"{0x80_0000}", str(folder / "ringnic_ax7203_update.bin")]


@pytest.mark.parametrize("board, message", [
    ("ax7203", "there is no bitstream in build/ax7203: ringnic build ax7203, or say which file"),
    ("versa_ecp5_5g", "`ringnic build` makes none for versa_ecp5_5g: say which file")])
def test_nothing_was_built(machine, tmp_path, monkeypatch, board, message):
    monkeypatch.chdir(tmp_path)
    with refused(message):
        flash(machine, board, None, machine.say, volatile=True)


def test_bitstreams_of_other_boards(machine, build):
    ours = build() / "ringnic_ax7203.bin"
    with refused(f"{ours} is no bitstream for nitefury: it was built for ax7203"):
        flash(machine, "nitefury", ours, machine.say, bdf="none")
    with refused(f"{ours} is no bitstream for litefury: it was built for ax7203"):
        flash(machine, "litefury", ours, machine.say, bdf="none")
    ours.write_bytes(bitstream(0x3631093))
    with refused(f"{ours} is no bitstream for nitefury: it is for XC7A100T, and nitefury has XC7A200T"):
        flash(machine, "nitefury", ours, machine.say, bdf="none")
    assert machine.runs == []


def test_an_image_that_changed_since(machine, build):
    folder = build()
    image = folder / "ringnic_ax7203.bin"
    image.write_bytes(image.read_bytes() + b"x")
    with refused(f"the bitstream build/ax7203/{image.name} is not the one that build/ax7203/report.json tells of: build it "
                 "again"):
        flash(machine, "ax7203", None, machine.say, bdf="none")
