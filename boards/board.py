"""What is said of a board: its FPGA, its pins, and how it is loaded. Facts only; what is made of them is elsewhere.

A pin is there only if a public source names it. What a board lacks for that reason, or cannot do, it says in ``lacks``.
"""

from dataclasses import dataclass

from .fpga import Fpga

__all__ = ["Board", "Clock", "Configuration", "Ethernet", "Lane", "Led", "Pcie", "Pin", "Programming", "Role", "Source"]


@dataclass(frozen=True)
class Source:
    """``named``: where a group of values is from. ``checked``: an independent place that says the same, if one was found."""
    named: str
    checked: str | None = None


@dataclass(frozen=True)
class Programming:
    """A command line in which ``{file}`` and ``{cable}`` are to be replaced, and the suffixes of files that it takes."""
    argv: tuple
    suffixes: tuple


@dataclass(frozen=True)
class Pin:
    """One pin of the package, its I/O standard, and its pull resistor (``PULLUP``) or None."""
    name: str
    standard: str
    pull: str | None = None


@dataclass(frozen=True)
class Clock:
    """An oscillator on the board. ``pins``: one, or positive and negative."""
    pins: tuple
    mhz: float
    standard: str
    source: Source


@dataclass(frozen=True)
class Lane:
    """A lane of the slot: the transceiver that it is wired to, and its pins, the positive one of each pair first.

    No board here swaps the pins of a pair; a receiver would undo it (PCI Express Base, "Lane Polarity Inversion").
    """
    channel: str
    rx: tuple
    tx: tuple


@dataclass(frozen=True)
class Pcie:
    """The slot. ``lanes`` in the order of the slot; ``refclk``: 100 MHz of the slot, positive and negative.

    ``perst``: PERST#, an input. ``clkreq``: CLKREQ#, which the card holds low, or None if the FPGA is not wired to it.
    """
    lanes: tuple
    refclk: tuple
    perst: Pin
    source: Source
    clkreq: Pin | None = None


@dataclass(frozen=True)
class Ethernet:
    """A PHY; ``phy`` if a source names it.

    ``kind``: ``"rgmii"`` or ``"gmii"``; of an RGMII the card delays TXC and the PHY RXC, by 2 ns each. ``pins``: ``{port: pin, or
    pins from bit 0}`` by the names of that interface.
    ``reset_n`` is None if no source names it. ``phy_address``: on MDIO; 0, to which most PHYs answer as well as to their own.
    """
    kind: str
    phy: str | None
    standard: str
    pins: dict
    mdc: str
    mdio: str
    source: Source
    reset_n: str | None = None
    phy_address: int = 0


class Role:
    """What an LED tells of."""
    LINK     = "on: the PCI Express link is up"
    CLOCK    = "blinks about once a second: the clock of the PCI Express block runs"
    BUSY     = "on: the card has something in hand"
    ETHERNET = "on: the Ethernet link is up"


@dataclass(frozen=True)
class Led:
    """``low``: it is lit by a 0."""
    pin: Pin
    role: str
    low: bool = False


@dataclass(frozen=True)
class Configuration:
    """How the FPGA loads itself from its flash.

    ``voltage``: of bank 0, for CONFIG_VOLTAGE. ``cfgbvs``: VCCO or GND. ``rate``: MHz of the configuration clock, one of Vivado's
    values; None if the clock is the board's own (EMCCLK) divided by ``external``, whose frequency no source names. ``fall_edge``:
    data are taken at the falling edge, which high rates need. ``flash_mib``: size of the flash.
    ``fallback``: offset of the image that is tried first, when the one at 0 is the fallback; None without.
    """
    voltage: float
    rate: int | None
    flash_mib: int
    source: Source
    cfgbvs: str = "VCCO"
    spi_width: int = 4
    fall_edge: bool = False
    external: int | None = None
    fallback: int | None = None


@dataclass(frozen=True)
class Board:
    """A board.

    ``name``: what commands call it. ``part``: the FPGA, as its maker calls it. ``volatile``: how to load the FPGA until the power
    goes. ``flash``: how to write the memory from which it loads itself, None if no way is documented. ``cable``: the JTAG
    adapter, by openFPGALoader's name, that the source uses; None if it is on the board or known by it. ``note``: what to see to
    before. ``source``: of these.

    A board that `ringnic build` builds for has ``fpga``, ``vivado_part``, ``pcie`` and ``configuration``; ``generation``: the
    fastest that its speed grade allows, 2 for 5 GT/s. ``oscillator``: a clock for what must not stop with the slot's.
    """
    name: str
    title: str
    part: str
    volatile: Programming
    flash: Programming | None
    source: str
    cable: str | None = None
    note: str | None = None
    fpga: Fpga | None = None
    vivado_part: str | None = None
    generation: int = 2
    pcie: Pcie | None = None
    configuration: Configuration | None = None
    oscillator: Clock | None = None
    leds: tuple = ()
    led_source: Source | None = None
    ethernet: Ethernet | None = None
    lacks: tuple = ()

    @property
    def buildable(self):
        """`ringnic build` knows all that it needs."""
        return None not in (self.fpga, self.vivado_part, self.pcie, self.configuration)
