"""Giving a card to vfio-pci and back, on a machine in a folder: exactly what is done, and that it is undone exactly."""

import getpass
import os
import re

import pytest

from ringnic.host.slot import state
from ringnic.host.slot.bind import NotPutBack, bind, lent, rule_file, unbind
from ringnic.host.slot.sysfs import SlotError

CARD = "0000:01:00.0"
AT = f"/sys/bus/pci/devices/{CARD}"
DRIVERS = "/sys/bus/pci/drivers"


def refused(message):
    return pytest.raises(SlotError, match=f"^{re.escape(message)}$")


def test_there_and_back(machine):
    card = machine.add(interface="eth1")
    before = machine.state()
    assert bind(machine, "01:00.0", machine.say) is True
    assert (card.driver, card.override) == ("vfio-pci", "vfio-pci")
    assert machine.said[0] == "modprobe vfio-pci"
    assert machine.said[2:] == [f"echo {CARD} > {AT}/driver/unbind", f"echo vfio-pci > {AT}/driver_override",
                                f"echo {CARD} > {DRIVERS}/vfio-pci/bind"]
    machine.said.clear()
    assert unbind(machine, CARD, machine.say) is True
    assert machine.said == [f"echo {CARD} > {AT}/driver/unbind", f"echo > {AT}/driver_override",
                            f"echo {CARD} > {DRIVERS}/virtio-pci/bind", "modprobe -r vfio-pci", f"rm -f /run/ringnic/{CARD}.json"]
    assert machine.state() == before


def test_what_was_there_comes_back(machine):
    """No driver, and an override of another's."""
    card = machine.add(driver=None)
    machine.put(f"{AT}/driver_override", "uio_pci_generic")
    machine.load_vfio()
    before = machine.state()
    bind(machine, CARD, machine.say)
    assert card.driver == "vfio-pci"
    unbind(machine, CARD, machine.say)
    assert machine.state() == before and machine.runs == []


@pytest.mark.parametrize("options", [{}, {"persist": True, "user": getpass.getuser()}])
def test_a_dry_run_tells_all_and_does_nothing(machine, options):
    machine.add()
    machine.may_write = lambda name: False  # and needs no permission
    before = machine.state()
    bind(machine, CARD, machine.say, dry_run=True, **options)
    assert machine.state() == before and machine.moment == len(machine.said)
    del machine.may_write
    told = list(machine.said)
    machine.said.clear()
    bind(machine, CARD, machine.say, **options)
    if options:  # the node of iommufd appears on the way
        told[-2] += " /dev/vfio/devices/vfio0"
    assert machine.said == told
    for step in (lambda **only: unbind(machine, CARD, machine.say, **only),):
        bound = machine.state()
        machine.said.clear()
        step(dry_run=True)
        assert machine.state() == bound
        told = list(machine.said)
        machine.said.clear()
        step()
        assert machine.said == told and machine.state() == before


def moments(machine, action):
    """How many moments there are in it at which an interruption may come."""
    start = machine.moment
    action()
    return machine.moment - start


@pytest.mark.parametrize("loaded", [False, True])
def test_an_interruption_at_any_moment(machine, loaded):
    machine.add(interface="eth1")
    if loaded:
        machine.load_vfio()
    free = machine.state()
    options = {"persist": True, "user": getpass.getuser()}
    steps = moments(machine, lambda: bind(machine, CARD, machine.say, **options))
    bound = machine.state()
    back = moments(machine, lambda: unbind(machine, CARD, machine.say))
    assert machine.state() == free and steps >= 12 and back >= 10
    for moment in range(1, steps + 1):
        machine.interrupt_at = machine.moment + moment
        with pytest.raises(KeyboardInterrupt):
            bind(machine, CARD, machine.say, **options)
        assert machine.state() == free, f"binding, moment {moment}"
    bind(machine, CARD, machine.say, **options)
    for moment in range(1, back + 1):
        machine.interrupt_at = machine.moment + moment
        with pytest.raises(KeyboardInterrupt):
            unbind(machine, CARD, machine.say)
        assert machine.state() == bound, f"unbinding, moment {moment}"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("again", [False, True], ids=["unbind", "bind again"])
def test_a_kill_at_any_moment(machine, again, monkeypatch):
    """Nothing is undone then; what was there is known all the same. A module that was loaded may stay."""
    machine.load_vfio()
    machine.add()
    free = machine.state()
    steps = moments(machine, lambda: bind(machine, CARD, machine.say))
    unbind(machine, CARD, machine.say)

    def killing(actions, say):
        for action in actions:
            say(action.shell)
            action.do()
    tick = machine.tick

    def dead():
        machine.moment += 1
        if machine.moment == machine.interrupt_at:
            raise Killed
    for moment in range(1, steps + 1):
        with monkeypatch.context() as patch:
            patch.setattr("ringnic.host.slot.bind.all_or_nothing", killing)
            machine.tick = dead
            machine.interrupt_at = machine.moment + moment
            with pytest.raises(Killed):
                bind(machine, CARD, machine.say)
        machine.tick = tick
        if again:
            bind(machine, CARD, machine.say)
            assert machine.function(CARD).driver == "vfio-pci"
        unbind(machine, CARD, machine.say)
        assert machine.state() == free, moment


