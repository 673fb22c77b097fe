"""Does what a list of actions says to a simulated card, and holds the card to its promises.

An action is a list: a name of :data:`.case.ACTIONS` and numbers. Every action can be done at any time, whatever came before, so
that a list from which some were taken away still means something.
"""

from dataclasses import dataclass
import random
import struct

from ...hdl.spec.bar import COUNTERS
from ...hdl.spec.net import VIRTIO_NET_OK
from ...hdl.spec.virtio import (MAX_TABLE, VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED,
                                VIRTIO_F_RING_RESET, Status)
from ...host.driver import DeviceError
from ..bus import MSI_ADDRESS
from ..engine.engine import FAULTS
from .card import Card, Unresponsive
from .case import ACTIONS, PAIRS, TIMEOUT
from .chains import entries_of
from .descriptor import DESC, INDIRECT, WRITE
from .good import FLOOR, BrokenPromise, GoodPair
from .ground import ARENA, END, GOOD_RX, GOOD_TX, LOOSE, RINGS, TABLES, ZONE, Ground
from .places import NOISE, fill_ring, spans, unset_rings

__all__ = ["WHOLE", "Player"]

LIMIT = 80_000          # cycles within which something comes of what the card does, on a near host
DEPENDENT = 5000        # reads for which it may wait one after the other meanwhile: of long tables, of which receive takes four
MANY = 50               # times as long until all is done
WORK = frozenset({"mrd_up", "mwr_up", "cpl_down", "frames_out", "frames_in"})
FRUIT = WORK - {"mrd_up", "cpl_down"}
PATIENCE = 4500         # cycles that a frame without buffers may keep others waiting
LOOK = 520              # within so many, and a read, the card has looked at a ring for which a frame waits
BETWEEN_LOOKS = 64      # cycles without work of a card that rests until its next look
SHORT = 1500            # without a word on the link: nothing more will come, unless a completion was lost, or is on its way
UNDER_WAY = 64 * 280    # bytes on their way to the card, at most
# A read is given up once it is as old as TIMEOUT, half as much later at most, and may then still be answered for as long again.
GIVEN_UP = 3 * TIMEOUT
REST = 300              # cycles in which a card that was reset is watched
U16, PAIR16, U32 = struct.Struct("<H"), struct.Struct("<HH"), struct.Struct("<I")
RX_COUNTERS = ("rx_frames", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "rx_dropped_down")
WHOLE = -1              # in place of a vector: the function
LIVE = int(Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK)


