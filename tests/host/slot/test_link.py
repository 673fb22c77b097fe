"""What is said of a link: the words by hdl/spec/bar.py, as the BAR and OpenOCD have them."""

import struct
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from ringnic.hdl.spec.bar import LINK_OFFSET
from ringnic.host.slot import commands
from ringnic.host.slot.commands import app
from ringnic.host.slot.link import OPENOCD, decode, read_link, scanned
from ringnic.host.slot.window import GONE, Unreadable

CARD = "0000:01:00.0"
MAGIC = int.from_bytes(b"LINK", "little")


def words(*states, up=1, rate=1, width=0, clock=1, count=None):
    """Of ``(state, ticks)`` or ``(state, ticks, gap)``, the newest last; ``count``: the number of that."""
    count = len(states) - 1 if count is None else count
    entries = [0] * 16
    for at, (state, ticks, *gap) in enumerate(reversed(states)):
        entries[(count - at) % 16] = state << 24 | ticks | bool(gap) << 31
    return [MAGIC, up | rate << 1 | width << 2 | clock << 4 | count << 16, *entries]


TRAINED = words((0x00, 3000), (0x02, 300), (0x04, 6000), (0x05, 0), (0x16, 0xff_ffff))


def test_lines():
    """A tick is 4.096 us."""
    assert decode(TRAINED).lines == [
        "link up, 5.0 GT/s x1; 5 states since the FPGA was loaded:",
        "  Detect.Quiet, 12.3 ms", "  Detect.Active, 1.23 ms", "  Polling.Active, 24.6 ms", "  Polling.Configuration, under 4 us",
        "  L0, more than 68.7 s"]


@pytest.mark.parametrize("options, text", [
    (dict(rate=0, width=2), "link up, 2.5 GT/s x4"), (dict(width=3), "link up, 5.0 GT/s x8"), (dict(up=0), "link down"),
    (dict(up=0, clock=0), "the clock of the PCI Express block stands: no reference clock from the slot?")])
def test_summary(options, text):
    assert decode(words((0, 1), **options)).summary == text


def test_the_last_states_of_many():
    """In order, wherever the newest is; and a number that is at its highest says so."""
    many = [(state, state + 1) for state in range(16)]
    for count, text in ((37, "; 38 states"), (0xfff0, "; more than 65521 states"), (0xffff, "; more than 65536 states")):
        link = decode(words(*many, count=count))
        assert link.count == count + 1 and link.lines[0].endswith(" since the FPGA was loaded, the last 16:")
        assert [round(state.seconds / 4.096e-6) for state in link.states] == list(range(1, 17)) and text in link.lines[0]


def test_gaps_and_unknown_states():
    """PG054 has names for 52 states, 0x00 to 0x33."""
    link = decode(words((0x33, 1), (0x34, 2), (0x16, 1000, True)))
    assert [str(state) for state in link.states] == [
        "Loopback.Entry (master), 4.1 us", "unknown state 0x34, 8.19 us", "L0, 4.1 ms, left while JTAG was read"]


def test_one_state():
    assert decode(words((0, 1), up=0)).lines == ["link down; 1 state since the FPGA was loaded:", "  Detect.Quiet, 4.1 us"]


def test_before_the_clock_has_ever_run():
    """There is an entry as soon as it has run for a tick, and nothing before."""
    stands = "the clock of the PCI Express block stands: no reference clock from the slot?; "
    never = decode(words((0, 0), up=0, clock=0))
    assert never.lines == [f"{stands}no state was recorded"] and (never.count, never.states) == (0, ())
    for link in (decode(words((0, 1), up=0, clock=0)), decode(words((2, 0), up=0, clock=0))):
        assert link.lines[0] == f"{stands}1 state since the FPGA was loaded:" and link.count == len(link.states) == 1
    assert decode(words((0, 0), (2, 0), up=0, clock=0)).count == 2 and decode(words((0, 0), up=0)).count == 1


def test_report():
    assert decode(words((0x04, 1000), (0x16, 0, True), rate=0, width=1, count=20)).report == {
        "up": True, "rate": 2.5, "width": 2, "count": 21, "torn": False, "states": [
            *[{"state": "Detect.Quiet", "seconds": 0.0, "gap": False}] * 14,
            {"state": "Polling.Active", "seconds": 4.096e-3, "gap": False}, {"state": "L0", "seconds": 0.0, "gap": True}]}


def test_no_words():
    assert decode([0] * 18) is None and decode([0xffff_ffff] * 18) is None


