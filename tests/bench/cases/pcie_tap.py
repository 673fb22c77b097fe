"""What the PCIe cases share: TLPs past the root complex, every completion of a request, and all that the card sends."""

from cocotb.queue import Queue
from cocotb.task import resume
from cocotb.triggers import ClockCycles, Event, Timer
from cocotbext.pcie.core.tlp import CplStatus, Tlp, TlpType
from cocotbext.pcie.core.utils import PcieId

from ringnic.hdl.spec.bar import COUNTERS, COUNTERS_HEADER_SIZE, COUNTERS_OFFSET

MEM_READS = (TlpType.MEM_READ, TlpType.MEM_READ_64)
MEM_WRITES = (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64)
TAGS = range(0xa0, 0x100)  # past those of the root complex and of the card's own requests
ANSWER_NS = 6_000


def request(fmt_type, address=0, *, length=1, data=None, first_be=0xf, last_be=None, **fields):
    """A request as it is said, right or wrong; ``fields`` are those of :class:`Tlp`. ``length`` is that of ``data``, if there
    is any."""
    tlp = Tlp()
    tlp.fmt_type, tlp.address, tlp.length = fmt_type, address, length
    if data is not None:
        tlp.set_data(data)
    tlp.first_be = first_be
    tlp.last_be = (0xf if tlp.length > 1 else 0) if last_be is None else last_be
    for name, value in fields.items():
        setattr(tlp, name, value)
    return tlp


def change_link(rig):
    """From the driver's thread: the link goes, or comes back."""
    async def write():
        rig.dut.link_up.value = 1 - int(rig.dut.link_up.value)
    resume(write)()


def listen(rig):
    """Codes of all messages from now on, not of INTx alone."""
    rig.card.messages = heard = []
    rig.card._message = lambda raw: heard.append(raw[7])
    return heard


class Raw:
    """Bytes in the place of a TLP: what :class:`Tlp` cannot say."""
    fmt_type = None

    def __init__(self, *pieces):
        self.bytes = b"".join(bytes(piece) for piece in pieces)

    def pack(self):
        return self.bytes

    def is_completion(self):
        return False

    def release_fc(self):
        pass


class Tap:
    """Between the card and the root complex.

    Attributes
    ----------
    seen : list
        Every TLP that the card has sent, in order; messages are in ``card.messages``.
    reads : Queue or None
        While not None, the card's read requests come here and nobody answers.
    """
    def __init__(self, rig):
        self.rig, self.card, self.host = rig, rig.card, rig.host
        self.seen = []
        self.reads = None
        self._answers = {}
        self._next = 0
        self._gate = Event()
        self._gate.set()
        self._send, rig.card.upstream_send = rig.card.upstream_send, self._upstream

    async def _upstream(self, tlp):
        await self._gate.wait()
        self.seen.append(tlp)
        if tlp.is_completion() and tlp.tag in self._answers:
            assert tlp.check(), tlp
            self._answers[tlp.tag].append(tlp)
        elif self.reads is not None and tlp.fmt_type in MEM_READS:
            self.reads.put_nowait(tlp)
        else:
            await self._send(tlp)

    def dam(self):
        """Take nothing more from the card, as a host without credits."""
        self._gate.clear()

    def undam(self):
        self._gate.set()

    def keep_reads(self):
        self.reads = Queue()

    async def ask(self, tlp, timeout_ns=ANSWER_NS):
        """Send a request; return its completions, ``[]`` if there are none."""
        tlp.tag = TAGS[self._next % len(TAGS)]
        self._next += 1
        answers = self._answers[tlp.tag] = []
        await self.card.deliver(tlp)
        for _ in range(timeout_ns // 50):
            if answers and (answers[-1].status != CplStatus.SC or not answers[-1].has_data()
                            or answers[-1].byte_count <= 4 * answers[-1].length - (answers[-1].lower_address & 3)):
                break
            await Timer(50, "ns")
        del self._answers[tlp.tag]
        return answers

    async def ask_one(self, tlp):
        """The same for a request with one completion."""
        answers = await self.ask(tlp)
        assert len(answers) == 1, f"{len(answers)} completions of {tlp}"
        return answers[0]

    async def read(self, address):
        """A DW of BAR 0's address space, as bytes."""
        answer = await self.ask_one(request(TlpType.MEM_READ, address))
        assert answer.status == CplStatus.SC, answer
        return bytes(answer.data)

    async def write(self, address, data, **fields):
        await self.card.deliver(request(TlpType.MEM_WRITE, address, data=data, **fields))

    async def config(self, offset, data=None, first_be=0xf, **fields):
        """A configuration access of any byte enables: the completion."""
        kind = TlpType.CFG_READ_0 if data is None else TlpType.CFG_WRITE_0
        return await self.ask_one(request(kind, offset, data=data, first_be=first_be, completer_id=self.card.id, **fields))

    async def config_read(self, offset):
        answer = await self.config(offset)
        assert answer.status == CplStatus.SC and answer.length == 1, answer
        return int.from_bytes(answer.data, "little")

    async def config_write(self, offset, value, first_be=0xf):
        answer = await self.config(offset, value.to_bytes(4, "little"), first_be)
        assert answer.status == CplStatus.SC and not answer.has_data(), answer

    async def complete(self, read, data=None, *, piece=slice(None), **fields):
        """Answer a read of the card, kept, from memory or with ``data``: its DWs of ``piece``, and rightly but for ``fields``."""
        answer = Tlp.create_completion_data_for_tlp(read, PcieId(0, 0, 0))
        begin = 4 * piece.start if piece.start else read.get_first_be_offset()
        answer.byte_count = read.get_be_byte_count() + read.get_first_be_offset() - begin
        answer.lower_address = read.address + begin & 0x7f
        data = data or await self.host.mem_address_space.read(read.address, 4 * read.length)
        answer.set_data(data[4 * (piece.start or 0):4 * piece.stop if piece.stop else None])
        for name, value in fields.items():
            setattr(answer, name, value)
        if answer.status != CplStatus.SC:
            answer.fmt_type, answer.data, answer.length = TlpType.CPL, bytearray(), 0
        await self.card.deliver(answer)

    async def let_go(self):
        """Answer the reads that are kept, rightly, and leave those to come to the root complex."""
        reads, self.reads = self.reads, None
        while not reads.empty():
            await self.complete(reads.get_nowait())

    async def counter(self, name):
        """A counter of the card; they lag."""
        await ClockCycles(self.rig.dut.clk, 4 * len(COUNTERS) + 8)
        at = self.rig.device.bar_addr[0] + COUNTERS_OFFSET + COUNTERS_HEADER_SIZE + 8 * COUNTERS.index(name)
        return int.from_bytes(await self.read(at), "little")
