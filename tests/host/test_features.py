"""What a person writes after --features, and what the answer to a mistake is."""

import re

import pytest

from ringnic.hdl.spec.features import FEATURE_NAMES
from ringnic.host.features import names, parse

CARD = {0, 11, 12, 17, 22, 28, 29, 32, 34, 35, 38, 40}
V1 = 32


@pytest.mark.parametrize("text, bits", [
    ("version_1", {V1}),
    ("ring_packed", {V1, 34}),
    ("ring_packed,in_order", {V1, 34, 35}),
    (" RING_PACKED , in_order,", {V1, 34, 35}),
    ("mq,ctrl_vq,mq", {V1, 17, 22}),
    ("-event_idx", CARD - {29}),
    ("-event_idx,-indirect_desc", CARD - {28, 29}),
    ("-mq, -ctrl_vq", CARD - {17, 22}),
    ("-ctrl_vq,-mq", CARD - {17, 22}),
    ("+ring_packed", CARD),
    ("-in_order,+in_order", CARD),
    ("+in_order,- in_order", CARD - {35}),
])
def test_sets(text, bits):
    assert parse(text, CARD) == frozenset(bits)


def test_version_1_needs_no_mention():
    assert parse("csum", [0]) == {0, V1}
    assert parse("-csum", [0]) == {V1}


@pytest.mark.parametrize("text, message", [
    ("ring_paked", "no feature is called 'ring_paked'; did you mean ring_packed?"),
    ("-event_id", "no feature is called 'event_id'; did you mean event_idx?"),
    ("ring_packed,34", "no feature is called '34'; this card has csum, ctrl_vq, event_idx, host_tso4, host_tso6, in_order, "
                       "indirect_desc, mq, notification_data, ring_packed, ring_reset, version_1"),
    ("-", "no feature is called ''; this card has csum, ctrl_vq, event_idx, host_tso4, host_tso6, in_order, "
          "indirect_desc, mq, notification_data, ring_packed, ring_reset, version_1"),
    ("rss", "this card does not have rss; it has csum, ctrl_vq, event_idx, host_tso4, host_tso6, in_order, "
            "indirect_desc, mq, notification_data, ring_packed, ring_reset, version_1"),
    ("mq", "mq needs ctrl_vq, which is not offered"),
    ("-ctrl_vq", "mq needs ctrl_vq, which is not offered"),
    ("-csum", "host_tso4 needs csum, which is not offered"),
    ("", "no feature is named; the smallest set is version_1"),
    (" , ,", "no feature is named; the smallest set is version_1"),
    ("-version_1", "version_1 is always offered"),
    ("mq,-event_idx", "features are a list of names, or of changes that all begin with + or -, not a mixture"),
])
def test_errors(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(text, CARD)


def test_alternatives():
    every = set(FEATURE_NAMES.values())
    assert parse("csum,host_tso6,host_ecn", every) == {V1, 0, 12, 13}
    with pytest.raises(ValueError, match="^host_ecn needs host_tso4 or host_tso6, which is not offered$"):
        parse("csum,host_ecn", every)
    assert parse("+mq", every) == every


def test_names():
    assert names({34, 5, 77}) == ["bit 77", "mac", "ring_packed"]
    assert names([]) == []
    assert parse(",".join(names(CARD)), CARD) == CARD


def test_nothing_but_value_errors(rng):
    alphabet = [*FEATURE_NAMES, *"+-,, \n\0é\ud800İ", "virtio", "1"]
    for _ in range(1500):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(8)))
        try:
            assert V1 in parse(text, CARD) <= CARD
        except ValueError as error:
            assert str(error)
