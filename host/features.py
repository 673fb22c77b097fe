"""Feature sets as people write them: ``ring_packed,in_order``, or ``-event_idx`` for all but one."""

from ..hdl.spec.features import FEATURE_NAMES, FEATURE_PREREQUISITES
from ..hdl.spec.virtio import VIRTIO_F_VERSION_1
from .nearest import no_such

__all__ = ["parse", "names"]

_NAME_OF = {bit: name for name, bit in FEATURE_NAMES.items()}


def _name(bit):
    return _NAME_OF.get(bit, f"bit {bit}")


def _bit(name, card):
    """The bit called ``name``, of those in ``card``."""
    try:
        bit = FEATURE_NAMES[name]
    except KeyError:
        raise ValueError(no_such("feature", name, FEATURE_NAMES, f"this card has {', '.join(names(card))}")) from None
    if bit not in card:
        raise ValueError(f"this card does not have {name}; it has {', '.join(names(card))}")
    return bit


def names(bits):
    """Names of feature bits, sorted; a bit without one is ``bit 77``."""
    return sorted(_name(bit) for bit in bits)


def parse(text, offered_by_card):
    """Return the feature bits that ``text`` asks for, as a frozenset of bit numbers.

    ``text`` is a comma list of names: exactly these, or, if each begins with ``+`` or ``-``, changes to all that the
    card has, from left to right. VERSION_1 is always there. Raises :exc:`ValueError`, with a message for people, for a
    name that does not exist, a feature that this card does not have, and one whose prerequisite is missing.
    """
    card = frozenset(offered_by_card) | {VIRTIO_F_VERSION_1}
    items = [item.strip().lower() for item in text.split(",")]
    items = [item for item in items if item]
    changes = [item.startswith(("+", "-")) for item in items]
    if not items:
        raise ValueError("no feature is named; the smallest set is version_1")
    if any(changes) and not all(changes):
        raise ValueError("features are a list of names, or of changes that all begin with + or -, not a mixture")
    bits = set(card) if all(changes) else {VIRTIO_F_VERSION_1}
    for item, change in zip(items, changes):
        bit = _bit(item[1:].strip() if change else item, card)
        if not item.startswith("-"):
            bits.add(bit)
        elif bit == VIRTIO_F_VERSION_1:
            raise ValueError("version_1 is always offered")
        else:
            bits.discard(bit)
    for bit in sorted(bits):
        for need in FEATURE_PREREQUISITES.get(bit, ()):
            need = need if isinstance(need, tuple) else (need,)
            if bits.isdisjoint(need):
                raise ValueError(f"{_name(bit)} needs {' or '.join(map(_name, need))}, which is not offered")
    return frozenset(bits)
