"""What Vivado is told: Tcl that makes the IP, implements the card, and writes down what came of it.

Batch mode without a project file. Vivado stops at the first error of a script, so every check here is an ``error``; what is for
the reports only is judged by :mod:`.judge`. It runs under plain ``tclsh`` with stand-ins as well.
"""

from .constraints import ethernet_pads
from .ip import CELL_PROPERTIES, CELL_READBACK, IP_NAME, IP_VERSION, MODULE_NAME

__all__ = ["FACTS", "PADS", "REPORTS", "SCRIPT", "VERSIONS", "build_script", "ip_script"]

#: Versions of Vivado, the first and the last: all have version 3.3 of the IP, and all commands and properties used here.
VERSIONS = ("2019.1", "2025.2")

SCRIPT = "build.tcl"
FACTS = "facts.txt"
#: Of Ethernet: what is received and what is sent, each at the edges of its clock that count.
PADS = ("rx_setup", "rx_hold", "tx_setup", "tx_hold")
REPORTS = {"timing": "timing.rpt", "checks": "checks.rpt", "utilization": "utilization.rpt"}


def _dictionary(values):
    return "\n".join(f"    {name} {{{value}}}" for name, value in values.items())


def ip_script(properties):
    """Tcl that creates the IP, sets ``properties``, reads each back, and synthesises it."""
    return f"""\
# The IP of the PCI Express block: every property that the card depends on, set and read back.
set ip_properties {{
{_dictionary(properties)}
}}
create_ip -vendor xilinx.com -library ip -name {IP_NAME} -version {IP_VERSION} -module_name {MODULE_NAME} -dir ip
set ip [get_ips {MODULE_NAME}]
set settings [list]
foreach {{name value}} $ip_properties {{
    lappend settings CONFIG.$name $value
}}
set_property -dict $settings $ip
foreach {{name value}} $ip_properties {{
    set now [get_property CONFIG.$name $ip]
    if {{![string equal -nocase $now $value]}} {{
        error "RINGNIC: the IP has $name = $now, not $value: another version of the IP?"
    }}
}}
generate_target all $ip
synth_ip $ip
"""


def _version_check():
    first, last = VERSIONS
    return f"""\
set vivado [version -short]
regexp {{^[0-9]+[.][0-9]+}} $vivado release
if {{[package vcompare $release {first}] < 0 || [package vcompare $release {last}] > 0}} {{
    error "RINGNIC: Vivado $vivado; this project is for {first} to {last}"
}}"""


def _placement(board, lanes):
    """The IP places its transceivers and block RAMs as on a board of its maker: forget that, and set the board's place."""
    channel = board.fpga.transceiver
    common = channel.replace("CHANNEL", "COMMON")
    lines = [
        "# Where the transceivers and the RAMs of the IP are: not where the IP says, but where the board has them",
        "proc forget_place {filter} {",
        "    set cells [get_cells -quiet -hierarchical -filter $filter]",
        "    if {[llength $cells] > 0} {",
        "        reset_property LOC $cells",
        "    }",
        "}",
        f"forget_place {{REF_NAME == {channel}}}",
        f"forget_place {{REF_NAME == {common}}}",
        "forget_place {REF_NAME == RAMB36E1 && NAME =~ *pcie_brams*}",
        "proc one_cell {what filter} {",
        "    set cells [get_cells -hierarchical -filter $filter]",
        "    if {[llength $cells] != 1} {",
        '        error "RINGNIC: [llength $cells] cells are the $what, not 1: another version of the IP?"',
        "    }",
        "    return $cells",
        "}",
    ]
    kind = f"{channel.lower().removesuffix('_channel')}_channel_i"
    for at, lane in enumerate(board.pcie.lanes[:lanes]):
        lines.append(f"set lane{at} [one_cell {{transceiver of lane {at}}} {{NAME =~ *pipe_lane[{at}].gt_wrapper_i/*{kind}}}]")
        lines.append(f"set_property LOC {lane.channel} $lane{at}")
    return "\n".join(lines)