@dataclass
class Ring:
    """A hostile queue's areas: offsets into its zone."""
    size: int
    desc: int
    driver: int
    device: int


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
    rings : dict
        :class:`Ring` of each hostile queue that was set up since the last reset.
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
        self.torn = case.link == "torn"
        self.done = 0
        self.cells = set()
        self.counters = set()
        self._names = set()              # of actions since the last look
        self._dropped = self._uncounted = 0
        self._actions = {name: getattr(self, f"_{name}") for name in ACTIONS}
        self._lossy = False              # completions may be lost
        self._whole = 0                  # cycle from which no read waits for a completion that was lost
        self.card.boot()
        self._fresh()

    def _fresh(self):
        """The device was just reset."""
        self.rings, self.good, self.live, self._features = {}, None, False, frozenset()
        self._entries = set()            # addresses of what was written as an entry of a table
        self._beyond = set()             # of those among them that no device may follow, for their chain is too long
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
        self._deaf = False               # interrupts may have been, or have become others
        self._masked = set()             # vectors, and WHOLE if it is the function
        self._told = set()               # queues of which interrupts have told

    def do(self, action):
        """Do one action. Raises :exc:`BrokenPromise`."""
        name = action[0]
        self._names.add(name)
        self.done += 1
        try:
            self._actions[name](*action[1:])
        except (Unresponsive, TimeoutError) as error:
            raise BrokenPromise("dead", str(error)) from error
        except DeviceError as error:
            raise BrokenPromise("ring", str(error)) from error

    @property
    def packed(self):
        return VIRTIO_F_RING_PACKED in self._features

    # A device's life

    def _begin(self, *features):
        """Negotiate, a device that has been reset."""
        if self._features:
            return
        self._stops = self.card.counter("queue_errors")
        if self.card.negotiate(features):
            self._features = frozenset(features)

    def _good(self, pair, rx_size, tx_size, control):
        """Set the well-behaved pair up; with ``control`` it has the control queue, too."""
        if self._features and self.good is None:
            self.good = GoodPair(self.ground, self.card, pair, self._features, rx_size, tx_size, 2 * PAIRS if control else None,
                                 self._salt)

    def _setup(self, queue, size, desc, driver, device, pause=0):
        """Set a hostile queue up: size, and where its areas are in its zone. It is enabled ``pause`` cycles after the rest."""
        if queue in self.rings:
            return
        zone = RINGS + queue
        self.ground.withdraw(zone)
        ring = self.rings[queue] = Ring(size, desc & ~15, driver & (~3 if self.packed else ~1), device & ~3)
        arena = self.ground.address(ARENA)
        fill_ring(self.ground.memory[zone], ring, self.packed, arena)
        for addr, length in spans(arena):
            self.ground.describe(addr, length, False)
            self.ground.describe(addr, length, True)
        if self.torn:
            self.ground.allow(zone)
        self._describe_ring(queue)
        start = self.ground.address(zone)
        self.card.setup_queue(queue, size, *((start + offset) % END for offset in (desc, driver, device)), pause)

    def _describe_ring(self, queue):
        ring, start = self.rings[queue], self.ground.address(RINGS + queue)
        driver, device = (4, 4) if self.packed else (6 + 2 * ring.size, 6 + 8 * ring.size)
        areas = [(ring.desc, DESC.size * ring.size, False), (ring.driver, driver, False), (ring.device, device, True)]
        if self.packed:
            areas.append((ring.desc, DESC.size * ring.size, True))
        # Of a queue of which an area runs past the end of the address space nothing is touched.
        if all((start + at) % END + length <= END for at, length, _ in areas):
            for at, length, write in areas:
                self.ground.describe((start + at) % END, length, write)

    def _live(self, pairs):
        """DRIVER_OK; then the good pair, if it is not the first, becomes active, and tells the card its flow."""
        if not self._features or self.live:
            return
        self._look_at_drops()
        self.card.status = LIVE
        self.live = True
        if self.good is not None:
            if self.good.sending:
                self._check()            # what it was notified of before is not forgotten
            self.good.start(pairs, self._limit())
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
            self._unmask()
        if kind == 2 or kind == 1 and self._board:
            self.engine.reset()
        else:
            (self.card.reset, self.card.function_level_reset)[kind](LIMIT)
        self._judge()
        self._quiet_faults()
        if self.good is not None:
            self.good.look_at_wire()
        boot = kind or self._deaf
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
        self._vectors()
        self._names.clear()

    def _wake(self):
        """Nothing but the device itself keeps it from its work."""
        self.card.power(0)
        self.card.command(memory=True, master=True)

    # Rings of the hostile queues

    def _desc(self, queue, slot, addr, length, third, fourth):
        """Write a descriptor of a queue; third and fourth are flags and next (split) or id and flags (packed)."""
        ring = self.rings.get(queue)
        if ring is None:
            return
        at = ring.desc + DESC.size * (slot % ring.size)
        self._describe_halves(RINGS + queue, at, addr, length, third, fourth)
        self._put(RINGS + queue, DESC, at, addr, length, third, fourth)
        flags = fourth if self.packed else third
        self.ground.describe(addr, length, bool(flags & WRITE) and not flags & INDIRECT)
        if flags & INDIRECT:
            entries = range(addr, addr + min(length, ZONE), DESC.size)
            if not self._entries.issuperset(entries):
                self.ground.astray = True
            if self._beyond and not self._beyond.isdisjoint(entries[:MAX_TABLE]):
                self._forgive()

    def _table(self, at, addr, length, third, fourth):
        """Write an entry of an indirect table."""
        self._describe_halves(TABLES, at, addr, length, third, fourth)
        self._put(TABLES, DESC, at, addr, length, third, fourth)
        if self._beyond and self.ground.address(TABLES, at) in self._entries:
            self._forgive()              # it may be a short cut
        self._entries.add(self.ground.address(TABLES, at))
        # In a packed ring's table INDIRECT means nothing.
        flags = fourth if self.packed else third
        self.ground.describe(addr, length, bool(flags & WRITE))

    def _sheet(self, at, count, addr, length, writes, order):
        """Write a long indirect table, as :func:`.chains.entries_of` says."""
        start = self.ground.address(TABLES, at)
        entries, allowed = entries_of(count, addr, length, writes, order, self.packed, self.ground.nobody)
        places = range(start, start + DESC.size * count, DESC.size)
        used_before = not self._entries.isdisjoint(places)
        for k, (place, desc) in enumerate(entries):
            self._put(TABLES, DESC, at + DESC.size * place, *desc)
            if k < allowed:
                self.ground.describe(desc[0], length, k >= writes)
        self._entries.update(places)
        self._beyond.difference_update(places)
        if allowed < count:
            self._beyond.update(start + DESC.size * place for place, _ in entries[allowed:])
            # The chain of an older table may lead here.
            if used_before or self.torn:
                self._forgive()

    def _describe_halves(self, zone, at, addr, length, third, fourth):
        """A descriptor that is written anew may be met with the address of one and the rest of the other."""
        if not self.torn or at + DESC.size > ZONE:
            return
        before = DESC.unpack_from(self.ground.memory[zone], at)
        for address, (size, *rest) in ((before[0], (length, third, fourth)), (addr, before[1:])):
            flags = rest[self.packed]
            self.ground.describe(address, size, bool(flags & WRITE))
            self.ground.astray |= bool(flags & INDIRECT)

    def _forgive(self):
        """What is behind the longest chain may be followed after all."""
        self.ground.describe(self.ground.nobody, ZONE, False)
        self.ground.describe(self.ground.nobody, ZONE, True)

    def _put(self, zone, what, at, *values):
        """Write into a zone what fits in it."""
        if at + what.size <= ZONE:
            what.pack_into(self.ground.memory[zone], at, *values)

    def _avail(self, queue, slot, head):
        ring = self.rings.get(queue)
        if ring is not None:
            self._put(RINGS + queue, U16, ring.driver + 4 + 2 * (slot % ring.size), head)

    def _index(self, queue, index, flags):
        ring = self.rings.get(queue)
        if ring is not None:
            self._put(RINGS + queue, PAIR16, ring.driver, flags, index)

    def _event(self, queue, value):
        """used_event, or the Driver Event Suppression structure."""
        ring = self.rings.get(queue)
        if ring is None:
            return
        if self.packed:
            self._put(RINGS + queue, U32, ring.driver, value)
        else:
            self._put(RINGS + queue, U16, ring.driver + 4 + 2 * ring.size, value & 0xffff)

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
        self.card.reset_queue(queue, self._limit())
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
        self._deaf = True
        self.card.table(vector, dw, value)
        self.ground.loose = True

    def _msix(self, enable, mask):
        self._deaf = True
        self.card.msix(enable=bool(enable), mask=bool(mask))

    def _mask(self, vector, on):
        """Mask a vector (or WHOLE: the function), or no longer, and see to it that the card has taken that."""
        self._hear()
        if vector == WHOLE:
            self.card.msix(enable=True, mask=bool(on))
            now = self.card.function_mask
        else:
            self.card.table(vector, 3, on)
            now = self.card.read_table(vector, 3)   # or all ones from a card that does not listen
        if now == 1:
            self._hear()
            self._masked.add(vector)
        elif now == 0:
            self._masked.discard(vector)

    def _unmask(self):
        """What is pending comes."""
        for vector in sorted(self._masked):
            self._mask(vector, 0)

    def _hear(self):
        """Note which queues interrupts have told of. Raises :exc:`BrokenPromise` if one is of a vector that is masked."""
        for address, data in self.engine.interrupts():
            if address == MSI_ADDRESS:
                if not self._deaf and self._masked & {data, WHOLE}:
                    raise BrokenPromise("mask", f"vector {data} interrupts, and {sorted(self._masked)} are masked")
                self._told.add(data - 1)

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
        self._lossy |= name == "lost"
        self.engine.fault_rate(name, one_in)

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
        answer = self.good.command(entries, self._limit())
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
        self._unmask()
        self._quiet_faults()
        self.engine.set_link(True)
        good = self.good if self.live else None
        if good is not None:
            if self._lost_kick:
                good.kick()
            good.poll()
        self._lost_kick = False
        waiting = self._quiet()
        if good is not None:
            self._settle(good)
        self._judge()
        status = self.card.status
        stops = (self.card.counter("queue_errors") - self._stops) & 0xffff_ffff if self.live else 0
        if self.live and (bool(status & Status.DEVICE_NEEDS_RESET) != bool(stops) or status & LIVE != LIVE):
            raise BrokenPromise("status", f"status is {status:#x} after {stops} queues stopped")
        self._note("waiting" if waiting else "stopped" if stops > self._stopped else "quiet")
        self._stopped = stops

    def _note(self, outcome):
        ring = ("packed" if self.packed else "split") + " in order" * (VIRTIO_F_IN_ORDER in self._features)
        state = ring if self.live else "not live"
        self.cells.update((name, state, outcome) for name in self._names)
        self._names.clear()

    def _quiet_faults(self):
        for name in FAULTS[1:]:
            self.engine.fault_rate(name, 0)
        if self._lossy:
            self._lossy = False
            self._whole = self.engine.stats()["cycles"] + GIVEN_UP

    def _held(self):
        """Cycles for which reads that were lost may hold up others: their tags, and their room for completions, are taken."""
        return max(0, self._whole - self.engine.stats()["cycles"])

    def _quiet(self):
        """Run until nothing moves; return whether frames wait for buffers, for which nobody can be blamed."""
        link = self.engine.link.model()
        pause = round(SHORT + UNDER_WAY / link.bytes_per_cycle) + self._held()
        limit = self._limit()
        spent = fruitless = still = dropped = 0
        while spent < MANY * limit:
            if fruitless >= limit:
                # Frames that have no buffer are dropped one by one, and the ring is looked at while each of them waits.
                before, dropped = dropped, sum(self.card.counter(name) for name in RX_COUNTERS[1:])
                if dropped == before:
                    break
                fruitless = 0
            before = self.engine.stats()
            ran = self.engine.run_until(idle=True, limit=pause)
            if ran < pause:
                return False
            spent += ran
            after = self.engine.stats()
            moved = {name for name in WORK if before[name] != after[name]}
            if not moved:
                if not self.live or self._waiting():
                    return True
                # Once, for a frame that waited may have gone while its counters were read.
                still += 1
                if still == 2:
                    raise BrokenPromise("quiet", "the card is busy, and does nothing")
                continue
            still = 0
            if not moved & FRUIT and self.live and self._waiting() and self._rests_between_looks():
                return True
            fruitless = 0 if moved & FRUIT else fruitless + ran
            if self.good is not None and self.live:
                self.good.poll()
        raise BrokenPromise("quiet", f"the card is at work after {spent} cycles, and nothing came of the last {fruitless}")

    def _limit(self):
        """Cycles within which something comes of what the card does: so many reads that depend on one another may come first."""
        link = self.engine.link.model()
        return LIMIT + DEPENDENT * (link.read_latency + link.jitter) + self._held()

    def _rests_between_looks(self):
        """The card looks at a ring for which a frame waits. A host that is far answers hardly before the next look, so this asks
        a near one; behind a board's block even that answer takes half of the time between two looks."""
        link = self.engine.link
        self.engine.set_link_model(self._link_model("near"))
        rests = self.engine.run_until(idle=True, limit=SHORT, rest=BETWEEN_LOOKS) < SHORT
        self.engine.set_link_model(link)
        return rests

    def _waiting(self):
        """Return how many frames are in the card on their way in."""
        return self.engine.stats()["frames_in"] - sum(self.card.counter(name) for name in RX_COUNTERS) - self._uncounted

    def _look_at_drops(self):
        """Return how many frames were dropped on their way in since the last call."""
        received, *dropped = [self.card.counter(name) for name in RX_COUNTERS]
        self._uncounted = self.engine.stats()["frames_in"] - received - sum(dropped)
        before, self._dropped = self._dropped, sum(dropped)
        return self._dropped - before

    def _settle(self, good):
        """All frames of the good pair come, in bounded time, but those that were counted as dropped."""
        good.poll()
        spent, limit = 0, None
        while (good.sending or good.receiving) and (limit is None or spent < limit):
            if spent > SHORT and limit is None:
                limit = self._limit() + PATIENCE * self._waiting()
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
            uncounted = self._uncounted
            drops = self._look_at_drops()
            self._uncounted = uncounted
            if lost["tx"] or lost["rx"] > drops:
                raise BrokenPromise("stall", f"frames of the good pair lost: {lost}; dropped on their way in: {drops}")
        if not (self._deaf or self._tainted):
            vectors = self._vectors()
            owed = {queue for queue, count in good.came_back.items() if count}
            if owed - vectors:
                self._quiet()
                if owed := owed - vectors - self._vectors():
                    raise BrokenPromise("interrupt", f"buffers of queues {sorted(owed)} came back, and nobody was told")
        self._vectors()
        good.wish()

    def _vectors(self):
        """Queues of which interrupts have told since the last call."""
        self._hear()
        told, self._told = self._told, set()
        return told

    def _judge(self):
        if bad := self.ground.judge():
            raise BrokenPromise("dma", f"nobody described: {'; '.join(bad[:3])}")
        if bad := self.engine.violations():
            raise BrokenPromise("tlp", "; ".join(bad[:3]))

    def read_counters(self):
        """Note which of the card's counters have moved."""
        self.counters.update(name for name in COUNTERS if name not in self.counters and self.card.counter(name))

