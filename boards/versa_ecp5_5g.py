"""Lattice ECP5-5G Versa: known to `ringnic flash` only, since its FPGA has no block for PCI Express."""

from .board import Board, Programming

__all__ = ["BOARD"]

_VERSA = "; ".join((
    "adapter driver ftdi", "ftdi device_desc {Lattice ECP5_5G VERSA Board}", "ftdi vid_pid 0x0403 0x6010", "ftdi channel 0",
    "ftdi layout_init 0xfff8 0xfffb", "adapter speed 25000", "transport select jtag", "reset_config none",
    "jtag newtap ecp5 tap -irlen 8 -expected-id 0x81112043", "init"))

BOARD = Board(
    "versa_ecp5_5g", "Lattice ECP5-5G Versa", "LFE5UM5G-45F-8BG381",
    volatile=Programming(("openocd", "-c", _VERSA, "-c", "svf -quiet {{file}}", "-c", "exit"), (".svf",)), flash=None,
    source="amaranth-boards", note="the ispCLOCK in the same JTAG chain must be bypassed",
    lacks=("its FPGA has no block for PCI Express: the card needs a link layer of its own there, which is not written",))
