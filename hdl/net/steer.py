"""Which queue pair a frame belongs to: flows are recognised, and answers go where questions came from.

Ref: VIRTIO 1.4, 5.1.9.5.5 "Automatic receive steering in multiqueue mode".
"""

from functools import reduce
from operator import xor

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..lib.frame import frame_beat

__all__ = ["FLOW_BITS", "FlowHash", "FlowTable"]

FLOW_BITS = 8

ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN = 0x0800, 0x86dd, 0x8100
PROTOCOLS_WITH_PORTS = (6, 17)  # TCP, UDP
# Offsets into a frame without VLAN tag, in halfwords: of the type, of the IP header, and inside that.
TYPE, IP, TAG = 6, 7, 2
IPV4_FRAGMENT, IPV4_PROTOCOL, IPV4_ADDRESSES, IPV4_OPTIONS = 3, 4, range(6, 10), 10
IPV6_PROTOCOL, IPV6_ADDRESSES, IPV6_PORTS = 3, range(4, 20), 20


class FlowHash(wiring.Component):
    """Hash the addresses and ports of frames that stream by, both directions of a flow alike.

    IPv4 and IPv6, with one VLAN tag or none: both addresses; if TCP or UDP follows at once, and the packet is no fragment, both
    ports as well. Other frames are 0.

    Parameters
    ----------
    width : int
        Bits per beat: 16 to 512, a power of two, else :exc:`ValueError`.

    Attributes
    ----------
    latency : int
        Cycles from the last beat of a frame to ``done``: 2, but 3 where one beat may hold the ports and all that tells where
        they are.

    Members
    -------
    i : In(frame_beat(width)), valid : In(1)
        The beats of frames, packed, each for one cycle.
    done : Out(1), hash : Out(8)
        ``hash`` is valid with ``done``.
    error : Out(1)
        With ``done``: that frame was damaged.
    """
    def __init__(self, *, width):
        if width not in (16, 32, 64, 128, 256, 512):
            raise ValueError(f"Flows are recognised at 16 to 512 bits a beat, not {width!r}")
        self.width = width
        self.latency = 2 if width <= 256 else 3
        super().__init__({
            "i":     In(frame_beat(width)),
            "valid": In(1),
            "done":  Out(1),
            "hash":  Out(FLOW_BITS),
            "error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 16                       # halfwords a beat
        far = IP + TAG + 30 + 2                        # behind the last ports that there can be
        beats = -(-far // lanes)
        number = Signal(range(beats + 1))              # of the beat that comes; stays at the end

        # First cycle: the beat is kept, and what it says of the frame is noted.
        beat, beat_number, beat_valid = Signal.like(self.i), Signal.like(number), Signal()
        tagged, ipv4, ipv6 = Signal(), Signal(), Signal()
        words, whole = Signal(4), Signal()             # IPv4: length of the header in words of 32 bits; no fragment
        has_ports4, has_ports6 = Signal(), Signal()
        m.d.sync += beat_valid.eq(self.valid)
        with m.If(self.valid):
            m.d.sync += [beat.eq(self.i), beat_number.eq(number)]
            with m.If(self.i.last):
                m.d.sync += number.eq(0)
            with m.Elif(number != beats):
                m.d.sync += number.eq(number + 1)
            with m.If(number == 0):
                m.d.sync += [flag.eq(0) for flag in (tagged, ipv4, ipv6, words, whole, has_ports4, has_ports6)]

        def half(at):
            """Halfword ``at`` of the frame, as a number of the network's order, when it is here."""
            low = 16 * (at % lanes)
            return Cat(self.i.data[low + 8:low + 16], self.i.data[low:low + 8])

        def note(signal, at, value):
            with m.If(self.valid & (number == at // lanes)):
                m.d.sync += signal.eq(value)

        def with_ports(protocol):
            return Cat(protocol == value for value in PROTOCOLS_WITH_PORTS).any()

        is_tagged = Signal()                           # is, from the beat of the type on
        m.d.comb += is_tagged.eq(Mux(number == TYPE // lanes, half(TYPE) == ETHERTYPE_VLAN, tagged))
        note(tagged, TYPE, is_tagged)
        for shift in 0, TAG:
            with m.If(is_tagged == bool(shift)):
                note(ipv4, TYPE + shift, half(TYPE + shift) == ETHERTYPE_IPV4)
                note(ipv6, TYPE + shift, half(TYPE + shift) == ETHERTYPE_IPV6)
                header = IP + shift
                note(words, header, half(header)[8:12])
                # More Fragments and the offset; not Don't Fragment.
                note(whole, header + IPV4_FRAGMENT, (half(header + IPV4_FRAGMENT) & 0x3fff) == 0)
                note(has_ports4, header + IPV4_PROTOCOL, with_ports(half(header + IPV4_PROTOCOL)[:8]))
                note(has_ports6, header + IPV6_PROTOCOL, with_ports(half(header + IPV6_PROTOCOL)[8:]))

        # Second cycle: it is known which halfwords are addresses, and, in the cycle after it, which are ports.
        # An Ethernet header is an odd number of halfwords: the source port is the second half of a word, the target port the
        # first half of the next one.
        source, target, ports = Signal(range(far // 2 + 1)), Signal(range(far // 2 + 1)), Signal()
        addresses = Signal(lanes)
        place = IP // 2 + Mux(ipv4, words, IPV6_PORTS // 2) + Mux(tagged, TAG // 2, 0)
        m.d.sync += [
            source.eq(place),
            target.eq(place + 1),
            ports.eq(Mux(ipv4, has_ports4 & whole & (words >= 5), ipv6 & has_ports6)),
        ]
        for kind, where in ((ipv4, IPV4_ADDRESSES), (ipv6, IPV6_ADDRESSES)):
            for shift in 0, TAG:
                inside = [IP + shift + at for at in where]
                with m.If(kind & (tagged == bool(shift))):
                    with m.Switch(beat_number):
                        for index in sorted({at // lanes for at in inside}):
                            with m.Case(index):
                                m.d.comb += addresses.eq(sum(1 << at % lanes for at in inside if at // lanes == index))
        if self.latency == 3:
            behind = []
            for now in (beat, beat_number, beat_valid, addresses):
                behind.append(Signal.like(now, name_suffix="_behind"))
                m.d.sync += behind[-1].eq(now)
            beat, beat_number, beat_valid, addresses = behind

        # Last cycle: both are added up. Without a cycle more the ports come at least a beat after all that tells where.
        total, sum_ = Signal(FLOW_BITS), Signal(FLOW_BITS)
        here = [Cat(C(k, (lanes - 1).bit_length()), beat_number) for k in range(lanes)]
        counts = [addresses[k] | (ports & (Mux(at[0], source, target) == at[1:])) for k, at in enumerate(here)]
        m.d.comb += total.eq(reduce(
            xor, (Mux(counts[k // 2], beat.data.word_select(k, FLOW_BITS), 0) for k in range(2 * lanes)), sum_))
        m.d.sync += [
            self.done.eq(beat_valid & beat.last),
            self.hash.eq(total),
            self.error.eq(beat.error),
        ]
        with m.If(beat_valid):
            m.d.sync += sum_.eq(Mux(beat.last, 0, total))
        return m


class FlowTable(wiring.Component):
    """Remember the queue pair that each flow was last sent from; 0 of a flow that was never sent.

    Parameters
    ----------
    pairs : int

    Members
    -------
    learn : In(1), learn_hash : In(8), learn_pair : In(range(pairs))
        Strobe. Ignored in the first 256 cycles after a reset, which does not reach into the memory.
    hash : In(8), pair : Out(range(pairs))
        ``pair`` is of the ``hash`` one cycle ago.
    """
    def __init__(self, *, pairs):
        self.pairs = pairs
        super().__init__({
            "learn":      In(1),
            "learn_hash": In(FLOW_BITS),
            "learn_pair": In(range(pairs)),
            "hash":       In(FLOW_BITS),
            "pair":       Out(range(pairs)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.pairs = pairs = memory.Memory(shape=range(self.pairs), depth=1 << FLOW_BITS, init=[])
        write, read = pairs.write_port(), pairs.read_port()
        cleared = Signal(FLOW_BITS + 1)                # entries
        clearing, was_clearing = ~cleared[-1], Signal(init=1)
        m.d.sync += [cleared.eq(cleared + clearing), was_clearing.eq(clearing)]
        m.d.comb += [
            write.en.eq(clearing | self.learn),
            write.addr.eq(Mux(clearing, cleared, self.learn_hash)),
            write.data.eq(Mux(clearing, 0, self.learn_pair)),
            read.addr.eq(self.hash),
            self.pair.eq(Mux(was_clearing, 0, read.data)),
        ]
        return m
