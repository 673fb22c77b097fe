"""Configuration space as the host's software finds it, register by register."""

from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.tlp import CplStatus, TlpType
from rig import bench

from ringnic.hdl.spec.bar import BAR_SIZE
from ringnic.hdl.spec.pcie import (
    MSIX_ENTRY_SIZE, CapId, Cfg, Command, ConfigStatus, DevCap2, DevCtl, DevCtl2, DevSta, Exp, MsixCap, Pm, VirtioCap,
)
from ringnic.hdl.spec.virtio import CfgType

from .pcie_tap import Raw, Tap, request

HEADER_SIZE = 0x40
EXPANSION_ROM, CARDBUS_CIS = 0x30, 0x28
COMMAND_BITS = sum(1 << bit for bit in (
    Command.MEMORY_ENABLE, Command.BUS_MASTER, Command.PARITY, Command.SERR, Command.INTX_DISABLE))
INITIATE_FLR = 1 << DevCtl.INITIATE_FLR
CORRECTABLE, NON_FATAL, FATAL, UNSUPPORTED = DETECTED = [1 << bit for bit in (
    DevSta.CORRECTABLE, DevSta.NONFATAL, DevSta.FATAL, DevSta.UNSUPPORTED)]
ONES = 0xffff_ffff


async def capabilities(tap):
    """``{offset: id}`` in the order of the list."""
    found, at = {}, await tap.config_read(Cfg.CAP_POINTER) & 0xff
    while at:
        assert at % 4 == 0 and HEADER_SIZE <= at < 0x100, hex(at)
        assert at not in found, f"The list comes back to {at:#x}"
        head = await tap.config_read(at)
        found[at], at = head & 0xff, head >> 8 & 0xff
    return found


async def where(tap, cap_id):
    return next(at for at, found in (await capabilities(tap)).items() if found == cap_id)


async def virtio(tap, cfg_type):
    """Where the virtio capability of this type lies."""
    types = {await tap.config_read(at) >> 24: at for at, kind in (await capabilities(tap)).items() if kind == CapId.VENDOR}
    return types[cfg_type]


@bench(enumerate=False, clauses=("CS-1", "CS-2", "CS-3", "CS-5", "CS-8", "CS-18", "CS-19"))
async def test_header(rig):
    """As after power-on, before anybody wrote anything."""
    tap = Tap(rig)
    header = b"".join([(await tap.config_read(at)).to_bytes(4, "little") for at in range(0, HEADER_SIZE, 4)])

    def field(at, size):
        return int.from_bytes(header[at:at + size], "little")
    assert field(Cfg.VENDOR_ID, 2) not in (0, 0xffff) and field(Cfg.DEVICE_ID, 2) not in (0, 0xffff)
    assert field(Cfg.SUBSYSTEM_VENDOR_ID, 2) and field(Cfg.CLASS_CODE, 3) == 0x020000
    assert field(Cfg.COMMAND, 2) == 0
    assert field(Cfg.STATUS, 2) == 1 << ConfigStatus.CAP_LIST
    assert field(Cfg.CACHE_LINE_SIZE, 4) == 0  # with latency timer, header type (a single function of type 0), BIST
    assert field(Cfg.BAR0, 24) == 0 and field(CARDBUS_CIS, 4) == 0 and field(EXPANSION_ROM, 4) == 0
    assert field(0x35, 7) == 0                 # reserved
    assert field(Cfg.INTERRUPT_PIN, 1) == 1    # a single function uses INTA
    assert field(0x3e, 2) == 0                 # Min_Gnt, Max_Lat


