"""The driver's bus over cocotb: the Verilated NIC in a slot of cocotbext-pcie's root complex.

Needs the ``test`` extra. The driver is plain Python and runs in a thread of cocotb's (``cocotb.task.bridge``); every access
it makes is a coroutine of the simulation (``cocotb.task.resume``).

Ref: PCI Express Base 5.0, 2.2 "Transaction Layer Protocol - Packet Definition".
"""

import logging

from cocotb import start_soon
from cocotb.queue import Queue
from cocotb.task import resume
from cocotb.triggers import ClockCycles, Event, FallingEdge, RisingEdge, Timer
from cocotbext.axi import MemoryRegion
from cocotbext.pcie.core import Device, RootComplex
from cocotbext.pcie.core.tlp import CplStatus, Tlp, TlpType
from cocotbext.pcie.core.utils import PcieId

from ..hdl.spec.pcie import DevCtl, Exp, MsgCode
from ..hdl.spec.pcie import TlpType as Type
from .bus import SimBus

__all__ = ["Card", "Host", "CocotbBus"]

ANSWER_TIMEOUT_NS = 100_000  # a reset may first send the frames that were read from memory, at the wire's rate
NO_ANSWER_NS = 20_000        # of a request that may get none
RAW_TAG = 0x80             # of requests past the root complex, which uses 0 to 31
DEV_CTL_RESET = 0x2810     # as 7.5.3.4 wants it: MRRS 512, MPS 128, no extended tags
READS = {TlpType.MEM_READ, TlpType.MEM_READ_64}
WRITES = {TlpType.MEM_WRITE, TlpType.MEM_WRITE_64}
LONG = {TlpType.MEM_READ_64, TlpType.MEM_WRITE_64}
UP_QUEUE = 4
PAUSES = 0.25              # of all cycles
LINK_GEN, LINK_LANES = 2, 4


