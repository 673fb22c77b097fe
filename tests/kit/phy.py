"""A PHY's management side, written from IEEE 802.3, clause 22: registers with their latches, and frames on MDIO bit by bit."""

from dataclasses import dataclass, field

__all__ = ["FULL", "HALF", "MdioPhy", "attach", "mode_of"]

HALF, FULL = "half", "full"

# Annex 28B.3 "Priority Resolution", the modes that this PHY knows, best first; and the bit by which each end says that it can:
# registers 4 and 5 (28.2.4.1.3, annex 28B.2), or 9 and 10 (table 40-3).
MODES = {(1000, FULL): (9, 9, 10, 11), (1000, HALF): (9, 8, 10, 10), (100, FULL): (4, 8, 5, 8), (100, HALF): (4, 7, 5, 7),
         (10, FULL): (4, 6, 5, 6), (10, HALF): (4, 5, 5, 5)}


def mode_of(own, partner):
    """The best mode that is in both sets, or None."""
    return next((mode for mode in MODES if mode in own and mode in partner), None)


@dataclass
class MdioPhy:
    """What is at one address of an MDIO bus. :meth:`rise` is called with every rising edge of MDC.

    ``frames``: those that were for this PHY, ``(operation, register, data)``. ``problems``: what the other end did and must not.
    ``silent``: it has no power.
    """
    address: int
    own: set = field(default_factory=lambda: set(MODES))
    silent: bool = False
    frames: list = field(default_factory=list)
    problems: list = field(default_factory=list)

    def __post_init__(self):
        self.registers = {number: 0 for number in range(32)}
        self.registers[0] = 1 << 12 | 1 << 8 | 1 << 6                 # table 22-7: negotiates; default of a gigabit PHY
        self.registers[1] = 0x7949                                    # table 22-8: abilities, extended status; no link
        self.registers[4] = 0x0001
        for register, bit, *_ in (MODES[mode] for mode in self.own):
            self.registers[register] |= 1 << bit
        self.link, self.fell = False, True                            # 22.2.4.2.13: latches low until it is read
        self.partner = set()
        self._ones, self._bits, self._drives = 0, [], []

    # The cable

    def plug(self, partner, *, complete=True):
        """A partner that can do ``partner`` is there, and a negotiation has ended, or has not."""
        self.partner = set(partner)
        self.registers[5], self.registers[10] = 0x4001, 0
        for mode in self.partner:
            _, _, register, bit = MODES[mode]
            self.registers[register] |= 1 << bit
        self.registers[1] = self.registers[1] & ~(1 << 5) | complete << 5
        self.link = True

    def pull(self):
        self.link, self.fell = False, True
        self.registers[1] &= ~(1 << 5)
        self.registers[5] = self.registers[10] = 0

    def blink(self):
        """Lose the link and get it back, faster than anybody looks."""
        self.fell = True

    def force(self, mbps, duplex):
        """No negotiation (22.2.4.1): speed and duplex are those of the control register."""
        self.registers[0] = {10: 0, 100: 1 << 13, 1000: 1 << 6}[mbps] | (duplex == FULL) << 8
        self.link = True

    # Registers

    def read(self, number):
        if number == 1:
            value = self.registers[1] & ~4 | (self.link and not self.fell) << 2
            self.fell = not self.link
            return value
        return self.registers[number]

    def access(self, write, register, value):
        """A whole access: the value, and whether the PHY has answered, which only a read tells."""
        if self.silent:
            return 0xffff, bool(write)
        if write:
            self.registers[register] = value
        else:
            value = self.read(register)
        self.frames.append(("write" if write else "read", register, value))
        return value, True

    # 22.2.4.5, 22.3.4. ``mdio``: the level at this edge, with the pull-up. ``driven``: the other end drives it.

    def rise(self, mdio, driven):
        """Return what the PHY drives from this edge on: 0, 1, or None."""
        if self.silent:
            self._ones, self._bits, self._drives = 0, [], []
            return None
        if self._drives:
            if driven:
                self.problems.append("both drive MDIO")
            self._drives.pop(0)
            if self._drives:
                return self._drives[0]
            self._ones, self._bits = 0, []
            return None
        if not self._bits and mdio:
            self._ones = self._ones + 1 if driven else 0
            return None
        self._bits.append(mdio)
        return self._judge(driven)

    def _judge(self, driven):
        bits = self._bits
        if len(bits) == 1 and self._ones < 32:
            self.problems.append(f"a preamble of {self._ones} ones")
        if len(bits) <= 14 and not driven:
            self.problems.append(f"bit {len(bits)} is not driven")
        if len(bits) < 14:
            return None
        number = int("".join(map(str, bits[:14])), 2)
        start, operation, address, register = number >> 12, number >> 10 & 3, number >> 5 & 31, number & 31
        if len(bits) == 14:
            if start != 0b01:
                self.problems.append(f"start {start:#b}")
            if operation not in (0b01, 0b10):
                self.problems.append(f"operation {operation:#b}")
            return None
        if operation == 0b10:
            if driven:
                self.problems.append("MDIO is driven in the turnaround of a read")
            if len(bits) == 15 and address == self.address:
                # 22.2.4.5.8: released in the first bit of the turnaround, zero in the second; then the data.
                value = self.read(register)
                self.frames.append(("read", register, value))
                self._drives = [0] + [value >> at & 1 for at in range(15, -1, -1)]
                return 0
        elif not driven:
            self.problems.append("a write is not driven to its end")
        if len(bits) == 32:
            value = int("".join(map(str, bits[16:])), 2)
            if operation == 0b01:
                if bits[14:16] != [1, 0]:
                    self.problems.append("turnaround of a write")
                if address == self.address:
                    self.frames.append(("write", register, value))
                    self.registers[register] = value
            self._ones, self._bits = 0, []
        return None


async def attach(ctx, phy, pins, delay=1):
    """Join ``phy`` to the pins of a component in Amaranth's simulator, for ever; it drives ``delay`` ticks after the edge."""
    before, drives = 0, [None] * delay
    while True:
        bus = 1 if drives[0] is None else drives[0]
        ctx.set(pins.mdio_i, bus)
        _, _, mdc, out, enable = await ctx.tick().sample(pins.mdc, pins.mdio_o, pins.mdio_oe)
        drive = drives[-1]
        if mdc and not before:
            drive = phy.rise(out if enable else bus, bool(enable))
        before = mdc
        drives = [*drives[1:], drive]
