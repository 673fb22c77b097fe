"""Where the structures of the function lie in BAR 0, and the numbers its configuration space shows."""

BAR_INDEX = 0
BAR_SIZE = 0x8000            # bytes; 32-bit, not prefetchable: reading ISR has a side effect

COMMON_OFFSET  = 0x0000
ISR_OFFSET     = 0x1000
DEVICE_OFFSET  = 0x2000
NOTIFY_OFFSET  = 0x3000
MSIX_TABLE_OFFSET = 0x4000
MSIX_PBA_OFFSET   = 0x5000
COUNTERS_OFFSET   = 0x6000
BUILD_ID_OFFSET   = COUNTERS_OFFSET + 8
CONTROL_OFFSET    = COUNTERS_OFFSET + 12

NOTIFY_MULTIPLIER = 4        # bytes between two queues' notification addresses
COUNTERS_MAGIC = 0x43494e52  # "RNIC"

REG_ADDR_WIDTH = 15          # byte address inside BAR 0

COUNTERS_HEADER_SIZE = 16    # bytes: magic, number of counters, build id, control

# In the order of the registers: 64 bits each, from COUNTERS_OFFSET + COUNTERS_HEADER_SIZE. Of every function:
FUNCTION_COUNTERS = (
    "kicks", "notifications",                   # available buffer notifications in; used buffer notifications out
    "queue_errors",                             # a queue stopped: malformed ring or failed read
    "dma_read_tlps", "dma_write_tlps", "dma_read_errors", "dma_timeouts",
    "cpl_unexpected", "requests_unsupported", "tlps_malformed",
)
COUNTERS = (                                    # of the network card
    "tx_frames", "tx_dropped",                  # net: read, on its way to the MAC; taken from the driver and not sendable
    "rx_frames", "rx_dropped_no_buffer",        # net: has got buffers; no buffers in time
    "rx_dropped_full", "rx_dropped_long",       # net: the link to the host is slower than the wire; longer than the MTU
    "rx_dropped_down",                          # net: driver not ready
    "mac_rx_bad_fcs", "mac_rx_runt", "mac_rx_giant", "mac_rx_overflow",
    "mac_rx_pause", "mac_rx_control",           # PAUSE frames obeyed; other frames of MAC Control, which are discarded
    "mac_tx_frames",
    *FUNCTION_COUNTERS,
)
# Bits of the control register, from bit 0. They survive a virtio reset; a Function Level Reset clears them.
GMII_CONTROLS = ("loopback",)                   # of a card with a GMII: what it sends comes back to it, and the wire is quiet
ENTROPY_COUNTERS = ("entropy_requests", *FUNCTION_COUNTERS)

# The record of the link training (LTSSM), which a card behind the block of a 7-series FPGA has: the last DWs of the page of
# counters; on other cards they read 0. Magic, status, then the entries: each state that the link enters gets one, state number n
# (from 0) that at n modulo LINK_ENTRIES. JTAG gives the same DWs in the same order.
LINK_ENTRIES = 16
LINK_WORDS   = 2 + LINK_ENTRIES
LINK_OFFSET  = COUNTERS_OFFSET + 0x1000 - 4 * LINK_WORDS
LINK_MAGIC   = 0x4b4e494c    # "LINK"
LINK_TICK_NS = 4096


class LinkStatus:
    """Bits of the status of the link."""
    UP    = 0                # TLPs can pass
    RATE  = 1                # 5 GT/s, not 2.5 GT/s
    WIDTH = slice(2, 4)      # lanes, coded: 1, 2, 4, 8
    CLOCK = 4                # the user clock runs; by the BAR always 1
    COUNT = slice(16, 32)    # number of the newest entry; after 0xffff comes 0xfff0


class LinkEntry:
    """Bits of an entry. The newest is that of the current state."""
    TICKS = slice(0, 24)     # how long it lasted, in LINK_TICK_NS; saturates
    STATE = slice(24, 30)    # as in :data:`.pcie_7x.LTSSM`
    GAP   = 31               # the link left it during a scan by JTAG, so states may be missing here