@bench(enumerate=False, clauses=("CS-10", "CS-11", "CS-12", "CS-31"))
async def test_capability_list(rig):
    tap = Tap(rig)
    found = await capabilities(tap)
    kinds = list(found.values())
    assert kinds.count(CapId.PM) == kinds.count(CapId.EXP) == kinds.count(CapId.MSIX) == 1
    assert set(kinds) == {CapId.PM, CapId.EXP, CapId.MSIX, CapId.VENDOR}
    # None reaches into the next.
    sizes = {CapId.PM: Pm.SIZE, CapId.EXP: Exp.SIZE, CapId.MSIX: MsixCap.SIZE}
    ends = 0
    for at, kind in sorted(found.items()):
        assert at >= ends, f"{at:#x} lies in the capability before"
        ends = at + (await tap.config_read(at) >> 16 & 0xff if kind == CapId.VENDOR else sizes[kind])
        assert ends <= 0x100
    for at in (0x100, 0x104, 0x200, 0x800, 0xffc):
        assert await tap.config_read(at) == 0


@bench(enumerate=False, clauses=("CS-4", "CS-14", "CS-15", "CS-19", "CS-21", "CS-26"))
async def test_what_can_be_written(rig):
    """Ones, then zeros, to every DW: bits that a register does not have, or that are read only, stay."""
    tap = Tap(rig)
    exp, msix, pm = await where(tap, CapId.EXP), await where(tap, CapId.MSIX), await where(tap, CapId.PM)
    window = await virtio(tap, CfgType.PCI)
    optional = {Cfg.CACHE_LINE_SIZE: 0xff}  # 7.5.1.1.7: without effect
    writable = {
        Cfg.COMMAND: COMMAND_BITS, Cfg.BAR0: ONES & ~(BAR_SIZE - 1), Cfg.INTERRUPT_LINE: 0xff,
        # 7.5.3.4: enables of reports, relaxed ordering, no snoop, extended tags, MPS, MRRS; no phantoms, no aux power
        exp + Exp.DEV_CTL: 0x79ff,
        exp + Exp.LNK_CTL: 0x00cb,          # 7.5.3.7: ASPM, RCB, common clock, extended synch
        exp + Exp.DEV_CTL2: 1 << DevCtl2.TIMEOUT_DISABLE,
        msix: 0xc000_0000,
        window + VirtioCap.BAR: 0xff, window + VirtioCap.OFFSET: ONES, window + VirtioCap.LENGTH: ONES,
    }
    skipped = {pm + Pm.PMCSR, window + VirtioCap.PCI_CFG_DATA}  # D-states; an access of BAR 0 for each
    for at in (*range(0, 0x100, 4), 0x100, 0xffc):
        if at in skipped:
            continue
        before, mask = await tap.config_read(at), writable.get(at, 0)
        for value in (ONES, 0):
            # FLR is no setting.
            await tap.config_write(at, value & ~INITIATE_FLR if at == exp + Exp.DEV_CTL else value)
            after = await tap.config_read(at)
            dont_care = optional.get(at, 0)
            assert (after ^ (before & ~mask | value & mask)) & ~dont_care == 0, f"{at:#x}: {before:#x} became {after:#x}"
        await tap.config_write(at, before & ~INITIATE_FLR if at == exp + Exp.DEV_CTL else before)


@bench(clauses=("CS-16", "CS-17", "CS-18"))
async def test_bar_sizing(rig):
    tap = Tap(rig)
    await tap.config_write(Cfg.COMMAND, 0, 0x3)
    before = await tap.config_read(Cfg.BAR0)
    assert before & 0xf == 0                    # memory, 32 bits, not prefetchable: reads have effects
    await tap.config_write(Cfg.BAR0, ONES)
    mask = await tap.config_read(Cfg.BAR0)
    size = (mask & -mask)
    assert size == BAR_SIZE and ONES + 1 - mask == size and size >= 128
    # Any address that is a multiple of its size.
    for address in (0x8000, 0x1234_8000, 0x7fff_8000, 0xffff_8000):
        await tap.config_write(Cfg.BAR0, address | 0x7ff0)
        assert await tap.config_read(Cfg.BAR0) == address
        await tap.config_write(Cfg.COMMAND, 1 << Command.MEMORY_ENABLE, 0x3)
        assert (await tap.read(address + 0x6000)) == b"RNIC"
        await tap.config_write(Cfg.COMMAND, 0, 0x3)
    for at in (*range(Cfg.BAR0 + 4, Cfg.BAR0 + 24, 4), EXPANSION_ROM):
        await tap.config_write(at, ONES)
        assert await tap.config_read(at) == 0
    await tap.config_write(Cfg.BAR0, before)


