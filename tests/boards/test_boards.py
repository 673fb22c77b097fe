"""What the boards say, held against itself, against the FPGAs' packages, and against amaranth-boards where it has the board."""

from collections import Counter
import re

from amaranth_boards.kc705 import KC705Platform
from amaranth_boards.nitefury import LitefuryPlatform, NitefuryIIPlatform
import pytest

from ringnic.boards.board import Role
from ringnic.boards.fpga import FPGAS
from ringnic.boards.table import BOARDS

BUILDABLE = [board for board in BOARDS.values() if board.buildable]
ROLES = {value for name, value in vars(Role).items() if not name.startswith("_")}

# Values of BITSTREAM.CONFIG.CONFIGRATE for the 7 series in MHz (AMD UG908, "Bitstream Settings").
RATES = {3, 6, 9, 12, 16, 22, 26, 33, 40, 50, 66}

# Pins of the transceivers by package: rx p and n, tx p and n. Of the 484 balls issue 65 of NiteFury-and-LiteFury quotes what
# Vivado says of X0Y6 and X0Y7. Of the others the constraints agree that the boards' sources give for pins and channels.
PAIRS = {
    "484": {"GTPE2_CHANNEL_X0Y4": "B8 A8 B4 A4", "GTPE2_CHANNEL_X0Y5": "D11 C11 D5 C5",
            "GTPE2_CHANNEL_X0Y6": "B10 A10 B6 A6", "GTPE2_CHANNEL_X0Y7": "D9 C9 D7 C7"},
    "fbg676": {"GTPE2_CHANNEL_X0Y4": "B11 A11 B7 A7", "GTPE2_CHANNEL_X0Y5": "D14 C14 D8 C8",
               "GTPE2_CHANNEL_X0Y6": "B13 A13 B9 A9", "GTPE2_CHANNEL_X0Y7": "D12 C12 D10 C10"},
    "ffg676": {"GTXE2_CHANNEL_X0Y4": "G4 G3 F2 F1", "GTXE2_CHANNEL_X0Y5": "E4 E3 D2 D1",
               "GTXE2_CHANNEL_X0Y6": "C4 C3 B2 B1", "GTXE2_CHANNEL_X0Y7": "B6 B5 A4 A3"},
    "ffg900": {"GTXE2_CHANNEL_X0Y4": "T6 T5 P2 P1", "GTXE2_CHANNEL_X0Y5": "R4 R3 N4 N3",
               "GTXE2_CHANNEL_X0Y6": "P6 P5 M2 M1", "GTXE2_CHANNEL_X0Y7": "M6 M5 L4 L3"},
}
# Pins of the reference clocks of the same quad.
REFCLKS = {"484": {("F6", "E6"), ("F10", "E10")}, "fbg676": {("F11", "E11")}, "ffg676": {("H6", "H5")}, "ffg900": {("U8", "U7")}}


def all_buildable():
    return pytest.mark.parametrize("board", BUILDABLE, ids=lambda board: board.name)


def package(board):
    name = re.fullmatch(r"xc7\w+t(f\w\w\d{3})-\d", board.vivado_part)[1]
    return name if name in PAIRS else name[-3:]


def pins(board):
    pcie = board.pcie
    yield from (*pcie.refclk, pcie.perst.name)
    yield from [pcie.clkreq.name] if pcie.clkreq else []
    for lane in pcie.lanes:
        yield from (*lane.rx, *lane.tx)
    yield from (led.pin.name for led in board.leds)
    yield from board.oscillator.pins if board.oscillator else ()
    if board.ethernet:
        for value in board.ethernet.pins.values():
            yield from [value] if isinstance(value, str) else value
        yield from filter(None, (board.ethernet.reset_n, board.ethernet.mdc, board.ethernet.mdio))


def test_which_boards_can_be_built():
    assert [board.name for board in BUILDABLE] == [
        "ax7203", "acorn_cle215", "litefury", "nitefury", "ac701", "captain_75t", "captain_100t", "pz_a775t", "pz_a7100t",
        "pz_a7200t", "davinci_pro_100t", "kc705", "stlv7325_v2"]


@pytest.mark.parametrize("board", [board for board in BOARDS.values() if not board.buildable], ids=lambda board: board.name)
def test_the_others_say_why_not(board):
    assert board.lacks


@all_buildable()
def test_no_pin_is_used_twice(board):
    found = Counter(pins(board))
    assert [pin for pin, count in found.items() if count > 1] == []
    assert all(re.fullmatch(r"[A-Z]{1,2}\d{1,2}", pin) for pin in found)


