"""Random accesses, with any byte enables, to every word of every structure, beside the golden device: what is read, and what
is there in the end. Nothing is live, so nothing but the accesses changes anything."""

from ringnic.hdl.pcie.config import EXP_CAP, PM_CAP, capabilities
from ringnic.hdl.spec.bar import (BAR_SIZE, BUILD_ID_OFFSET, COMMON_OFFSET, COUNTERS, COUNTERS_HEADER_SIZE, COUNTERS_OFFSET,
                                  DEVICE_OFFSET, ISR_OFFSET, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, NOTIFY_MULTIPLIER,
                                  NOTIFY_OFFSET)
from ringnic.hdl.spec.net import VirtioNetConfig
from ringnic.hdl.spec.pcie import MSIX_ENTRY_SIZE, Cfg, Command, Exp, Pm, VirtioCap
from ringnic.hdl.spec.virtio import Common, Status
from ringnic.sim.bus import BAR_WINDOW
from ringnic.sim.engine.engine import Engine
from ringnic.sim.golden import GoldenNet

import pytest

PAIRS = 4
QUEUES, VECTORS = 2 * PAIRS + 1, 2 * PAIRS + 2
CONFIG_BYTES = 0x100
WINDOW = capabilities()[-1][0]
# Bytes of each structure in the BAR, and some behind its end.
STRUCTURES = {
    COMMON_OFFSET: Common.SIZE + 16, ISR_OFFSET: 16, DEVICE_OFFSET: VirtioNetConfig.as_shape().size // 8 + 16,
    NOTIFY_OFFSET: NOTIFY_MULTIPLIER * QUEUES + 16, MSIX_TABLE_OFFSET: MSIX_ENTRY_SIZE * VECTORS + 16, MSIX_PBA_OFFSET: 24,
    COUNTERS_OFFSET: COUNTERS_HEADER_SIZE + 8 * len(COUNTERS) + 16, BAR_SIZE - 0x1000: 16}
INITIATE_FLR, MASTER = 1 << 15, 1 << Command.BUS_MASTER
RESET_CYCLES = 3000
ACCESSES = 3000
MEMORY = 1 << Command.MEMORY_ENABLE


def places():
    """Offsets in the BAR of all words of all structures."""
    return [start + at for start, size in STRUCTURES.items() for at in range(0, size, 4)]


