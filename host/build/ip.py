"""The IP ``pcie_7x``: every property that the card depends on, as Vivado's Tcl has it.

Names and forms of values are those of version 3.3 of the IP as its own files (.xci) show them; what they mean is in AMD PG054
"7 Series FPGAs Integrated Block for PCI Express", "Customizing the Core". The values are those that the adapter of the card and
its configuration window are made for.
"""

from ...hdl.spec.bar import BAR_SIZE, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET
from ...hdl.spec.pcie_7x import LINKS, WINDOW_START
from ...hdl.spec.virtio import VIRTIO_ID_NET, VIRTIO_PCI_DEVICE_ID_BASE, VIRTIO_PCI_VENDOR_ID

__all__ = ["CELL_PROPERTIES", "CELL_READBACK", "IP_NAME", "IP_VERSION", "MODULE_NAME", "ip_properties"]

IP_NAME, IP_VERSION = "pcie_7x", "3.3"
MODULE_NAME = "pcie_7x_0"    # the module that the card instantiates
DEVICE_ID = VIRTIO_PCI_DEVICE_ID_BASE + VIRTIO_ID_NET

# The IP leaves the list of capabilities unfinished: the last one of its own, MSI-X at 9C, does not point to the window. Nor does
# it let the other two be said. So these are set on the primitive, PCIE_2_1. Offsets in 8 bytes, for the 29 bits are bits 31:3 of
# the register (PCI Express Base, "Table Offset/Table BIR Register").
CELL_PROPERTIES = {
    "MSIX_CAP_NEXTPTR":            f"8'h{WINDOW_START:02X}",
    "MSIX_CAP_TABLE_OFFSET":       f"29'h{MSIX_TABLE_OFFSET >> 3:08X}",
    "MSIX_CAP_PBA_OFFSET":         f"29'h{MSIX_PBA_OFFSET >> 3:08X}",
    "CPL_TIMEOUT_RANGES_SUPPORTED": "4'h0",
}
# What the primitive has to say besides, or the list of capabilities does not reach the window, or the window does not open.
CELL_READBACK = {
    **CELL_PROPERTIES,
    "PM_CAP_NEXTPTR":   "8'h60",
    "PCIE_CAP_NEXTPTR": "8'h9C",
    "MSIX_CAP_ON":      "TRUE",
    "EXT_CFG_CAP_PTR":  f"6'h{WINDOW_START >> 2:02X}",
}


def _flags(names, value):
    return {name: value for name in names.split()}


def ip_properties(*, lanes, generation, vectors):
    """``{name: value}`` of all properties to set, for a link of ``lanes`` and ``vectors`` MSI-X vectors."""
    link = LINKS[lanes]
    return {
        "mode_selection":     "Advanced",
        "Device_Port_Type":   "PCI_Express_Endpoint_device",
        "Xlnx_Ref_Board":     "None",
        "PCIe_Blk_Locn":      "X0Y0",
        # The link
        "Maximum_Link_Width": f"X{lanes}",
        "Link_Speed":         {1: "2.5_GT/s", 2: "5.0_GT/s"}[generation],
        "Trgt_Link_Speed":    f"4'h{generation}",
        "Interface_Width":    f"{link.width}_bit",
        "User_Clk_Freq":      f"{link.user2_mhz:g}",
        "Ref_Clk_Freq":       "100_MHz",
        "Enable_Lane_Reversal": "false",
        "Upconfigure_Capable": "true",
        # The function
        "Vendor_ID":           f"{VIRTIO_PCI_VENDOR_ID:04X}",
        "Device_ID":           f"{DEVICE_ID:04X}",
        "Revision_ID":         "01",      # VIRTIO 4.1.2.1: at least 1
        "Subsystem_Vendor_ID": f"{VIRTIO_PCI_VENDOR_ID:04X}",
        "Subsystem_ID":        f"{DEVICE_ID:04X}",
        "Use_Class_Code_Lookup_Assistant": "false",
        "Class_Code_Base": "02", "Class_Code_Sub": "00", "Class_Code_Interface": "00",
        "Bar0_Enabled": "true", "Bar0_Type": "Memory", "Bar0_64bit": "false", "Bar0_Prefetchable": "false",
        "Bar0_Scale": "Kilobytes", "Bar0_Size": f"{BAR_SIZE >> 10}",
        **_flags("Bar1_Enabled Bar2_Enabled Bar3_Enabled Bar4_Enabled Bar5_Enabled Expansion_Rom_Enabled", "false"),
        # Device capabilities. Reads carry tags of 5 bits.
        "Max_Payload_Size": "512_bytes",
        **_flags("Extended_Tag_Field Extended_Tag_Default", "false"),
        "Phantom_Functions": "No_function_number_bits_used",
        "Cpl_Finite": "false",            # an endpoint advertises infinite completion credits (2.6.1)
        "Cpl_Timeout_Disable_Sup": "true",
        "Buf_Opt_BMA": "true", "Perf_Level": "High",
        # Interrupts
        "IntX_Generation": "true", "Legacy_Interrupt": "INTA", "MSI_Enabled": "false",
        "MSIx_Enabled": "true", "MSIx_Table_Size": f"{vectors:X}",
        "MSIx_Table_Offset": f"{MSIX_TABLE_OFFSET:X}", "MSIx_Table_BIR": "BAR_0",
        "MSIx_PBA_Offset":   f"{MSIX_PBA_OFFSET:X}",   "MSIx_PBA_BIR": "BAR_0",
        # Power management: D0 and D3 only, no PME, and state is kept from D3hot to D0.
        **_flags("D1_Support D2_Support D0_PME_Support D1_PME_Support D2_PME_Support D3hot_PME_Support D3cold_PME_Support",
                 "false"),
        "No_Soft_Reset": "true",
        # The window in which the user answers configuration requests, and nothing in extended configuration space
        "PCI_CFG_Space": "true", "PCI_CFG_Space_Addr": f"{WINDOW_START >> 2:X}",
        **_flags("EXT_PCI_CFG_Space DSN_Enabled VC_Cap_Enabled VSEC_Enabled AER_Enabled RBAR_Enabled", "false"),
        # What comes to the user, and the ports: all that the card knows, with the pipe clocks from outside
        "Receive_NP_Request": "true", "Trans_Buf_Pipeline": "None",
        **_flags("pl_interface cfg_mgmt_if cfg_ctl_if cfg_status_if rcv_msg_if cfg_fc_if err_reporting_if", "true"),
        **_flags("en_ext_clk PCIe_Debug_Ports", "true"),
        **_flags("shared_logic_in_core en_ext_gt_common en_ext_ch_gt_drp en_ext_pipe_interface en_ext_startup "
                 "en_transceiver_status_ports enable_jtag_dbg pcie_id_if", "false"),
        "pipe_mode_sim": "None",
    }
