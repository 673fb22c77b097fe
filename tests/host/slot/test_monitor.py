"""Watching a card: what its page says, what a minute of it looks like, and what is said when there is nothing to see."""

from dataclasses import replace
from io import StringIO
import json
import struct

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ringnic.hdl.spec.bar import COUNTERS, COUNTERS_MAGIC
from ringnic.host.guest.registers import NAME, serve_registers
from ringnic.host.slot import monitor
from ringnic.host.slot.monitor import DROPS, ERRORS, FLOW, History, Sample, SlotCard, take, view
from ringnic.host.slot.commands import app
from ringnic.host.slot.window import Unreadable

CARD = "0000:01:00.0"
AT = f"/sys/bus/pci/devices/{CARD}"
WIDTH = 80


class Page:
    """BAR 0 of a card; what is read is noted."""
    def __init__(self):
        self.words = {0x6000: COUNTERS_MAGIC, 0x6004: len(COUNTERS), 0x6008: 0x1a2b3c4d, 0x14: 0xff0f, 0x10: 9 << 16,
                      0x2004: 1 << 16}
        self.read_offsets = []
        self.gone = False

    def set(self, **counts):
        for name, count in counts.items():
            at = 0x6010 + 8 * COUNTERS.index(name)
            self.words |= {at: count & 0xffff_ffff, at + 4: count >> 32}

    def read(self, offset):
        self.read_offsets.append(offset)
        return 0xffff_ffff if self.gone else self.words.get(offset, 0)

    def bar(self):
        image = bytearray(0x8000)
        for offset, word in self.words.items():
            struct.pack_into("<I", image, offset, 0xffff_ffff if self.gone else word)
        return image


@pytest.fixture
def page():
    page = Page()
    page.set(tx_frames=7, rx_frames=5 << 32 | 3)
    return page


@pytest.fixture
def card(machine, config_space, page):
    """A function whose BAR can be mapped and is the page at that moment."""
    config = config_space()
    config[4] = 2
    function = machine.add(config=bytes(config), interface="eth0", up=True)
    machine.put(f"{AT}/resource0", page.bar())
    for name in ("queues/rx-0", "queues/rx-1", "queues/tx-0"):
        machine.path(f"/sys/class/net/eth0/{name}").mkdir(parents=True)
    for name, count in (("tx_bytes", 1000), ("rx_bytes", 2000)):
        machine.put(f"/sys/class/net/eth0/statistics/{name}", count)
    return function


@pytest.fixture
def clock(monkeypatch):
    """Time passes by sleeping alone; ``at`` holds what happens at the end of each sleep."""
    class Clock:
        now, at = 100.0, []

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            if self.at:
                self.at.pop(0)()
    clock = Clock()
    monkeypatch.setattr(monitor, "time", clock)
    return clock


def shown(renderable, **options):
    console = Console(file=StringIO(), width=WIDTH, **options)
    console.print(renderable)
    return console.file.getvalue()


def stop():
    raise KeyboardInterrupt


def test_every_counter_is_shown_once():
    assert sorted([*FLOW, *DROPS, *ERRORS]) == sorted(COUNTERS)


def test_a_sample(page):
    page.words[0x600c] = 1
    sample = take(page.read, 5.0)
    assert (sample.time, sample.build_id, sample.status, sample.num_queues) == (5.0, 0x1a2b3c4d, 0x0f, 9)
    assert sample.link_up and sample.loopback
    assert sample.counters == dict.fromkeys(COUNTERS, 0) | {"tx_frames": 7, "rx_frames": 5 << 32 | 3}
    assert not any(0x1000 <= offset < 0x2000 for offset in page.read_offsets)  # ISR: a read changes it


@pytest.mark.parametrize("low", [0xffff_ffff, 0xffff_fff0])
def test_a_counter_goes_over_while_it_is_read(page, low):
    page.set(kicks=low)
    at = 0x6010 + 8 * COUNTERS.index("kicks")

    def read(offset):
        value = page.read(offset)
        if offset == at and page.read_offsets.count(at) == 1:
            page.set(kicks=1 << 32 | 2)
        return value
    assert take(read, 0).counters["kicks"] == 1 << 32 | 2


