"""The fast simulator: the Verilated NIC, a root complex with a link model and an Ethernet partner, driven from Python.

Python speaks in transactions (register accesses, frames, memory, interrupts, cycles to run); clock edges stay in C++.
"""

import ctypes
import inspect
import os
import select
import struct
from contextlib import nullcontext, suppress

from ...hdl.nic import RingNIC
from ...hdl.rng import RingRNG
from ...hdl.spec.net import DEFAULT_MAC
from ..pcie_7x.card import BlockNIC
from ..top import Design, design_of
from .build import build, sources_digest
from .files import Piped, Room
from .link import Link, LinkModel

__all__ = ["NET", "Link", "Engine"]

STATS = ("cycles", "mrd_up", "mwr_up", "msg_up", "cpl_down", "cfg_down", "mrd_down", "mwr_down", "cpl_up", "bytes_up",
         "bytes_down", "frames_in", "frames_out", "frames_lost", "bad_frames", "interrupts", "dma_faults", "max_reads",
         "violations")
KINDS = ("read", "write", "answer")
WAYS = ("down", "up", "reset")
CAPTURE = struct.Struct("<QII")  # cycle, way, bytes of the TLP that follows
CAPTURE_BYTES = 1 << 20
FAULTS = ("none", "ur", "ca", "poison", "lost", "duplicate")
ACCESS_CYCLES = 2_000_000  # a host gives up on a completion after this many
FRAME_BYTES = 16384        # of the longest frame
# The cards that there are, and how they are built unless said otherwise: one build serves most tests.
NET = {"queue_pairs": 4, "mac": None, "mac_address": "input"}
CARDS = {"net": (RingNIC, NET), "entropy": (RingRNG, {}), "net_7x": (BlockNIC, NET)}
FOREVER = (1 << 64) - 1    # cycles
CARD_ID = 0x0100           # bus 1, device 0, function 0

# fmt, type
_CFG_RD, _CFG_WR, _MEM_RD, _MEM_WR, _IO_RD, _IO_WR = (0, 4), (2, 4), (0, 0), (2, 0), (0, 2), (2, 2)


class _Access(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_uint64), ("len", ctypes.c_uint32), ("kind", ctypes.c_uint32), ("cycle", ctypes.c_uint64)]


class _Store(ctypes.Structure):
    _fields_ = [("delay", ctypes.c_uint64), ("addr", ctypes.c_uint64), ("len", ctypes.c_uint32), ("pad", ctypes.c_uint32),
                ("data", ctypes.c_uint8 * 8)]


class _Interrupt(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_uint64), ("data", ctypes.c_uint32), ("pad", ctypes.c_uint32)]


def _defaults(kind):
    """Keyword arguments of a card that are not given, by name."""
    own = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()
           if parameter.default is not parameter.empty}
    return {**_defaults(RingNIC), **own} if kind is BlockNIC else own  # which hands on what it does not know


def _load(path):
    library = ctypes.CDLL(str(path))
    pointer, u64, u8p = ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint8)
    for name, result, *arguments in (
            ("new", pointer, ctypes.POINTER(LinkModel), ctypes.c_int, ctypes.POINTER(ctypes.c_uint32), u64),
            ("free", None), ("start", None), ("stop", None),
            ("irq_fd", ctypes.c_int), ("frame_fd", ctypes.c_int), ("map", None, u64, u64, pointer, ctypes.c_int),
            ("unmap", ctypes.c_int, u64), ("run", None, u64),
            ("run_until", u64, u64, ctypes.c_int, ctypes.c_int, u64),
            ("request", ctypes.c_int, ctypes.POINTER(ctypes.c_uint32), ctypes.c_int, ctypes.c_int,
             ctypes.POINTER(ctypes.c_uint32), ctypes.c_int, u64),
            ("send_frame", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32),
            ("recv_frame", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32),
            ("interrupts", ctypes.c_int, ctypes.POINTER(_Interrupt), ctypes.c_int), ("intx", ctypes.c_int), ("reset", None),
            ("link", None, ctypes.c_int), ("ethernet_up", ctypes.c_int), ("stats", None, ctypes.POINTER(u64)),
            ("store_later", None, ctypes.POINTER(_Store), ctypes.c_int),
            ("set_link", None, ctypes.POINTER(LinkModel)),
            ("fault_reads", None, ctypes.POINTER(ctypes.c_int), ctypes.c_int),
            ("fault_rate", None, ctypes.c_int, ctypes.c_uint32),
            ("violations", ctypes.c_int, ctypes.c_char_p, ctypes.c_int), ("record", None, ctypes.c_int),
            ("accesses", ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Access), ctypes.c_int),
            ("capture", None, ctypes.c_int), ("captured", ctypes.c_int, u8p, ctypes.c_int),
            ("log", ctypes.c_int, ctypes.c_char_p), ("start_trace", None, ctypes.c_char_p, u64, u64), ("stop_trace", None),
            ("peek", ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, u8p, ctypes.c_int),
            ("poke", ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int),
            ("names", None, pointer)):
        function = getattr(library, f"engine_{name}")
        function.restype = result
        function.argtypes = arguments if name == "new" else [pointer, *arguments]
    return library