@pytest.mark.parametrize("file, why", [
    (f"{AT}/driver/unbind", "Device or resource busy"),
    (f"{AT}/driver_override", "Permission denied"),
    (f"{DRIVERS}/vfio-pci/bind", "Invalid argument"),
])
def test_what_the_kernel_refuses_is_said_and_undone(machine, file, why):
    machine.add()
    before = machine.state()
    machine.refuse[file] = why
    value = "vfio-pci" if file.endswith("override") else CARD
    with refused(f"the kernel refused `echo {value} > {file}`: {why}; see `dmesg`"):
        bind(machine, CARD, machine.say)
    assert machine.state() == before


@pytest.mark.parametrize("file, message", [
    (f"{AT}/driver/unbind", f"virtio-pci does not let go of {CARD}; see `dmesg`"),
    (f"{AT}/driver_override", f"{AT}/driver_override says None, not vfio-pci, after the write"),
    (f"{DRIVERS}/vfio-pci/bind", f"vfio-pci did not take {CARD}, which has no driver now; see `dmesg`"),
])
def test_what_has_no_effect_is_noticed(machine, file, message):
    machine.add()
    before = machine.state()
    machine.silent.add(file)
    with refused(message):
        bind(machine, CARD, machine.say)
    assert machine.state() == before


def test_what_cannot_be_undone_is_said_and_can_be_tried_again(machine):
    card = machine.add()
    before = machine.state()
    machine.refuse[f"{DRIVERS}/vfio-pci/bind"] = "Invalid argument"
    machine.refuse[f"{DRIVERS}/virtio-pci/bind"] = "Input/output error"
    with refused(f"the kernel refused `echo {CARD} > {DRIVERS}/vfio-pci/bind`: Invalid argument; see `dmesg`; then, undoing it: "
                 f"the kernel refused `echo {CARD} > {DRIVERS}/virtio-pci/bind`: Input/output error; see `dmesg`"):
        bind(machine, CARD, machine.say)
    assert card.driver is None and state.recall(card).driver == "virtio-pci"
    machine.refuse.clear()
    unbind(machine, CARD, machine.say)
    assert machine.state() == before


def test_an_old_driver_that_does_not_come_back(machine):
    """Unbinding fails: the card is vfio-pci's, as before."""
    machine.add()
    bind(machine, CARD, machine.say)
    bound = machine.state()
    machine.refuse[f"{DRIVERS}/virtio-pci/bind"] = "Input/output error"
    with refused(f"the kernel refused `echo {CARD} > {DRIVERS}/virtio-pci/bind`: Input/output error; see `dmesg`"):
        unbind(machine, CARD, machine.say)
    assert machine.state() == bound


def test_nothing_to_do(machine):
    machine.add()
    assert unbind(machine, CARD, machine.say) is False
    bind(machine, CARD, machine.say)
    machine.said.clear()
    assert bind(machine, CARD, machine.say) is False
    assert machine.said == []


def test_vfio_pci_had_it_before_us(machine):
    """As after a start of the machine with --persist: the kernel chooses."""
    machine.add(driver=None)
    machine.load_vfio()
    machine.put(f"{AT}/driver_override", "vfio-pci")
    machine.attach(CARD, "vfio-pci")
    card = machine.function(CARD)
    bind(machine, CARD, machine.say, persist=True)
    assert machine.said[-1].endswith(f"> {rule_file(card)}")
    unbind(machine, CARD, machine.say)
    assert (card.driver, card.override) == ("virtio-pci", None)
    assert not machine.exists(rule_file(card)) and machine.exists("/sys/module/vfio_pci")


def test_somebody_gave_it_to_another_driver_since(machine):
    """What is remembered is of no use then: neither to go back to, nor to keep."""
    card = machine.add()
    bind(machine, CARD, machine.say)
    machine.detach(CARD)
    machine.attach(CARD, "e1000e")
    unbind(machine, CARD, machine.say)
    assert (card.driver, card.override, state.recall(card)) == ("e1000e", None, None)
    bind(machine, CARD, machine.say)
    machine.detach(CARD)
    machine.attach(CARD, "pcieport")
    bind(machine, CARD, machine.say)
    assert state.recall(card).driver == "pcieport"


