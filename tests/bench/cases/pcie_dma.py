"""Requests of the card, and what it makes of their completions: right ones, wrong ones and none."""

from cocotb.task import resume
from cocotbext.pcie.core.tlp import CplStatus, TlpAttr, TlpTc, TlpType
from cocotbext.pcie.core.utils import PcieId
from rig import driven, frame

from ringnic.hdl.spec.pcie import Cfg, Command, ConfigStatus, DevSta, Exp
from ringnic.hdl.spec.virtio import Status

from .pcie_tap import MEM_READS, MEM_WRITES, Tap, change_link, request

SETTLE = 400            # cycles
MASTER_ABORT, PARITY_ERROR = 1 << ConfigStatus.RECEIVED_MASTER_ABORT, 1 << ConfigStatus.DETECTED_PARITY
CUT = 8                 # DWs of the first piece
TIMEOUT_CYCLES = 4096 * 3 // 2  # a tag is given up after 1 to 1.5 times what the bench's card is built with
BELOW_4_GIB = 0x9000_0000
SHORT, LONG = (TlpType.MEM_READ, TlpType.MEM_WRITE), (TlpType.MEM_READ_64, TlpType.MEM_WRITE_64)
LARGE = [frame(size, size) for size in (1500, 2500, 60, 61, 62, 63)]


def traffic(rig, frames=LARGE):
    rig.send(frames)
    rig.feed(frames)
    rig.expect_wire(frames)
    rig.expect_received(frames)
    rig.all_sent()


def device_control(rig, *, mps=None, mrrs=None, clear=0):
    at = rig.card.exp + Exp.DEV_CTL
    value = rig.bus.config_read(at, 2) & ~clear
    if mps is not None:
        value = value & ~(7 << 5) | mps << 5
    if mrrs is not None:
        value = value & ~(7 << 12) | mrrs << 12
    rig.bus.config_write(at, 2, value)


def judged(tap):
    """The requests seen, each by itself a lawful one; sizes of reads and of writes, in bytes of whole DWs."""
    reads = [tlp for tlp in tap.seen if tlp.fmt_type in MEM_READS]
    writes = [tlp for tlp in tap.seen if tlp.fmt_type in MEM_WRITES]
    for tlp in (*reads, *writes):
        assert (tlp.address & 0xfff) + 4 * tlp.length <= 0x1000, f"Crosses 4 KiB: {tlp}"
        assert tlp.attr == 0 or not tlp.attr & ~(TlpAttr.RO | TlpAttr.NS), tlp
        assert tlp.tc == 0 and tlp.at == 0 and not tlp.td and not tlp.ep and not tlp.th and not tlp.ln and not tlp.ph, tlp
        assert tlp.requester_id == tap.card.id, tlp
        assert (tlp.fmt_type in (TlpType.MEM_READ_64, TlpType.MEM_WRITE_64)) == (tlp.address >= 1 << 32), tlp
        assert tlp.first_be and (tlp.last_be == 0) == (tlp.length == 1), tlp
        if tlp.length > 1:
            assert tlp.first_be in (0xf, 0xe, 0xc, 0x8) and tlp.last_be in (0xf, 0x7, 0x3, 0x1), tlp
    return [4 * tlp.length for tlp in reads], [4 * tlp.length for tlp in writes]


@driven(payload=1, read_ns=(100, 2000), clauses=("TL-30", "TL-31", "TL-32", "TL-33", "TL-36", "TL-37", "TL-39"))
def test_sizes_of_requests(rig):
    """Every Max_Read_Request_Size and both Max_Payload_Sizes: kept, and used."""
    tap = Tap(rig)
    rig.open()
    for mps, mrrs in ((0, 0), (1, 1), (0, 2), (1, 3), (0, 4), (1, 5)):
        device_control(rig, mps=mps, mrrs=mrrs)
        tap.seen.clear()
        traffic(rig)
        reads, writes = judged(tap)
        assert max(writes) == 128 << mps
        assert max(reads) == min(128 << mrrs, 512)
        assert any(tlp.tag != tap.seen[0].tag for tlp in tap.seen if tlp.fmt_type in MEM_READS)
    assert not rig.host.faults


@driven(memory_base=BELOW_4_GIB, read_ns=(100, 2000), clauses=("TL-34", "TL-35", "TL-38"))
def test_headers_on_both_sides_of_4_gib(rig):
    """Neither relaxed ordering, no snoop nor tags above 31 where they are forbidden."""
    tap = Tap(rig)
    device_control(rig, clear=1 << 4 | 1 << 8 | 1 << 11)
    net = rig.open()
    for short in (True, False):
        traffic(rig)
        net.reset()
        judged(tap)
        kinds = {tlp.fmt_type for tlp in tap.seen if not tlp.is_completion()}
        assert kinds >= set(SHORT if short else LONG) and (not short or not kinds & set(LONG))
        rig.bus._next_iova = 1 << 32
        net.restart()
    assert all(tlp.attr == 0 for tlp in tap.seen if tlp.fmt_type in MEM_READS + MEM_WRITES)
    assert all(tlp.tag < 32 for tlp in tap.seen if tlp.fmt_type in MEM_READS)


