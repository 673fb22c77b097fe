"""Host memory: bytes at 64-bit addresses that begin with random content, and what is behind DMA ports."""

from bisect import bisect, insort
import random

from amaranth.hdl import Value

from ringnic.hdl.lib.dma import Area

from .simulation import Simulation

__all__ = ["LOW", "Memory", "MemoryBench", "Writes", "address_of"]

LOW = 1 << 20     # bytes of memory from address 0 on in a MemoryBench
PAGE = 4096


def put(ctx, signal, before, now):
    """Set a signal that changes; each ``ctx.set`` costs time."""
    if now != before:
        ctx.set(signal, now)


def address_of(request, areas):
    """Address that a request is for; ``areas``: where each ``(queue, area)`` that it may count from begins."""
    return request.addr + (areas[request.queue, request.area] if request.area != Area.NONE else 0)


class Writes:
    """What comes to a write port: requests, and beats of those that were asked for, in order.

    ``waiting``: requests of which beats are to come.
    """
    def __init__(self, lanes):
        self.lanes = lanes
        self._requests = []

    @property
    def waiting(self):
        return len(self._requests)

    def ask(self, request):
        assert request.len and request.lane < self.lanes
        self._requests.append([request.addr, request.len, request.lane])

    def give(self, beat):
        """Return ``(addr, bytes, last)`` of a beat."""
        addr, left, lane = self._requests[0]
        data = beat.data.to_bytes(self.lanes, "little")[lane:lane + left]
        self._requests[0] = [addr + len(data), left - len(data), 0]
        last = left == len(data)
        assert beat.last == last
        if last:
            self._requests.pop(0)
        return addr, data, last


class Memory:
    """Ranges of bytes, each with random content in the beginning; what is between them guards them.

    Parameters
    ----------
    seed
        Of the content.
    everywhere : bool
        There is memory at every address, page by page. Else only where :meth:`add` has put some: a read of what is not there
        fails, and a write there is an error of who writes.

    Attributes
    ----------
    written : set
        Addresses of bytes that were written through :meth:`write` and not yet taken by :meth:`claim`.
    """
    def __init__(self, seed, *, everywhere=False):
        self.everywhere = everywhere
        self.written = set()
        self._rng = random.Random(f"memory {seed}")
        self._starts, self._ranges = [], {}

    def add(self, addr, size):
        """Return a new range, which may be changed in place."""
        assert not any(self._find(place) for place in (addr, addr + size - 1)) or not size, f"there is memory at {addr:#x}"
        insort(self._starts, addr)
        content = self._ranges[addr] = bytearray(self._rng.randbytes(size))
        return content

    def _find(self, addr):
        at = bisect(self._starts, addr)
        start = self._starts[at - 1] if at else 0
        content = self._ranges.get(start, b"")
        return (content, addr - start) if addr - start < len(content) else None

    def _pieces(self, addr, size):
        """Yield ``(range, offset, bytes)`` for one piece after the other; the last has no range if there is no memory."""
        while size:
            found = self._find(addr)
            if found is None and self.everywhere:
                found = self.add(addr & -PAGE, PAGE), addr % PAGE
            if found is None:
                yield None, addr, size
                return
            step = min(size, len(found[0]) - found[1])
            yield (*found, step)
            addr, size = addr + step, size - step

    def holds(self, addr, size):
        return all(content is not None for content, _, _ in self._pieces(addr, size))

    def read(self, addr, size):
        """Return ``size`` bytes, or fewer where memory ends."""
        return b"".join(bytes(content[at:at + step]) for content, at, step in self._pieces(addr, size) if content is not None)

    def write(self, addr, data):
        self.written.update(range(addr, addr + len(data)))
        done = 0
        for content, at, step in self._pieces(addr, len(data)):
            assert content is not None, f"write of {len(data)} bytes at {addr:#x}, where nothing may be written"
            content[at:at + step] = data[done:done + step]
            done += step

    def claim(self, addr, size):
        """Return bytes that must have been written since they were last claimed."""
        places = set(range(addr, addr + size))
        assert places <= self.written, f"of {size} bytes at {addr:#x} {len(places - self.written)} were not written"
        self.written -= places
        return self.read(addr, size)