def test_two_cards_and_the_module(machine):
    """It stays as long as somebody needs it, and no longer."""
    other = machine.add("0000:02:00.0", group="15")
    machine.add()
    before = machine.state()
    bind(machine, CARD, machine.say)
    bind(machine, "02:00.0", machine.say)
    unbind(machine, CARD, machine.say)
    assert other.driver == "vfio-pci" and machine.exists("/sys/module/vfio_pci")
    unbind(machine, "02:00.0", machine.say)
    assert machine.state() == before


def test_persist(machine):
    card = machine.add()
    user = getpass.getuser()
    before = machine.state()
    bind(machine, CARD, machine.say, persist=True, user=user)
    assert machine.read(rule_file(card)).splitlines() == [
        f'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{CARD}", DRIVER!="vfio-pci", ATTR{{driver_override}}="vfio-pci", '
        "RUN+=\"/bin/sh -c 'modprobe vfio-pci; echo %k > %S%p/driver/unbind; echo %k > %S/bus/pci/drivers_probe'\"",
        f'SUBSYSTEM=="vfio", KERNEL=="14", OWNER="{user}"',
        f'SUBSYSTEM=="vfio-dev", KERNELS=="{CARD}", OWNER="{user}"']
    unbind(machine, CARD, machine.say)
    assert machine.state() == before


def test_a_user_without_root(machine, monkeypatch):
    given = []
    monkeypatch.setattr("shutil.chown", lambda path, user: given.append((str(path.relative_to(machine.root)), user)))
    machine.add()
    bind(machine, CARD, machine.say, user=getpass.getuser())
    assert given == [("dev/vfio/14", getpass.getuser()), ("dev/vfio/devices/vfio0", getpass.getuser())]

    def refuse(path, user):
        raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr("shutil.chown", refuse)
    with refused(f"cannot give /dev/vfio/14 to {getpass.getuser()}: Operation not permitted"):
        bind(machine, CARD, machine.say, user=getpass.getuser())
    with refused("there is no user 'nobody-here' on this machine: --user takes a name that `getent passwd` knows"):
        bind(machine, CARD, machine.say, user="nobody-here")


@pytest.mark.parametrize("bdf, message", [
    ("zz:00.0", "'zz:00.0' is no PCI address: it looks like 0000:01:00.0, or 01:00.0; `ringnic devices` lists them"),
    ("09:00.0", "there is no PCI function 0000:09:00.0: `ringnic devices` lists the cards, `lspci -D` all"),
])
@pytest.mark.parametrize("command", [bind, unbind])
def test_wrong_address(machine, command, bdf, message):
    with refused(message):
        command(machine, bdf, machine.say)


def test_each_check_stops_it(machine):
    """Before anything is done; the messages are the checks' own."""
    machine.add("0000:03:00.0", vendor=0x8086, device=0x10d3, driver="e1000e", group="15")
    machine.add("0000:04:00.0", group=None)
    machine.add("0000:05:00.0", group="16", interface="eth5", up=True)
    machine.add()
    before = machine.state()
    for address, why in (("03:00.0", "is no virtio device"), ("04:00.0", "IOMMU does not cover"), ("05:00.0", "eth5 .* is up")):
        with pytest.raises(SlotError, match=why):
            bind(machine, address, machine.say)
    machine.may_write = lambda name: False
    with refused("this needs root, to write to /sys/bus/pci/devices: sudo ringnic bind 0000:01:00.0 --persist --user root"):
        bind(machine, CARD, machine.say, persist=True, user="root")
    assert machine.state() == before and machine.moment == 0


def test_unbinding_checks(machine):
    card = machine.add()
    bind(machine, CARD, machine.say)
    bound = machine.state()
    machine.running(812, "qemu-system-x86", "/dev/vfio/vfio", "/dev/vfio/14")
    with refused(f"{card} is in use by qemu-system-x86 (pid 812): end it first"):
        unbind(machine, CARD, machine.say)
    os.unlink(machine.path("/proc/812/fd/1"))
    machine.may_write = lambda name: False
    with refused("this needs root, to write to /sys/bus/pci/devices: sudo ringnic unbind 0000:01:00.0"):
        unbind(machine, CARD, machine.say)
    assert machine.state() == bound


def test_a_card_that_is_gone(machine):
    """What is kept of it goes, and no more."""
    card = machine.add()
    bind(machine, CARD, machine.say, persist=True)
    machine.obey(f"{AT}/remove", machine.path(f"{AT}/remove"), "1")
    machine.said.clear()
    assert unbind(machine, CARD, machine.say) is True
    assert machine.said == [f"rm -f {rule_file(card)}", f"rm -f /run/ringnic/{CARD}.json"]
    with pytest.raises(SlotError, match="there is no PCI function"):
        unbind(machine, CARD, machine.say)