@driven(split=True, read_ns=(100, 3000), seed=21, clauses=("TL-40",))
def test_completions_at_every_boundary(rig):
    """Of 64 bytes, those of several reads mingled."""
    tap = Tap(rig)
    rig.open()
    traffic(rig)
    judged(tap)


def take(tap):
    reads = []
    while not tap.reads.empty():
        reads.append(tap.reads.get_nowait())
    return reads


def serve(rig, tap, done, what, *, hold=None, answers=({},)):
    """Answer what the card reads until ``done()``: reads of transmit buffers with the fields of each of ``answers``, or they
    are added to ``hold``. Return how many those were."""
    touched = 0

    def step():
        nonlocal touched
        for read in take(tap):
            ours = 0 <= read.address - rig.net.tx_memory.iova < len(rig.net.tx_memory.view)
            touched += ours
            if ours and hold is not None:
                hold.append(read)
            else:
                for fields in answers if ours else ({},):
                    resume(tap.complete)(read, **fields)
        return done()
    rig.until(step, what)
    return touched


def answer_badly(rig, tap, *answers):
    """The payload of a frame is answered so: it never reaches the wire, and the request counts as failed."""
    net = rig.net
    errors = net.counters()["dma_read_errors"]
    tap.keep_reads()
    net.send(frame(100))
    assert serve(rig, tap, lambda: net.reclaim() or net.transport.status & Status.DEVICE_NEEDS_RESET, "a reaction",
                 answers=answers)
    resume(tap.let_go)()
    rig.bus.run(SETTLE)
    assert not rig.wire()
    assert net.counters()["dma_read_errors"] == errors + 1
    net.reset()
    net.restart()


@driven(seed=16, clauses=("TL-42", "TL-43", "TL-44", "TL-45", "TL-47"))
def test_bad_completions(rig):
    tap = Tap(rig)
    rig.open(queue_size=16)
    first, rest = dict(piece=slice(None, CUT)), dict(piece=slice(CUT, None))
    for answers in ([dict(status=CplStatus.UR)], [dict(status=CplStatus.CA)], [dict(status=CplStatus.CRS)], [dict(status=7)],
                    [first, dict(rest, status=CplStatus.UR)], [first, dict(rest, status=CplStatus.CA)],
                    [dict(ep=True)], [dict(first, ep=True), rest],
                    [dict(byte_count=500)], [dict(byte_count=4)], [dict(data=bytes(256))], [rest, first]):
        answer_badly(rig, tap, *answers)
    rig.works(2)


@driven(clauses=("TL-48",))
def test_completions_that_do_not_match(rig):
    """Tag and Byte Count are right; Lower Address, Traffic Class or Attributes are not. ID-based ordering is the host's."""
    tap = Tap(rig)
    net = rig.open(queue_size=16)
    for fields in (dict(lower_address=0x7c), dict(tc=TlpTc.TC3), dict(attr=TlpAttr.RO), dict(attr=TlpAttr.NS)):
        before = net.counters()["cpl_unexpected"]
        answer_badly(rig, tap, fields)
        assert net.counters()["cpl_unexpected"] == before + 1
    tap.keep_reads()
    net.send(frame(100))
    serve(rig, tap, lambda: not rig.wire_out.empty(), "the frame", answers=[dict(attr=TlpAttr.IDO)])
    resume(tap.let_go)()
    rig.expect_wire([frame(100)])


@driven(seed=17, clauses=("TL-46",))
def test_unexpected_completions(rig):
    """For a tag nobody uses, for somebody else's request, of a locked read: nothing changes, each is counted."""
    tap = Tap(rig)
    net = rig.open()
    before = net.counters()["cpl_unexpected"]
    tap.keep_reads()
    net.send(frame(200))
    wrong, bus = 0, rig.card.bus_num

    def step():
        nonlocal wrong
        for read in take(tap):
            evil = bytearray(b"\xee" * 4 * read.length)
            for fields in (dict(tag=read.tag | 0x20), dict(tag=read.tag | 0x80), dict(requester_id=PcieId(bus, 0, 1)),
                           dict(requester_id=PcieId(bus + 1, 0, 0)), dict(fmt_type=TlpType.CPL_LOCKED_DATA)):
                resume(tap.complete)(read, evil, **fields)
                wrong += 1
            resume(tap.complete)(read)
            resume(tap.complete)(read, evil)  # once more
            wrong += 1
        return not rig.wire_out.empty()
    rig.until(step, "the frame")
    resume(tap.let_go)()
    rig.expect_wire([frame(200)])
    rig.all_sent()
    assert wrong > 10 and net.counters()["cpl_unexpected"] == before + wrong
    rig.works(2)


