"""A stage that offers events, together with what writes them."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from ringnic.hdl.lib.dma import WritePort
from ringnic.hdl.virtqueue.event import EventWriter

from .wrap import pass_on

__all__ = ["WithEvents"]


class WithEvents(wiring.Component):
    """``stage`` with an :class:`EventWriter`: ``event`` is its write port. It is busy while either of them is."""
    def __init__(self, stage):
        self.stage, self.width = stage, stage.width
        own = {name: member for name, member in stage.signature.members.items()
               if name not in ("event", "left_valid", "left_queue")}
        super().__init__({**own, "event": Out(WritePort(stage.width))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.stage  = stage  = self.stage
        m.submodules.events = events = EventWriter(width=stage.width, num_queues=stage.num_queues)
        connect(m, stage.event, events.i)
        connect(m, events.write, flipped(self.event))
        m.d.comb += [
            events.setup_valid.eq(self.setup_valid),
            events.setup.eq(self.setup),
            stage.left_valid.eq(events.left_valid),
            stage.left_queue.eq(events.left_queue),
            self.busy.eq(stage.busy | events.busy),
        ]
        pass_on(m, self, stage, {"event", "left_valid", "left_queue", "busy"})
        return m