@all_buildable()
def test_lanes_are_where_the_package_has_their_channels(board):
    known = PAIRS[package(board)]
    assert {lane.channel: " ".join((*lane.rx, *lane.tx)) for lane in board.pcie.lanes} \
        == {lane.channel: known[lane.channel] for lane in board.pcie.lanes}
    assert len({lane.channel for lane in board.pcie.lanes}) == len(board.pcie.lanes) in (1, 2, 4)
    assert all(lane.channel.startswith(board.fpga.transceiver) for lane in board.pcie.lanes)
    assert board.pcie.refclk in REFCLKS[package(board)]


@all_buildable()
def test_parts(board):
    assert board.vivado_part.startswith(board.fpga.name.lower())
    # Speed grade 1 of the Artix-7 has no 5 GT/s (DS181, "GTP Transceiver Performance").
    assert board.generation == (1 if board.vivado_part.endswith("-1") else 2)
    assert board.fpga.free or any("licence" in line for line in board.lacks)


@all_buildable()
def test_every_group_names_its_source(board):
    sources = [board.pcie.source, board.configuration.source, board.led_source]
    sources += [part.source for part in (board.oscillator, board.ethernet) if part is not None]
    for source in sources:
        assert source.named and source.checked != source.named


@all_buildable()
def test_perst_is_pulled_up(board):
    """An adapter may leave PERST# open: the card must not stay in reset then."""
    assert board.pcie.perst.pull == "PULLUP"


@all_buildable()
def test_leds(board):
    roles = [led.role for led in board.leds]
    assert set(roles) <= ROLES and len(set(roles)) == len(roles) >= 2 and roles[0] == Role.LINK
    assert (Role.ETHERNET in roles) <= (board.ethernet is not None)


@all_buildable()
def test_configuration(board):
    config = board.configuration
    assert (config.rate is None) != (config.external is None)
    assert config.rate in RATES | {None} and config.spi_width == 4 and config.voltage in (2.5, 3.3)
    assert config.rate is None or config.rate <= 50 or config.fall_edge
    if config.fallback is not None:
        # 24 address bits, a whole erase block, and room for the second image when compressed to the first one's place.
        assert config.fallback % 0x1_0000 == 0 and 2 * config.fallback <= config.flash_mib << 20
        assert board.fpga.bits // 8 <= 2 * config.fallback
    assert board.fpga.bits // 8 <= config.flash_mib << 20


@all_buildable()
def test_ethernet(board):
    ethernet = board.ethernet
    assert (ethernet is None) <= any("no Ethernet" in line for line in board.lacks)
    if ethernet is not None:
        widths = {name: 1 if isinstance(pin, str) else len(pin) for name, pin in ethernet.pins.items()}
        assert widths == {
            "rgmii": {"rx_clk": 1, "rx_ctl": 1, "rx_data": 4, "tx_clk": 1, "tx_ctl": 1, "tx_data": 4},
            "gmii": {"rx_clk": 1, "rx_dv": 1, "rx_er": 1, "rx_data": 8, "gtx_clk": 1, "tx_en": 1, "tx_er": 1, "tx_data": 8},
        }[ethernet.kind]
        assert board.oscillator is not None and ethernet.phy_address in range(32)


def test_idcodes():
    """AMD UG470, table 1-1; the AX7203 answers 13636093 with its version, by openFPGALoader."""
    assert {name: f"{fpga.idcode:07x}" for name, fpga in FPGAS.items()} == {
        "XC7A75T": "3632093", "XC7A100T": "3631093", "XC7A200T": "3636093", "XC7K325T": "3651093"}


@pytest.mark.parametrize("name, platform", [("nitefury", NitefuryIIPlatform), ("litefury", LitefuryPlatform)])
def test_as_amaranth_boards_has_it(name, platform):
    board = BOARDS[name]
    assert board.vivado_part == f"{platform.device}{platform.package}-{platform.speed}"
    resources = {resource.name: resource for resource in platform.resources}
    parts = {part.name: part.ios[0] for part in resources["pcie"].ios}
    lanes = board.pcie.lanes
    assert [lane.rx for lane in lanes] == list(zip(parts["rx"].p.names, parts["rx"].n.names))
    assert [lane.tx for lane in lanes] == list(zip(parts["tx"].p.names, parts["tx"].n.names))
    assert (board.pcie.refclk,) == tuple(zip(parts["clk"].p.names, parts["clk"].n.names))
    assert [board.pcie.perst.name] == parts["rst"].names and [board.pcie.clkreq.name] == parts["clkreq"].names
    leds = [resource.ios[0].names[0] for resource in platform.resources if resource.name == "led"]
    assert [led.pin.name for led in board.leds] == leds[:len(board.leds)]


def test_kc705_as_amaranth_boards_has_it():
    leds = [resource.ios[0].names[0] for resource in KC705Platform.resources if resource.name == "led"]
    assert [led.pin.name for led in BOARDS["kc705"].leds] == leds[:4]
    assert BOARDS["kc705"].vivado_part == f"{KC705Platform.device}{KC705Platform.package}-{KC705Platform.speed}"