@pytest.mark.parametrize("words, reason", [
    ({0x6000: 0xffff_ffff}, "^it does not answer .all ones.: its link is down, it is being reset, or it has lost its bitstream$"),
    ({0x6000: 0}, "^it has no page of counters: it is no RingNIC, or not enabled$"),
    ({0x6004: 5}, f"^it has 5 counters and this program knows {len(COUNTERS)}: use the program of the card's build$"),
])
def test_no_sample(page, words, reason):
    page.words |= words
    with pytest.raises(Unreadable, match=reason):
        take(page.read, 0)


def test_a_card_that_goes_in_the_middle_of_a_sample(page):
    def read(offset):
        page.gone |= len(page.read_offsets) > 20
        return page.read(offset)
    with pytest.raises(Unreadable, match="^it does not answer"):
        take(read, 0)


def samples(*counts, name="tx_frames", every=1.0):
    return [Sample(k * every, 1, 15, 3, True, False, dict.fromkeys(COUNTERS, 0) | {name: count})
            for k, count in enumerate(counts)]


def test_rates():
    history = History()
    assert history.last is None
    for sample in samples(10, 30, 30, 130, every=2.0):
        history.add(sample)
    assert history.rates("tx_frames") == [10, 0, 50] and history.rates("tx_bytes") == []
    assert history.moved("tx_frames") and not history.moved("kicks")
    for sample in samples(*[130] * 90):
        history.add(sample)
    assert len(history.rates("tx_frames")) == 60 and not history.moved("tx_frames")
    history.add(samples(4)[0])                             # reset or programmed meanwhile
    assert history.rates("tx_frames") == [] and history.last.counters["tx_frames"] == 4


@pytest.mark.parametrize("ascii_only, bars", [(False, "▁▁▆█"), (True, "__+#")])
def test_the_last_minute(card, ascii_only, bars):
    history = History()
    for sample in samples(0, *[0] * 6, 10, 20, 30, 30, 45, 50):
        history.add(sample)
    text = shown(view(SlotCard(card), history, ascii_only=ascii_only))
    line = next(line for line in text.splitlines() if "Frames from" in line)
    assert line.split()[-4:][0:3] == ["driver", "5", "50"] and line.split()[-1] == bars


def test_bars_of_odd_rates(card):
    """Of floating point, (x * 7) / x may be more than 7."""
    for k in range(1, 200):
        history = History()
        for sample in samples(0, k, 3 * k, every=1.0 + k / 97):
            history.add(sample)
        assert "█" in shown(view(SlotCard(card), history))


def test_it_fits_a_terminal(card, page, clock):
    page.set(**{name: 1 << 40 if name in FLOW else 1 << 30 for name in COUNTERS})
    history = History()
    for k in range(70):
        page.set(kicks=(1 << 40) + k * 1_500_000)
        sample = take(page.read, float(k))
        sample.counters |= {"tx_bytes": k << 30, "rx_bytes": k << 31}
        history.add(sample)
    text = shown(view(SlotCard(card), history))
    assert "…" not in text and "1,500,000  1,099,615,127,776" in text
    assert len(text.splitlines()) < 24 and max(map(len, map(str.rstrip, text.splitlines()))) < WIDTH


def test_what_moves_is_red(card):
    history = History()
    for sample in samples(2, 2, 5, name="mac_rx_bad_fcs"):
        history.add(sample)
    text = shown(view(SlotCard(card), history), force_terminal=True, color_system="standard")
    assert "\x1b[1;31m   mac_rx_bad_fcs" in text and "\x1b[2m   mac_rx_runt" in text
    for sample in samples(*[5] * 20, name="mac_rx_bad_fcs"):
        history.add(sample)
    assert "\x1b[1;31m" not in shown(view(SlotCard(card), history), force_terminal=True, color_system="standard")


@pytest.mark.parametrize("change, text", [
    ({}, "PCIe 2.5 GT/s x1; Ethernet link up; virtio-pci is at work"),
    ({"status": 0x4f, "link_up": False}, "PCIe 2.5 GT/s x1; Ethernet link down; the card needs a reset"),
    ({"status": 0x83}, "virtio-pci gave up"), ({"status": 0}, "no driver is at work"),
    ({"loopback": True}, "; loopback, the wire is silent;"),
])
def test_header(card, change, text):
    history = History()
    history.add(samples(1)[0])
    for name, value in change.items():
        setattr(history.last, name, value)
    assert text in shown(view(SlotCard(card), history))


