"""Give a card to vfio-pci, for a guest, and back to whoever had it.

What was there is remembered before the first change, outside this process, so the way back is known even if it is killed.
"""

from contextlib import contextmanager
from dataclasses import replace
import pwd

from ..errors import complain
from . import checks, state
from .actions import GiveTo, Load, Override, Probe, RemoveFile, Unload, WriteFile, all_or_nothing, way
from .state import Before
from .sysfs import VFIO_PCI, Function, SlotError, parse_bdf, undisturbed

__all__ = ["NotPutBack", "bind", "lent", "rule", "rule_file", "unbind"]


class NotPutBack(SlotError):
    """A function that was lent is not where it was before."""


def rule_file(function):
    """Path of the udev rule that binds a function at each start of the machine."""
    # Before 80-drivers.rules, which loads the module of the driver that the function would get.
    return f"/etc/udev/rules.d/10-ringnic-{function.address}.rules"


def rule(function, user=None):
    """Return the udev rules that bind a function, for a user, at each start of the machine.

    The override alone is enough unless a driver is quicker, one that is built in or loaded for another device. What vfio-pci
    has already is left alone: events are told again later (``udevadm trigger``), when a guest may have the card.
    """
    text = (f'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{function.address}", DRIVER!="{VFIO_PCI}", '
            f'ATTR{{driver_override}}="{VFIO_PCI}", '
            f'RUN+="/bin/sh -c \'modprobe {VFIO_PCI}; echo %k > %S%p/driver/unbind; echo %k > %S/bus/pci/drivers_probe\'"\n')
    if user is not None:
        text += f'SUBSYSTEM=="vfio", KERNEL=="{function.iommu_group}", OWNER="{user}"\n'
        text += f'SUBSYSTEM=="vfio-dev", KERNELS=="{function.address}", OWNER="{user}"\n'
    return text


def _stop(*found):
    """Raise the first of these that is not None."""
    for reason in filter(None, found):
        raise SlotError(reason)


def _no_user(user):
    if user is not None:
        try:
            pwd.getpwnam(user)
        except KeyError:
            return f"there is no user {user!r} on this machine: --user takes a name that `getent passwd` knows"
    return None


def _carry_out(machine, actions, say, dry_run):
    """Do all of it or nothing, or only tell; return whether there was anything to do."""
    if dry_run:
        for action in actions:
            say(action.shell)
    elif actions:
        with state.alone(machine):
            all_or_nothing(actions, say)
    return bool(actions)


def _remembered(function, loads):
    """What is to be put back one day: as remembered by an earlier run, unless somebody gave it to another driver since."""
    found = state.recall(function)
    if found is None or function.driver not in (None, VFIO_PCI, found.driver):
        return Before(function.driver, function.override, loads)
    return Before(found.driver, found.override, found.module or loads)


def _must_load(machine):
    return not machine.exists(f"/sys/bus/pci/drivers/{VFIO_PCI}")


def _there(function, before, loads):
    """Actions that bring a function to vfio-pci, after ``before`` is remembered."""
    return [*([Load(function.machine, VFIO_PCI)] if loads else []), state.recording(function, before),
            *way(function, VFIO_PCI, VFIO_PCI)]


def bind(machine, bdf, say, *, persist=False, user=None, dry_run=False):
    """Give a function to vfio-pci; return False if vfio-pci had it already and there was nothing to do.

    Parameters
    ----------
    say : callable
        Told of each action, as a line of shell, before it is done.
    persist : bool
        At each start of the machine, too.
    user : str or None
        Who may use it without being root.
    dry_run : bool
        Only tell.
    """
    function = machine.function(bdf)
    bound = function.driver == VFIO_PCI
    command = f"bind {function}{' --persist' * persist}{f' --user {user}' if user else ''}"
    _stop(checks.wrong_function(function), _no_user(user), *([] if bound else checks.in_the_way(function)),
          None if dry_run else checks.no_permission(function, command))
    actions = []
    if not bound:
        loads = _must_load(machine)
        actions = _there(function, _remembered(function, loads), loads)
    if user is not None:
        actions.append(GiveTo(function, user))
    if persist and machine.read(rule_file(function)) != (text := rule(function, user)).strip():
        actions.append(WriteFile(machine, rule_file(function), text))
    return _carry_out(machine, actions, say, dry_run)


def _back(function, before):
    """Actions that bring a function back to where it was before :func:`bind`, if it is not with another driver since."""
    machine = function.machine
    if function.driver not in (None, VFIO_PCI):
        return [Override(function, None)] if function.override == VFIO_PCI else []
    if before is None:
        return [*way(function, None, None), Probe(function)] if function.driver == VFIO_PCI else []
    actions = way(function, before.driver, before.override)
    if not before.module:
        return actions
    others = [other for other in machine.functions() if other.driver == VFIO_PCI and other.address != function.address]
    heir, kept = next(((other, kept) for other in others if (kept := state.recall(other)) is not None), (None, None))
    if heir is not None:  # whose way back takes the module away
        actions.append(state.recording(heir, replace(kept, module=True)))
    elif not others and (unload := Unload(machine, VFIO_PCI)).needed():
        actions.append(unload)
    return actions


def unbind(machine, bdf, say, *, dry_run=False):
    """Put a function back as it was before :func:`bind`; return False if there was nothing to do.

    What vfio-pci had before us, such as from a start of the machine on, goes to the driver of the kernel's choice. Of a
    card that is no longer there, what is kept of it goes.
    """
    function = Function(machine, parse_bdf(bdf))
    kept = [name for name in (rule_file(function), state.file(function)) if machine.exists(name)]
    if not kept:
        machine.function(bdf)
    actions = []
    if function.exists():
        _stop(checks.in_use(function) if function.driver == VFIO_PCI else None,
              None if dry_run else checks.no_permission(function, f"unbind {function}"))
        actions = _back(function, state.recall(function))
    return _carry_out(machine, [*actions, *(RemoveFile(machine, name) for name in kept)], say, dry_run)


@contextmanager
def lent(function, say, command):
    """Have vfio-pci hold a function for the length of the block; then put back what was there, whatever has happened.

    What :func:`bind` refuses is refused, and nothing is changed then. If we are killed, :func:`unbind` knows the way back.
    :exc:`NotPutBack` if what was there cannot be put back; if Ctrl-C or a signal has ended the block, that goes on and the
    failure is only told of.

    Parameters
    ----------
    say : callable
        Told of each action, as a line of shell, before it is done.
    command : str
        What is to be said again as root, if nobody lets us.
    """
    if function.driver == VFIO_PCI:
        _stop(checks.wrong_function(function), checks.in_use(function))
        yield
        return
    _stop(checks.wrong_function(function), *checks.in_the_way(function), checks.no_permission(function, command))
    machine, loads = function.machine, _must_load(function.machine)
    before = Before(function.driver, function.override, loads)
    forget, failure = state.recording(function, before).inverse(), None
    try:
        try:
            _carry_out(machine, _there(function, before, loads), say, dry_run=False)
            yield
        finally:
            with undisturbed():
                actions = [*_back(function, before), forget]
                try:
                    _carry_out(machine, [action for action in actions if action.needed()], say, dry_run=False)
                except SlotError as reason:
                    failure = NotPutBack(f"{reason}; {function} is not put back: ringnic unbind {function}")
    except Exception as error:
        if failure is None:
            raise
        raise (NotPutBack(f"{error}; then, {failure}") if isinstance(error, SlotError) else failure) from error
    except BaseException:
        if failure is not None:
            complain(failure)
        raise
    if failure is not None:
        raise failure
