"""What cocotbext-pcie's root complex finds in the slot, and how the card answers what it cannot do."""

from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.caps import PciCapId
from cocotbext.pcie.core.tlp import CplStatus, Tlp, TlpAttr, TlpTc, TlpType
from cocotbext.pcie.core.utils import PcieId
from rig import MAC_ADDRESS, bench

from ringnic.hdl.spec.bar import (BAR_SIZE, COUNTERS, COUNTERS_HEADER_SIZE, COUNTERS_MAGIC, COUNTERS_OFFSET, DEVICE_OFFSET,
                                  MSIX_TABLE_OFFSET)
from ringnic.hdl.spec.pcie import CapId, Cfg, Exp

MEMORY_ENABLE, BUS_MASTER = 2, 4
VECTORS = 4  # a queue pair, the control queue, configuration changes
INITIATE_FLR = 1 << 15
EXTENDED_TAGS = 1 << 8


async def counter(rig, name):
    await ClockCycles(rig.dut.clk, 4 * len(COUNTERS) + 24)  # they lag, and what was delivered is still on its way in
    at = rig.device.bar_addr[0] + COUNTERS_OFFSET + COUNTERS_HEADER_SIZE + 8 * COUNTERS.index(name)
    return await rig.host.mem_read_dword(at)


@bench(payload=5, clauses=("CS-1", "CS-3", "CS-11", "CS-12", "CS-16"))
async def test_enumeration(rig):
    device = rig.device
    assert (device.vendor_id, device.device_id) == (0x1af4, 0x1041)
    assert device.class_code == 0x020000 and device.header_type == 0 and not device.multifunction
    assert device.bar_size[0] == BAR_SIZE and not any(device.bar_size[1:])
    assert device.bar_raw[0] & 0xf == 0 and device.bar_addr[0] % BAR_SIZE == 0
    ids = [cap_id for cap_id, _ in device.capabilities]
    assert sorted(ids) == sorted([CapId.PM, CapId.EXP, CapId.MSIX, *[CapId.VENDOR] * 5])
    assert not device.ext_capabilities
    # The root port can do 4096 bytes: both ends were set to what the card can.
    assert await device.get_mps() == device.pcie_mpss == await device.upstream_bridge().get_mps()
    control = await device.capability_read_word(PciCapId.EXP, Exp.DEV_CTL)
    assert bool(control & EXTENDED_TAGS) == bool(device.pcie_devcap_reg >> 5 & 1)
    assert device.pcie_devcap_reg >> 28 & 1  # FLR
    assert await device.msix_vec_count() == VECTORS
    assert await rig.host.mem_read_dword(device.bar_addr[0] + COUNTERS_OFFSET) == COUNTERS_MAGIC
    # Nobody asked for anything that it does not have.
    assert await counter(rig, "tlps_malformed") == 0


@bench(clauses=("CS-13", "CS-19", "INT-7"))
async def test_msix_table_and_configuration_by_bytes(rig):
    device, host = rig.device, rig.host
    assert await device.alloc_irq_vectors(VECTORS, VECTORS) == VECTORS
    control = await device.config_read_word(device.get_capability_offset(PciCapId.MSIX) + 2)
    assert control == 0x8000 | VECTORS - 1
    table = device.bar_addr[0] + MSIX_TABLE_OFFSET
    for k, vector in enumerate(device.msi_vectors):
        assert await host.mem_read_dwords(table + 16 * k, 4) == [vector.addr, 0, vector.data, 0]
    for k, value in enumerate(b"\x11\x22"):
        await device.config_write_byte(Cfg.INTERRUPT_LINE + k, value)
    assert await device.config_read_word(Cfg.INTERRUPT_LINE) & 0xff == 0x11
    assert await device.config_read_byte(Cfg.INTERRUPT_PIN) != 0x22  # read only


@bench(clauses=("TL-24", "TL-25", "TL-27"))
async def test_reads_of_every_offset_and_length(rig):
    """The root complex checks byte counts and lower addresses."""
    base = rig.device.bar_addr[0] + DEVICE_OFFSET
    whole = await rig.host.mem_read(base, 16)
    assert whole[:6] == MAC_ADDRESS
    for offset in range(5):
        for length in range(12):
            assert await rig.host.mem_read(base + offset, length) == whole[offset:offset + length]
    # Long ones come in pieces.
    page = await rig.host.mem_read(rig.device.bar_addr[0] + COUNTERS_OFFSET + 4, 184)
    assert int.from_bytes(page[:4], "little") == len(COUNTERS)


