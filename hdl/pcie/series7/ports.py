"""The ports of the block that the adapter uses, as bundles."""

from amaranth.lib.wiring import In, Out, Signature

from ...spec.pcie_7x import block_ports

__all__ = ["RX", "TX", "CONFIG", "TRACE", "ports"]

#: Received TLPs.
RX = ("m_axis_rx_tdata", "m_axis_rx_tkeep", "m_axis_rx_tlast", "m_axis_rx_tvalid", "m_axis_rx_tready", "m_axis_rx_tuser",
      "rx_np_ok", "rx_np_req")

#: TLPs to send, and the credits for them.
TX = ("s_axis_tx_tdata", "s_axis_tx_tkeep", "s_axis_tx_tlast", "s_axis_tx_tvalid", "s_axis_tx_tready", "s_axis_tx_tuser",
      "tx_buf_av", "tx_cfg_req", "tx_cfg_gnt", "fc_sel", "fc_ph", "fc_pd", "fc_nph", "fc_npd", "fc_cplh", "fc_cpld",
      "user_lnk_up")

#: What the host has configured, and what the block is to tell it.
CONFIG = ("cfg_command", "cfg_dcommand", "cfg_dcommand2", "cfg_bus_number", "cfg_device_number", "cfg_function_number",
          "cfg_pmcsr_powerstate", "cfg_interrupt_msixenable", "cfg_interrupt_msixfm",
          "cfg_interrupt", "cfg_interrupt_assert", "cfg_interrupt_rdy", "cfg_interrupt_stat",
          "cfg_err_ur", "cfg_err_posted", "cfg_err_locked", "cfg_err_tlp_cpl_header", "cfg_err_cpl_rdy",
          "cfg_err_malformed", "cfg_err_cpl_unexpect", "cfg_err_cpl_timeout", "cfg_err_norecovery",
          "cfg_to_turnoff", "cfg_turnoff_ok", "cfg_trn_pending")

#: What the link is doing.
TRACE = ("pl_ltssm_state", "pl_sel_lnk_rate", "pl_sel_lnk_width")


def ports(names, *, width):
    """Signature of ports of the block, seen from the adapter; ``width`` is that of the streams."""
    known = block_ports(lanes=1, width=width)
    return Signature({name: {"i": Out, "o": In}[known[name][0]](known[name][1]) for name in names})
