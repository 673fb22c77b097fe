"""Host memory as the fuzzer lays it out, and the judge of every DMA: only what was described, only in its direction."""

__all__ = ["ARENA", "END", "GOOD_RINGS", "GOOD_RX", "GOOD_TX", "LOOSE", "NOWHERE", "NUM_ZONES", "OWN", "RINGS",
           "STRIDE", "TABLES", "ZONE", "Ground"]

END = 1 << 64        # of the address space
ZONE = 0x10000
STRIDE = 2 * ZONE    # as much again between two zones is nobody's memory
RINGS = 0            # zone ``k``: rings of queue ``k``, if it is a hostile one, and buffers that are nobody else's
OWN = 0x8000         # where in it the rings end, whatever they are, and those buffers begin
NUM_RINGS = 9
# Other zones: indirect tables and buffers of hostile queues, rings at addresses that were written register by register, and what
# belongs to the well-behaved pair.
TABLES, ARENA, LOOSE, GOOD_RINGS, GOOD_TX, GOOD_RX = range(NUM_RINGS, NUM_RINGS + 6)
NUM_ZONES = GOOD_RX + 1
NOWHERE = 5          # upper half of addresses at which there never is memory
ONES, ZEROS = memoryview(b"\1" * ZONE), memoryview(bytes(ZONE))


class Ground:
    """Zones of memory, and of each byte whether the device may read and write it now.

    Parameters
    ----------
    engine : Engine
        Its DMA is recorded from now on.
    base : int
        Address of the first zone. The last one may end at :data:`END`.
    turn : int
        Zone ``k`` is the one number ``k + turn``, and the last ones come first.

    Attributes
    ----------
    memory : list of bytearray
        Of each zone.
    nobody : int
        Address of memory that belongs to nobody, and will not be described: a zone of it.
    loose : bool
        Rings may be at addresses made of halves that were written one by one, from 0 or :data:`LOOSE` on, or nowhere.
    astray : bool
        A table may consist of bytes that were not written as one. Its addresses are arbitrary; few lie near a zone or near
        :data:`END`.
    torn : bool
        Descriptors may be met half new, half old.
    """
    def __init__(self, engine, base, turn=0, torn=False):
        self.torn = torn
        self.engine = engine
        self.base = base
        self.nobody = base + ZONE
        self._places = [(zone + turn) % NUM_ZONES for zone in range(NUM_ZONES)]
        self.memory = [bytearray(ZONE) for _ in range(NUM_ZONES)]
        for zone, memory in enumerate(self.memory):
            engine.map_memory(self.address(zone), memory)
        self.highs = {self.address(zone) >> 32 for zone in range(NUM_ZONES)}
        self._bad = []
        engine.record()
        self.forget()

    def address(self, zone, offset=0):
        return (self.base + self._places[zone] * STRIDE + offset) % END

    def is_spare(self, addr, length):
        """Whether a frame in a buffer of so many bytes there touches no zone but the arena."""
        for at in (addr, addr + min(length, ZONE // 2) - 1):
            place, offset = divmod(at - self.base, STRIDE)
            if 0 <= place < NUM_ZONES and offset < ZONE and place != self._places[ARENA]:
                return False
        return True

    def forget(self):
        """The device was reset: nothing is described."""
        # By place, not by number of the zone.
        self._allowed = [bytearray(ZONE) for _ in range(NUM_ZONES)], [bytearray(ZONE) for _ in range(NUM_ZONES)]
        self._wild = set()
        self.loose = self.astray = False

    def describe(self, addr, length, write):
        """The device may read, or with ``write`` write, so many bytes from ``addr`` on; they need not be memory. None of those
        that run past the end of the address space."""
        if addr + length > END:
            return
        zone, at = divmod(addr - self.base, STRIDE)
        if 0 <= zone < NUM_ZONES and at < ZONE:
            if write and zone == self._places[TABLES]:
                self.astray = True      # a frame that is received there may become a table
            end = at + length
            if end <= ZONE:
                self._allowed[write][zone][at:end] = ONES[:length]
                return
            self._allowed[write][zone][at:] = ONES[:ZONE - at]
        self._wild.add((addr, length, write))

    def allow(self, zone):
        """All of a zone may be read and written."""
        for allowed in self._allowed:
            allowed[self._places[zone]][:] = ONES

    def withdraw(self, zone, at=0, length=ZONE):
        """Nothing there is described any more."""
        for allowed in self._allowed:
            allowed[self._places[zone]][at:at + length] = ZEROS[:length]

    def look(self):
        """Judge every DMA since the last look by what is described now: to be done before something is withdrawn."""
        base, allowed = self.base, self._allowed
        for addr, length, write in self.engine.accesses():
            zone, at = divmod(addr - base, STRIDE)
            if not (0 <= zone < NUM_ZONES and at + length <= ZONE and allowed[write][zone].find(0, at, at + length) < 0
                    or self._is_wild(addr, length, write)):
                self._bad.append(f"{'write' if write else 'read'} of {length} at {addr:#x} (place {zone}, offset {at:#x})")

    def judge(self):
        """Return a line about each DMA since the last call that nobody described."""
        self.look()
        bad, self._bad = self._bad, []
        return bad

    def _is_wild(self, addr, length, write):
        anywhere = addr < END - ZONE or self.torn
        if self.loose and anywhere:
            low = addr & 0xffff_ffff
            at = low - self.address(LOOSE) & 0xffff_ffff
            if addr >> 32 not in self.highs or low + length <= ZONE or at <= ZONE - length:
                return True
        if self.astray and anywhere and not self.base <= addr < self.base + NUM_ZONES * STRIDE:
            return True
        return any(first <= addr and addr + length <= first + size and kind == write for first, size, kind in self._wild)
