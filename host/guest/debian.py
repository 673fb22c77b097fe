"""Debian packages fetched and unpacked into a folder, through apt, without touching the machine's own apt or system.

A private apt state (lists, cache, an empty installed-package database) is used per set of suites; what arrives is
checked against Debian's archive keyring like any package, and unpacked by ``dpkg-deb -x``: no maintainer script runs.
"""

from pathlib import Path
import re
import shutil
import subprocess

__all__ = ["AssetError", "Archive"]

DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg")
# What of the machine's own apt settings concerns how to reach a mirror; hooks and everything else are left out.
KEPT_SETTINGS = re.compile(r"Acquire::(http|https|Retries|Check-Date|Check-Valid-Until|ForceIPv4|ForceIPv6)\b")


class AssetError(Exception):
    """Something the guest needs could not be fetched; the message says what and why."""


def _run(argv, **options):
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              **options).stdout
    except FileNotFoundError:
        raise AssetError(f"{argv[0]} is missing: this needs a Debian system (or apt and dpkg)") from None
    except subprocess.CalledProcessError as error:
        errors = [line for line in error.stderr.splitlines() if line.startswith(("E:", "W:"))] or [error.stderr[-500:]]
        raise AssetError(f"{' '.join(argv[:2])} failed: " + "; ".join(errors)) from None


def machine_mirror():
    """Return the Debian mirror that this machine's apt sources name, else Debian's own address."""
    try:
        targets = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    except AssetError:
        return DEFAULT_MIRROR
    for uri in targets.split():
        if re.fullmatch(r"https?://.*/debian/?", uri):
            return uri.rstrip("/")
    return DEFAULT_MIRROR


class Archive:
    """A view of Debian's archive limited to some suites.

    Parameters
    ----------
    root : Path
        Folder for the private apt state; may exist.
    suites : sequence of str
        Suite names; ``install`` prefers the last one.

    As a context manager it is up to date within the block, after which its state is removed unless something failed.
    """
    def __init__(self, root, suites):
        self._suites = tuple(suites)
        self._root = Path(root)
        self._env = None
        self._mirror = DEFAULT_MIRROR

    def __enter__(self):
        self.update()
        return self

    def __exit__(self, failure, *_):
        if failure is None:
            shutil.rmtree(self._root)

    def update(self):
        """Write the private apt state and fetch the package lists."""
        root = self._root
        shutil.rmtree(root, ignore_errors=True)
        for folder in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (root / folder).mkdir(parents=True)
        keyring = next((path for path in KEYRINGS if Path(path).exists()), None)
        if keyring is None:
            raise AssetError("Debian's archive keyring is missing; install the package debian-archive-keyring")
        self._mirror = machine_mirror()
        (root / "status").touch()
        (root / "sources.list").write_text("".join(
            f"deb [arch=amd64 signed-by={keyring}] {self._mirror} {suite} main\n" for suite in self._suites))
        kept = [line for line in _run(["apt-config", "dump"]).splitlines() if KEPT_SETTINGS.match(line)]
        settings = {
            "Dir::State": root / "state", "Dir::State::status": root / "status", "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::parts": "/dev/null", "Dir::Etc::main": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": root / "etc/preferences.d",
            "Dir::Log": root, "APT::Architecture": "amd64", "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Debug::NoLocking": "true",
        }
        (root / "apt.conf").write_text("".join(line + "\n" for line in kept) +
                                       'APT::Architectures { "amd64"; };\n' +
                                       "".join(f'{name} "{value}";\n' for name, value in settings.items()))
        # An APT_CONFIG file is read before the machine's own files, so it can keep apt from reading those.
        self._env = {"APT_CONFIG": str(root / "apt.conf"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        self._fetch(["apt-get", "update", "-qq", "--error-on=any"])

    def depends(self, package, pattern):
        """Return the packages that ``package`` depends on whose names match ``pattern`` fully."""
        text = _run(["apt-cache", "depends", "--no-recommends", "--no-suggests", "-t", self._suites[-1], package], env=self._env)
        names = re.findall(r"^\s*\|?(?:Pre)?Depends: (\S+)$", text, re.MULTILINE)
        return [name for name in names if re.fullmatch(pattern, name)]

    def closure(self, packages, pattern):
        """Return ``packages``, what of their dependencies has a name that matches ``pattern`` fully, what these depend on, …"""
        text = _run(["apt-cache", "depends", "--recurse", "--important", "-t", self._suites[-1], *packages], env=self._env)
        needs = {}
        for line in text.splitlines():
            if not line.startswith((" ", "|")):
                needs[line] = found = []
            elif match := re.fullmatch(r"\s*\|?(?:Pre)?Depends: (\S+)", line):
                found.append(match[1])
        closure, waiting = set(), [*packages]
        while waiting:
            if (name := waiting.pop()) not in closure:
                closure.add(name)
                waiting += [need for need in needs.get(name, ()) if re.fullmatch(pattern, need)]
        return sorted(closure)

    def unpack(self, packages, into):
        """Fetch packages, without what they depend on, and unpack them."""
        folder = self._root / "single"
        folder.mkdir(exist_ok=True)
        self._fetch(["apt-get", "download", "-qq", "-t", self._suites[-1], *packages], cwd=folder)
        self._unpack_all(folder, into)

    def unpack_closure(self, packages, into):
        """Fetch packages and all that they depend on, down to libc, and unpack them."""
        self._fetch(["apt-get", "install", "-qq", "-y", "-d", "-t", self._suites[-1], *packages])
        self._unpack_all(self._root / "cache/archives", into)

    def _fetch(self, argv, **options):
        """Run a command that goes to the mirror; a failure says what can be done about it."""
        try:
            _run(argv, env=self._env, **options)
        except AssetError as error:
            raise AssetError(f"{error}; is {self._mirror} reachable? A proxy belongs into apt's configuration "
                             f"(Acquire::http::Proxy). Then run the command again") from None

    @staticmethod
    def _unpack_all(folder, into):
        for deb in sorted(folder.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(deb), str(into)])
            deb.unlink()