def request(fmt_type, address, *, length=1, data=None, attr=TlpAttr(0), tc=TlpTc.TC0, target=None):
    tlp = Tlp()
    tlp.fmt_type = fmt_type
    tlp.address, tlp.length = address, length
    tlp.first_be, tlp.last_be = 0xf, 0xf if length > 1 else 0
    tlp.attr, tlp.tc = attr, tc
    if data is not None:
        tlp.set_data(data)
    if target is not None:
        tlp.completer_id = target
    return tlp


@bench(clauses=("TL-13", "TL-14", "TL-15", "TL-16", "TL-17", "TL-18", "TL-20", "TL-21", "TL-22"))
async def test_unsupported_requests(rig):
    bar = rig.device.bar_addr[0]
    bus = rig.device.pcie_id.bus
    before = await counter(rig, "requests_unsupported")
    refused = [
        request(TlpType.MEM_READ, bar + BAR_SIZE),
        request(TlpType.MEM_READ, bar + BAR_SIZE - 4, length=2),
        request(TlpType.MEM_READ, bar - 4, attr=TlpAttr.RO | TlpAttr.NS),
        request(TlpType.MEM_READ_64, 1 << 32 | bar, tc=TlpTc.TC5),
        request(TlpType.MEM_READ_LOCKED, bar),
        request(TlpType.IO_READ, bar),
        request(TlpType.IO_WRITE, bar, data=bytes(4)),
        request(TlpType.CFG_READ_0, 0, target=PcieId(bus, 0, 1)),
        request(TlpType.CFG_READ_1, 0, target=PcieId(bus, 0, 0)),
        request(TlpType.FETCH_ADD, bar, data=bytes(4)),
        request(TlpType.CAS, bar, data=bytes(8)),
    ]
    for tlp in refused:
        completion = await rig.card.request(tlp)
        assert completion is not None, f"No answer to {tlp}"
        assert completion.fmt_type == (
            TlpType.CPL_LOCKED if tlp.fmt_type == TlpType.MEM_READ_LOCKED else TlpType.CPL), tlp
        assert completion.status == CplStatus.UR and completion.length == 0, f"{tlp} got {completion}"
        assert (completion.attr, completion.tc) == (tlp.attr, tlp.tc)  # 2.2.9: as in the request
    # Posted ones vanish.
    await rig.card.deliver(request(TlpType.MEM_WRITE, bar + BAR_SIZE, data=bytes(64), length=16))
    poisoned = request(TlpType.MEM_WRITE, bar, data=b"\xff" * 4)
    poisoned.ep = True
    await rig.card.deliver(poisoned)
    assert await counter(rig, "requests_unsupported") == before + len(refused) + 2
    assert await rig.host.mem_read_dword(bar) != 0xffff_ffff


@bench(clauses=("TL-46",))
async def test_completion_nobody_waits_for(rig):
    tlp = request(TlpType.CPL_DATA, 0, data=bytes(4))
    tlp.tag, tlp.byte_count, tlp.requester_id = 5, 4, rig.card.id
    await rig.card.deliver(tlp)
    assert await counter(rig, "cpl_unexpected") == 1


@bench(clauses=("TL-19",))
async def test_memory_disabled(rig):
    await rig.device.config_write_word(Cfg.COMMAND, BUS_MASTER)
    answer = await rig.card.request(request(TlpType.MEM_READ, rig.device.bar_addr[0]))
    assert answer.status == CplStatus.UR
    await rig.device.config_write_word(Cfg.COMMAND, MEMORY_ENABLE)
    answer = await rig.card.request(request(TlpType.MEM_READ, rig.device.bar_addr[0]))
    assert answer.status == CplStatus.SC


@bench(clauses=("RST-P-2", "RST-P-4", "RST-P-7"))
async def test_flr_forgets(rig):
    device = rig.device
    assert await device.alloc_irq_vectors(VECTORS, VECTORS) == VECTORS
    at = rig.card.exp + Exp.DEV_CTL
    await device.config_write_word(at, await device.config_read_word(at) | INITIATE_FLR)
    await ClockCycles(rig.dut.clk, 2000)
    assert await device.config_read_dword(0) == 0x1041_1af4
    assert await device.config_read_word(Cfg.COMMAND) == 0
    assert await device.config_read_dword(Cfg.BAR0) == 0
    assert await device.config_read_word(device.get_capability_offset(PciCapId.MSIX) + 2) == VECTORS - 1
    assert not await device.config_read_word(at) & INITIATE_FLR  # 7.5.3.4: reads as 0