def _pads(board):
    """Tcl that finds the slack at the pads of Ethernet, and leaves them out of the summary.

    The delay of a received bit is a fixed one, and what it has to be is known only once somebody has measured it: a miss there
    must not look like one of a path inside.
    """
    lines = [
        "# What the pads of Ethernet have to spare",
        "proc pad_slack {what paths} {",
        "    if {[llength $paths] != 1} {",
        '        error "RINGNIC: $what of Ethernet is not timed"',
        "    }",
        "    return [get_property SLACK $paths]",
        "}",
    ]
    ends = {"rx": f"-from {ethernet_pads(board.ethernet, 'rx')}", "tx": f"-to {ethernet_pads(board.ethernet, 'tx')}"}
    for name in PADS:
        way, _, check = name.partition("_")
        lines.append(f"set {name} [pad_slack {name} [get_timing_paths -{check} -max_paths 1 {ends[way]}]]")
    return "\n".join([*lines, *(f"set_false_path {end}" for end in ends.values())]) + "\n"


def _facts(board, lanes):
    """Tcl that writes the lines of ``facts.txt``: what Vivado says of the routed design, a word and its value each."""
    lines = [f'set facts [open {FACTS} w]', 'puts $facts "vivado $vivado"']
    for at, lane in enumerate(board.pcie.lanes[:lanes]):
        bit = f"[{at}]" if lanes > 1 else ""    # a port of one bit has no index
        ports = " ".join(f"[get_property PACKAGE_PIN [get_ports {{pcie_{pair}{bit}}}]]"
                         for pair in ("rx_p", "rx_n", "tx_p", "tx_n"))
        lines.append(f'puts $facts "lane {at} [get_property LOC $lane{at}] {ports}"')
    lines += [f'puts $facts "cell {name} [get_property {name} $block]"' for name in CELL_READBACK]
    lines += [f'puts $facts "pads {name} ${name}"' for name in PADS if board.ethernet is not None]
    return "\n".join([*lines, "close $facts"])


def _images(board, top):
    """Tcl that writes the bitstreams: one alone, and a pair of which the first is the other's fallback, if the board has room."""
    config = board.configuration

    def flash_file(name, offset):
        return (f'write_cfgmem -force -format bin -interface spix{config.spi_width} -size {config.flash_mib} '
                f'-loadbit "up 0x{offset:08X} {name}.bit" -file {name}.bin')
    lines = [f"write_bitstream -force {top}.bit", flash_file(top, 0)]
    if config.fallback is not None:
        # UG470, "MultiBoot": the image at 0 sends the FPGA to the other one, which sends it back if it is broken or too slow.
        lines += [
            "set_property BITSTREAM.CONFIG.CONFIGFALLBACK Enable [current_design]",
            "set_property BITSTREAM.CONFIG.TIMER_CFG 0x0001FBD0 [current_design]",
            f"write_bitstream -force {top}_update.bit", flash_file(f"{top}_update", 0),
            f"set_property BITSTREAM.CONFIG.NEXT_CONFIG_ADDR 0x{config.fallback:08X} [current_design]",
            f"write_bitstream -force {top}_fallback.bit", flash_file(f"{top}_fallback", 0),
        ]
    return "\n".join(lines)


def build_script(board, *, lanes, top):
    """The Tcl of the whole flow for the card whose top module is ``top``, in the folder where its files are."""
    cell = "\n".join(f"set_property {name} {value} $block" for name, value in CELL_PROPERTIES.items())
    return f"""\
# {board.title}: vivado -mode batch -source {SCRIPT}
{_version_check()}
create_project -in_memory -part {board.vivado_part}
source ip.tcl
read_verilog {top}.v
read_xdc {top}_pins.xdc
synth_design -top {top} -part {board.vivado_part}
opt_design
# What is said of clocks of the IP: there are none before.
read_xdc {top}_clocks.xdc
{_placement(board, lanes)}
# The capabilities of virtio are the window of the user: the list has to lead there.
set block [one_cell {{block for PCI Express}} {{REF_NAME == PCIE_2_1}}]
{cell}
place_design
phys_opt_design
route_design
{_pads(board) if board.ethernet is not None else ""}report_timing_summary -file {REPORTS["timing"]}
check_timing -file {REPORTS["checks"]}
report_utilization -file {REPORTS["utilization"]}
{_facts(board, lanes)}
{_images(board, top)}
"""
