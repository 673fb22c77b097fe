"""Where things are: in a checkout and in an installed package, and what each command says that misses its checkout."""

from pathlib import Path
import subprocess

import pytest
import typer
from typer.testing import CliRunner

import ringnic
from ringnic.host import checkout
from ringnic.host.cli import app
from ringnic.host.guest import cache

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as a wheel installs it: without what is around it."""
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "site-packages/ringnic")
    monkeypatch.delenv("RINGNIC_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_checkout_is_found(monkeypatch):
    assert checkout.checkout() == ROOT
    monkeypatch.delenv("RINGNIC_CACHE", raising=False)
    assert cache.cache_dir() == ROOT / ".ringnic"


def test_cache_of_an_installed_package(installed, tmp_path, monkeypatch):
    assert cache.cache_dir() == tmp_path / "home/.cache/ringnic"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache.cache_dir() == tmp_path / "home/.cache/ringnic"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg/ringnic" and cache.cache_dir().is_dir()
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "given"))
    assert cache.cache_dir() == tmp_path / "given"


def test_commit_is_not_that_of_a_repository_around(installed, tmp_path):
    for command in ("init -q", "-c user.name=a -c user.email=a@example.org commit -q --allow-empty -m one"):
        subprocess.run(["git", "-C", tmp_path, *command.split()], check=True)
    (tmp_path / "site-packages/ringnic").mkdir(parents=True)
    assert checkout.commit() is None


@pytest.mark.parametrize("command", ["test", "mutate", "conformance", "rehearse"])
def test_commands_that_need_a_checkout(command, installed):
    result = CliRunner().invoke(app, [command], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (f"ringnic: `ringnic {command}` needs a checkout of the project, and this is an installed package; "
                             f"run ./ringnic {command} in a checkout\n")


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"ringnic {ringnic.__version__}\n")


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_short_help(arguments):
    short, long = (CliRunner().invoke(app, [*arguments, option]) for option in ("-h", "--help"))
    assert short.exit_code == 0 and short.output == long.output and "Usage: " in short.output
