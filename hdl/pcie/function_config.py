"""The seam between the function and whoever keeps its configuration: the card itself, or a PCIe block in front of it.

Ref: PCI Express Base 5.0, 6.2.3.2 "Error Signaling", 7.5.1.1 "Type 0/1 Common Configuration Space", 7.5.3 "PCI Express Capability
Structure", 7.7.2 "MSI-X Capability and Table Structure".
"""

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from ..lib.reg import RegPort
from ..spec.bar import REG_ADDR_WIDTH
from .tlp_stream import tlp_beat

__all__ = ["CPL_FAULTS", "FAULTS", "REQUEST_FAULTS", "STATE", "FunctionConfig"]

#: Of a request: not supported; with poisoned data; its completion says so, which makes the error advisory.
REQUEST_FAULTS = data.StructLayout({"unsupported": 1, "poisoned": 1, "advisory": 1})

#: Of a completion of one of our reads: with poisoned data; Unsupported Request, or what counts as that; Completer Abort.
CPL_FAULTS = data.StructLayout({"poisoned": 1, "refused": 1, "aborted": 1})

#: What the Transaction Layer finds wrong: besides the above, a TLP of any kind is malformed; a completion is nobody's, or not
#: what was asked for; a read is not answered.
FAULTS = data.StructLayout({
    "request": REQUEST_FAULTS, "completion": CPL_FAULTS, "malformed": 1, "unexpected": 1, "timeout": 1})


#: Members of :func:`FunctionConfig` that are configuration, or that it shows; seen from the one that keeps it.
STATE = {
    "address": In(64),
    "bar_hit": Out(1),
    "bus_master": Out(1),
    "mps":  Out(3),
    "mrrs": Out(3),
    "ext_tag": Out(1),
    "timeout_disable": Out(1),
    "msix_enable": Out(1),
    "msix_function_mask": Out(1),
    "flr": Out(1),
    "reset": In(1),
    "interrupt": In(1),
    "transactions_pending": In(1),
}


def FunctionConfig(width):
    """What the host has configured, and what it is told besides the function's own TLPs; seen from the one that keeps it.

    What the host configured is stable while a request is carried out.

    Parameters
    ----------
    width : int
        Bits per beat of the TLP stream.

    Members
    -------
    cfg : In(RegPort(12))
        Configuration requests that have come as TLPs.
    captured : In(16)
        Bus, device and function number that the last configuration write was addressed to (2.2.6.2).
    regs : Out(RegPort(REG_ADDR_WIDTH))
        BAR accesses through the pci_cfg window (VIRTIO 1.4, 4.1.4.9 "PCI configuration access capability").
    requester_id : Out(16)
        Bus, device and function number, for all that the function sends.
    address : In(64), bar_hit : Out(1)
        Of a memory request; it begins in BAR 0, and is to be taken. In the same cycle.
    bus_master : Out(1)
        Bus Master Enable is in effect: nothing but configuration is alive in D3hot.
    mps, mrrs : Out(3)
        Max_Payload_Size and Max_Read_Request_Size, coded: 0 for 128 bytes to 5 for 4096; within what is supported.
    ext_tag, timeout_disable, msix_enable, msix_function_mask : Out(1)
    flr : Out(1)
        Function Level Reset was requested; high until ``reset``. The function carries out no request meanwhile.
    reset : In(1)
        One cycle: the function has been reset.
    interrupt : In(1)
        INTx is pending; whether it is disabled is judged by the one that keeps the configuration.
    transactions_pending : In(1)
        A read of the function has not been answered.
    leaving : In(1)
        What the function began to send before ``bus_master`` fell has not left yet. A cycle late. It is for a block that itself
        completes configuration writes; the function's own completions wait anyway.
    faults : In(FAULTS)
        Strobes. They are noted, and told of as the host wishes.
    turn_off : In(1)
        Strobe: PME_Turn_Off has come as a TLP, and awaits its answer.
    messages : Out(stream.Signature(tlp_beat(width)))
        Messages to send: INTx, errors, the answer to PME_Turn_Off.
    busy : Out(1)
        The host is yet to be told something. 6.1.4.5, 7.5.1.1.3: no completion passes it.
    """
    return Signature({
        "cfg":  In(RegPort(12)),
        "captured": In(16),
        "regs": Out(RegPort(REG_ADDR_WIDTH)),
        "requester_id": Out(16),
        **STATE,
        "leaving":  In(1),
        "faults":   In(FAULTS),
        "turn_off": In(1),
        "messages": Out(stream.Signature(tlp_beat(width))),
        "busy": Out(1),
    })
