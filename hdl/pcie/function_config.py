"""The seam between the function and whoever keeps its configuration: our configuration space, or a PCIe hard block.

Ref: PCI Express Base 5.0, 7.5.1.1 "Type 0/1 Common Configuration Space", 7.5.3 "PCI Express Capability Structure", 7.7.2 "MSI-X
Capability and Table Structure".
"""

from amaranth.lib.wiring import In, Out, Signature

__all__ = ["FunctionConfig"]


def FunctionConfig():
    """What the host has configured, and what it is told in return; seen from the one that keeps it.

    What the host configured is stable while a request is carried out.

    Members
    -------
    requester_id : Out(16)
        Bus, device and function number, for all that the function sends.
    bar0 : Out(32), memory_enable : Out(1), bus_master : Out(1), intx_disable : Out(1)
        Address of BAR 0, and what is in effect of the Command register: nothing but configuration is alive in D3hot.
    mps, mrrs : Out(3)
        Max_Payload_Size and Max_Read_Request_Size, coded: 0 for 128 bytes to 5 for 4096; within what is supported.
    ext_tag, timeout_disable, msix_enable, msix_function_mask : Out(1)
    parity, serr : Out(1), reports : Out(4)
        Parity Error Response and SERR# Enable; reporting of correctable, non-fatal and fatal errors and unsupported requests.
    power_state : Out(2)
        0 for D0, 3 for D3hot.
    flr : Out(1)
        Function Level Reset was requested; high until ``reset``. The function carries out no request meanwhile.
    reset : In(1)
        One cycle: the function has been reset.
    interrupt : In(1)
        INTx is pending, masked or not.
    transactions_pending : In(1)
        A read of the function has not been answered.
    noted : In(16), noted_device : In(4)
        Strobes: bits to set in Status and Device Status.
    """
    return Signature({
        "requester_id": Out(16),
        "bar0": Out(32),
        "memory_enable": Out(1),
        "bus_master": Out(1),
        "intx_disable": Out(1),
        "mps":  Out(3),
        "mrrs": Out(3),
        "ext_tag": Out(1),
        "timeout_disable": Out(1),
        "msix_enable": Out(1),
        "msix_function_mask": Out(1),
        "parity": Out(1),
        "serr": Out(1),
        "reports": Out(4),
        "power_state": Out(2),
        "flr": Out(1),
        "reset": In(1),
        "interrupt": In(1),
        "transactions_pending": In(1),
        "noted": In(16),
        "noted_device": In(4),
    })
