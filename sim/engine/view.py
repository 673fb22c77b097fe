"""The saved view of a waveform: the signals that one wants to see first, for GTKWave and for Surfer."""

from pathlib import Path

from vcd.gtkw import GTKWSave

__all__ = ["GROUPS", "save_view"]


def _stream(path, *fields):
    return [f"{path}__{name}" for name in ("valid", "ready", *(f"payload.{field}" for field in fields))]


def _buffers(path):
    return [f"{path}__available", *_stream(f"{path}__take", "op", "queue"), *_stream(f"{path}__segment", "id", "addr", "len"),
            *_stream(f"{path}__used", "id", "len", "flush")]


#: title: signals, by their names in the simulator. Those that a NIC does not have are left out.
GROUPS = {
    "Clock": ["nic.clk", "nic.rst", "nic.busy", "nic.link_up"],
    "TLPs from the host": [f"nic.tlp_rx_{name}" for name in ("valid", "ready", "last", "data")],
    "TLPs to the host": [f"nic.tlp_tx_{name}" for name in ("valid", "ready", "last", "data")],
    "Notifications": ["nic.core.engine.kick_valid", "nic.core.engine.kick_queue", *_stream("nic.core.engine.notify"),
                      "nic.core.engine.notify__payload", *_stream("nic.core.endpoint.irq"), "nic.core.endpoint.irq__payload"],
    "Ring engine": [*(f"nic.core.engine.{stage}.state_state" for stage in ("avail", "desc", "walk_0", "walk_1", "used")),
                    "nic.core.engine.error"],
    "Receive": ["nic.core.device.receive.provide_state", "nic.core.device.receive.deliver_state",
                *_buffers("nic.core.device.rx_buffers"), *_stream("nic.core.device.frames_rx", "data", "last")],
    "Transmit": ["nic.core.device.transmit.take_state", *_buffers("nic.core.device.tx_buffers"),
                 *_stream("nic.core.device.frames_tx", "data", "last")],
    "Wire": [f"nic.gmii_{name}" for name in ("rx_dv", "rxd", "rx_er", "tx_en", "txd", "tx_er")],
    "Reset": ["nic.core.endpoint.flr", "nic.core.endpoint.stop", "nic.core.endpoint.stopped", "nic.core.endpoint.reset"],
}


def save_view(wave, names):
    """Write the view beside the waveform ``wave``: the same name with ``.gtkw`` (GTKWave) and ``.sucl`` (Surfer).

    ``names`` : dict
        Of the simulator's signals, with their widths in bits: :meth:`.engine.Engine.names`.
    Returns both paths.
    """
    wave = Path(wave)
    gtkw, sucl = wave.with_suffix(".gtkw"), wave.with_suffix(".sucl")
    with open(gtkw, "w") as file, open(sucl, "w") as commands:
        save = GTKWSave(file)
        save.dumpfile(str(wave))
        save.signals_width(320)
        save.sst_expanded(False)
        for title, signals in GROUPS.items():
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