class Pair:
    """A card, the golden device, and what is done to both."""
    def __init__(self, engine, rng):
        self.engine, self.rng = engine, rng
        self.golden = GoldenNet(queue_pairs=PAIRS)
        self.places = places()
        self.wake()
        self.settle()

    def config(self, at, enables, value=None):
        found = self.engine.config_dw(at, enables, value)
        assert found == self.golden.config_dw(at, enables, value), f"configuration space, {at:#x}, enables {enables:#x}"

    def bar(self, at, enables, value=None):
        found = self.engine.mem_dw(BAR_WINDOW + at, enables, value)
        due = self.golden.bar_dw(at, enables, value)
        if value is None and at != BUILD_ID_OFFSET:
            mask = sum(0xff << 8 * k for k in range(4) if enables >> k & 1)
            assert found & mask == due, f"BAR, {at:#x}, enables {enables:#x}"

    def wake(self):
        """Such that memory requests reach the BAR."""
        self.config(PM_CAP + Pm.PMCSR, 0xf, 0)
        self.config(Cfg.BAR0, 0xf, BAR_WINDOW)
        self.config(Cfg.COMMAND, 0xf, MEMORY)

    def value(self):
        rng = self.rng
        return rng.choice((rng.getrandbits(32), rng.getrandbits(32) & rng.getrandbits(32), rng.randrange(12),
                           rng.randrange(12) << 16, 0xffff_ffff, 0, 1, 0x10001, 0x10000, 1 << rng.randrange(32)))

    def write_config(self):
        at, enables, value = 4 * self.rng.randrange(CONFIG_BYTES // 4), self.rng.randrange(16), self.value()
        if at == Cfg.COMMAND:
            value &= ~MASTER                           # nobody has said where memory is
        if at == EXP_CAP + Exp.DEV_CTL:
            value &= ~INITIATE_FLR
        if at == WINDOW + VirtioCap.PCI_CFG_DATA:
            self.window(write=True)
        else:
            self.config(at, enables, value)

    def read_config(self):
        at = 4 * self.rng.randrange(CONFIG_BYTES // 4)
        if at == WINDOW + VirtioCap.PCI_CFG_DATA:
            self.window(write=False)
        else:
            self.config(at, self.rng.randrange(16))

    def live(self, at, size, value):
        """Would this write of the BAR begin traffic?"""
        return at <= COMMON_OFFSET + Common.DEVICE_STATUS < at + size and (
            value >> 8 * (COMMON_OFFSET + Common.DEVICE_STATUS - at) & Status.DRIVER_OK)

    def window(self, write):
        """An access to pci_cfg_data, with a window that was placed well or not."""
        rng, size = self.rng, self.rng.choice((1, 2, 4))
        for field, value in ((VirtioCap.BAR, rng.random() < .05),
                             (VirtioCap.OFFSET, rng.choice(self.places) + size * rng.randrange(4 // size)),
                             (VirtioCap.LENGTH, size if rng.random() < .95 else rng.randrange(9))):
            if rng.random() < .8:
                self.config(WINDOW + field, 0xf, int(value))
        data, config = WINDOW + VirtioCap.PCI_CFG_DATA, self.golden._config
        enables, value = rng.randrange(16), self.value()
        at, length = (int.from_bytes(config[WINDOW + field:WINDOW + field + 4], "little")
                      for field in (VirtioCap.OFFSET, VirtioCap.LENGTH))
        if write and not self.live(at, 4, 0xffff_ffff):
            self.config(data, enables, value)
        elif write and length == 1:
            self.config(data, enables, value & ~(Status.DRIVER_OK * 0x01010101))
        elif at & -4 != BUILD_ID_OFFSET:
            self.config(data, enables)
        self.settle()

    def write_bar(self):
        at, enables, value = self.rng.choice(self.places), self.rng.randrange(16), self.value()
        if self.live(at, 4, value):
            value &= ~(Status.DRIVER_OK << 8 * (Common.DEVICE_STATUS % 4))
        self.bar(at, enables, value)
        self.settle()

    def read_bar(self):
        self.bar(self.rng.choice(self.places), self.rng.randrange(1, 16))

    def settle(self):
        """A reset takes a card its time; and it sees the link come up once more, which config_generation may tell (4.1.4.3.1)."""
        self.engine.run(50)
        if self.engine.run_until(idle=True, limit=RESET_CYCLES) == RESET_CYCLES:
            raise AssertionError("The card does not come to rest")
        self.golden.generation = self.engine.mem_read(BAR_WINDOW + COMMON_OFFSET + Common.CONFIG_GENERATION, 1)

    def flr(self):
        self.config(EXP_CAP + Exp.DEV_CTL, 0xf, INITIATE_FLR)
        self.engine.run(RESET_CYCLES)
        self.wake()
        self.settle()
        for at in range(0, MSIX_ENTRY_SIZE * VECTORS, 4):  # 7.7.2: of an address or data nothing is said after a reset
            if at % MSIX_ENTRY_SIZE != 12:
                self.bar(MSIX_TABLE_OFFSET + at, 0xf, self.rng.getrandbits(32))

    def all_equal(self):
        for at in range(0, CONFIG_BYTES, 4):
            if at != WINDOW + VirtioCap.PCI_CFG_DATA:
                self.config(at, 0xf)
        self.wake()
        for at in self.places:
            self.bar(at, 0xf)
        for select in range(QUEUES + 1):
            self.bar(COMMON_OFFSET + Common.QUEUE_SELECT - 2, 0xc, select << 16)
            for at in range(Common.QUEUE_SELECT - 2, Common.SIZE, 4):
                self.bar(COMMON_OFFSET + at, 0xf)
        for word in range(5):
            self.bar(COMMON_OFFSET + Common.DRIVER_FEATURE_SELECT, 0xf, word)
            self.bar(COMMON_OFFSET + Common.DRIVER_FEATURE, 0xf)


@pytest.mark.clause("PCF-2", "PCF-3")
@pytest.mark.parametrize("run", range(2))
def test_any_access_does_what_it_says(rng, run):
    with Engine(width=64) as engine:
        pair = Pair(engine, rng)
        pair.all_equal()
        actions = {pair.write_config: 20, pair.read_config: 15, pair.write_bar: 45, pair.read_bar: 30,
                   lambda: pair.window(True): 15, lambda: pair.window(False): 15}
        for step in range(ACCESSES):
            action, = rng.choices(list(actions), actions.values())
            action()
            if action == pair.write_config:
                pair.wake()
            if step % 500 == 499:
                pair.all_equal()
                pair.flr()
        pair.all_equal()