class Engine:
    """One simulated card in one simulated slot.

    Two ways to let time pass: by hand (:meth:`run`, :meth:`run_until`, and every register access until its answer), or
    with :meth:`start`, in a thread of its own, while there is work. Calls are safe from any thread.

    Parameters
    ----------
    card : "net", "entropy", or "net_7x", the network card behind a model of the 7-series block
        A :class:`~ringnic.hdl.nic.RingNIC`, with four queue pairs, without a MAC and with 32 bits of its sources' digest as
        build id unless said otherwise, or a :class:`~ringnic.hdl.rng.RingRNG`. ``width`` and all other keyword arguments are
        for it.
    mac_address : int
        48 bits, first byte of the address highest, of a network card; it needs no build of its own. A ``nic`` has it only if
        it is an input there.
    nic : Component, :class:`ringnic.sim.top.Design` or None
        To simulate this one: any with ports as :func:`ringnic.sim.top.to_verilog` wants them and a ``width``, and with no path
        from an input to an output within a cycle.
    features : iterable of int, or None
        Numbers of the device features that the card may offer; all that it has if None.
    link : Link
    gmii_ratio : int
        GMII clock periods in one of the core.
    trace : path or None
        Write a waveform (FST); signals can be had by name then.
    window : (int, int)
        First and last cycle that the waveform shows.
    tlp_log : path or None
        Write every TLP, decoded, one a line.

    Raises :exc:`ringnic.sim.engine.build.BuildError` if there is no compiler.
    """
    def __init__(self, *, card="net", width=64, link=Link(), features=None, mac_address=DEFAULT_MAC, gmii_ratio=1, trace=None,
                 window=(0, FOREVER), tlp_log=None, nic=None, **options):
        self._handle, self._files = None, []
        if gmii_ratio < 1:
            raise ValueError(f"GMII ratio must be at least 1, not {gmii_ratio!r}")
        if nic is None:
            kind, defaults = CARDS[card]
            options = {"width": width, **defaults, **options}
            sources = sources_digest()
            if kind is not RingRNG:
                options.setdefault("build_id", int(sources[:8], 16))
            # What is given and what would be the same without a word are one build.
            effective = sorted({**_defaults(kind), **options}.items())
            path = build(lambda: design_of(kind(**options)), name=(sources, card, effective), trace=trace is not None)
        elif options:
            raise TypeError(f"Given a NIC, {', '.join(options)} cannot be chosen")
        else:
            path = build(lambda: nic if isinstance(nic, Design) else design_of(nic), trace=trace is not None)
        self.width = width if nic is None else nic.width
        self.link = link
        self._library = _load(path)
        self._memory = {}
        self._names = {}
        mask = (1 << 128) - 1 if features is None else sum(1 << bit for bit in set(features))
        offered = (ctypes.c_uint32 * 4)(*(mask >> 32 * k & 0xffff_ffff for k in range(4)))
        self._handle = self._library.engine_new(ctypes.byref(link.model()), gmii_ratio, offered, mac_address)
        try:
            if tlp_log is not None:
                self._log(tlp_log)
            if trace is not None:
                self._call("start_trace", os.fsencode(trace), *window)
                self._files.append(Room(trace))
        except BaseException:
            self.close()
            raise

    def _call(self, name, *arguments):
        if self._handle is None:
            raise ValueError("Engine is closed")
        return getattr(self._library, f"engine_{name}")(self._handle, *arguments)

    def _log(self, path):
        """Begin to write TLPs to a file."""
        file = Piped(path)
        self._files.append(file)
        try:
            if not self._call("log", os.fsencode(file.way)):
                raise OSError(f"Cannot write TLPs to {path}")
        finally:
            file.opened()

    def check_files(self):
        """Raise :exc:`OSError` if the disk does not take the TLPs or the waveform that are written. From one thread at a time."""
        for file in self._files:
            file.check()

    def close(self):
        """Stop and free everything, when no other thread is in a call. May be called again.

        Raises what :meth:`check_files` does, if the last of a file could not be written.
        """
        if self._handle is not None:
            self._library.engine_free(self._handle)
            self._handle = None
            self._memory.clear()
            for file in self._files:
                file.close()
            self.check_files()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # Commands that serve a card are usually ended by an interruption, which must not hide a failure.
        with nullcontext() if kind in (None, KeyboardInterrupt) else suppress(OSError):
            self.close()

    # Time

    def start(self):
        """Run in a thread of its own while there is work."""
        self._call("start")

    def stop(self):
        """End what :meth:`start` began."""
        self._call("stop")

    def run(self, cycles):
        """Run ``cycles`` core clock cycles."""
        self._call("run", cycles)

    def step(self):
        """Run one cycle."""
        self._call("run", 1)

    def reset(self):
        """Fundamental reset: the card and what is under way; an access that waits is answered as if refused."""
        self._call("reset")

    def run_until(self, *, idle=False, interrupt=False, frame=False, limit=1_000_000, rest=256):
        """Run until one of the named things happens or ``limit`` cycles have passed; return the cycles run.

        The card is idle when it and its host have had nothing to do for more than ``rest`` cycles.
        """
        return self._call("run_until", rest if idle else 0, interrupt, frame, limit)

    # Host accesses

    def _request(self, kind, header, data=None, answer_dws=0):
        fmt, tlp_type = kind
        address, be, dws = header
        words = [(fmt | (1 if address >> 32 else 0)) << 29 | tlp_type << 24 | dws & 1023, be]
        words += [address >> 32] if address >> 32 else []
        words.append(address & 0xfffffffc)
        words = [int.from_bytes(word.to_bytes(4, "little"), "big") for word in words] + (data or [])
        out = (ctypes.c_uint32 * max(1, answer_dws))()
        # Everything but a memory write is answered.
        status = self._call("request", (ctypes.c_uint32 * len(words))(*words), len(words), kind != _MEM_WR, out, answer_dws,
                            ACCESS_CYCLES)
        if status == -1:
            raise TimeoutError(f"No completion for an access to {address:#x} in {ACCESS_CYCLES} cycles")
        return None if status else list(out)

    @staticmethod
    def _span(address, size):
        """DW address, number of DWs, and the byte enables of the second header DW."""
        offset = address & 3
        dws = (offset + size + 3) // 4
        enables = ((1 << size) - 1) << offset
        first, last = enables & 15, enables >> 4 * (dws - 1) & 15
        return address & ~3, (0 if dws == 1 else last) << 4 | first, dws

    @staticmethod
    def _words(address, size, value):
        offset = address & 3
        raw = (value << 8 * offset).to_bytes(-(-(offset + size) // 4) * 4, "little")
        return [int.from_bytes(raw[k:k + 4], "little") for k in range(0, len(raw), 4)]

    def _read(self, kind, address, size):
        base, be, dws = self._span(address, size)
        data = self._request(kind, (base, be, dws), answer_dws=dws)
        if data is None:
            return (1 << 8 * size) - 1  # what a host makes of Unsupported Request
        raw = b"".join(word.to_bytes(4, "little") for word in data)
        return int.from_bytes(raw[address & 3:(address & 3) + size], "little")

    def config_read(self, offset, size):
        """Read 1, 2 or 4 bytes of configuration space; all ones if refused."""
        return self._read(_CFG_RD, CARD_ID << 16 | offset, size)

    def config_write(self, offset, size, value):
        base, be, dws = self._span(offset, size)
        self._request(_CFG_WR, (CARD_ID << 16 | base, be, dws), self._words(offset, size, value))

    def config_dw(self, offset, enables, value=None):
        """Access a DW of configuration space, of which ``enables`` tells the bytes that are meant, from bit 0: read it, or write
        ``value``. A read brings all ones if refused."""
        return self._dw(_CFG_RD if value is None else _CFG_WR, CARD_ID << 16 | offset, enables, value)

    def mem_dw(self, address, enables, value=None):
        """As :meth:`config_dw`, at a bus address; of a read only the bytes that are meant are right."""
        return self._dw(_MEM_RD if value is None else _MEM_WR, address, enables, value)

    def _dw(self, kind, address, enables, value):
        data = self._request(kind, (address, enables, 1), None if value is None else [value], answer_dws=value is None)
        if value is not None:
            return None
        return 0xffff_ffff if data is None else data[0]

    def mem_read(self, address, size):
        """Read ``size`` bytes at a bus address; all ones if refused."""
        return self._read(_MEM_RD, address, size)

    def mem_write(self, address, size, value):
        """Post a write, of any size up to the payload limit. It may still be on its way when this returns."""
        base, be, dws = self._span(address, size)
        self._request(_MEM_WR, (base, be, dws), self._words(address, size, value))

    def io_read(self, address, size):
        """Read 1, 2 or 4 bytes in I/O space; all ones if refused."""
        return self._read(_IO_RD, address, size)

    def io_write(self, address, size, value):
        """Write to I/O space: unlike a write to memory, this one is answered."""
        base, be, dws = self._span(address, size)
        self._request(_IO_WR, (base, be, dws), self._words(address, size, value))

    # Memory

    def map_memory(self, iova, memory, writable=True, *, offset=0, size=None):
        """Let the card reach ``memory`` (a writable buffer) at ``iova``; it is kept alive until unmapped."""
        size = len(memory) - offset if size is None else size
        array = (ctypes.c_uint8 * size).from_buffer(memory, offset)
        self._call("map", iova, size, ctypes.addressof(array), writable)
        self._memory[iova] = array  # what was there before is let go of only now

    def unmap_memory(self, iova, size=None):
        """Take the region that begins at ``iova`` away. When this returns, no DMA reaches it any more."""
        self._call("unmap", iova)
        self._memory.pop(iova, None)

    def store_later(self, stores):
        """Write memory while time passes, as a driver on another CPU would: ``(delay in cycles, iova, 1 to 8 bytes)`` each."""
        array = (_Store * len(stores))()
        for slot, (delay, iova, raw) in zip(array, stores):
            slot.delay, slot.addr, slot.len = delay, iova, len(raw)
            slot.data[:len(raw)] = raw
        self._call("store_later", array, len(array))

    # Interrupts

    def interrupts(self):
        """MSI-X messages since the last call, ``(address, data)``."""
        out = (_Interrupt * 64)()
        found = []
        while count := self._call("interrupts", out, len(out)):
            found += [(out[k].addr, out[k].data) for k in range(count)]
        return found

    @property
    def intx(self):
        """Level of INTA."""
        return bool(self._call("intx"))

    @property
    def irq_fd(self):
        """An eventfd that becomes readable with an interrupt, or a change of INTA."""
        return self._call("irq_fd")

    def wait(self, timeout=None):
        """Sleep until there is an interrupt or a frame, in thread mode; False after ``timeout`` seconds without.

        Takes the events, so what caused them must be looked for now.
        """
        ready, _, _ = select.select([self.irq_fd, self.fileno()], [], [], timeout)
        for fd in ready:
            os.eventfd_read(fd)
        return bool(ready)

    # Ethernet

    def send_frame(self, frame):
        """Give the card a frame from the wire, without FCS; False if too many wait."""
        return bool(self._call("send_frame", bytes(frame), len(frame)))

    def recv_frame(self):
        """A frame that the card sent, without FCS, or None."""
        out = ctypes.create_string_buffer(FRAME_BYTES)
        size = self._call("recv_frame", out, FRAME_BYTES)
        return None if size < 0 else out.raw[:size]

    def fileno(self):
        """An eventfd that becomes readable with a frame for :meth:`recv_frame`."""
        return self._call("frame_fd")

    def set_link(self, up):
        """Plug or pull the Ethernet cable."""
        self._call("link", up)

    def ethernet_up(self):
        """Whether the card knows of a link: a board's card has it from its PHY, some time behind the cable."""
        return bool(self._call("ethernet_up"))

    # Looking in

    def stats(self):
        """Cycles, TLPs by kind and direction, bytes on the link, frames, and ``busy_seconds`` of simulation."""
        out = (ctypes.c_uint64 * (len(STATS) + 1))()
        self._call("stats", out)
        return {**dict(zip(STATS, out)), "busy_seconds": out[len(STATS)] / 1e9}

    def record(self, on=True):
        """Begin (or end) to keep a record of all DMA."""
        self._call("record", on)

    def events(self):
        """DMA since :meth:`record` or the last call, as the host saw it: ``(cycle, kind, address, bytes)`` with kind "read",
        "write", or "answer": the last completion of a read is on its way."""
        return [(found.cycle, KINDS[found.kind], found.addr, found.len) for found in self._accesses(False)]

    def accesses(self):
        """DMA since :meth:`record` or the last call: ``(address, bytes, is_write)``."""
        return [(address, size, kind == "write") for _, kind, address, size in self.events() if kind != "answer"]

    def dma_faults(self):
        """DMA outside mapped memory since the last call, in the same form."""
        return [(found.addr, found.len, KINDS[found.kind] == "write") for found in self._accesses(True)]

    def _accesses(self, faults):
        out = (_Access * 4096)()
        found = []
        while count := self._call("accesses", faults, out, len(out)):
            found += [_Access.from_buffer_copy(out[k]) for k in range(count)]
        return found

    def capture(self, on=True):
        """Begin (or end) to keep every TLP, as and when it passed the card's edge."""
        self._call("capture", on)

    def captured(self):
        """Yield ``(cycle, way, TLP)`` of what passed since :meth:`capture` or the last call, in order; way "down" when the
        card had taken it, "up" when the card had sent it, and "reset", with no bytes, for :meth:`reset`."""
        out = (ctypes.c_uint8 * CAPTURE_BYTES)()
        while size := self._call("captured", out, len(out)):
            raw, at = bytes(memoryview(out)[:size]), 0
            while at < size:
                cycle, way, count = CAPTURE.unpack_from(raw, at)
                at += CAPTURE.size + count
                yield cycle, WAYS[way], raw[at - count:at]

    def set_link_model(self, link):
        """Change latency, jitter and rate from now on."""
        self.link = link
        self._call("set_link", ctypes.byref(link.model()))

    def fault_reads(self, faults):
        """What happens to the next reads of the card, in turn: names of :data:`FAULTS`."""
        codes = [FAULTS.index(fault) for fault in faults]
        self._call("fault_reads", (ctypes.c_int * len(codes))(*codes), len(codes))

    def fault_rate(self, fault, one_in):
        """Let one of so many reads of the card end in ``fault`` by chance, 0 for none; by the seed of the link."""
        self._call("fault_rate", FAULTS.index(fault), one_in)

    def violations(self):
        """What the card sent since the last call and no card may: rule and TLP, one line each, the first hundred."""
        out = ctypes.create_string_buffer(1 << 16)
        self._call("violations", out, len(out))
        return out.value.decode().splitlines()

    def names(self):
        """Signals for :meth:`peek`: name and width in bits; needs ``trace``."""
        return {name: bits for name, (_, _, bits) in sorted(self._signals().items())}

    def _signals(self):
        """Scope and name of each signal as Verilator has them, and its width, by name as a person writes it."""
        if not self._names:
            def each(scope, name, bits):
                # Verilog escapes what is no identifier.
                plain = f"{scope.decode()}.{name.decode().removeprefix(chr(92)).rstrip()}"
                self._names[plain.removeprefix("TOP.")] = scope, name, bits
            callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)(each)
            self._call("names", ctypes.cast(callback, ctypes.c_void_p))
        return self._names

    def _signal(self, name):
        try:
            return self._signals()[name][:2]
        except KeyError:
            raise KeyError(f"No signal {name!r}; see names()") from None

    def peek(self, name):
        """Value of a signal."""
        out = (ctypes.c_uint8 * 64)()
        size = self._call("peek", *self._signal(name), out, len(out))
        return int.from_bytes(bytes(out[:size]), "little")

    def poke(self, name, value):
        """Set a signal until the model next drives it."""
        raw = value.to_bytes(max(1, -(-value.bit_length() // 8)), "little")
        if self._call("poke", *self._signal(name), raw, len(raw)) < 0:
            raise ValueError(f"Signal {name!r} has fewer than {len(raw)} bytes")
