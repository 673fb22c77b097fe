"""Whether this is a checkout of the project or an installed package, which has no tests and no documents."""

from pathlib import Path
import subprocess

__all__ = ["ROOT", "checkout", "commit"]

ROOT = Path(__file__).resolve().parents[1]  # of an installed package, its own folder


def checkout():
    """Return the top folder of the checkout; None in an installed package."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else None


def commit():
    """Return the commit of the checkout, ``-dirty`` if its files differ from it; None where there is no git."""
    if checkout() is None:  # git would find the repository that the package happens to be installed in
        return None
    # In a folder of another user git does nothing unless it is told that the folder is safe.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT]
    try:
        return subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], check=True, text=True,
                              capture_output=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