@bench(clauses=("CS-13",))
async def test_byte_enables(rig):
    """Every pattern of a configuration write changes these bytes and no others; a read may have any."""
    tap = Tap(rig)
    at, shadow = await virtio(tap, CfgType.PCI) + VirtioCap.OFFSET, bytes(4)
    await tap.config_write(at, 0)
    for first_be in range(16):
        data = bytes(17 * first_be + k + 1 & 0xff for k in range(4))
        answer = await tap.config(at, data, first_be)
        assert answer.status == CplStatus.SC and not answer.has_data()
        shadow = bytes(new if first_be >> k & 1 else old for k, (old, new) in enumerate(zip(shadow, data)))
        read = await tap.config(at, first_be=first_be)
        assert read.status == CplStatus.SC and read.length == 1
        assert all(read.data[k] == shadow[k] for k in range(4) if first_be >> k & 1)
        assert (await tap.config_read(at)).to_bytes(4, "little") == shadow
        # 2.2.9: of a completion of anything but a memory read.
        assert (answer.byte_count, answer.lower_address) == (read.byte_count, read.lower_address) == (4, 0)


@bench(enumerate=False, clauses=("CS-20", "CS-21", "CS-25", "PM-6"))
async def test_capabilities_agree(rig):
    """What they say of the function, taken together; as after power-on."""
    tap = Tap(rig)
    exp, pm = await where(tap, CapId.EXP), await where(tap, CapId.PM)

    async def dword(offset):
        return await tap.config_read(exp + offset)
    flags = await dword(0) >> 16
    assert flags & 0xf == 2 and flags >> 4 & 0xf == 0 and flags >> 8 == 0  # version 2, PCI Express Endpoint, no slot
    cap = await dword(Exp.DEV_CAP)
    assert cap & 7 <= 5 and cap >> 3 & 3 == 0                              # MPS supported; no phantom functions
    assert cap >> 15 & 1 and cap >> 28 & 1                                 # Role-Based Error Reporting, FLR
    assert not cap >> 16 & 3 and not cap >> 29                             # reserved
    control = await dword(Exp.DEV_CTL)
    # No reports, MPS 128, MRRS 512; relaxed ordering and no snoop are allowed until somebody forbids them.
    assert control & 0xffff & ~(1 << 8) == 0x2810 and control >> 16 == 0
    link, status = await dword(Exp.LNK_CAP), await dword(Exp.LNK_CTL)
    speed, width = link & 0xf, link >> 4 & 0x3f
    assert 1 <= speed <= 5 and width in (1, 2, 4, 8, 16)
    assert link >> 10 & 3 == 0 and link >> 22 & 1                          # no ASPM, and known to be optional
    assert not link >> 18 & 0xf and not link >> 23 & 1                     # what only a downstream port has
    assert status & 0xffff == 0
    assert 1 <= status >> 16 & 0xf <= speed and 1 <= status >> 20 & 0x3f <= width
    assert not status >> 27 & 1                                            # Link Training: of downstream ports
    speeds = await dword(Exp.LNK_CAP2) >> 1 & 0x7f
    assert speeds == (1 << speed) - 1                                      # all up to the largest
    assert await dword(Exp.LNK_CTL2) & 0xf in ((0, speed) if speed == 1 else (speed,))
    pmc, pmcsr = await tap.config_read(pm) >> 16, await tap.config_read(pm + Pm.PMCSR)
    assert pmc & 7 == 3 and not pmc >> 3 & 1                               # version; PME clock
    assert not pmc >> 9 & 3 and not pmc >> 11                              # neither D1 nor D2, no PME from any state
    assert pmcsr & 0xff & ~8 == 0 and pmcsr >> 8 == 0                      # D0; no PME, no data register


