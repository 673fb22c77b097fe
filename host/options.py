"""Options that commands share."""

from enum import StrEnum
import os
from pathlib import Path

import typer

__all__ = ["Accel", "out_file"]


class Accel(StrEnum):
    """QEMU's accelerators."""
    TCG = "tcg"
    KVM = "kvm"


def _file(path: Path | None):
    """Refuse at once what could not be written at the end."""
    if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK)):
        raise typer.BadParameter(f"cannot write {path}")
    return path


def out_file(help):
    """Option for a file to write."""
    return typer.Option(metavar="FILE", callback=_file, help=help)
