"""The cache, and the choice of QEMU and kernel; nothing here goes to the network."""

from pathlib import Path
import re
import shutil

import pytest

from ringnic.host.guest import assets, debian
from ringnic.host.guest.assets import AssetError, find_kernel, find_qemu
from ringnic.host.guest.cache import cache_dir, entry


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))


def fake_qemu(path, version):
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version}'\n")
    path.chmod(0o755)
    return path


def fake_kernel(path, release="6.1.0-9-cloud-amd64"):
    head = bytearray(0x1000)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x400).to_bytes(2, "little")
    text = f"{release} (builder@debian.org) #1 SMP\0".encode()
    head[0x600:0x600 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head)


def test_entry_is_built_once():
    calls = []

    def build(folder):
        calls.append(folder)
        (folder / "file").write_text("x")
    assert entry("a/b", build) == entry("a/b", build) == cache_dir() / "a/b"
    assert len(calls) == 1 and (cache_dir() / "a/b/file").read_text() == "x"


def test_interrupted_entry_is_not_there():
    def interrupted(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        entry("thing", interrupted)
    assert [path.name for path in cache_dir().iterdir()] == [".thing.lock"]
    (cache_dir() / ".thing.part-killed").mkdir()  # as SIGKILL leaves it
    entry("thing", lambda folder: None)
    assert sorted(path.name for path in cache_dir().iterdir()) == [".thing.lock", "thing"]


@pytest.mark.parametrize("version, good", [("10.1.0", True), ("11.1.3 (Debian 1:11.1)", True), ("9.2.0", False),
                                           ("10.0.99", False)])
def test_given_qemu(version, good, tmp_path):
    path = fake_qemu(tmp_path / "qemu", version)
    if good:
        assert find_qemu(path).argv == (str(path),)
        assert find_qemu(path).version == version.split()[0]
    else:
        with pytest.raises(AssetError, match="needs 10.1 or later"):
            find_qemu(path)


def test_given_qemu_that_does_not_run(tmp_path):
    with pytest.raises(AssetError, match="does not run as a QEMU"):
        find_qemu(tmp_path / "nothing")


@pytest.mark.parametrize("version, fetched", [("10.1.2", False), ("7.2.0", True), (None, True)])
def test_machines_qemu(version, fetched, tmp_path, monkeypatch):
    if version:
        fake_qemu(tmp_path / "qemu-system-x86_64", version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(assets.shutil, "which", lambda name: str(tmp_path / name) if version else None)
    calls = []

    def fetch(folder, _say):
        calls.append(folder)
        (folder / "lib").mkdir()
        fake_qemu(folder / "lib/ld-linux-x86-64.so.2", "11.1.3")
    monkeypatch.setattr(assets, "_fetch_qemu", fetch)
    assert find_qemu().version == ("11.1.3" if fetched else version)
    assert bool(calls) == fetched


def test_given_kernel(tmp_path):
    fake_kernel(tmp_path / "boot/vmlinuz")
    with pytest.raises(AssetError, match="no modules of 6.1.0-9-cloud-amd64"):
        find_kernel(str(tmp_path / "boot/vmlinuz"))
    modules = tmp_path / "lib/modules/6.1.0-9-cloud-amd64"
    modules.mkdir(parents=True)
    kernel = find_kernel(str(tmp_path / "boot/vmlinuz"))
    assert (kernel.modules, kernel.release) == (modules, "6.1.0-9-cloud-amd64")


def test_given_kernel_beside_its_modules(tmp_path):
    """The form of Debian's packages since 7.1."""
    modules = tmp_path / "usr/lib/modules/7.3.4+deb13-cloud-amd64"
    fake_kernel(modules / "vmlinuz", modules.name)
    assert find_kernel(str(modules / "vmlinuz")).modules == modules


class FakeArchive:
    """Debian's archive with one kernel, whose parts are the packages ``parts``; ``unpacked`` are those that were asked for."""
    release = "7.3.4+deb13-cloud-amd64"
    unpacked = ()

    def __init__(self, root, suites):
        self.root = root

    def __enter__(self):
        self.root.mkdir(parents=True)
        return self

    def __exit__(self, failure, *_):
        if failure is None:
            shutil.rmtree(self.root)

    def depends(self, package, pattern):
        image = f"linux-image-{self.release}"
        names = {"linux-image-cloud-amd64": ["linux-base-cloud-amd64", image],
                 image: ["dracut", "linux-base", *(f"linux-{part}-{self.release}" for part in self.parts)]}
        return [name for name in names[package] if re.fullmatch(pattern, name)]

    def unpack(self, packages, into):
        type(self).unpacked = packages
        folder = into / "usr/lib/modules" / self.release
        fake_kernel(folder / "vmlinuz" if self.parts else into / f"boot/vmlinuz-{self.release}", self.release)
        folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("parts", [(), ("base", "binary", "modules")])
def test_kernel_of_backports(parts, monkeypatch):
    monkeypatch.setattr(FakeArchive, "parts", parts, raising=False)
    monkeypatch.setattr(assets, "Archive", FakeArchive)
    kernel = find_kernel("backports", lambda text: None)
    assert kernel.release == FakeArchive.release and kernel.modules.is_dir()
    assert FakeArchive.unpacked == [f"linux-{part}-{kernel.release}" for part in ("image", *parts)]
    assert [path.name for path in cache_dir().iterdir() if not path.name.startswith(".")] == ["kernel-backports"]


def test_kernel_that_debian_does_not_have(monkeypatch):
    monkeypatch.setattr(FakeArchive, "parts", (), raising=False)
    monkeypatch.setattr(assets, "Archive", FakeArchive)
    with pytest.raises(AssetError, match="no cloud kernel 6.12 in Debian's trixie"):
        find_kernel("6.12", lambda text: None)


def test_no_kernel(tmp_path):
    with pytest.raises(AssetError, match="give one of 6.1, 6.12, backports, or the path"):
        find_kernel("5.10")
    (tmp_path / "file").write_bytes(bytes(0x1000))
    with pytest.raises(AssetError, match="is not a bzImage"):
        find_kernel(str(tmp_path / "file"))


@pytest.mark.parametrize("targets, mirror", [
    ("http://security.debian.org/debian-security/\nhttp://mirror.example/debian/\n", "http://mirror.example/debian"),
    ("https://deb.nodesource.com/node_20.x\n", debian.DEFAULT_MIRROR),
    ("mirror+file:/etc/apt/mirrors/debian.list\n", debian.DEFAULT_MIRROR),
    ("", debian.DEFAULT_MIRROR),
])
def test_mirror_is_the_machines(targets, mirror, monkeypatch):
    monkeypatch.setattr(debian, "_run", lambda argv, **options: targets)
    assert debian.machine_mirror() == mirror


def test_private_apt_reads_none_of_the_machines_hooks(tmp_path, monkeypatch):
    settings = 'Acquire::http::Proxy "http://proxy:3128";\nDPkg::Pre-Install-Pkgs:: "hook";\nAPT::Update::Post-Invoke:: "x";\n'
    ran = []

    def run(argv, **options):
        ran.append((argv, options.get("env")))
        return settings if argv[0] == "apt-config" else ""
    monkeypatch.setattr(debian, "_run", run)
    debian.Archive(tmp_path / "apt", ("one", "two")).update()
    text = Path(ran[-1][1]["APT_CONFIG"]).read_text()
    assert "proxy:3128" in text and "hook" not in text and "Post-Invoke" not in text
    assert 'Dir::Etc::parts "/dev/null"' in text
    sources = (tmp_path / "apt/sources.list").read_text().splitlines()
    assert [line.split()[-2] for line in sources] == ["one", "two"] and all("signed-by=" in line for line in sources)


def test_failed_download_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    def run(argv, **options):
        if argv[0] == "apt-get":
            raise AssetError("apt-get update failed: E: Could not resolve 'deb.debian.org'")
        return ""
    monkeypatch.setattr(debian, "_run", run)
    with pytest.raises(AssetError) as caught:
        debian.Archive(tmp_path / "apt", ("one",)).update()
    assert "\n" not in str(caught.value)
    for words in ("Could not resolve", debian.DEFAULT_MIRROR, "Acquire::http::Proxy", "run the command again"):
        assert words in str(caught.value)


def test_closure_of_packages(tmp_path, monkeypatch):
    """Of what apt tells of all packages below one, those of a kind of name, reached through such."""
    text = """tool
 |Depends: libone
  Depends: libone-alternative
  PreDepends: libtwo
  Depends: python3
libone
  Depends: libthree
libone-alternative
libtwo
  Depends: tool
  Depends: <libc-virtual>
python3
  Depends: libpython
libpython
libthree
"""
    monkeypatch.setattr(debian, "_run", lambda argv, **options: text)
    found = debian.Archive(tmp_path / "apt", ("one",)).closure(["tool"], "lib.*")
    assert found == ["libone", "libone-alternative", "libthree", "libtwo", "tool"]


def test_missing_apt_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssetError, match="this needs a Debian system"):
        debian._run(["apt-get-that-is-not-there"])
