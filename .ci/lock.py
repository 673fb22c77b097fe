"""Write requirements.txt: every package that ./ringnic installs, at one version, with the hashes of its wheels.

Run it with the Python of a checkout: ``.ringnic/venv/bin/python .ci/lock.py``. pip resolves what pyproject.toml asks for, all extras
included, from the index that it is configured with, and then looks up the wheels for each Python and machine of the list.
"""

from collections import defaultdict
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = Path(__file__).with_name("requirements.txt")
PYTHONS = ("3.11", "3.12", "3.13")
# Debian 12 has glibc 2.36. Not every package has a wheel for aarch64, which is then left out.
MACHINES = {"x86_64": True, "aarch64": False}
GLIBC = [f"manylinux_2_{minor}" for minor in range(5, 37)] + ["manylinux1", "manylinux2010", "manylinux2014"]
NONE_FOUND = re.compile(r"No matching distribution found for (\S+)")
HEAD = """\
# What ./ringnic installs, on Python {pythons}. Written by .ci/lock.py; docs/install.md says how to renew it.
"""


def wanted():
    """Requirements of the project as pyproject.toml has them: to build it, to run it, and all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    return [*project["build-system"]["requires"], *project["project"]["dependencies"], *(one for extra in extras for one in extra)]


class PipError(Exception):
    """pip found no set of packages; the message is its own."""


def pip_report(requirements, *options):
    """What pip would install: ``{name: entry of its report}``; :exc:`PipError` if it cannot.

    It downloads metadata, and no wheel where the index has that.
    """
    with tempfile.TemporaryDirectory(prefix="ringnic-lock-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed",
             "--only-binary", ":all:", "--target", folder, "--report", f"{folder}/report.json", *options, *requirements],
            text=True, capture_output=True)
        if done.returncode:
            raise PipError(done.stderr)
        found = json.loads(Path(folder, "report.json").read_text())["install"]
    return {canonicalize_name(entry["metadata"]["name"]): entry for entry in found}


def target(python, machine):
    return ["--no-deps", "--python-version", python, *(word for glibc in GLIBC for word in ("--platform", f"{glibc}_{machine}"))]


def unmet(entries, python):
    """What the locked packages need on this Python and is not among them: pip evaluates markers for the Python it runs on."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for name, entry in entries.items():
        for text in entry["metadata"].get("requires_dist", ()):
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate(environment):
                locked = entries.get(canonicalize_name(need.name))
                if locked is None or not need.specifier.contains(locked["metadata"]["version"], prereleases=True):
                    yield f"{name} needs {text} on Python {python}"


def wheels(pins, python, machine, *, needed):
    """What pip would install for this Python and machine. Where that is not needed, packages without a wheel are left out."""
    pins = set(pins)
    while pins:
        try:
            return pip_report(sorted(pins), *target(python, machine))
        except PipError as error:
            missing = set(NONE_FOUND.findall(str(error))) & pins
            if needed or not missing:
                raise
            print(f"no wheel of {', '.join(missing)} for {machine}", file=sys.stderr)
            pins -= missing
    return {}


def main():
    entries = pip_report(wanted())
    if problems := [problem for python in PYTHONS for problem in unmet(entries, python)]:
        sys.exit("\n".join(problems))
    versions = {name: entry["metadata"]["version"] for name, entry in entries.items()}
    hashes = defaultdict(set)
    left = set(versions)
    for machine, needed in MACHINES.items():
        for python in PYTHONS:
            for name, entry in wheels([f"{name}=={versions[name]}" for name in left], python, machine, needed=needed).items():
                archive = entry["download_info"]
                hashes[name].add(archive["archive_info"]["hashes"]["sha256"])
                if archive["url"].endswith("-py3-none-any.whl"):
                    left.discard(name)
            print(f"Python {python} on {machine}: looked up", file=sys.stderr)
    text = HEAD.format(pythons=f"{PYTHONS[0]} to {PYTHONS[-1]}")
    for name in sorted(versions):
        lines = [f"{name}=={versions[name]}", *(f"    --hash=sha256:{sha256}" for sha256 in sorted(hashes[name]))]
        text += " \\\n".join(lines) + "\n"
    LOCK.write_text(text)


if __name__ == "__main__":
    try:
        main()
    except PipError as error:
        sys.exit(f"pip: {error}")
