"""PCI functions as sysfs shows them, and the real way to write to it."""

import os
import signal
import threading

import pytest

from ringnic.host.slot.sysfs import Machine, SlotError, parse_bdf, undisturbed

CARD = "0000:01:00.0"


def interrupt_after(seconds):
    threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()


@pytest.mark.parametrize("text, address", [
    ("0000:01:00.0", CARD), ("01:00.0", CARD), (" 01:00.0\n", CARD), ("AB:1f.7", "0000:ab:1f.7"),
    ("10000:E1:00.0", "10000:e1:00.0"),
])
def test_addresses(text, address):
    assert parse_bdf(text) == address


@pytest.mark.parametrize("text", ["", "1:00.0", "01:00", "01:00.8", "01:20.0", "000:01:00.0", "eth0", "01:00.0/../..", "01-00.0"])
def test_no_addresses(text):
    with pytest.raises(SlotError, match="is no PCI address: it looks like"):
        parse_bdf(text)


def test_a_function(machine):
    card = machine.add(interface="eth1", up=True)
    assert (card.vendor_id, card.device_id, card.class_code) == (0x1af4, 0x1041, 0x020000)
    assert (card.driver, card.override, card.iommu_group, card.bridge) == ("virtio-pci", None, "14", "0000:00:1c.0")
    assert card.link() == ("2.5 GT/s PCIe", "1", "2.5 GT/s PCIe", "1")
    assert card.reset_methods == ["flr", "pm"] and card.numa_node is None and card.power_state == "D0"
    assert card.resource(0) == (0x8000, 0x40200) and card.resource(1) is None
    assert card.virtio() == "virtio3" and card.virtio_features() == {5, 16, 32}
    assert card.interfaces() == ["eth1"] and card.is_up("eth1") and not card.is_up("eth2")
    assert machine.function(card.bridge).bridge is None
    assert [str(function) for function in machine.functions()] == ["0000:00:1c.0", CARD]


def test_what_is_not_said(machine):
    """Older kernels, slots without a link, cards without a driver."""
    card = machine.add(driver=None, group=None)
    for name in ("reset_method", "numa_node", "current_link_speed", "max_link_speed", "power_state", "driver_override",
                 "resource"):
        machine.path(f"{card.folder}/{name}").unlink()
    machine.put(f"{card.folder}/current_link_width", "0")
    machine.put(f"{card.folder}/max_link_width", "255")
    assert (card.driver, card.override, card.iommu_group, card.virtio(), card.virtio_features()) == (None,) * 5
    assert card.link() == (None,) * 4 and card.reset_methods == [] and card.numa_node is None and card.power_state is None
    assert card.resource(0) is None and card.interfaces() == [] and card.group_members() == []
    machine.put(f"{card.folder}/reset", "")
    machine.put(f"{card.folder}/numa_node", "1")
    assert card.reset_methods == ["of the kernel's choice"] and card.numa_node == 1


def test_an_unused_bar(machine):
    card = machine.add()
    machine.put(f"{card.folder}/resource", "0x0000000000000000 0x0000000000000000 0x0000000000000000")
    assert card.resource(0) is None


def test_neighbours(machine):
    card = machine.add()
    machine.add("0000:01:00.1")
    machine.add("0000:01:01.0", group="15")
    assert [str(other) for other in card.group_members()] == ["0000:01:00.1"]
    assert [str(other) for other in card.slot_members()] == ["0000:01:00.1"]


def test_reading_what_is_not_there(tmp_path):
    machine = Machine(tmp_path)
    assert machine.read("/sys/x") is None and machine.list("/sys") == [] and machine.link("/sys/x") is None
    assert machine.functions() == [] and not machine.exists("/sys")


def test_writing(tmp_path):
    machine = Machine(tmp_path)
    (tmp_path / "bind").write_text("before")
    machine.write("/bind", CARD)
    assert (tmp_path / "bind").read_text() == f"{CARD}\n"
    assert machine.may_write("/bind") and not machine.may_write("/none")


def test_a_write_that_is_refused(tmp_path):
    with pytest.raises(SlotError, match=f"^the kernel refused `echo {CARD} > /no/bind`: No such file or directory; see `dmesg`$"):
        Machine(tmp_path).write("/no/bind", CARD)


def test_a_write_that_does_not_return(tmp_path, monkeypatch):
    """A FIFO that nobody reads is as a driver that does not let go."""
    monkeypatch.setattr("ringnic.host.slot.sysfs.LETS_GO_SECONDS", 0.2)
    os.mkfifo(tmp_path / "unbind")
    with pytest.raises(SlotError, match=rf"^the kernel did not come back within 0.2 s from `echo {CARD} > /unbind`: "):
        Machine(tmp_path).write("/unbind", CARD)


def test_an_interrupted_write(tmp_path):
    os.mkfifo(tmp_path / "unbind")
    interrupt_after(0.2)
    with pytest.raises(KeyboardInterrupt):
        Machine(tmp_path).write("/unbind", CARD)


def test_programs(tmp_path):
    machine = Machine(tmp_path)
    assert machine.run(["sh", "-c", "exit 3"]) == 3
    assert machine.which("sh") and not machine.which("no-such-program")


def test_programs_that_look(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    assert machine.output(("printf", "a\\nb\\377")) == ["a", "b\ufffd"]
    monkeypatch.setattr("ringnic.host.slot.sysfs.SAYS_SECONDS", 0.1)
    for argv, says in ((("sh", "-c", "echo a; echo b c >&2; exit 3"), "`sh -c .*` failed with exit status 3: b c"),
                       (("false",), "`false` failed with exit status 1: "),
                       (("sleep", "9"), "`sleep 9` did not end within 0.1 s"),
                       (("/nowhere",), "`/nowhere` cannot be run: No such file or directory")):
        with pytest.raises(SlotError, match=f"^{says}$"):
            machine.output(argv)


def test_an_interrupted_program(tmp_path):
    """It has ended when the interruption goes on."""
    interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt):
        Machine(tmp_path).run(["sh", "-c", f"sleep 1; touch {tmp_path}/done"])
    assert not (tmp_path / "done").exists()


def test_an_interruption_of_what_is_to_be_whole(tmp_path):
    interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt):
        with undisturbed():
            assert Machine(tmp_path).run(["sh", "-c", f"sleep 1; touch {tmp_path}/done"], whole=True) == 0
    assert (tmp_path / "done").exists()


def test_a_signal_has_its_effect_later():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with undisturbed():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.raise_signal(number)
            done.append(1)
    with pytest.raises(SlotError):
        with undisturbed():
            raise SlotError("it")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert done == [1] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_holder_that_closes_other_files_meanwhile(machine):
    card = machine.add(driver=None)
    machine.running(812, "qemu-system-x86", "/dev/null", f"/dev/vfio/{card.iommu_group}")
    os.unlink(machine.path("/proc/812/fd/0"))
    machine.put("/proc/812/fd/0", "")  # listed, and no link any more
    assert card.holders() == [(812, "qemu-system-x86")]
