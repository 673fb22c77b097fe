"""What tests of a whole card do with its driver and its wire, whatever the card is behind."""

from contextlib import suppress

from ringnic.hdl.spec.virtio import Status

__all__ = ["WholeCard"]


class WholeCard:
    """A card with a driver and a wire.

    A subclass has ``bus``; ``net``, the driver as of the last opening; ``to_card(frames)``; and ``from_card()``, the frames that
    came out since the last call.
    """
    LIMIT = 200_000  # cycles; whatever takes longer hangs
    STEP = 200       # cycles between looks

    def on_wire(self, sent, came):
        """What a frame that was sent looks like on the wire, where ``came`` has arrived."""
        return sent

    def until(self, done, what, limit=None):
        """Run until ``done()``, in bounded time. ``what`` is waited for: a text, or a function that gives it in the end."""
        limit = limit or self.LIMIT
        for _ in range(limit // self.STEP):
            if done():
                return
            self.bus.run(self.STEP)
        raise AssertionError(f"Not within {limit} cycles: {what() if callable(what) else what}{self._counted()}")

    def _counted(self):
        """What the card has counted, for whoever has nothing but this message."""
        counters = {}
        with suppress(Exception):   # a card that is gone has none, and one that was never opened has no driver
            counters = self.net.counters()
        return "".join(f"; {name} {count}" for name, count in counters.items() if count)

    def gather(self, source, count, what):
        """Run until ``source()`` has given ``count`` items, and return them."""
        got = []
        self.until(lambda: got.extend(source()) or len(got) >= count, lambda: f"{count} {what}, of which {len(got)} came")
        return got

    def expect_wire(self, frames):
        """Run until these frames came out, in order and nothing else."""
        got = self.gather(self.from_card, len(frames), "frames on the wire")
        assert len(got) == len(frames) and got == [self.on_wire(sent, came) for sent, came in zip(frames, got)]

    def expect_received(self, frames, pair=0):
        got = self.gather(lambda: self.net.receive(pair), len(frames), "frames received")
        assert got == list(frames)

    def send(self, frames):
        """Send through the driver, waiting where the queue is full."""
        for frame in frames:
            self.until(lambda: self.net.reclaim() or self.net.can_send(), "a free transmit buffer")
            self.net.send(frame)

    def all_sent(self):
        self.until(lambda: self.net.reclaim() is not None and not self.net.tx.num_pending, "all transmit buffers back")

    def passes_out(self, frames):
        """These frames get to the wire, and their buffers back."""
        self.from_card()
        self.send(frames)
        self.expect_wire(frames)
        self.all_sent()

    def passes_in(self, frames):
        self.to_card(frames)
        self.expect_received(frames)

    def broken(self):
        return bool(self.net.transport.status & Status.DEVICE_NEEDS_RESET)
