"""The user side of the PCI Express block of 7-series FPGAs, as the IP ``pcie_7x`` has it.

Names, directions and widths are those of Xilinx's product guide PG054 "7 Series FPGAs Integrated Block for PCI Express", chapter
"Port Descriptions". Directions are the block's. The pipe clocks come from outside ("shared logic in the example design"), and the
receive buffer is the one of ``Buf_Opt_BMA`` with a Max_Payload_Size of 512.
"""

from dataclasses import dataclass

__all__ = ["CPL_BUFFER_HEADERS", "CPL_BUFFER_UNITS", "LINKS", "LTSSM", "WINDOW_START", "FcSel", "Link", "RxUser", "TxUser",
           "block_ports"]

#: Completions that the receive buffer holds, and the 16-byte units of their data: less than the infinite credits that the block
#: advertises, so what is asked for at a time must fit.
CPL_BUFFER_HEADERS, CPL_BUFFER_UNITS = 72, 850

#: First byte of configuration space whose requests come to the user; the block answers what lies before.
WINDOW_START = 0xa8


class RxUser:
    """Bits of ``m_axis_rx_tuser``. SOF and EOF are of the 128-bit interface: a valid bit above the byte where it is."""
    ECRC_ERROR = 0
    POISONED   = 1
    BAR_HIT    = slice(2, 10)
    SOF        = slice(10, 15)
    EOF        = slice(17, 22)


class TxUser:
    """Bits of ``s_axis_tx_tuser``."""
    ECRC_GENERATE = 0
    ERROR_FORWARD = 1
    STREAMING     = 2
    DISCONTINUE   = 3


class FcSel:
    """What the ``fc_*`` ports show: of the values that PG054 lists, the credits with which a TLP may be sent now."""
    TRANSMIT_AVAILABLE = 4


#: What ``pl_ltssm_state`` says (PG054, "Physical Layer Interface"; LitePCIe's tracer has the same numbers), in the words of the
#: Base Specification where it has one for the state. Of those of a root port an endpoint shows none.
LTSSM = dict(enumerate((
    "Detect.Quiet", "Detect.Quiet (5 GT/s)", "Detect.Active", "Detect.Active (second)", "Polling.Active", "Polling.Configuration",
    *(f"Polling.Compliance ({part})" for part in ("pre EIOS", "pre timeout", "pattern", "post EIOS", "post timeout")),
    "Configuration.Linkwidth.Start (0)", "Configuration.Linkwidth.Start (1)", "Configuration.Linkwidth.Accept (0)",
    "Configuration.Linkwidth.Accept (1)", "Configuration.Lanenum.Wait", "Configuration.Lanenum.Accept",
    *(f"Configuration.Complete (x{lanes})" for lanes in (1, 2, 4, 8)), "Configuration.Idle", "L0",
    "L1.Entry (0)", "L1.Entry (1)", "L1.Entry (2), or L2/L3 Ready", "L1.Idle", "L1 (exit)",
    "Recovery.RcvrLock", "Recovery.RcvrCfg", "Recovery.Speed (0)", "Recovery.Speed (1)", "Recovery.Idle", "Hot Reset",
    "Disabled (entry 0)", "Disabled (entry 1)", "Disabled (entry 2)", "Disabled",
    *(f"Root port: Configuration.{part}" for part in (
        "Linkwidth.Start (0)", "Linkwidth.Start (1)", "Linkwidth.Start (2)", "Linkwidth.Accept (0)", "Linkwidth.Accept (1)",
        "Lanenum.Wait", "Lanenum.Accept")),
    "Timeout to Detect", "Loopback.Entry (0)", "Loopback.Entry (1)", "Loopback.Active", "Loopback.Exit (0)", "Loopback.Exit (1)",
    "Loopback.Entry (master)")))


