"""The wire, with cocotbext-eth at the MAC: what leaves it is well formed, what comes from it is told good from bad."""

import zlib

from cocotb.task import resume
from cocotb.utils import get_sim_time
from cocotbext.eth import GmiiFrame
from rig import driven, frame

from ringnic.hdl.spec.ethernet import IFG_BYTES, MIN_FRAME_BYTES, PAUSE_ADDRESS, PAUSE_QUANTUM_BYTES

CONFIG_VECTOR = 0
LONGEST = 9014     # bytes without FCS: an MTU of 9000
TAG = bytes.fromhex("8100 0001")


def with_fcs(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def tagged(size, tags):
    """A frame of ``size`` bytes, and so many VLAN tags in addition."""
    plain = frame(size, tags)
    return plain[:12] + tags * TAG + plain[12:]


def pause(quanta):
    return (PAUSE_ADDRESS + bytes.fromhex("525400000001 8808 0001") + quanta.to_bytes(2, "big")).ljust(60, b"\0")


def set_link(rig, up):
    async def write():
        rig.dut.link_up.value = up
    resume(write)()


def outgoing(rig, count):
    """Wait for ``count`` frames and return them as the sink saw them."""
    frames = []

    def done():
        while not rig.wire_out.empty():
            frames.append(rig.wire_out.recv_nowait())
        return len(frames) >= count
    rig.until(done, f"{count} frames on the wire")
    return frames


@driven(gmii_ps=7998)
def test_frames_out(rig):
    """Preamble, padding, FCS, gap; the wire is a little faster than the core."""
    rig.open()
    bodies = [frame(size, size) for size in (14, 59, 60, 61, 64, 65, 511, 1514, LONGEST, 60, 60)]
    bodies += [tagged(LONGEST, 1), tagged(LONGEST, 2)]
    rig.send(bodies)
    seen = outgoing(rig, len(bodies))
    for one, body in zip(seen, bodies, strict=True):
        assert one.error is None and one.check_fcs()
        assert bytes(one.get_payload()) == body.ljust(MIN_FRAME_BYTES, b"\0")
        assert one.sim_time_sfd - one.sim_time_start == 8 * rig.gmii_ps
    gaps = [(later.sim_time_start - former.sim_time_end) // rig.gmii_ps for former, later in zip(seen, seen[1:])]
    assert min(gaps) >= IFG_BYTES, gaps
    rig.all_sent()
    assert rig.net.counters()["mac_tx_frames"] == len(bodies)


@driven(gmii_ps=7998)
def test_frames_in_back_to_back(rig):
    rig.open()
    bodies = [frame(size, size) for size in (60, 61, 62, 63, 64, 65, 66, 67, 68, 1514, LONGEST, *[60] * 20)]
    bodies += [tagged(LONGEST, 1), tagged(LONGEST, 2)]
    rig.feed(bodies)
    rig.expect_received(bodies)
    rig.wire_in.ifg = 8  # 35.4.2: a receiver may see no more than this
    rig.feed(bodies[:9])
    rig.expect_received(bodies[:9])


@driven(gmii_ps=8002)
def test_short_preamble(rig):
    rig.open()
    bodies = [frame(60, k) for k in range(4)]
    for k, body in enumerate(bodies):
        rig.wire_in.send_nowait(GmiiFrame(b"\x55" * (1 + 2 * k) + b"\xd5" + with_fcs(body)))
    rig.expect_received(bodies)


@driven()
def test_damaged_frames(rig):
    """Each is dropped and counted, and the good one after it comes."""
    net = rig.open()
    good = with_fcs(frame(100))
    preamble = b"\x55" * 7 + b"\xd5"

    def marked(at):
        one = GmiiFrame(preamble + good)
        one.error = [0] * len(one.data)
        one.error[at] = 1
        return one
    cases = {
        "mac_rx_bad_fcs": [
            GmiiFrame(preamble + bytes([good[0] ^ 1]) + good[1:]), GmiiFrame(preamble + good[:-1] + bytes([good[-1] ^ 0x80])),
            GmiiFrame(preamble + good[:-1]), marked(8), marked(60), marked(111)],
        "mac_rx_runt": [
            GmiiFrame(preamble + with_fcs(frame(59))), GmiiFrame(preamble + with_fcs(frame(20))),
            GmiiFrame(preamble + good[:5]), GmiiFrame(preamble + good[:1])],
        "rx_dropped_long": [GmiiFrame(preamble + with_fcs(tagged(LONGEST + 1, tags))) for tags in (0, 1)],
        "mac_rx_giant": [GmiiFrame(preamble + with_fcs(tagged(LONGEST + 1, 2))), GmiiFrame(preamble + with_fcs(frame(12000)))],
    }
    expected, number = [], 0
    for name, frames in cases.items():
        before = net.counters()[name]
        for one in frames:
            rig.wire_in.send_nowait(one)
            expected.append(frame(64, number := number + 1))
            rig.feed(expected[-1:])
        rig.expect_received(expected)
        expected.clear()
        rig.bus.run(200)
        assert net.counters()[name] == before + len(frames), name
    # No frame at all: no SFD, and a carrier that is none.
    rig.wire_in.send_nowait(GmiiFrame(b"\x55" * 20))
    rig.wire_in.send_nowait(GmiiFrame(b"\x12\x34" * 40))
    rig.feed([frame(60)])
    rig.expect_received([frame(60)])


@driven()
def test_pause(rig):
    net = rig.open()
    quanta = 100
    rig.feed([pause(quanta)])
    rig.until(rig.wire_in.idle, "pause frame sent")
    rig.bus.run(20)
    start = get_sim_time()
    rig.send([frame(60)])
    late, = outgoing(rig, 1)
    waited = (late.sim_time_start - start) // rig.gmii_ps
    assert quanta * PAUSE_QUANTUM_BYTES - 100 < waited < quanta * PAUSE_QUANTUM_BYTES + 300
    # Quanta of 0 end a pause; a damaged pause frame is none.
    rig.feed([pause(0xffff)])
    rig.until(rig.wire_in.idle, "pause frame sent")
    rig.bus.run(100)
    rig.send([frame(60)])
    rig.bus.run(2000)
    assert rig.wire_out.empty()
    rig.feed([pause(0)])
    outgoing(rig, 1)
    damaged = with_fcs(pause(0xffff))
    rig.wire_in.send_nowait(GmiiFrame(b"\x55" * 7 + b"\xd5" + damaged[:20] + b"\1" + damaged[21:]))
    rig.works()  # none of them was received as a frame
    assert net.counters()["mac_rx_pause"] == 3
    # Nor is any other frame of MAC Control: one that is for another station, one that says something else.
    rig.feed([bytes.fromhex("525400000002") + pause(9)[6:], pause(9)[:15] + b"\2" + pause(9)[16:]])
    rig.works()
    assert (net.counters()["mac_rx_pause"], net.counters()["mac_rx_control"]) == (3, 2)


@driven()
def test_link(rig):
    net = rig.open()
    assert net.link_up
    for up in (False, True):
        rig.bus.poll_irq()
        set_link(rig, up)
        rig.bus.run(100)
        assert CONFIG_VECTOR in rig.bus.poll_irq() and net.link_up == up
    rig.works()