def test_links(machine, card):
    history = History()
    history.add(samples(1)[0])
    for speed, width, text in (("2.5 GT/s PCIe", "0", "PCIe link down"),
                               ("5.0 GT/s PCIe", "4", "PCIe 5.0 GT/s x4 of 2.5 GT/s x1")):
        machine.put(f"{AT}/current_link_speed", speed)
        machine.put(f"{AT}/current_link_width", width)
        assert text in shown(view(SlotCard(card), history))


def test_the_training_of_the_link(card, page, clock):
    """The newest states, on one line, whatever they are called. Cards without the page have no such line."""
    sample = take(page.read, 0.0)
    assert sample.link is None
    words = [int.from_bytes(b"LINK", "little"), 3 << 16 | 1 << 4 | 0b011,
             0x000b_b800, 0x0400_0003, 0x0500_0001, 0x1600_ffff, *[0] * 12]
    page.words |= {0x6fb8 + 4 * at: word for at, word in enumerate(words)}
    history = History()
    history.add(take(page.read, 0.0))
    text = shown(view(SlotCard(card), history)).splitlines()
    assert text[2].rstrip() == "Link states; Polling.Active, 12.3 us; Polling.Configuration, 4.1 us; L0, 268 ms"
    assert len(text) < 24
    history.last.link = replace(history.last.link, torn=True)
    text = shown(view(SlotCard(card), history)).splitlines()
    assert text[2].startswith("Link states (changed while read); Polling.Active")
    words[3:5] = 0x8600_ffff, 0x8700_ffff
    page.words |= {0x6fb8 + 4 * at: word for at, word in enumerate(words)}
    history.add(take(page.read, 1.0))
    text = shown(view(SlotCard(card), history)).splitlines()
    assert text[2].startswith("Link states; Polling.Compliance") and len(text[2].rstrip()) <= WIDTH and "Frames" in text[4]


# The command

@pytest.fixture
def ringnic(machine, monkeypatch):
    monkeypatch.setattr("ringnic.host.slot.sysfs.Machine", lambda: machine)
    return lambda *argv: CliRunner().invoke(app, ["monitor", *argv])


def test_once(machine, card, page, clock, ringnic, tmp_path):
    def later():
        page.set(tx_frames=27)
        machine.put(f"{AT}/resource0", page.bar())
        machine.put("/sys/class/net/eth0/statistics/tx_bytes", 4000)
    clock.at.append(later)
    found = ringnic("01:00.0", "--once", "--report", str(tmp_path / "card.json"))
    assert found.exit_code == 0
    assert f"RingNIC {CARD}, build 1a2b3c4d, 9 queues, 2 pairs in use by eth0" in found.output
    said = json.loads((tmp_path / "card.json").read_text())
    assert said["counters"] == dict.fromkeys(COUNTERS, 0) | {"tx_frames": 27, "rx_frames": 5 << 32 | 3, "tx_bytes": 4000,
                                                             "rx_bytes": 2000}
    assert said["link_training"] is None
    assert said["per_second"]["tx_frames"] == 20 and said["per_second"]["tx_bytes"] == 3000
    assert (said["address"], said["driver"], said["build_id"], said["queue_pairs"]) == (CARD, "virtio-pci", "1a2b3c4d", 2)
    assert said["status"] == ["ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK"] and said["link"]["speed"] == "2.5 GT/s PCIe"


def test_the_training_of_the_link_for_programs(card, page, clock, machine, ringnic, tmp_path):
    page.words |= {0x6fb8: int.from_bytes(b"LINK", "little"), 0x6fbc: 1 << 4 | 0b011, 0x6fc0: 0x1600_03e8}
    machine.put(f"{AT}/resource0", page.bar())
    assert ringnic(CARD, "--once", "--report", str(tmp_path / "card.json")).exit_code == 0
    assert json.loads((tmp_path / "card.json").read_text())["link_training"] == {
        "up": True, "rate": 5.0, "width": 1, "count": 1, "torn": False,
        "states": [{"state": "L0", "seconds": 4.096e-3, "gap": False}]}