@bench(clauses=("CS-32", "INT-6", "INT-7"))
async def test_msix_structures(rig):
    tap = Tap(rig)
    msix = await where(tap, CapId.MSIX)
    control = await tap.config_read(msix) >> 16
    vectors = (control & 0x7ff) + 1
    assert not control >> 11                    # neither enabled nor masked as a whole, reserved bits
    table, pba = await tap.config_read(msix + MsixCap.TABLE), await tap.config_read(msix + MsixCap.PBA)
    assert table & 7 == pba & 7 == 0
    pages = {table >> 12, pba >> 12}
    assert table + MSIX_ENTRY_SIZE * vectors <= BAR_SIZE and pba + 8 <= BAR_SIZE and MSIX_ENTRY_SIZE * vectors <= 0x1000
    # 7.7.2: no page of 4 KiB is shared with anything else.
    for cfg_type in (CfgType.COMMON, CfgType.NOTIFY, CfgType.ISR, CfgType.DEVICE):
        at = await virtio(tap, cfg_type)
        first = await tap.config_read(at + VirtioCap.OFFSET)
        last = first + await tap.config_read(at + VirtioCap.LENGTH) - 1
        assert not pages & set(range(first >> 12, (last >> 12) + 1)), cfg_type
    bar = rig.device.bar_addr[0]
    entries = bar + table
    for vector in range(vectors):
        assert await tap.read(entries + 16 * vector + 12) == b"\1\0\0\0"   # masked
    for vector in range(vectors):
        await tap.write(entries + 16 * vector, bytes(range(vector, vector + 8)))
        await tap.write(entries + 16 * vector + 8, b"data" + b"\xff" * 4, last_be=0xf)
    for vector in range(vectors):
        assert await tap.read(entries + 16 * vector + 4) == bytes(range(vector + 4, vector + 8))
        assert await tap.read(entries + 16 * vector + 8) == b"data"
        assert await tap.read(entries + 16 * vector + 12) == b"\1\0\0\0"   # 7.7.2.8: of Vector Control, the mask
    await tap.write(bar + pba, b"\xff" * 8)
    assert await tap.read(bar + pba) == await tap.read(bar + pba + 4) == bytes(4)


@bench(clauses=("CS-27",))
async def test_completion_timeout_disable(rig):
    """Required of an endpoint that reads on its own behalf: said to be there, and it can be set."""
    tap, exp = Tap(rig), rig.card.exp
    assert await tap.config_read(exp + Exp.DEV_CAP2) >> DevCap2.TIMEOUT_DISABLE & 1
    await tap.config_write(exp + Exp.DEV_CTL2, 1 << DevCtl2.TIMEOUT_DISABLE)
    assert await tap.config_read(exp + Exp.DEV_CTL2) == 1 << DevCtl2.TIMEOUT_DISABLE


@bench(clauses=("CS-28",))
async def test_extended_fmt_field(rig):
    """Three bits of Fmt are understood, so the card may say so."""
    assert await Tap(rig).config_read(rig.card.exp + Exp.DEV_CAP2) >> DevCap2.EXTENDED_FMT & 1


@bench(clauses=("CS-24",))
async def test_device_status(rig):
    """Errors are noted whether or not they are reported, until 1 is written."""
    tap, bar, at = Tap(rig), rig.device.bar_addr[0], rig.card.exp + Exp.DEV_CTL

    async def noted():
        await ClockCycles(rig.dut.clk, 40)
        control = await tap.config_read(at)
        await tap.config_write(at, control & 0xffff | sum(DETECTED) << 16)
        assert not await tap.config_read(at) >> 16 & sum(DETECTED)
        return control >> 16 & sum(DETECTED)
    await tap.write(bar + BAR_SIZE, bytes(4))
    assert await noted() == UNSUPPORTED | NON_FATAL
    await tap.write(bar, bytes(4), ep=True)
    assert await noted() == NON_FATAL
    await tap.ask_one(request(TlpType.MEM_READ, bar + BAR_SIZE))  # 6.2.3.2.4: whom its completion tells can judge better
    assert await noted() == UNSUPPORTED | CORRECTABLE
    await tap.card.deliver(Raw(b"\x1f" + bytes(11)))
    assert await noted() == FATAL
