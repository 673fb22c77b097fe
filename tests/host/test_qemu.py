"""QEMU's command line, and the console protocol against the guest's own script, run here."""

import errno
import json
from pathlib import Path
import subprocess
import sys
import time

import pytest

from ringnic.host.guest import qemu
from ringnic.host.guest.assets import Kernel, Qemu, find_tools
from ringnic.host.guest.process import child
from ringnic.host.guest.qemu import GuestError, command_line, run_shell, start_guest, vfio_user_device

KERNEL = Kernel(Path("/k"), Path("/m"), "6.1")
COMMANDS = Path(qemu.__file__).with_name("commands.sh")
GUEST = f"echo booting; printf '@@ ready\\r\\n'; exec sh {COMMANDS}"


def guest(tmp_path, script=GUEST):
    path = tmp_path / "qemu"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return start_guest(Qemu((str(path),), "11"), KERNEL, "/i", [])


def test_command_line():
    argv = command_line(Qemu(("qemu", "-L", "x"), "11"), KERNEL, "/i", vfio_user_device("/s"), accel="kvm", memory_mb=512,
                        cpus=4)
    text = " ".join(argv)
    assert text.startswith("qemu -L x -accel kvm -smp 4 -m 512M ")
    assert "memory-backend-memfd,id=memory,size=512M,share=on" in text and "q35,memory-backend=memory" in text
    assert "ringnic.shell" not in text
    device = json.loads(argv[argv.index("-device") + 1])
    assert device == {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": "/s"}, "x-msg-timeout": 600000,
                      "x-no-posted-writes": True}
    emulated = " ".join(command_line(Qemu(("q",), "11"), KERNEL, "/i", [], shell=True))
    assert emulated.startswith("q -accel tcg,thread=single -smp 1 ") and "ringnic.shell" in emulated


def test_commands(tmp_path):
    with guest(tmp_path) as running:
        running.wait_ready(10)
        assert running.run("echo one; echo two") == ["one", "two"]
        assert running.run("printf 'no end of line'") == ["no end of line"]
        assert running.run("cat") == []  # it must not eat the next command
        seen = []
        running.run("echo '@@ 99 0'; echo x", on_line=seen.append)
        assert seen == ["@@ 99 0", "x"]
        assert running.run("echo out; false", check=False) == (1, ["out"])
        with pytest.raises(GuestError, match="`false` failed in the guest with status 1"):
            running.run("false")
        assert running.run("echo on") == ["on"]
        assert "booting" in running.console


PROMPTS = r"""printf 'Firmware\r\n=> '
while read -r command; do
	printf 'you said %s\r\n=' "$command"; sleep 0.2; printf '> '
done"""


def test_a_guest_with_a_prompt(tmp_path):
    """Also where the prompt comes in two pieces."""
    with guest(tmp_path, PROMPTS) as running:
        assert running.until("\n=> $", 60, "start") == "Firmware\n=> "
        for word in ("one", "two"):
            running.type(f"{word}\n", word)
            assert running.until("\n=> $", 60, word) == f"you said {word}\n=> "
        with pytest.raises(GuestError, match="three: no answer"):
            running.until("three", 0.3, "three")
        assert running.console[:2] == ["Firmware", "=> you said one"]


def test_guest_that_is_silent(tmp_path):
    with guest(tmp_path) as running:
        running.wait_ready(10)
        with pytest.raises(GuestError, match="`sleep 60`: no answer, and nothing has moved for 0.2 s"):
            running.run("sleep 60", timeout=0.2)


@pytest.mark.parametrize("script, message", [
    ("echo 'qemu: bad option' >&2; exit 3", r"(?s)Boot: QEMU ended with status 3.*qemu: bad option"),
    ("echo 'Kernel panic - not syncing: x'; sleep 60", r"(?s)kernel panicked.*not syncing: x"),
])
def test_guest_that_does_not_boot(script, message, tmp_path):
    with guest(tmp_path, script) as running, pytest.raises(GuestError, match=message):
        running.wait_ready(10)


def test_a_command_is_whole_when_one_in_the_background_ends(tmp_path):
    """Its signal comes while the guest's shell has a part of the next line."""
    with guest(tmp_path, f"printf '@@ ready\\n'; exec {find_tools().busybox} sh {COMMANDS}") as running:
        running.wait_ready(10)
        for _ in range(5):
            running.run("for i in 1 2 3; do sleep 0.$i & done")
            running.commands += 1
            for piece in (f"{running.commands} ec", "ho a whole", " line | cat", "\n"):
                running.type(piece, "echo")
                time.sleep(0.1)
            assert f"a whole line\n\n@@ {running.commands} 0" in running.until(r"@@ .* 0", 10, "echo")


def test_shell_returns_the_status(tmp_path):
    path = tmp_path / "qemu"
    path.write_text("#!/bin/sh\nexit 7\n")
    path.chmod(0o755)
    assert run_shell(Qemu((str(path),), "11"), KERNEL, "/i", []) == 7


def test_shell_ends_when_a_sign_says_so(tmp_path):
    """At once, and not when the person leaves the shell."""
    path = tmp_path / "qemu"
    path.write_text("#!/bin/sh\nexec sleep 600\n")
    path.chmod(0o755)

    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "/the/file")
    with pytest.raises(OSError, match="/the/file"):
        run_shell(Qemu((str(path),), "11"), KERNEL, "/i", [], signs=(full,))


def test_child_ends_with_the_block():
    with pytest.raises(KeyError), child(["sleep", "60"]) as process:
        raise KeyError
    assert process.returncode == -9


def test_child_ends_with_a_killed_parent():
    program = ("from ringnic.host.guest.process import child\nimport time\n"
               "with child(['sleep', '60']) as process:\n    print(process.pid, flush=True)\n    time.sleep(60)\n")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.1)  # setpriv has become sleep
        parent.kill()
    deadline = time.monotonic() + 60
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            break
        if state == "Z":  # reaped by whoever is init here
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