def test_live_until_ctrl_c(machine, card, page, clock, ringnic, tmp_path):
    """A card that goes away is told of, and that it is back."""
    def gone():
        page.gone = True
        machine.put(f"{AT}/resource0", page.bar())

    def back():
        page.gone = False
        machine.put(f"{AT}/resource0", page.bar())
    for ends, trouble in (([stop], False), ([gone, stop], True), ([gone, back, stop], False)):
        back()
        clock.at[:] = ends
        found = ringnic(CARD, "--report", str(tmp_path / "card.json"))
        assert found.exit_code == 0 and "Frames from the driver" in found.output
        assert ("does not answer" in found.output) == trouble
        assert json.loads((tmp_path / "card.json").read_text())["counters"]["tx_frames"] == 7


def test_a_card_taken_off_the_bus(machine, card, clock, ringnic):
    clock.at[:] = [lambda: machine.write(f"{AT}/remove", "1"), stop]
    found = ringnic(CARD)
    assert found.exit_code == 0 and "is off the bus" in found.output.replace("\n", " ")


def without_bar(machine, **options):
    """The kernel lends no BAR, and nobody but root reads more than 64 bytes of configuration space."""
    card = machine.add(config=bytes(64), **options)
    machine.path(f"{AT}/resource0").unlink()
    return card


@pytest.mark.parametrize("driver, used, message", [
    ("virtio-pci", False, "0000:01:00.0 cannot be watched: needs root\n"),
    ("vfio-pci", False, "0000:01:00.0 cannot be watched: in use by vfio-pci\n"),
    ("vfio-pci", True, "0000:01:00.0 cannot be watched: in use by vfio-pci; a kernel keeps a guest's registers to the guest "
                       "unless it was started with iomem=relaxed\n"),
])
def test_one_clear_line(machine, ringnic, tmp_path, driver, used, message):
    machine.load_vfio()
    without_bar(machine, driver=driver)
    if used:
        machine.running(77, "qemu", "/dev/vfio/14")
    for options in ((), ("--once",)):
        found = ringnic("01:00.0", *options, "--report", str(tmp_path / "card.json"))
        assert (found.exit_code, found.stderr, found.stdout) == (1, f"ringnic: {message}", "")
    assert not (tmp_path / "card.json").exists()


def test_no_such_card(ringnic):
    assert ringnic("02:00.0").stderr.startswith("ringnic: there is no PCI function 0000:02:00.0")
    found = ringnic()
    assert found.exit_code == 2 and "--demo for that of a" in found.stderr


def test_the_card_of_a_demo(page, ringnic, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = ringnic("--demo")
    assert (found.exit_code, found.stderr) == (
        1, "ringnic: no demo of yours is running here: start `ringnic demo` or `ringnic serve` in another terminal\n")
    (tmp_path / "ringnic-1").mkdir()
    monkeypatch.setattr(monitor, "INTERVAL", 0.01)
    looks = []

    def look():
        looks.append(1)
        # The first three looks come before the guest's driver, when nothing answers: find_demo()'s and two of ours.
        return (lambda offset: 0xffff_ffff) if len(looks) <= 3 else page.read
    with serve_registers(tmp_path / "ringnic-1" / NAME, look, tmp_path / "card.sock"):
        assert ringnic("other.sock", "--demo").stderr == (f"ringnic: no card is served at other.sock; there are: "
                                                          f"{tmp_path}/card.sock\n")
        looks.clear()
        found = ringnic(str(tmp_path / "card.sock"), "--demo", "--once", "--report", str(tmp_path / "card.json"))
        assert found.exit_code == 0 and "RingNIC the simulated card, build 1a2b3c4d, 9 queues" in found.output
        assert "simulated PCIe link; Ethernet link up; a driver is at work" in found.output
    assert json.loads((tmp_path / "card.json").read_text())["counters"]["rx_frames"] == 5 << 32 | 3


def test_a_demo_that_ends(page, ringnic, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "ringnic-1").mkdir()
    monkeypatch.setattr(monitor, "INTERVAL", 0.01)

    def read(offset):
        if len(page.read_offsets) > 150:
            raise ValueError("Engine is closed")
        return page.read(offset)
    with serve_registers(tmp_path / "ringnic-1" / NAME, lambda: read, tmp_path / "card.sock"):
        found = ringnic("--demo")
    assert found.exit_code == 0 and found.stderr == "ringnic: the demo has ended\n"
