"""The card keeps its own configuration: registers, and the messages that depend on them."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from .config import ConfigSpace
from .errors import Errors
from .function_config import STATE, FunctionConfig
from .messages import Messages
from .parameters import PcieParameters

__all__ = ["SoftConfig"]


class SoftConfig(wiring.Component):
    """Provide the configuration out of :class:`ConfigSpace`; judge faults, and send the messages of the function.

    Parameters
    ----------
    width : int
        Bits per beat of the TLP stream.
    pcie : PcieParameters
    identity
        Further parameters of :class:`ConfigSpace`.

    Members
    -------
    function : Out(FunctionConfig(width))
    """
    def __init__(self, *, width, pcie=PcieParameters(), **identity):
        self.width = width
        self.space = ConfigSpace(pcie=pcie, **identity)
        super().__init__({"function": Out(FunctionConfig(width))})

    def elaborate(self, platform):
        m = Module()
        function, space = self.function, self.space
        m.submodules.space    = space
        m.submodules.errors   = errors   = Errors()
        m.submodules.messages = messages = Messages(width=self.width)
        connect(m, flipped(function.cfg), space.cfg)
        connect(m, space.regs, flipped(function.regs))
        connect(m, messages.o, flipped(function.messages))
        for name, member in STATE.items():
            outer, inner = getattr(function, name), getattr(space, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        m.d.comb += [
            function.requester_id.eq(function.captured),
            space.noted.eq(errors.noted),
            space.noted_device.eq(errors.noted_device),

            # 6.1.3: no INTx while MSI-X is on
            messages.intx.eq(function.interrupt & ~space.intx_disable),
            messages.err_nonfatal.eq(errors.err_nonfatal),
            messages.err_fatal.eq(errors.err_fatal),
            messages.pme_to_ack.eq(function.turn_off),
            messages.requester_id.eq(function.captured),

            errors.faults.eq(function.faults),
            errors.parity.eq(space.parity),
            errors.serr.eq(space.serr),
            errors.reports.eq(space.reports),
            errors.asleep.eq(space.power_state != 0),
            errors.quiet.eq(space.flr),
            function.busy.eq(messages.busy | errors.err_nonfatal | errors.err_fatal),
        ]
        return m
