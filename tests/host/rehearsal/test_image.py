"""The outer machine's initramfs: what must be in it to run this project's commands, and QEMU, where nothing else is."""

import importlib.util
import os
from pathlib import Path
import stat
import sys

import pytest

from ringnic.host.guest.assets import LIBRARIES, Kernel, Qemu, Tools
from ringnic.host.rehearsal.image import INNER_INITRAMFS, INNER_KERNEL, build_image

from ..test_initramfs import entries, fake_modules


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    modules = fake_modules(folder / "m/6.1", virtio_pci="", virtio_net="", vfio="", vfio_iommu_type1="vfio",
                           **{"vfio-pci": "vfio-pci-core,vfio", "vfio-pci-core": "vfio"})
    for name in ("busybox", "vmlinuz", "lspci", "libc", "qemu/lib/ld.so", "qemu/qemu-system"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(name.encode())
    kernel = Kernel(folder / "vmlinuz", modules, "6.1")
    argv = (f"{folder}/qemu/lib/ld.so", f"{folder}/qemu/qemu-system", "-L", f"{folder}/qemu/firmware")
    qemu = Qemu(argv, "11", folder / "qemu")
    return entries(build_image(kernel, kernel, Tools(folder / "busybox", {}), qemu,
                               {"/usr/bin/lspci": folder / "lspci", f"{LIBRARIES}/libc.so.6": folder / "libc"}))


def test_programs(image):
    assert image["init"][1].startswith(b"#!/bin/sh\n") and image[INNER_KERNEL[1:]][1] == b"vmlinuz"
    assert image[INNER_INITRAMFS[1:]][1].startswith(b"\x1f\x8b")
    assert image["bin/qemu-system-x86_64"][1] == \
        b'#!/bin/sh\nexec /opt/qemu/lib/ld.so /opt/qemu/qemu-system -L /opt/qemu/firmware "$@"\n'
    assert image["opt/qemu/lib/ld.so"][1] == b"qemu/lib/ld.so"
    # Its libraries are this machine's, where they are here too: one libc serves all.
    assert image["usr/bin/lspci"][1] == b"lspci" and image[f"{LIBRARIES}/libc.so.6"[1:]][1].startswith(b"\x7fELF")
    python = os.path.realpath(sys.executable)
    assert python.encode() in image["bin/ringnic"][1] and python[1:] in image
    assert image["bin/setpriv"][0] & stat.S_IXUSR and not stat.S_ISLNK(image["bin/setpriv"][0])


def test_vfio_is_found(image):
    """By name, after all that it needs, the container among it."""
    assert image["lib/modules/6.1/modules.dep"][1].decode() == \
        "vfio-pci.ko: vfio-pci-core.ko vfio_iommu_type1.ko vfio.ko\n"
    assert {f"lib/modules/6.1/{name}.ko" for name in ("vfio-pci", "vfio-pci-core", "vfio", "vfio_iommu_type1")} <= image.keys()


def test_the_project_is_there(image):
    assert "opt/packages/ringnic/__init__.py" in image
    for room in ("hdl", "host", "sim", "boards"):
        assert image[f"opt/packages/ringnic/{room}"][1] == f"/opt/ringnic/{room}".encode()
    for name in ("tests/conftest.py", "tests/conformance/conftest.py", "tests/kit/card.py",
                 "host/guest/init.sh", "pyproject.toml"):
        assert f"opt/ringnic/{name}" in image
    for package in ("amaranth", "typer", "rich", "pytest", "_pytest"):
        assert f"opt/packages/{package}/__init__.py" in image


def test_everything_is_compiled(image):
    """For this very Python, and for files of these very times."""
    stdlib = Path(os.__file__).parent
    for name in (f"{stdlib}/argparse"[1:], "opt/ringnic/host/cli", "opt/packages/rich/console"):
        folder, _, module = name.rpartition("/")
        tag = sys.implementation.cache_tag
        compiled = image[f"{folder}/__pycache__/{module}.{tag}.pyc"][1]
        assert compiled[:4] == importlib.util.MAGIC_NUMBER and len(compiled) > 100
