"""The archive as Linux reads it, and modules in an order in which they insert."""

import gzip
import lzma
import stat

import pytest

from ringnic.host.guest.assets import Kernel, Tools
from ringnic.host.guest.cpio import Cpio
from ringnic.host.guest.initramfs import build_initramfs, module_order


def entries(archive):
    """Read a newc archive, as buffer-format.rst describes it."""
    at, found = 0, {}
    while True:
        assert archive[at:at + 6] == b"070701" and at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n:at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, rdev, name_size = fields[1], fields[6], fields[9:11], fields[11]
        name = archive[at + 110:at + 110 + name_size]
        assert name.endswith(b"\0")
        at = (at + 110 + name_size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return found
        assert name[:-1].decode() not in found
        found[name[:-1].decode()] = (mode, archive[at:at + size], tuple(rdev))
        at = (at + size + 3) // 4 * 4


def fake_modules(folder, builtin=(), **depends):
    (folder / "kernel").mkdir(parents=True)
    (folder / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in builtin))
    for name, needed in depends.items():
        data = b"\x7fELF\0license=GPL\0depends=" + needed.encode() + b"\0name=" + name.encode() + b"\0"
        (folder / "kernel" / f"{name}.ko").write_bytes(data)
    return folder


def test_cpio():
    cpio = Cpio()
    for size in range(6):
        cpio.file(f"/a/b/{'f' * (size + 1)}", bytes(range(size)), 0o640)
    cpio.folder("/a")
    cpio.link("/l", "a/b")
    cpio.device("/dev/console", 5, 1)
    found = entries(cpio.getvalue())
    assert found == entries(cpio.getvalue())
    assert list(found)[:3] == ["a", "a/b", "a/b/f"]  # a folder before what is in it
    assert found["a/b/ffffff"] == (stat.S_IFREG | 0o640, bytes(range(5)), (0, 0))
    assert found["l"][:2] == (stat.S_IFLNK | 0o777, b"a/b")
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))


def test_modules_after_what_they_depend_on(tmp_path):
    modules = fake_modules(tmp_path, top="mid,low", mid="low,base", low="", other="")
    (tmp_path / "kernel/low.ko").rename(tmp_path / "kernel/low.old")
    (tmp_path / "kernel/low.ko.xz").write_bytes(lzma.compress((tmp_path / "kernel/low.old").read_bytes()))
    (tmp_path / "modules.builtin").write_text("kernel/drivers/base.ko\n")
    order = module_order(modules, ("top",))
    assert [name for name, _data in order] == ["low", "mid", "top"]
    assert order[0][1].startswith(b"\x7fELF")  # inserted as it is, so not compressed


def test_dash_and_underscore_are_one(tmp_path):
    modules = fake_modules(tmp_path, builtin=["a-b"], **{"x-y": "", "z": "x_y,a_b"})
    assert [name for name, _data in module_order(modules, ("z",))] == ["x_y", "z"]


def test_missing_module(tmp_path):
    with pytest.raises(ValueError, match=f"^Kernel {tmp_path.name} has no module virtio_net$"):
        module_order(fake_modules(tmp_path), ("virtio_net",))


def test_unknown_compression(tmp_path):
    modules = fake_modules(tmp_path, a="")
    (modules / "kernel/a.ko").rename(modules / "kernel/a.ko.zst")
    with pytest.raises(ValueError, match="compressed in a way that is not known"):
        module_order(modules, ("a",))


def test_initramfs(tmp_path):
    modules = fake_modules(tmp_path / "m", virtio_pci="virtio", virtio="", virtio_net="virtio")
    (tmp_path / "busybox").write_bytes(b"busybox")
    (tmp_path / "tool").write_bytes(b"tool")
    tools = Tools(tmp_path / "busybox", {"/usr/sbin/tool": tmp_path / "tool"})
    kernel = Kernel(tmp_path / "vmlinuz", modules, "6.1")
    image = build_initramfs(kernel, tools)
    assert image == build_initramfs(kernel, tools)
    found = entries(gzip.decompress(image))
    assert found["init"][0] == stat.S_IFREG | 0o755 and found["init"][1].startswith(b"#!/bin/sh\n")
    assert [name for name in found if name.endswith(".ko")] == [
        "modules/00-virtio.ko", "modules/01-virtio_pci.ko", "modules/02-virtio_net.ko"]
    assert found["usr/sbin/tool"][1] == b"tool" and found["dev/console"][2] == (5, 1)
