"""The card from Python: what docs/from-python.md says, the examples on that page included."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from ringnic.hdl.spec.virtio import VIRTIO_F_RING_PACKED
from ringnic.host.driver.net import FEATURES
from ringnic.sim.card import connect

PAGE = Path(__file__).parents[2] / "docs" / "from-python.md"
ONE, TWO = 0x0200_0000_0001, 0x0200_0000_0002


def frame(number, size=60):
    packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP() / UDP() / (bytes([number]) * 10)
    return bytes(packet).ljust(size, b"\0")


@pytest.mark.parametrize("rings", ["split", "packed"])
def test_two_cards(ringnic_card, rings):
    """More frames than a queue has room for, both ways."""
    features = FEATURES - {VIRTIO_F_RING_PACKED} if rings == "split" else FEATURES
    one, two = ringnic_card(mac_address=ONE, features=features), ringnic_card(mac_address=TWO)
    assert (one.driver.mac, two.driver.mac) == (ONE.to_bytes(6, "big"), TWO.to_bytes(6, "big"))
    there, back = [frame(k, 60 + k) for k in range(50)], [frame(k, 1514 - k) for k in range(50)]
    for out, answer in zip(there, back):
        one.send(out)
        two.send(answer)
    assert connect(one, two) == 100
    assert (one.receive(), two.receive()) == (back, there)
    assert connect(one, two) == 0 and one.receive() == []


def test_the_wire(ringnic_card):
    card = ringnic_card()
    card.send(frame(1))
    card.from_wire(frame(2))
    card.run()
    assert (card.to_wire(), card.receive()) == ([frame(1)], [frame(2)])


def test_a_card_that_does_not_end(ringnic_card):
    card = ringnic_card()
    card.send(frame(1))
    with pytest.raises(TimeoutError, match="^The card is still at work after 10 cycles$"):
        card.run(10)


def test_the_plugin_imports_no_simulator():
    done = subprocess.run([sys.executable, "-c", "import sys, ringnic.sim.pytest_plugin; print(*sys.modules)"], text=True,
                          capture_output=True, check=True)
    assert not {"amaranth", "ringnic.sim.engine.engine"} & set(done.stdout.split())


def test_the_fixture_comes_by_its_entry_point(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("ringnic")


@pytest.mark.parametrize("number, text", list(enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))))
def test_the_examples_of_the_page(tmp_path, number, text):
    path = tmp_path / f"test_example_{number}.py"
    path.write_text(text)
    argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)] if "def test_" in text else [str(path)]
    done = subprocess.run([sys.executable, *argv], text=True, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    if expected := re.search(r"# prints (.*)", text):
        assert done.stdout.strip() == expected[1]
