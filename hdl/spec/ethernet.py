"""Ethernet facts.

Ref: IEEE 802.3, 3 "Media Access Control (MAC) frame and packet specifications", 31 "MAC Control", 31B "MAC Control PAUSE
operation"; IEEE 802.1Q, 9.5 "VLAN Tag format", table 9-1 (the types of tags).
"""

PREAMBLE = 0x55
PREAMBLE_BYTES = 7
SFD = 0xd5
IFG_BYTES = 12
FCS_BYTES = 4
HEADER_BYTES = 14                      # destination, source, type
ETHERTYPE_C_TAG = 0x8100               # customer VLAN tag
ETHERTYPE_S_TAG = 0x88a8               # service VLAN tag: outside of a customer's
VLAN_TAG_BYTES = 4                     # between source and type
MAX_VLAN_TAGS = 2
MIN_FRAME_BYTES = 60                   # without FCS
ETHERTYPE_MAC_CONTROL = 0x8808
PAUSE_OPCODE = 1
PAUSE_QUANTUM_BYTES = 64               # 512 bit times
PAUSE_ADDRESS = bytes.fromhex("0180c2000001")