class Card(Device):
    """The device in the slot: its inside is the NIC's TLP ports, and what they send is judged.

    Signals change and are looked at when the clock falls: nothing in the NIC leads from an input to an output within a
    cycle, so what is there then is what the next rising edge takes.

    Parameters
    ----------
    rng : random.Random or None
        Pauses within and between TLPs, both ways, with this; none if None.

    Attributes
    ----------
    exp : int
        Where the PCI Express capability lies, to follow what Device Control allows.
    intx : bool
        Level of INTA, by the last message.
    messages : list
        Code of each message that came.
    sent : dict
        TLPs from the card by type.
    heard : callable or None
        Called with "down" or "up" and the TLP when the card has taken or sent one.
    """
    def __init__(self, dut, *, width, rng=None):
        super().__init__()
        self.upstream_port.max_link_speed, self.upstream_port.max_link_width = LINK_GEN, LINK_LANES
        self.dut, self.lanes, self.rng = dut, width // 8, rng
        self.exp = None
        self.device_control = DEV_CTL_RESET
        self._before = None         # tag of the write that changes Device Control, and what stood there
        self.intx = False
        self.messages = []
        self.sent = {}
        self.heard = None
        self._reading = {}          # tag: bytes to come
        self._asked, self._answers = {}, {}
        self._down, self._up = Queue(), Queue(UP_QUEUE)
        for signal in ("data", "dws", "last", "valid"):
            getattr(dut, f"tlp_rx_{signal}").value = 0
        dut.tlp_tx_ready.value = 0

    def start(self):
        for task in (self._drive(), self._collect(), self._forward()):
            start_soon(task)

    @property
    def id(self):
        return PcieId(self.bus_num, 0, 0)

    # To the card

    async def upstream_recv(self, tlp):
        if tlp.fmt_type == TlpType.CFG_WRITE_0:
            self.bus_num = tlp.completer_id.bus  # 2.2.6.2: captured from writes, 0 before the first
        await self.deliver(tlp)

    async def deliver(self, tlp):
        """Give the card a TLP, whatever it is; return when its last beat is taken."""
        self._follow(tlp)
        done = Event()
        self._down.put_nowait((bytes(tlp.pack()), done))
        await done.wait()
        tlp.release_fc()

    def _follow(self, tlp):
        if tlp.is_completion():
            left = self._reading.get(tlp.tag)
            if left is not None:
                self._reading[tlp.tag] = left - (4 * tlp.length - (tlp.lower_address & 3))
                if tlp.status != CplStatus.SC or self._reading[tlp.tag] <= 0:
                    del self._reading[tlp.tag]
        elif tlp.fmt_type == TlpType.CFG_WRITE_0 and self.exp is not None and tlp.address == self.exp + Exp.DEV_CTL:
            value = int.from_bytes(tlp.data[:2], "little")
            self._before = tlp.tag, self.device_control
            for k in range(2):
                if tlp.first_be >> k & 1:
                    self.device_control = self.device_control & ~(0xff << 8 * k) | value & 0xff << 8 * k
            if self.device_control >> DevCtl.INITIATE_FLR:
                self.device_control = DEV_CTL_RESET | self.device_control & 7 << DevCtl.MAX_PAYLOAD  # 6.6.2
                self.intx = False

    async def request(self, tlp, timeout_ns=NO_ANSWER_NS):
        """Send a request past the root complex and return the completion, None if there is none."""
        tlp.tag, tlp.requester_id = RAW_TAG, PcieId(0, 0, 0)
        event = self._asked[RAW_TAG] = Event()
        self._answers[RAW_TAG] = None
        await self.deliver(tlp)
        waited = 0
        while not event.is_set() and waited < timeout_ns:
            await Timer(100, "ns")
            waited += 100
        return self._answers[RAW_TAG]

    async def _drive(self):
        dut, edge = self.dut, FallingEdge(self.dut.clk)
        while True:
            if self._down.empty():
                dut.tlp_rx_valid.value = 0
                raw, done = await self._down.get()
                await edge
            else:
                raw, done = self._down.get_nowait()
            for at in range(0, len(raw), self.lanes):
                while self.rng is not None and self.rng.random() < PAUSES:
                    dut.tlp_rx_valid.value = 0
                    await edge
                beat = raw[at:at + self.lanes]
                dut.tlp_rx_data.value = int.from_bytes(beat, "little")
                dut.tlp_rx_dws.value = len(beat) // 4
                dut.tlp_rx_last.value = int(at + self.lanes >= len(raw))
                dut.tlp_rx_valid.value = 1
                while not int(dut.tlp_rx_ready.value):
                    await edge
                await edge
            if self.heard is not None:
                self.heard("down", raw)
            done.set()

    # From the card

    async def _collect(self):
        dut, edge, rise = self.dut, FallingEdge(self.dut.clk), RisingEdge(self.dut.tlp_tx_valid)
        raw = bytearray()
        while True:
            await edge
            ready = not self._up.full() and (self.rng is None or self.rng.random() >= PAUSES)
            dut.tlp_tx_ready.value = int(ready)
            if not ready:
                continue
            if not int(dut.tlp_tx_valid.value):
                if self.rng is None:
                    await rise
                continue
            dws, last = int(dut.tlp_tx_dws.value), int(dut.tlp_tx_last.value)
            assert dws == self.lanes // 4 or (last and dws), f"A beat of {dws} DWs, last={last}"
            raw += int(dut.tlp_tx_data.value).to_bytes(self.lanes, "little")[:4 * dws]
            if last:
                if self.heard is not None:
                    self.heard("up", bytes(raw))
                self._up.put_nowait(bytes(raw))
                raw.clear()

    async def _forward(self):
        while True:
            raw = await self._up.get()
            if raw[0] & 0x18 == Type.MSG:
                self._message(raw)
                continue
            tlp = Tlp.unpack(bytearray(raw))
            self._judge(tlp)
            self.sent[tlp.fmt_type] = self.sent.get(tlp.fmt_type, 0) + 1
            if tlp.is_completion() and tlp.tag in self._asked:
                self._answers[tlp.tag] = tlp
                self._asked.pop(tlp.tag).set()
            else:
                await self.upstream_send(tlp)

    def _message(self, raw):
        # 2.2.8.1: INTx messages are local (routing 100), without data, in traffic class 0.
        assert raw[0] == 0x34 and raw[1] >> 4 & 7 == 0 and len(raw) == 16, raw.hex()
        assert int.from_bytes(raw[4:6], "big") >> 8 == self.bus_num, raw.hex()
        code = MsgCode(raw[7])
        assert code in (MsgCode.ASSERT_INTA, MsgCode.DEASSERT_INTA), code
        self.messages.append(code)
        self.intx = code == MsgCode.ASSERT_INTA

    def _allowed(self, at, mask):
        """A field of Device Control, the larger of two until the card has answered what changes it."""
        _, before = self._before or (None, self.device_control)
        return max(value >> at & mask for value in (before, self.device_control))

    def _judge(self, tlp):
        """What a card must never send."""
        assert not tlp.td and not tlp.ep and tlp.at == 0, tlp
        if tlp.is_completion():
            assert tlp.completer_id == self.id, f"Completer is {self.id}: {tlp}"  # 2.2.9
            if self._before is not None and tlp.tag == self._before[0]:
                self._before = None
            return
        assert tlp.fmt_type in READS | WRITES and tlp.tc == 0, tlp
        assert tlp.requester_id == self.id, f"Requester is {self.id}: {tlp}"
        assert (tlp.fmt_type in LONG) == (tlp.address >= 1 << 32), f"Wrong header for the address: {tlp}"  # 2.2.4.1
        # 2.2.5: enables of more than one DW are contiguous, and none is empty.
        if tlp.length == 1:
            assert tlp.last_be == 0, tlp
        else:
            assert tlp.first_be in (0xf, 0xe, 0xc, 0x8) and tlp.last_be in (0xf, 0x7, 0x3, 0x1), tlp
        if tlp.fmt_type in WRITES:
            most = 128 << self._allowed(DevCtl.MAX_PAYLOAD, 7)
            assert 4 * tlp.length <= most, f"Longer than Max_Payload_Size: {tlp}"
        else:
            most = 128 << self._allowed(DevCtl.MAX_READ_REQUEST, 7)
            assert 4 * tlp.length <= most, f"Longer than Max_Read_Request_Size: {tlp}"
            assert tlp.tag < 256 if self._allowed(DevCtl.EXT_TAG, 1) else tlp.tag < 32, f"Extended tag: {tlp}"
            assert tlp.tag not in self._reading, f"Tag is outstanding: {tlp}"
            self._reading[tlp.tag] = tlp.get_be_byte_count()


