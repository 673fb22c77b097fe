"""What is done to the machine: each action can be told as a line of shell, done, seen to have had its effect, and undone."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
import os
import shlex
import shutil

from ..errors import complain
from .sysfs import Function, Machine, SlotError, undisturbed

__all__ = ["Action", "Bind", "GiveTo", "Load", "Override", "Probe", "Remove", "RemoveFile", "Rescan", "Unbind", "Unload",
           "WriteFile", "all_or_nothing", "way"]


class Action(ABC):
    """One change of the machine."""
    @property
    @abstractmethod
    def shell(self):
        """The line of shell that does the same, as root."""

    @abstractmethod
    def do(self):
        """Do it; raise :exc:`SlotError` if it had no effect."""

    def needed(self):
        """Tell whether it would change anything now."""
        return True

    def inverse(self):
        """Return the action that would bring back what is now, or None where nothing has to be."""
        return None


@dataclass(frozen=True)
class _Sysfs(Action):
    """A value written to a file of sysfs, by default the address of a function."""
    function: Function

    @property
    @abstractmethod
    def file(self):
        """Path of the file."""

    @property
    def value(self):
        return self.function.address

    @property
    def shell(self):
        return " ".join(filter(None, ("echo", self.value, ">", self.file)))

    def do(self):
        try:
            self.function.machine.write(self.file, self.value)
        except SlotError:
            if self.needed():
                raise  # else a udev rule was quicker


@dataclass(frozen=True)
class Override(_Sysfs):
    """Say which driver alone may have the function; None for the kernel's choice."""
    driver: str | None

    @property
    def file(self):
        return f"{self.function.folder}/driver_override"

    @property
    def value(self):
        return self.driver or ""

    def do(self):
        super().do()
        if self.needed():
            raise SlotError(f"{self.file} says {self.function.override}, not {self.driver}, after the write")

    def needed(self):
        return self.function.override != self.driver

    def inverse(self):
        return Override(self.function, self.function.override)


@dataclass(frozen=True)
class Unbind(_Sysfs):
    """Take the function from its driver."""
    @property
    def file(self):
        return f"{self.function.folder}/driver/unbind"

    def do(self):
        super().do()
        if (left := self.function.driver) is not None:
            raise SlotError(f"{left} does not let go of {self.function}; see `dmesg`")

    def needed(self):
        return self.function.driver is not None

    def inverse(self):
        return Bind(self.function, self.function.driver)


@dataclass(frozen=True)
class Bind(_Sysfs):
    """Give the function to a driver."""
    driver: str

    @property
    def file(self):
        return f"/sys/bus/pci/drivers/{self.driver}/bind"

    def do(self):
        super().do()
        if (found := self.function.driver) != self.driver:
            raise SlotError(f"{self.driver} did not take {self.function}, which has {found or 'no driver'} now; see `dmesg`")

    def needed(self):
        return self.function.driver != self.driver

    def inverse(self):
        return Unbind(self.function)


@dataclass(frozen=True)
class Probe(_Sysfs):
    """Let the kernel choose a driver; that it finds none is no error."""
    @property
    def file(self):
        return "/sys/bus/pci/drivers_probe"

    def inverse(self):
        return Unbind(self.function)


@dataclass(frozen=True)
class Remove(_Sysfs):
    """Take the function off the bus, as far as the kernel is concerned."""
    @property
    def file(self):
        return f"{self.function.folder}/remove"

    @property
    def value(self):
        return "1"

    def do(self):
        super().do()
        if self.function.exists():
            raise SlotError(f"{self.function} is still there after it was removed; see `dmesg`")


@dataclass(frozen=True)
class Rescan(Action):
    """Look for functions below a bridge, or on all buses for None."""
    machine: Machine
    bridge: str | None

    @property
    def file(self):
        return "/sys/bus/pci/rescan" if self.bridge is None else f"/sys/bus/pci/devices/{self.bridge}/rescan"

    @property
    def shell(self):
        return f"echo 1 > {self.file}"

    def do(self):
        self.machine.write(self.file, "1")


@dataclass(frozen=True)
class Load(Action):
    """A module of the kernel, and those that it needs."""
    machine: Machine
    module: str

    @property
    def shell(self):
        return f"modprobe {self.module}"

    def do(self):
        status = self.machine.run(("modprobe", self.module), whole=True)
        if status or self.needed():
            raise SlotError(f"`{self.shell}` failed with status {status}; see `dmesg`")

    def needed(self):
        return not is_loaded(self.machine, self.module)

    def inverse(self):
        return Unload(self.machine, self.module)


