"""What every bench needs: clocks, a card in a slot, the driver in its thread, and the wire."""

import json
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.task import bridge
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time
from cocotbext.eth import GmiiFrame, GmiiSink, GmiiSource
from cocotbext.pcie.core.caps import PciCapId
from cocotbext.pcie.core.utils import PcieId

from ringnic.hdl.spec.pcie import Exp
from ringnic.host.driver import VirtioNet
from ringnic.sim.cocotb_bus import Card, CocotbBus, Host
from ringnic.sim.monitor import Monitor
from tests.kit.card import WholeCard

WIDTH = int(os.environ["NIC_WIDTH"])
DEVICE = 0       # in its slot
CLOCK_NS = 8
OBSERVED = "observed.jsonl"  # where the test runs: rows and how often, for each case that was passed
MAC_ADDRESS = bytes.fromhex("525400524e01")


def cycle():
    """Of the core's clock."""
    return round(get_sim_time("ns")) // CLOCK_NS


def frame(size, tag=0):
    """A frame of ``size`` bytes, without FCS."""
    return bytes.fromhex("525400524e01 525400000001 0800") + bytes((7 * k + size + tag) & 0xff for k in range(size - 14))


class Rig(WholeCard):
    """A NIC with power, enumerated by the root complex.

    Attributes
    ----------
    host : Host
    card : Card
    device : PciDevice
        The host's idea of it.
    wire_in, wire_out : GmiiSource, GmiiSink
    bus : CocotbBus
    net : VirtioNet
        As of the last :meth:`open`.
    monitor : Monitor
        Judges all that passes the card's edge.
    """
    LIMIT, STEP = 100_000, 100

    @classmethod
    async def power_on(cls, dut, *, seed=None, read_ns=None, payload=1, rcb128=False, split=False, enumerate=True,
                       memory_base=None, gmii_ps=8000):
        """``seed``: pauses on the TLP streams. ``payload``: code of the root port's largest payload. ``split``: completions
        are cut at every boundary."""
        self = cls()
        self.dut = dut
        rng = None if seed is None else random.Random(seed)
        dut.rst.value = 1
        dut.offered.value = (1 << 128) - 1
        self.gmii_ps = gmii_ps
        self.start_wire()
        self.card = Card(dut, width=WIDTH, rng=rng)
        self.monitor = Monitor()
        self.card.heard = lambda way, tlp: self.monitor.take(cycle(), way, tlp)
        self.host = Host(rng=random.Random(1), read_ns=read_ns)
        self.host.max_payload_size = payload
        self.host.read_completion_boundary = rcb128
        self.host.split_on_all_rcb = split
        self.host.make_port().connect(self.card)  # before time passes: a port without a partner is an error
        Clock(dut.clk, CLOCK_NS, "ns").start()
        await ClockCycles(dut.clk, 50)
        dut.rst.value = 0
        self.wire_out.clear()  # the rest of what an earlier test was sending
        self.card.start()
        await ClockCycles(dut.clk, 5)
        if enumerate:
            await self.enumerate(memory_base)
        return self

    def start_wire(self):
        """Put a partner on the wire."""
        dut = self.dut
        dut.link_up.value = 1
        self.wire_in = GmiiSource(dut.gmii_rxd, dut.gmii_rx_er, dut.gmii_rx_dv, dut.gmii_rx_clk)
        self.wire_out = GmiiSink(dut.gmii_txd, dut.gmii_tx_er, dut.gmii_tx_en, dut.gmii_tx_clk)
        Clock(dut.gmii_rx_clk, self.gmii_ps, "ps").start()
        Clock(dut.gmii_tx_clk, self.gmii_ps, "ps").start()

    async def enumerate(self, memory_base=None):
        await self.host.enumerate()
        self.device = self.host.find_device(PcieId(1, DEVICE, 0))
        self.card.exp = self.device.get_capability_offset(PciCapId.EXP)
        # What enumeration wrote, before anyone knew where to look.
        self.card.device_control = await self.device.capability_read_word(PciCapId.EXP, Exp.DEV_CTL)
        await self.device.enable_device()
        await self.device.set_master()
        self.bus = CocotbBus(self.host, self.card, self.device, memory_base)

    # For the driver's thread

    def open(self, *features, **options):
        self.net = VirtioNet.open(self.bus, *features, **options)
        self.net.transport.status  # a read pushes the posted writes: the card is live
        return self.net

    def feed(self, frames):
        for one in frames:
            self.wire_in.send_nowait(GmiiFrame.from_payload(one))

    def wire(self):
        """Return the frames that came out since the last call, FCS taken off; each has to be a good one."""
        frames = []
        while not self.wire_out.empty():
            one = self.wire_out.recv_nowait()
            assert one.error is None and one.check_fcs(), one
            # The sink does not keep the byte that wakes it, but it keeps the time.
            assert one.get_preamble() == b"\x55" * 6 + b"\xd5", one
            assert one.sim_time_sfd - one.sim_time_start == 8 * self.gmii_ps, one
            frames.append(bytes(one.get_payload()))
        return frames

    to_card, from_card = feed, wire

    def on_wire(self, sent, came):
        return sent.ljust(60, b"\0")

    def works(self, count=4):
        frames = [frame(60 + 97 * k, k) for k in range(count)]
        self.send(frames)
        self.feed(frames)
        self.expect_wire(frames)
        self.expect_received(frames)
        self.all_sent()

    def judge(self):
        """No rule was broken; what was put to the test is written down for the report."""
        self.monitor.at(cycle())
        self.monitor.check()
        with open(OBSERVED, "a") as file:
            print(json.dumps(self.monitor.observed), file=file)


def bench(*, clauses=(), rig=Rig, **options):
    """A cocotb test of a card that is powered on with ``options``: ``async def test(rig)``. ``clauses``: rows of the plan
    that it shows."""
    def decorate(function):
        async def run(dut):
            powered = await rig.power_on(dut, **options)
            await function(powered)
            powered.judge()
        run.__name__ = run.__qualname__ = function.__name__
        run.__module__ = function.__module__
        run.__doc__ = function.__doc__
        test = cocotb.test(timeout_time=20, timeout_unit="ms")(run)
        test.clauses = clauses
        return test
    return decorate


def driven(**options):
    """The same for ``def test(rig)`` in the driver's thread."""
    def decorate(function):
        async def run(rig):
            await bridge(function)(rig)
        run.__name__ = function.__name__
        run.__module__ = function.__module__
        run.__doc__ = function.__doc__
        return bench(**options)(run)
    return decorate