class Host(RootComplex):
    """A root complex whose reads may take their time, and that knows which memory it lent.

    Parameters
    ----------
    rng : random.Random or None
    read_ns : (int, int)
        A read is answered after a time in this range: answers of different reads overtake, and their pieces mingle.

    Attributes
    ----------
    faults : list
        TLPs outside of all memory.
    """
    def __init__(self, *, rng=None, read_ns=None, **kwargs):
        self._rng, self._read_ns = rng, read_ns
        self.faults = []
        super().__init__(**kwargs)
        self.log.setLevel(logging.ERROR)  # else a line for each slot that is empty
        # What nobody lent is nobody's.
        self.mem_address_space.regions = [
            region for region in self.mem_address_space.regions if region[3] is not self.mem_pool]

    def _known(self, tlp):
        if not self.mem_address_space.find_regions(tlp.address, 4 * tlp.length):
            self.faults.append(tlp)

    async def handle_mem_read_tlp(self, tlp):
        self._known(tlp)
        if self._read_ns is None:
            await super().handle_mem_read_tlp(tlp)
        else:
            start_soon(self._read_later(tlp))

    async def _read_later(self, tlp):
        await Timer(self._rng.randint(*self._read_ns), "ns")
        await super().handle_mem_read_tlp(tlp)

    async def handle_mem_write_tlp(self, tlp):
        self._known(tlp)
        await super().handle_mem_write_tlp(tlp)


class CocotbBus(SimBus):
    """The bus of the golden driver.

    Parameters
    ----------
    host : Host
    card : Card
    device : cocotbext.pcie.core.pci.PciDevice
        As the host's enumeration found it: BARs are where that put them. If it has switched MSI-X on, the driver leaves
        table and enable bit alone.
    memory_base : int or None
        Lowest address to lend.
    """
    def __init__(self, host, card, device, memory_base=None):
        super().__init__()
        self.host, self.card, self.device = host, card, device
        self._vectors = set()
        self._listening = False
        if memory_base is not None:
            self._next_iova = memory_base

    def config_read(self, offset, size):
        data = resume(self.host.config_read)(
            self.device.pcie_id, offset, size, timeout=ANSWER_TIMEOUT_NS, timeout_unit="ns")
        return int.from_bytes(data, "little")

    def config_write(self, offset, size, value):
        resume(self.host.config_write)(
            self.device.pcie_id, offset, value.to_bytes(size, "little"), timeout=ANSWER_TIMEOUT_NS, timeout_unit="ns")

    def bar_read(self, bar, offset, size):
        data = resume(self.host.mem_read)(
            self.device.bar_addr[bar] + offset, size, timeout=ANSWER_TIMEOUT_NS, timeout_unit="ns")
        return int.from_bytes(data, "little")

    def bar_write(self, bar, offset, size, value):
        resume(self.host.mem_write)(self.device.bar_addr[bar] + offset, value.to_bytes(size, "little"))

    def place_bar(self, bar, size):
        return self.device.bar_addr[bar]

    def run(self, cycles):
        resume(self._run)(cycles)

    async def _run(self, cycles):
        await ClockCycles(self.card.dut.clk, cycles)

    def enable_msix(self, vectors):
        if not self.device.msi_vectors:
            self.device.msi_vectors = self.host.msi_alloc_vectors(vectors)
        if not self._listening:
            self._listen()
        if self.device.msix_enabled:
            return None
        return [(vector.addr, vector.data) for vector in self.device.msi_vectors]

    def _listen(self):
        self._listening = True
        for number, vector in enumerate(self.device.msi_vectors):
            async def came(number=number):
                self._vectors.add(number)
            vector.cb.append(came)

    def poll_irq(self):
        vectors, self._vectors = self._vectors, set()
        return vectors

    def reset(self):
        super().reset()
        self.device.msix_enabled = False  # the function has forgotten it

    def _map(self, iova, memory):
        self.host.mem_address_space.register_region(MemoryRegion(len(memory), mem=memory), iova)

    def _unmap(self, iova, size):
        regions = self.host.mem_address_space.regions
        regions[:] = [region for region in regions if region[0] != iova]