def test_a_trace_that_moves_on_while_it_is_read():
    """It is read again, so that the entries belong to the status."""
    page, looks = [*TRAINED], []

    def read(offset):
        looks.append(offset)
        if len(looks) == 10:
            page[:] = words((0x04, 6000), (0x05, 0), (0x16, 5), count=90)
        return page[(offset - LINK_OFFSET) // 4]
    link = read_link(read)
    assert link.count == 91 and not link.torn and len(looks) == 36


def test_a_trace_that_never_rests():
    """What was read last is shown, and said to be of more than one moment."""
    looks = []

    def read(offset):
        looks.append(offset)
        return words(*[(0x04, 6000)] * 16, count=len(looks))[(offset - LINK_OFFSET) // 4]
    link = read_link(read)
    assert link.torn and len(looks) < 100 and len(link.states) == 16 and link.report["torn"]
    assert link.lines[-1] == "  (the record changed while it was read, so the order of the states may be wrong)"


def test_a_card_without_a_record():
    """One look is enough to see that."""
    looks = []
    assert read_link(lambda offset: looks.append(offset) or 0) is None and looks == [LINK_OFFSET]


@pytest.mark.parametrize("good", [0, 1, 7, 17])
def test_a_card_that_goes_away_while_it_is_read(good):
    looks = []

    def read(offset):
        looks.append(offset)
        return TRAINED[(offset - LINK_OFFSET) // 4] if len(looks) <= good else 0xffff_ffff
    with pytest.raises(Unreadable, match="^it does not answer "):
        read_link(read)


def printed(words):
    return " ".join(f"{word:08x}" for word in words)


def test_what_openocd_prints():
    """Among its own lines, of which one looks similar."""
    text = f"Info : xc7.tap tap/device found: 0x13636093\n{printed([5] * 18)}\n{printed(TRAINED).upper()}\n"
    assert scanned(text) == decode(TRAINED) and scanned(printed(TRAINED[:-1])) is None and scanned("") is None


def test_openocd():
    """USER1 is 0x02 (UG470, "JTAG Instructions"), and no field is longer than 32 bits (OpenOCD's manual, drscan)."""
    command = OPENOCD.format("interface/x.cfg")
    assert "-f interface/x.cfg -f cpld/xilinx-xc7.cfg" in command
    assert "irscan xc7.tap 0x02; echo [drscan xc7.tap {*}[lrepeat 18 32 0]]; exit" in command


# The command

@pytest.fixture
def ringnic(machine, monkeypatch):
    monkeypatch.setattr("ringnic.host.slot.sysfs.Machine", lambda: machine)
    return lambda *argv, **options: CliRunner().invoke(app, ["link", *argv], **options)


@pytest.fixture
def plug(machine, config_space):
    """A card whose BAR can be mapped."""
    def plug(words, magic=b"RNIC"):
        config, image = config_space(), bytearray(0x8000)
        config[4] = 2
        image[0x6000:0x6004] = magic
        struct.pack_into("<18I", image, 0x6fb8, *words)
        machine.add(config=bytes(config))
        machine.put(f"/sys/bus/pci/devices/{CARD}/resource0", image)
    return plug


def test_a_card_in_a_slot(ringnic, plug):
    plug(TRAINED)
    found = ringnic("01:00.0")
    assert found.exit_code == 0 and found.output.splitlines() == decode(TRAINED).lines


def test_a_card_on_a_cable(ringnic):
    found = ringnic(input=printed(TRAINED))
    assert found.exit_code == 0 and found.output.splitlines() == decode(TRAINED).lines


@pytest.mark.parametrize("given, text", [
    (([0] * 18,), f"{CARD} has no record: it is not behind a 7-series block, or it was built before there was one\n"),
    (([0xffff_ffff] * 18,), f"{CARD} cannot be read: {GONE}\n"),
    (([0xffff_ffff] * 18, b"\xff\xff\xff\xff"), f"{CARD} cannot be read: {GONE}\n"),
    ((TRAINED, b"ABCD"), f"{CARD} is no RingNIC\n")])
def test_a_card_that_does_not_tell(ringnic, plug, given, text):
    plug(*given)
    found = ringnic("01:00.0")
    assert (found.exit_code, found.stderr, found.stdout) == (1, f"ringnic: {text}", "")


def test_a_card_that_does_not_answer(ringnic, plug, machine):
    plug(TRAINED)
    machine.put(f"/sys/bus/pci/devices/{CARD}/config", b"\xff" * 256)
    found = ringnic("01:00.0")
    assert (found.exit_code, found.stderr, found.stdout) == (1, f"ringnic: {CARD} cannot be read: {GONE}\n", "")


def test_bytes_that_are_no_text(ringnic):
    """Some cables have names that are not UTF-8."""
    found = ringnic(input=b"Info : Kabel f\xfcr JTAG\n" + printed(TRAINED).encode())
    assert found.exit_code == 0 and found.output.splitlines() == decode(TRAINED).lines
    assert ringnic(input=b"\xff\xfe").stderr.startswith("ringnic: there are no words of a card")


@pytest.mark.parametrize("stdin", [None, SimpleNamespace(isatty=lambda: True)], ids=["closed", "terminal"])
def test_nothing_is_piped(machine, monkeypatch, capsys, stdin):
    monkeypatch.setattr("ringnic.host.slot.sysfs.Machine", lambda: machine)
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(typer.Exit) as ends:
        commands.link(None)
    said = capsys.readouterr()
    assert (ends.value.exit_code, said.out) == (1, "")
    assert said.err == (f"ringnic: give an ADDRESS, or pipe OpenOCD's output: {OPENOCD.format('interface/CABLE.cfg')} 2>&1 "
                        "| ringnic link\n")


def test_nothing_on_the_cable(ringnic):
    found = ringnic(input="Error: unable to open ftdi device\n")
    assert found.exit_code == 1 and found.stderr.startswith("ringnic: there are no words of a card")
    assert "| ringnic link\n" in found.stderr
    assert "irscan xc7.tap 0x02" in found.stderr


def test_no_such_card(ringnic):
    assert ringnic("02:00.0").stderr.startswith("ringnic: there is no PCI function 0000:02:00.0")
