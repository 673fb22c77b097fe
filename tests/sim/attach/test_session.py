"""Endpoints that no host could use, and such that break rules while they are used: each is told of, and nothing hangs."""

from contextlib import closing
from pathlib import Path
import time

import pytest

from ringnic.sim.attach.endpoint import verilog_design
from ringnic.sim.attach.rtl import AttachError
from ringnic.sim.attach.session import attached

from ...kit.vfio_user import PATIENCE, VfioUserBus

SOURCE = Path(__file__).with_name("broken.v")
BAR0, INTERRUPT_LINE = 0x10, 0x3c


def broken(**parameters):
    return verilog_design([SOURCE], "broken", parameters=list(parameters.items()))


@pytest.mark.parametrize("parameters, message", [
    ({"MUTE": 1}, "The endpoint does not answer configuration requests. No completion for an access to 0x1000000 in"),
    ({}, "The endpoint has no base address register"),
], ids=["mute", "no BAR"])
def test_endpoints_that_no_host_could_use(parameters, message, tmp_path):
    with pytest.raises(AttachError) as caught, attached(broken(**parameters), tmp_path / "s"):
        pass
    assert str(caught.value).startswith(message) and not (tmp_path / "s").exists()


def test_broken_rules_and_a_missing_answer(tmp_path):
    """The TLP that ends too early is read no further than it goes; the client that waits in vain is let go."""
    seen = []
    with attached(broken(BAR=1), tmp_path / "s", tlp=tmp_path / "tlps", watch=lambda *event: seen.append(event)) as attachment:
        with closing(VfioUserBus(str(tmp_path / "s"))) as bus:
            assert not list(attachment.news())
            bus.config_write(INTERRUPT_LINE, 4, 11)
            bus.config_read(0, 4)
            first, second = attachment.news()
            assert first.startswith("the endpoint broke a rule of PCI Express, 2.2.2: Length is not that of the TLP: MWr")
            assert second == "the endpoint was refused a write of 4 bytes at 0x10000000: no memory there"
            assert not list(attachment.news())
            bus.config_write(BAR0, 4, 0xfe00_0000)
            with pytest.raises(AssertionError, match="the server has closed the connection"):
                bus.bar_read(0, 0, 4)
        deadline = time.monotonic() + PATIENCE
        while len(seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        (came, _), (gone, error) = seen
        assert came and not gone and "No completion for an access to 0xfe000000" in str(error)
    assert "CfgRd" in (tmp_path / "tlps").read_text()
