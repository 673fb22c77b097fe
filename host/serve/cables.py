"""What the cards of ``ringnic serve`` are plugged into."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
import ipaddress
import os
import re

from ..guest.cable import plugged
from ..guest.network import Watched, dgram_network, open_pcap, open_tap, user_network
from .switch import Switch

__all__ = ["Cable", "KINDS", "network_of", "parse_cable", "plug"]

#: As ``--cable`` takes them.
KINDS = ("user", "tap:NAME", "dgram:LOCAL,PEER", "between", "none")


@dataclass(frozen=True)
class Cable:
    """What ``--cable`` asks for: one of :data:`KINDS`, ``kind`` being its first word.

    ``tap``: name of an interface. ``local``, ``peer``: as of :func:`ringnic.host.guest.network.dgram_network`.
    """
    kind: str
    tap: str | None = None
    local: str | tuple | None = None
    peer: str | tuple | None = None


def _place(text):
    """Where somebody listens: a path, which has a slash in it, or ADDRESS:PORT with an IPv6 address in brackets."""
    if "/" in text:
        return os.path.abspath(text)  # as a peer's socket tells where it is
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):(\d{1,5})", text)
    if not found or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{text!r} is neither a path with a slash in it, nor ADDRESS:PORT")
    address = found[1] or found[2]
    try:
        ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
    except ValueError:
        raise ValueError(f"{address!r} is no IP address") from None
    return address, int(found[3])


def parse_cable(text, cards):
    """Return the :class:`Cable` of an option's text for so many cards, None for what suits them: "user", or "between" of several.

    Raises :exc:`ValueError`.
    """
    if text is None:
        return Cable("user" if cards == 1 else "between")
    kind, _, rest = text.partition(":")
    if kind == "tap" and rest:
        if not re.fullmatch(r"[^/\s]{1,15}", rest):
            raise ValueError(f"{rest!r} cannot be the name of an interface, which has 1 to 15 characters")
        return Cable(kind, tap=rest)
    if kind == "dgram" and rest:
        places = rest.split(",")
        if len(places) != 2:
            raise ValueError(f"dgram needs two places, LOCAL,PEER, not {rest!r}")
        local, peer = map(_place, places)
        if isinstance(local, str) != isinstance(peer, str):
            raise ValueError(f"dgram needs two paths, or two of ADDRESS:PORT, not {rest!r}")
        if not isinstance(local, str) and (":" in local[0]) != (":" in peer[0]):
            raise ValueError(f"dgram needs two IPv4 addresses, or two IPv6 addresses, not {rest!r}")
        return Cable(kind, local=local, peer=peer)
    if text not in ("user", "between", "none"):
        raise ValueError(f"{text!r} is none of {', '.join(KINDS)}")
    if kind == "between" and cards == 1:
        raise ValueError("a cable between cards needs two sockets or more")
    return Cable(kind)


@contextmanager
def network_of(cable, qemu, restrict=False):
    """Yield what is at the other end, besides the cards: a list of none or one.

    ``qemu()`` returns a :class:`ringnic.host.guest.assets.Qemu`, which is the user network; ``restrict``: that one is closed to
    the host.
    """
    with ExitStack() as stack:
        if cable.kind == "user":
            yield [stack.enter_context(user_network(qemu(), restrict=restrict))]
        elif cable.kind == "tap":
            yield [stack.enter_context(open_tap(cable.tap))]
        elif cable.kind == "dgram":
            yield [stack.enter_context(dgram_network(cable.local, cable.peer))]
        else:
            yield []


@contextmanager
def plug(cable, cards, networks, *, pcap=None):
    """Plug the cards and the networks in for the length of the block: two ends get a cable, more a :class:`.switch.Switch`.

    Yield ``failed()``, which tells how a cable broke, if one did, else None. ``pcap``: file to write each frame to.
    """
    with ExitStack() as stack:
        ends = [*cards, *networks]
        if cable.kind == "none":
            for card in cards:
                card.engine.set_link(False)
            yield lambda: None
            return
        seen = None if pcap is None else stack.enter_context(open_pcap(pcap)).write
        if len(ends) == 2:
            one, other = ends
            pairs = [(one, other if seen is None else Watched(other, seen))]
        else:
            switch = stack.enter_context(Switch(seen))
            pairs = [(end, switch.port()) for end in ends]
        failures = [stack.enter_context(plugged(*pair)) for pair in pairs]

        def failed():
            if cable.kind == "user" and (fault := networks[0].fault()):
                return OSError(fault)
            return next((failure[0] for failure in failures if failure), None)
        yield failed