@dataclass(frozen=True)
class Unload(Action):
    """No such module any more, unless somebody else uses it by now."""
    machine: Machine
    module: str

    @property
    def shell(self):
        return f"modprobe -r {self.module}"

    def do(self):
        self.machine.run(("modprobe", "-r", self.module), whole=True)

    def needed(self):
        return is_loaded(self.machine, self.module)

    def inverse(self):
        return Load(self.machine, self.module)


def is_loaded(machine, module):
    """Tell whether a module is in the kernel, other than built in."""
    return machine.exists(f"/sys/module/{module.replace('-', '_')}")


@dataclass(frozen=True)
class WriteFile(Action):
    """A file of these lines, and its folder."""
    machine: Machine
    name: str
    text: str

    @property
    def shell(self):
        lines = shlex.join(self.text.splitlines())
        return f"mkdir -p {os.path.dirname(self.name)} && printf '%s\\n' {lines} > {self.name}"

    def do(self):
        path = self.machine.path(self.name)
        draft = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(self.text)
            draft.replace(path)  # whole or not at all, on a full disk too
        except OSError as error:
            raise SlotError(f"cannot write {self.name}: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)

    def inverse(self):
        return _as_it_is(self.machine, self.name)


@dataclass(frozen=True)
class RemoveFile(Action):
    """No such file any more."""
    machine: Machine
    name: str

    @property
    def shell(self):
        return f"rm -f {self.name}"

    def do(self):
        try:
            self.machine.path(self.name).unlink(missing_ok=True)
        except OSError as error:
            raise SlotError(f"cannot remove {self.name}: {error.strerror}") from None

    def needed(self):
        return self.machine.exists(self.name)

    def inverse(self):
        return _as_it_is(self.machine, self.name)


def _as_it_is(machine, name):
    """Return the action that would bring back a file as it is now."""
    path = machine.path(name)
    return WriteFile(machine, name, path.read_text()) if path.exists() else RemoveFile(machine, name)


@dataclass(frozen=True)
class GiveTo(Action):
    """The VFIO nodes of a function belong to a user. They go when vfio-pci lets go of it, so there is nothing to undo."""
    function: Function
    user: str

    @property
    def nodes(self):
        """Nodes that there are, or will be once vfio-pci has the function."""
        machine, names = self.function.machine, self.function.machine.list(f"{self.function.folder}/vfio-dev")
        return [f"/dev/vfio/{self.function.iommu_group}",
                *(node for name in names if machine.exists(node := f"/dev/vfio/devices/{name}"))]

    @property
    def shell(self):
        return f"chown {self.user} {' '.join(self.nodes)}"

    def do(self):
        for node in self.nodes:
            try:
                shutil.chown(self.function.machine.path(node), self.user)
            except OSError as error:
                raise SlotError(f"cannot give {node} to {self.user}: {error.strerror}") from None


def way(function, driver, override):
    """Return the actions that bring a function from where it is to this driver (None: to none) and this override.

    Each leads a step further whatever was done before, so the same question asked again, after a failure or an
    interruption, gives what is left to do.
    """
    actions, now = [], function.driver
    if now is not None and now != driver:
        actions.append(Unbind(function))
    # With an override of another driver's name, a driver does not take the function.
    if function.override != override:
        actions.append(Override(function, override))
    if driver is not None and now != driver:
        actions.append(Bind(function, driver))
    return actions


def all_or_nothing(actions, say):
    """Do one action after the other, each whole, telling its line of shell before.

    If one fails, or an interruption comes between two, those that were begun are undone, the last one first, and the
    exception goes on. What cannot be undone is told as well, after an interruption as an error beside it; those before it are
    then left for another try.
    """
    begun = []
    try:
        for action in actions:
            say(action.shell)
            with undisturbed():
                begun.append(action.inverse())
                action.do()
    except BaseException as error:
        with undisturbed():
            for inverse in reversed(begun):
                try:
                    if inverse is not None and inverse.needed():
                        say(inverse.shell)
                        inverse.do()
                except SlotError as worse:
                    if not isinstance(error, Exception):
                        complain(f"undoing what was begun: {worse}")
                        break
                    told = f"{error}; then, undoing it: " if isinstance(error, SlotError) else "undoing what was begun: "
                    raise SlotError(f"{told}{worse}") from error
        raise
