"""Ethernet facts.

Ref: IEEE 802.3, 3 "Media Access Control (MAC) frame and packet specifications", 31B "MAC Control PAUSE operation".
"""

PREAMBLE = 0x55
PREAMBLE_BYTES = 7
SFD = 0xd5
IFG_BYTES = 12
FCS_BYTES = 4
HEADER_BYTES = 14                      # destination, source, type
MIN_FRAME_BYTES = 60                   # without FCS
ETHERTYPE_MAC_CONTROL = 0x8808
PAUSE_OPCODE = 1
PAUSE_QUANTUM_BYTES = 64               # 512 bit times
PAUSE_ADDRESS = bytes.fromhex("0180c2000001")
