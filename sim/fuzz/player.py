"""Does what a list of actions says to a simulated card, and holds the card to its promises.

An action is a list: a name of :data:`.case.ACTIONS` and numbers. Every action can be done at any time, whatever came before, so
that a list from which some were taken away still means something.
"""

import random
import struct

from ...hdl.spec.bar import COUNTERS
from ...hdl.spec.net import VIRTIO_NET_OK
from ...hdl.spec.virtio import (VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET,
                                Status)
from ...host.driver import DeviceError
from .calm import LIMIT, LOOK, PATIENCE, SHORT, Calm
from .card import Card, Unresponsive
from .case import PAIRS
from .ears import Ears
from .good import FLOOR, BrokenPromise, GoodPair
from .ground import ARENA, GOOD_RX, GOOD_TX, LOOSE, RINGS, TABLES, ZONE, Ground
from .hostile import Hostile
from .places import NOISE, unset_rings

__all__ = ["Player"]

REST = 300              # cycles in which a card that was reset is watched
U16 = struct.Struct("<H")
LIVE = int(Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK)


class Player:
    """One card, from power-on to the end of a case.

    Parameters
    ----------
    case : Case
        Its actions are not done: call :meth:`do`.
    engine : Engine
        Closed by whoever opened it.

    Attributes
    ----------
    done : int
        Driver actions so far: ring entries, descriptors, register accesses, frames, faults.
    cells : set
        What was met: ``(action, state of the card, what came of it)``.
    """
    def __init__(self, case, engine):
        self.engine = engine
        self.ground = Ground(engine, case.base, case.turn, case.link == "torn")
        self._salt = case.number
        self._board, self._link_model = case.board, case.link_model
        self.ground.memory[GOOD_TX][:] = self.ground.memory[GOOD_RX][:] = NOISE[:ZONE]
        self.card = Card(engine)
        self._calm = Calm(engine, self.card, case.link_model)
        self.torn = case.link == "torn"
        self.done = 0
        self.cells = set()
        self.counters = set()
        self._names = set()              # of actions since the last look
        self.card.boot()
        self._fresh()

    def _fresh(self):
        """The device was just reset."""
        self.good, self.live, self._features = None, False, frozenset()
        self._hostile = Hostile(self.ground, self.card, self.torn)
        self.ground.forget()
        self.ground.memory[TABLES][:] = NOISE[:ZONE]
        self.ground.memory[LOOSE][:] = unset_rings(self._salt) if self._salt % 2 else bytes(ZONE)
        self.ground.memory[ARENA][:] = random.Random(1).randbytes(ZONE)
        if self.torn:
            # Any half of a descriptor may be met with any other half that was there before.
            self.ground.allow(ARENA)
            self.ground.allow(TABLES)
            self.ground.astray = True
        self._stops = self._stopped = 0  # queue_errors at the beginning, and how many since, at the last look
        self._tainted = False            # reads failed: a frame of the good pair may be lost, its queue may stop
        self._lost_kick = False          # notifications may have been
        self._ears = Ears(self.engine, self.card)

    def do(self, action):
        """Do one action. Raises :exc:`BrokenPromise`."""
        name = action[0]
        self._names.add(name)
        self.done += 1
        try:
            (getattr(self, f"_{name}", None) or getattr(self._hostile, name))(*action[1:])
        except (Unresponsive, TimeoutError) as error:
            raise BrokenPromise("dead", str(error)) from error
        except DeviceError as error:
            raise BrokenPromise("ring", str(error)) from error

    @property
    def rings(self):
        """Of the hostile queues that were set up since the last reset, as of :class:`.hostile.Hostile`."""
        return self._hostile.rings

    # A device's life

    def _begin(self, *features):
        """Negotiate, a device that has been reset."""
        if self._features:
            return
        self._stops = self.card.counter("queue_errors")
        if self.card.negotiate(features):
            self._features = frozenset(features)
            self._hostile.packed = VIRTIO_F_RING_PACKED in features

    def _good(self, pair, rx_size, tx_size, control):
        """Set the well-behaved pair up; with ``control`` it has the control queue, too."""
        if self._features and self.good is None:
            self.good = GoodPair(self.ground, self.card, pair, self._features, rx_size, tx_size, 2 * PAIRS if control else None,
                                 self._salt)

    def _live(self, pairs):
        """DRIVER_OK; then the good pair, if it is not the first, becomes active, and tells the card its flow."""
        if not self._features or self.live:
            return
        self._calm.forget_frames()
        self.card.status = LIVE
        self.live = True
        if self.good is not None:
            if self.good.sending:
                self._check()            # what it was notified of before is not forgotten
            self.good.start(pairs, self._calm.limit())
            self.good.send(FLOOR, ())
            self._check()

    def _early(self, size):
        """The well-behaved pair is in a hurry: rings filled and notified of before DRIVER_OK, which the card has to survive."""
        if self.good is not None and not self.live:
            self.good.start_early(size)

    def _reset(self, kind):
        """End of a device's life: by status (0), FLR (1) or power (2), which has to do where there is no FLR. Nothing is touched
        afterwards."""
        if kind == 0:
            self._wake()
            self._ears.unmask()
        if kind == 2 or kind == 1 and self._board:
            self.engine.reset()
        else:
            (self.card.reset, self.card.function_level_reset)[kind](LIMIT)
        self._judge()
        self._calm.end_faults()
        if self.good is not None:
            self.good.look_at_wire()
        boot = kind or self._ears.deaf
        self._fresh()
        self.engine.run(REST)
        self._judge()
        if boot:
            self.card.boot()
        self.engine.set_link(True)
        if self.engine.run_until(idle=True, limit=LIMIT) >= LIMIT:
            raise BrokenPromise("quiet", "a card that was reset does not come to rest")
        while self.engine.recv_frame() is not None:
            pass
        self._ears.queues()
        self._names.clear()

    def _wake(self):
        """Nothing but the device itself keeps it from its work."""
        self.card.power(0)
        self.card.command(memory=True, master=True)

    def _loose(self, at, value):
        """Write a halfword where rings of nobody may be."""
        U16.pack_into(self.ground.memory[LOOSE], at, value)

    # Registers

    def _kick(self, queue, following):
        if VIRTIO_F_NOTIFICATION_DATA in self._features:
            self.card.notify(queue, following << 16 | queue, 4)
        else:
            self.card.notify(queue, queue, 2)

    def _notify(self, where, size, value):
        """A notification as no driver sends it."""
        self.card.notify(where, value, size)

    def _common(self, select, offset, size, value):
        """Write ``size`` bytes into the common configuration, with a queue selected before it unless that is -1."""
        self.ground.loose = True
        self.ground.allow(LOOSE)
        if select >= 0:
            self.card.select(select)
        self.card.common(offset, size, value)

    def _queue_reset(self, queue):
        self._wake()
        self.card.reset_queue(queue, self._calm.limit())
        if VIRTIO_F_RING_RESET in self._features and self.rings.pop(queue, None):
            self._judge()
            if not self.torn:
                self.ground.withdraw(RINGS + queue)

    def _write(self, offset, size, value):
        self.card.write(offset, size, value)

    def _read(self, offset, size):
        self.card.read(offset, size)

    def _window(self, offset, size, value):
        """By ``pci_cfg_data``: read if ``value`` is -1."""
        self.card.window(offset, size, None if value < 0 else value)

    def _vector(self, vector, dw, value):
        self._ears.deaf = True
        self.card.table(vector, dw, value)
        self.ground.loose = True

    def _msix(self, enable, mask):
        self._ears.deaf = True
        self.card.msix(enable=bool(enable), mask=bool(mask))

    def _mask(self, vector, on):
        """Mask a vector (or WHOLE: the function), or no longer, and see to it that the card has taken that."""
        self._ears.mask(vector, on)

    def _master(self, on, memory):
        self._lost_kick |= not memory
        self.card.command(memory=bool(memory), master=bool(on))

    def _power(self, state):
        self._lost_kick = True
        self.card.power(state)

    def _device_control(self, value):
        self.card.device_control(value)

    # Link and wire

    def _link(self, name):
        if name != "torn" or self.torn:
            self.engine.set_link_model(self._link_model(name))

    def _fault(self, name, one_in):
        """From now on, until the next look, so many reads of the card end like this."""
        self._tainted = True
        self._calm.fault(name, one_in)

    def _cable(self, up):
        self._tainted = True
        self.engine.set_link(bool(up))

    def _frame(self, size, start, first):
        """A frame from the wire for whoever gets it: noise behind ``first``, six bytes as a number."""
        noise = self.ground.memory[ARENA]
        self.engine.send_frame((first.to_bytes(6, "big") + bytes(noise[start:start + size]))[:size])

    def _flood(self, count, size, start):
        """So many frames back to back, for whoever gets them."""
        noise = self.ground.memory[ARENA]
        for k in range(count):
            if not self.engine.send_frame(bytes(noise[start + k:start + k + size])):
                break
            self.done += 1

    def _send(self, size, *cuts):
        if self.good is not None and self.live and self.good.send(size, cuts):
            self.done += len(cuts)

    def _scatter(self, size, entries):
        """As send, in an indirect table of so many entries."""
        if self.good is not None and self.live:
            self.good.send(size, (), entries)

    def _spread(self, entries):
        """The well-behaved pair puts receive buffers back in tables of so many entries from now on, 0 for no tables."""
        if self.good is not None:
            self.good.spread = entries

    def _command(self, entries):
        """The well-behaved driver's command, in a table of so many entries."""
        if self.good is None or not self.live:
            return
        self.done += 1
        self._check()                    # nothing keeps the card from its work
        answer = self.good.command(entries, self._calm.limit())
        if answer not in (None, VIRTIO_NET_OK) and not self._tainted:
            raise BrokenPromise("command", f"a command in a table of {entries} entries is answered {answer}")

    def _feed(self, size):
        if self.good is not None and self.live:
            self.good.feed(size)

    def _silent(self, on):
        """From now on the well-behaved pair tells, or does not, of receive buffers that it puts back."""
        if self.good is not None:
            self.good.silent = bool(on)

    def _poll(self):
        self.done -= 1
        if self.good is not None and self.live:
            self.good.poll()

    def _run(self, cycles):
        self.done -= 1
        self.engine.run(cycles)

    # Promises

    def _check(self):
        """Put back what stops everything, let the card come to rest, and judge."""
        self.done -= 1
        self._wake()
        self._ears.unmask()
        self._calm.end_faults()
        self.engine.set_link(True)
        good = self.good if self.live else None
        if good is not None:
            if self._lost_kick:
                good.kick()
            good.poll()
        self._lost_kick = False
        waiting = self._rest()
        if good is not None:
            self._settle(good)
        self._judge()
        status = self.card.status
        stops = (self.card.counter("queue_errors") - self._stops) & 0xffff_ffff if self.live else 0
        if self.live and (bool(status & Status.DEVICE_NEEDS_RESET) != bool(stops) or status & LIVE != LIVE):
            raise BrokenPromise("status", f"status is {status:#x} after {stops} queues stopped")
        self._note("waiting" if waiting else "stopped" if stops > self._stopped else "quiet")
        self._stopped = stops

    def _rest(self):
        """Wait until the card rests; return whether frames wait for buffers."""
        polls = self.live and self.good is not None
        return self._calm.wait(self.live, self.good.poll if polls else lambda: None)

    def _note(self, outcome):
        ring = ("packed" if self._hostile.packed else "split") + " in order" * (VIRTIO_F_IN_ORDER in self._features)
        state = ring if self.live else "not live"
        self.cells.update((name, state, outcome) for name in self._names)
        self._names.clear()

    def _settle(self, good):
        """All frames of the good pair come, in bounded time, but those that were counted as dropped."""
        good.poll()
        spent, limit = 0, None
        while (good.sending or good.receiving) and (limit is None or spent < limit):
            if spent > SHORT and limit is None:
                limit = self._calm.limit() + PATIENCE * self._calm.waiting()
            before = good.progress
            if good.silent and good.receiving:
                self.engine.run(LOOK)
            ran = self.engine.run_until(idle=True, limit=SHORT)
            spent += ran
            good.poll()
            if ran < SHORT and good.progress == before:
                break
        lost = good.lost()
        if any(lost.values()) and not self._tainted:
            drops = self._calm.drops()
            if lost["tx"] or lost["rx"] > drops:
                raise BrokenPromise("stall", f"frames of the good pair lost: {lost}; dropped on their way in: {drops}")
        if not (self._ears.deaf or self._tainted):
            vectors = self._ears.queues()
            owed = {queue for queue, count in good.came_back.items() if count}
            if owed - vectors:
                self._rest()
                if owed := owed - vectors - self._ears.queues():
                    raise BrokenPromise("interrupt", f"buffers of queues {sorted(owed)} came back, and nobody was told")
        self._ears.queues()
        good.wish()

    def _judge(self):
        if bad := self.ground.judge():
            raise BrokenPromise("dma", f"nobody described: {'; '.join(bad[:3])}")
        if bad := self.engine.violations():
            raise BrokenPromise("tlp", "; ".join(bad[:3]))

    def read_counters(self):
        """Note which of the card's counters have moved."""
        self.counters.update(name for name in COUNTERS if name not in self.counters and self.card.counter(name))