class MemoryBench(Simulation):
    """A component with DMA ports, and the memory behind them.

    Attributes
    ----------
    host : Memory
    memory : bytearray
        Its first :data:`LOW` bytes.
    fails : set
        Addresses of reads that fail although there is memory.
    areas : dict
        Where each ``(queue, area)`` that a request may count from begins.
    reads, writes : list
        ``(addr, len)`` of what was asked for, and of what is in memory.
    longest_wait : int
        Cycles that a beat of an answer was not taken.
    early : bool
        An answer has what was in memory when the read was asked for, not what is there when it comes: a host may do either.
    """
    def __init__(self, dut, rng, *, seed, latency=6, early=False, **options):
        super().__init__(dut, rng, **options)
        self.latency, self.early = latency, early
        self.host = Memory(seed)
        self.memory = self.host.add(0, LOW)
        self.fails, self.areas = set(), {}
        self.reads, self.writes = [], []
        self.longest_wait = 0

    def answer(self, addr, length, lanes):
        """Beats of a read: packed, or as a link cuts it (a new request at 512 bytes, whole DWs); a failed one ends early."""
        data = self.host.read(addr, length)
        end, start, beats = addr + length, addr, []
        bad = len(data) < length or addr in self.fails
        if bad and (not data or self.rng.random() < 0.5):
            return [{"data": 0, "count": 0, "last": 1, "error": 1}]
        data = data.ljust(length, b"\0")
        packed, begins = self.rng.random() < 0.3, True
        while addr < end:
            cut = lanes - addr % 4 if begins and not packed else lanes
            step = min(cut, end - addr, lanes if packed else 512 - addr % 512)
            addr += step
            begins = addr % 512 == 0
            beats.append({"data": int.from_bytes(data[addr - step - start:addr - start], "little"), "count": step,
                          "last": addr == end, "error": bad and addr == end})
        return beats

    def serve_reads(self, port):
        async def serve(ctx):
            lanes, queue, beats, now, waited, shown = self.dut.width // 8, [], [], 0, 0, None
            offered = valid = ready = False
            i_valid, i_payload, o_ready = port.beat.valid, port.beat.p, port.req.ready

            def show():
                """Set what changes for the next cycle."""
                nonlocal offered, ready, shown, valid
                offered = bool(beats) and (offered or not self.idle())
                if offered and beats[0] is not shown:
                    shown = beats[0]
                    ctx.set(i_payload, shown)
                put(ctx, i_valid, valid, offered)
                valid = offered
                before, ready = ready, not self.idle()
                put(ctx, o_ready, before, ready)
            show()
            asked = port.req.p.shape()
            async for _, _, asks, bits, taken in ctx.tick().sample(port.req.valid, Value.cast(port.req.p), port.beat.ready):
                now += 1
                if offered:
                    waited = 0 if taken else waited + 1
                    self.longest_wait = max(self.longest_wait, waited)
                    if taken:
                        beats.pop(0)
                        shown, offered = None, False
                if asks and ready:
                    request = asked.from_bits(bits)
                    assert request.len
                    addr = address_of(request, self.areas)
                    self.reads.append((addr, request.len))
                    answer = self.answer(addr, request.len, lanes) if self.early else None
                    queue.append((now + self.latency, addr, request.len, answer))
                if queue and not beats and queue[0][0] <= now:
                    _, addr, length, answer = queue.pop(0)
                    beats = answer or self.answer(addr, length, lanes)
                show()
        self.background(serve)

    def serve_writes(self, port):
        """A write is in memory in the cycle after its ``done``, and not before."""
        async def serve(ctx):
            came, start, body, pending, now = Writes(self.dut.width // 8), None, b"", [], 0
            leaves = ready = takes = gets = False
            o_done, o_takes, o_gets = port.done, port.req.ready, port.data.ready

            def show():
                """Set what changes for the next cycle."""
                nonlocal leaves, ready, takes, gets
                before, leaves = leaves, bool(pending) and pending[0][0] <= now
                put(ctx, o_done, before, leaves)
                ready = not self.idle()
                before, takes = takes, not came.waiting and ready
                put(ctx, o_takes, before, takes)
                before, gets = gets, bool(came.waiting) and ready
                put(ctx, o_gets, before, gets)
            show()
            asked, given = port.req.p.shape(), port.data.p.shape()
            async for _, _, asks, request_bits, gives, bits in ctx.tick().sample(
                    port.req.valid, Value.cast(port.req.p), port.data.valid, Value.cast(port.data.p)):
                now += 1
                if leaves:
                    _, addr, data = pending.pop(0)
                    self.host.write(addr, data)
                    self.writes.append((addr, len(data)))
                if not came.waiting:
                    if asks and ready:
                        came.ask(asked.from_bits(request_bits))
                elif gives and ready:
                    addr, data, last = came.give(given.from_bits(bits))
                    start, body = addr if start is None else start, body + data
                    if last:
                        pending.append((now + self.latency, start, body))
                        start, body = None, b""
                show()
        self.background(serve)