@driven(clauses=("TL-49",))
def test_completion_timeout(rig):
    """No answer: the request has failed, the tag waits for what may still come, and late data is nobody's."""
    tap = Tap(rig)
    net = rig.open()
    tap.keep_reads()
    net.send(frame(300))
    kept = []
    rig.until(lambda: kept.extend(take(tap)) or kept, "a read")
    rig.bus.run(2000)
    assert not net.counters()["dma_timeouts"]
    rig.until(lambda: net.transport.status & Status.DEVICE_NEEDS_RESET, "DEVICE_NEEDS_RESET", TIMEOUT_CYCLES)
    rig.bus.run(TIMEOUT_CYCLES)  # reads of other queues may have begun later
    kept += take(tap)
    tap.reads = None
    counters = net.counters()
    assert counters["dma_timeouts"] == len(kept) and counters["dma_read_errors"]
    net.reset()
    for read in kept:
        resume(tap.complete)(read, b"\xee" * 4 * read.length)
    assert net.counters()["cpl_unexpected"] == counters["cpl_unexpected"] + len(kept)
    net.restart()
    rig.works(2)


@driven(clauses=("TL-41",))
def test_completions_while_nothing_can_be_sent(rig):
    """A host that takes nothing from the card, requests and answers piling up, still gets rid of all completions (2.6.1)."""
    tap = Tap(rig)
    net = rig.open()
    tap.keep_reads()
    frames = [frame(1000, k) for k in range(6)]
    for one in frames:
        net.send(one)
    kept = []
    serve(rig, tap, lambda: len(kept) >= 4, "reads of the frames", hold=kept)
    tap.dam()
    sent = len(tap.seen)
    for number in range(12):
        resume(rig.card.deliver)(request(TlpType.MEM_READ, rig.device.bar_addr[0], tag=0x40 + number))
    rig.bus.run(SETTLE)
    assert len(tap.seen) == sent
    for read in kept:
        resume(tap.complete)(read)  # returns when the last beat is taken
    tap.undam()
    serve(rig, tap, lambda: rig.wire_out.count() >= len(frames), "frames")
    resume(tap.let_go)()
    rig.expect_wire(frames)
    rig.all_sent()


@driven(clauses=("CS-6", "CS-22"))
def test_bus_master_enable_and_transactions_pending(rig):
    tap = Tap(rig)
    net = rig.open()
    at = rig.card.exp + Exp.DEV_STA

    def pending():
        return rig.bus.config_read(at, 2) >> DevSta.TRANSACTIONS_PENDING & 1
    rig.bus.run(2000)
    assert not pending()
    tap.keep_reads()
    net.send(frame(500))
    rig.until(lambda: not tap.reads.empty(), "a read request")
    assert pending()
    net.transport.function.set_bus_master(False)
    rig.bus.run(200)
    kept = take(tap)
    tap.seen.clear()
    assert pending()
    for read in kept:  # what was asked for before still comes
        resume(tap.complete)(read)
    rig.feed([frame(80)])
    net.tx.notify()
    rig.bus.run(2000)
    for _ in range(2):
        change_link(rig)
        rig.bus.run(SETTLE)
    assert not [tlp for tlp in tap.seen if not tlp.is_completion()] and not rig.card.messages
    resume(tap.let_go)()
    net.transport.function.set_bus_master(True)
    rig.until(lambda: 0 in rig.bus.poll_irq(), "the configuration change")
    rig.expect_wire([frame(500)])
    rig.expect_received([frame(80)])
    rig.all_sent()
    rig.works(2)
    rig.bus.run(2000)
    assert not pending()


@driven(clauses=("CS-23",))
def test_transactions_pending_without_bus_master(rig):
    """Nothing that was asked for is unanswered, so nothing is pending, whatever waits to be allowed."""
    net = rig.open()
    rig.bus.run(2000)
    net.transport.function.set_bus_master(False)
    rig.feed([frame(80)])
    rig.bus.run(2000)
    assert not rig.bus.config_read(rig.card.exp + Exp.DEV_STA, 2) >> DevSta.TRANSACTIONS_PENDING & 1


@driven(clauses=("CS-9",))
def test_status(rig):
    """Detected Parity Error and Received Master Abort: a poisoned write has come, a read was not supported."""
    tap = Tap(rig)
    net = rig.open()
    rig.bus.config_write(Cfg.COMMAND, 2, rig.bus.config_read(Cfg.COMMAND, 2) | 1 << Command.PARITY)

    def noted():
        status = rig.bus.config_read(Cfg.STATUS, 2)
        rig.bus.config_write(Cfg.STATUS, 2, status)
        assert rig.bus.config_read(Cfg.STATUS, 2) == 1 << ConfigStatus.CAP_LIST
        return status & ~(1 << ConfigStatus.CAP_LIST)
    resume(tap.write)(rig.device.bar_addr[0], bytes(4), ep=True)
    assert noted() == PARITY_ERROR
    net.tx.add_buf([(0x7_0000_0000, 100)], [], 0)
    net.tx.kick()
    rig.until(lambda: net.transport.status & Status.DEVICE_NEEDS_RESET or net.tx.get_buf(), "a reaction")
    assert noted() == MASTER_ABORT