def block_ports(*, lanes, width):
    """``{name: (direction, bits)}``, direction ``"i"`` or ``"o"``, for a link of ``lanes`` and an interface of ``width`` bits."""
    inputs = {
        "sys_clk": 1, "sys_rst_n": 1, "pci_exp_rxp": lanes, "pci_exp_rxn": lanes,
        "pipe_pclk_in": 1, "pipe_rxusrclk_in": 1, "pipe_rxoutclk_in": lanes, "pipe_dclk_in": 1, "pipe_userclk1_in": 1,
        "pipe_userclk2_in": 1, "pipe_oobclk_in": 1, "pipe_mmcm_lock_in": 1, "pipe_mmcm_rst_n": 1,
        "tx_cfg_gnt": 1, "s_axis_tx_tvalid": 1, "s_axis_tx_tlast": 1, "s_axis_tx_tdata": width, "s_axis_tx_tkeep": width // 8,
        "s_axis_tx_tuser": 4, "rx_np_ok": 1, "rx_np_req": 1, "m_axis_rx_tready": 1, "fc_sel": 3,
        "cfg_mgmt_di": 32, "cfg_mgmt_byte_en": 4, "cfg_mgmt_dwaddr": 10, "cfg_mgmt_wr_en": 1, "cfg_mgmt_rd_en": 1,
        "cfg_mgmt_wr_readonly": 1, "cfg_mgmt_wr_rw1c_as_rw": 1,
        "cfg_err_ecrc": 1, "cfg_err_ur": 1, "cfg_err_cpl_timeout": 1, "cfg_err_cpl_unexpect": 1, "cfg_err_cpl_abort": 1,
        "cfg_err_posted": 1, "cfg_err_cor": 1, "cfg_err_atomic_egress_blocked": 1, "cfg_err_internal_cor": 1,
        "cfg_err_malformed": 1, "cfg_err_mc_blocked": 1, "cfg_err_poisoned": 1, "cfg_err_norecovery": 1,
        "cfg_err_tlp_cpl_header": 48, "cfg_err_locked": 1, "cfg_err_acs": 1, "cfg_err_internal_uncor": 1,
        "cfg_err_aer_headerlog": 128, "cfg_aer_interrupt_msgnum": 5,
        "cfg_turnoff_ok": 1, "cfg_trn_pending": 1, "cfg_pm_halt_aspm_l0s": 1, "cfg_pm_halt_aspm_l1": 1,
        "cfg_pm_force_state_en": 1, "cfg_pm_force_state": 2, "cfg_dsn": 64, "cfg_pm_send_pme_to": 1, "cfg_ds_bus_number": 8,
        "cfg_ds_device_number": 5, "cfg_ds_function_number": 3, "cfg_pm_wake": 1,
        "cfg_interrupt": 1, "cfg_interrupt_assert": 1, "cfg_interrupt_di": 8, "cfg_interrupt_stat": 1,
        "cfg_pciecap_interrupt_msgnum": 5,
        "pl_directed_link_change": 2, "pl_directed_link_width": 2, "pl_directed_link_speed": 1, "pl_directed_link_auton": 1,
        "pl_upstream_prefer_deemph": 1, "pl_transmit_hot_rst": 1, "pl_downstream_deemph_source": 1,
        "pcie_drp_clk": 1, "pcie_drp_en": 1, "pcie_drp_we": 1, "pcie_drp_addr": 9, "pcie_drp_di": 16,
    }
    outputs = {
        "pci_exp_txp": lanes, "pci_exp_txn": lanes,
        "pipe_txoutclk_out": 1, "pipe_rxoutclk_out": lanes, "pipe_pclk_sel_out": lanes, "pipe_gen3_out": 1,
        "user_clk_out": 1, "user_reset_out": 1, "user_lnk_up": 1, "user_app_rdy": 1,
        "tx_buf_av": 6, "tx_err_drop": 1, "tx_cfg_req": 1, "s_axis_tx_tready": 1,
        "m_axis_rx_tvalid": 1, "m_axis_rx_tlast": 1, "m_axis_rx_tdata": width, "m_axis_rx_tkeep": width // 8,
        "m_axis_rx_tuser": 22,
        "fc_cpld": 12, "fc_cplh": 8, "fc_npd": 12, "fc_nph": 8, "fc_pd": 12, "fc_ph": 8,
        "cfg_mgmt_do": 32, "cfg_mgmt_rd_wr_done": 1, "cfg_err_cpl_rdy": 1,
        "cfg_err_aer_headerlog_set": 1, "cfg_aer_ecrc_check_en": 1, "cfg_aer_ecrc_gen_en": 1,
        "cfg_interrupt_rdy": 1, "cfg_interrupt_do": 8, "cfg_interrupt_mmenable": 3, "cfg_interrupt_msienable": 1,
        "cfg_interrupt_msixenable": 1, "cfg_interrupt_msixfm": 1,
        "cfg_status": 16, "cfg_command": 16, "cfg_dstatus": 16, "cfg_dcommand": 16, "cfg_lstatus": 16, "cfg_lcommand": 16,
        "cfg_dcommand2": 16, "cfg_pcie_link_state": 3, "cfg_to_turnoff": 1, "cfg_bus_number": 8, "cfg_device_number": 5,
        "cfg_function_number": 3, "cfg_pmcsr_pme_en": 1, "cfg_pmcsr_powerstate": 2, "cfg_pmcsr_pme_status": 1,
        "cfg_received_func_lvl_rst": 1, "cfg_bridge_serr_en": 1, "cfg_slot_control_electromech_il_ctl_pulse": 1,
        "cfg_root_control_syserr_corr_err_en": 1, "cfg_root_control_syserr_non_fatal_err_en": 1,
        "cfg_root_control_syserr_fatal_err_en": 1, "cfg_root_control_pme_int_en": 1,
        "cfg_aer_rooterr_corr_err_reporting_en": 1, "cfg_aer_rooterr_non_fatal_err_reporting_en": 1,
        "cfg_aer_rooterr_fatal_err_reporting_en": 1, "cfg_aer_rooterr_corr_err_received": 1,
        "cfg_aer_rooterr_non_fatal_err_received": 1, "cfg_aer_rooterr_fatal_err_received": 1,
        "cfg_vc_tcvc_map": 7, "cfg_msg_received": 1, "cfg_msg_data": 16,
        **{f"cfg_msg_received_{what}": 1 for what in (
            "pm_as_nak", "setslotpowerlimit", "err_cor", "err_non_fatal", "err_fatal", "pm_pme", "pme_to_ack",
            *(f"{change}_int_{pin}" for change in ("assert", "deassert") for pin in "abcd"))},
        "pl_sel_lnk_rate": 1, "pl_sel_lnk_width": 2, "pl_ltssm_state": 6, "pl_lane_reversal_mode": 2, "pl_phy_lnk_up": 1,
        "pl_tx_pm_state": 3, "pl_rx_pm_state": 2, "pl_link_upcfg_cap": 1, "pl_link_gen2_cap": 1,
        "pl_link_partner_gen2_supported": 1, "pl_initial_link_width": 3, "pl_directed_change_done": 1,
        "pl_received_hot_rst": 1,
        "pcie_drp_rdy": 1, "pcie_drp_do": 16,
    }
    return {**{name: ("i", bits) for name, bits in inputs.items()}, **{name: ("o", bits) for name, bits in outputs.items()}}


@dataclass(frozen=True)
class Link:
    """A shape of the block: bits of its interface, and its user clock in MHz.

    ``user1_mhz``: of ``pipe_userclk1_in``; ``user2_mhz``: of ``pipe_userclk2_in``, which becomes ``user_clk_out``.
    """
    width: int
    user1_mhz: float
    user2_mhz: float


#: By lanes, for 5 GT/s; the same serve 2.5 GT/s (PG054, "Interface Width, Frequency"). The slowest clock that keeps up.
LINKS = {1: Link(64, 62.5, 62.5), 2: Link(64, 125, 125), 4: Link(128, 250, 125)}
