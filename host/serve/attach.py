"""``ringnic attach``: somebody's own endpoint, in Verilog or Amaranth, for anybody's virtual machines, until Ctrl-C."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
import re
import time

from ..errors import note
from ..sockets import check_place
from .command import LOOK_SECONDS, tell_of_client, until_interrupted
from .lines import attach_help

__all__ = ["AttachOptions", "parse_pair", "number_or_text", "run_attach"]


@dataclass(frozen=True)
class AttachOptions:
    """What the command line asks for; see ``ringnic attach --help``.

    ``socket`` is an absolute path. Either ``verilog`` files with ``top``, or ``amaranth``. ``parameters``: pairs of a name and a
    value, a number or a text. ``ports``: pairs of a role and the name of a port.
    """
    socket: Path
    verilog: tuple = ()
    top: str | None = None
    includes: tuple = ()
    amaranth: str | None = None
    parameters: tuple = ()
    ports: tuple = ()
    wave: Path | None = None
    tlp: Path | None = None
    group: str | None = None


def parse_pair(text):
    """Return both sides of ``NAME=VALUE``. Raises :exc:`ValueError`."""
    name, _, value = text.partition("=")
    if not name.isidentifier() or not value:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def number_or_text(value):
    """Return the number that a text is, as Python or Verilog (64'h5) writes them, else the text."""
    try:
        if found := re.fullmatch(r"\d*'[sS]?([bodhBODH])([0-9a-fA-F_]+)", value):
            return int(found[2], {"b": 2, "o": 8, "d": 10, "h": 16}[found[1].lower()])
        return int(value, 0)
    except ValueError:
        return value


def _endpoint(options):
    from ...sim.attach.endpoint import amaranth_design, verilog_design  # which brings a simulator
    if options.amaranth is not None:
        return amaranth_design(options.amaranth, parameters=options.parameters)
    return verilog_design(options.verilog, options.top, includes=options.includes, parameters=options.parameters,
                          names=dict(options.ports))


def _interrupts(function):
    return ", ".join([
        *([f"MSI-X with {function.msix.vectors} vectors"] if function.msix else []),
        *([f"MSI with {function.msi.vectors} messages"] if function.msi else []),
        *(["INTx"] if function.intx_pin else [])]) or "none"


def _facts(function):
    """Yield what was found in configuration space, a line each."""
    for bar in function.bars.values():
        kind = "I/O" if bar.io else f"{64 if bar.wide else 32}-bit memory"
        yield f"BAR {bar.index}: {bar.size:#x} bytes, {kind}"
    yield f"interrupts: {_interrupts(function)}"


def _serve(options, stack):
    from ...sim.attach.session import attached
    path = options.socket
    check_place(path, group=options.group)      # before a minute goes into building
    endpoint = _endpoint(options)
    if endpoint.unconnected:
        note(f"inputs that stay 0: {', '.join(endpoint.unconnected)}")
    if endpoint.never_idle:
        note("the endpoint has no output busy, so its clock never rests, which keeps a processor busy")
    note("building the endpoint's model, if it is not there yet")
    attachment = stack.enter_context(attached(endpoint, path, wave=options.wave, tlp=options.tlp, group=options.group,
                                              watch=partial(tell_of_client, path)))
    print("\n".join([str(path), *_facts(attachment.function), "", attach_help(path), ""]), flush=True)
    note("serving; Ctrl-C ends it")
    while True:
        for line in attachment.news():
            note(line)
        time.sleep(LOOK_SECONDS)


def run_attach(options):
    """Serve until Ctrl-C; return the exit status of :func:`.command.until_interrupted`."""
    from ...sim.attach.rtl import AttachError
    return until_interrupted(partial(_serve, options), AttachError)
