"""The saved view of a waveform: the signals that one wants to see first, for GTKWave and for Surfer."""

from pathlib import Path

from vcd.gtkw import GTKWSave

__all__ = ["BOARD_GROUPS", "GROUPS", "save_view"]


def _stream(path, *fields):
    return [f"{path}__{name}" for name in ("valid", "ready", *(f"payload.{field}" for field in fields))]


def _buffers(path):
    return [f"{path}__available", f"{path}__pause", *_stream(f"{path}__take", "op", "queue", "count"),
            *_stream(f"{path}__segment", "queue", "chain", "addr", "len"),
            *_stream(f"{path}__used", "queue", "chain", "len", "flush")]


_FUNCTION = "nic.core.function"
_ENGINE, _ENDPOINT, _DEVICE = f"{_FUNCTION}.engine", f"{_FUNCTION}.endpoint", f"{_FUNCTION}.device"

#: title: signals, by their names in the simulator. Those that a NIC does not have are left out.
GROUPS = {
    "Clock": ["nic.clk", "nic.rst", "nic.busy", "nic.link_up"],
    "TLPs from the host": [f"nic.tlp_rx_{name}" for name in ("valid", "ready", "last", "data")],
    "TLPs to the host": [f"nic.tlp_tx_{name}" for name in ("valid", "ready", "last", "data")],
    "Notifications": [*(f"{_ENGINE}.kick_{name}" for name in ("valid", "queue", "next")), *_stream(f"{_ENGINE}.notify"),
                      f"{_ENGINE}.notify__payload", *_stream(f"{_ENDPOINT}.irq__req", "source", "vector", "withdraw")],
    "Ring engine": [f"{_ENGINE}.packed",
                    *(f"{_ENGINE}.{stage}_state" for stage in (
                        "avail.state", "desc.runs.state", "packed_fetch.state", "walk.ask.ask", "used.collect.state")),
                    f"{_ENGINE}.error"],
    "Receive": [f"{_DEVICE}.receive.provide.provide_state", f"{_DEVICE}.receive.deliver.deliver_state",
                *_buffers(f"{_FUNCTION}.buffers__0"), *_stream("nic.core.frames_rx", "data", "last")],
    "Transmit": [f"{_DEVICE}.transmit.take_state", *_buffers(f"{_FUNCTION}.buffers__1"),
                 *_stream("nic.core.frames_tx", "data", "last")],
    "Control queue": [f"{_DEVICE}.control.fsm_state"],
    "Wire": [f"nic.gmii_{name}" for name in ("rx_dv", "rxd", "rx_er", "tx_en", "txd", "tx_er")],
    "Reset": [f"{_ENDPOINT}.flr", f"{_ENDPOINT}.stop", f"{_ENDPOINT}.stopped", f"{_ENDPOINT}.reset",
              *(f"{_ENGINE}.{name}" for name in ("reset_valid", "reset_queue", "pausing", "reset_done"))],
}

_CARD = "nic.card"

#: The same of a board's whole card: the ports of its PCI Express block, then the network card behind the adapter. There are no
#: pads of an RGMII, which change between the instants that a waveform shows: these are the edges of the user clock.
BOARD_GROUPS = {
    "Clock": [f"{_CARD}.user_clk_out", f"{_CARD}.user_reset_out", "nic.busy", "nic.ethernet_up"],
    "Link": [f"{_CARD}.{name}" for name in (
        "user_lnk_up", "pl_ltssm_state", "cfg_command", "cfg_dcommand", "cfg_interrupt_msixenable", "cfg_pmcsr_powerstate")],
    "Block to card": [f"{_CARD}.m_axis_rx_{name}" for name in ("tvalid", "tready", "tlast", "tkeep", "tuser", "tdata")],
    "Card to block": [*(f"{_CARD}.s_axis_tx_{name}" for name in ("tvalid", "tready", "tlast", "tkeep", "tuser", "tdata")),
                      f"{_CARD}.tx_buf_av"],
    "Interrupts and errors": [f"{_CARD}.cfg_{name}" for name in (
        "interrupt", "interrupt_rdy", "interrupt_assert", "err_ur", "err_cpl_rdy", "trn_pending", "to_turnoff", "turnoff_ok")],
    "TLPs from the host": _stream(f"{_CARD}.tlp_rx", "last", "data"),
    "TLPs to the host": _stream(f"{_CARD}.tlp_tx", "last", "data"),
    **{title: [name.replace("nic.core.", f"{_CARD}.nic.") for name in GROUPS[title]]
       for title in ("Notifications", "Ring engine", "Receive", "Transmit", "Control queue")},
    "Wire": GROUPS["Wire"],
    "Reset": [name.replace("nic.core.", f"{_CARD}.nic.") for name in GROUPS["Reset"]],
}


def save_view(wave, names, groups=GROUPS):
    """Write the view beside the waveform ``wave``: the same name with ``.gtkw`` (GTKWave) and ``.sucl`` (Surfer).

    ``names`` : dict
        Of the simulator's signals, with their widths in bits: :meth:`.engine.Engine.names`.
    ``groups`` : dict
        What the view shows: :data:`GROUPS`, or :data:`BOARD_GROUPS`.
    Returns both paths.
    """
    wave = Path(wave)
    gtkw, sucl = wave.with_suffix(".gtkw"), wave.with_suffix(".sucl")
    with open(gtkw, "w") as file, open(sucl, "w") as commands:
        save = GTKWSave(file)
        save.dumpfile(str(wave))
        save.signals_width(320)
        save.sst_expanded(False)
        for title, signals in groups.items():
            found = [name for name in signals if name in names]
            if not found:
                continue
            commands.write(f"divider_add {title.replace(' ', '_')}\n")
            with save.group(title, closed=title in ("Clock", "Reset")):
                for name in found:
                    bits = names[name]
                    save.trace(f"TOP.{name}" + (f"[{bits - 1}:0]" if bits > 1 else ""),
                               datafmt="hex" if bits > 1 else "bin")
                    commands.write(f"variable_add TOP.{name}\n")
    return gtkw, sucl