def test_a_full_disk(machine, monkeypatch):
    """Nothing is begun that could not be remembered."""
    machine.load_vfio()
    machine.add()
    before = machine.state()

    def full(path, text):
        path.touch()
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("pathlib.Path.write_text", full)
    with refused(f"cannot write /run/ringnic/{CARD}.json: No space left on device"):
        bind(machine, CARD, machine.say)
    assert machine.state() == before


@pytest.mark.parametrize("driver", ["virtio-pci", None])
@pytest.mark.parametrize("ends", [None, SlotError("no"), KeyboardInterrupt()])
def test_lent(machine, driver, ends):
    """What an earlier binding remembers, and a rule for the next start, are there as before."""
    machine.add(driver=driver)
    machine.put(rule_file(machine.function(CARD)), "a rule")
    machine.put(f"/run/ringnic/{CARD}.json", '{"driver": "e1000e", "override": null, "module": false}')
    function, before = machine.function(CARD), machine.state()
    try:
        with lent(function, machine.say, "x"):
            assert function.driver == "vfio-pci"
            if ends is not None:
                raise ends
    except (SlotError, KeyboardInterrupt) as error:
        assert error is ends
    assert machine.state() == before and machine.said


NOT_BACK = (f"the kernel refused `echo {CARD} > {DRIVERS}/virtio-pci/bind`: No such device; see `dmesg`; "
            f"{CARD} is not put back: ringnic unbind {CARD}")


@pytest.mark.parametrize("ends, message", [
    (None, NOT_BACK), (SlotError("no"), f"no; then, {NOT_BACK}"), (ValueError("x"), NOT_BACK)])
def test_not_put_back(machine, ends, message):
    """It is said how the card comes back, and that way works."""
    machine.add()
    before = machine.state()
    with pytest.raises(NotPutBack, match=f"^{re.escape(message)}$") as caught, lent(machine.function(CARD), machine.say, "x"):
        machine.refuse[f"{DRIVERS}/virtio-pci/bind"] = "No such device"
        if ends is not None:
            raise ends
    assert caught.value.__cause__ is ends and f"# {NOT_BACK}" not in machine.said
    machine.refuse.clear()
    unbind(machine, CARD, machine.say)
    assert machine.state() == before


@pytest.mark.parametrize("ends", [KeyboardInterrupt(), SystemExit(143)])
def test_not_put_back_after_an_interruption(machine, ends, capsys):
    machine.add()
    with pytest.raises(type(ends)) as caught, lent(machine.function(CARD), machine.say, "x"):
        machine.refuse[f"{DRIVERS}/virtio-pci/bind"] = "No such device"
        raise ends
    assert caught.value is ends and capsys.readouterr().err == f"ringnic: {NOT_BACK}\n"


def test_an_interruption_while_it_is_not_put_back(machine, capsys):
    """The interruption waits, and does not hide the failure."""
    machine.add()
    with pytest.raises(KeyboardInterrupt), lent(machine.function(CARD), machine.say, "x"):
        machine.refuse[f"{DRIVERS}/virtio-pci/bind"] = "No such device"
        machine.interrupt_at = machine.moment + 2
    assert capsys.readouterr().err == f"ringnic: {NOT_BACK}\n"


def test_neither_lent_nor_put_back(machine):
    machine.add()
    machine.refuse |= {f"{DRIVERS}/vfio-pci/bind": "Invalid argument", f"{DRIVERS}/virtio-pci/bind": "No such device"}
    with pytest.raises(NotPutBack, match=f"Invalid argument; .*; {CARD} is not put back: ringnic unbind {CARD}$"):
        with lent(machine.function(CARD), machine.say, "x"):
            raise AssertionError


def test_lent_by_who_has_it(machine):
    machine.add()
    bind(machine, CARD, machine.say)
    before, machine.said = machine.state(), []
    with lent(machine.function(CARD), machine.say, "x"):
        pass
    assert machine.state() == before and not machine.said


@pytest.mark.parametrize("change, message", [
    (lambda machine: machine.put("/sys/class/net/eth1/flags", "0x1003"), "the network interface eth1 of .* is up"),
    (lambda machine: setattr(machine, "may_write", lambda name: False), "this needs root, .* sudo ringnic x 1"),
    (lambda machine: machine.refuse.update({f"{AT}/driver/unbind": "Busy"}), "the kernel refused"),
])
def test_not_lent(machine, change, message):
    machine.add(interface="eth1")
    change(machine)
    before = machine.state()
    with pytest.raises(SlotError, match=message), lent(machine.function(CARD), machine.say, "x 1"):
        raise AssertionError
    assert machine.state() == before
