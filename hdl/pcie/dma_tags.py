"""The state of each tag: in use or not, awaited, given up; and the timeouts.

Ref: PCI Express Base 5.0, 2.2.6.2 "Transaction Descriptor - Transaction ID Field", 2.8 "Completion Timeout Mechanism".
"""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .dma_seams import AnswerLookup, CompletionLookup, Ended, Issue, Verdict, tag_info

__all__ = ["Visits", "Tags"]


class Visits(wiring.Component):
    """Visit the tags in turn, each twice in ``timeout_cycles``; after reset each once, one a cycle.

    A visit is left out if the link took nothing since the last one was due.

    Members
    -------
    stalled : In(1)
        A TLP waits for the link.
    hold : In(1)
        No visit in this cycle; it comes later.
    visit : Out(1), tag : Out(range(tags))
        Strobe: it is this tag's turn; until then it is the next one's.
    clear : Out(1)
        The visit is one of those after reset.
    round : Out(2)
        Counts the times that all tags have been visited.
    """
    def __init__(self, *, tags, timeout_cycles):
        self.tags, self.period = tags, timeout_cycles // (2 * tags)
        super().__init__({
            "stalled": In(1),
            "hold":    In(1),
            "visit":   Out(1),
            "tag":     Out(range(tags)),
            "clear":   Out(1, init=1),
            "round":   Out(2),
        })

    def elaborate(self, platform):
        m = Module()
        wait    = Signal(range(self.period))
        blocked = Signal()
        due     = Signal()
        step    = Signal()
        m.d.comb += [
            step.eq((wait == 0) & ~blocked),
            self.visit.eq(self.clear | (due & ~self.hold)),
        ]
        m.d.sync += [
            wait.eq(Mux(wait == 0, self.period - 1, wait - 1)),
            due.eq(step | (due & ~self.visit)),
        ]
        with m.If(~self.stalled):
            m.d.sync += blocked.eq(0)
        with m.Elif(wait == 0):
            m.d.sync += blocked.eq(1)
        with m.If(self.visit):
            m.d.sync += self.tag.eq(self.tag + 1)
            with m.If(self.tag == self.tags - 1):
                m.d.sync += [self.round.eq(self.round + 1), self.clear.eq(0)]
        return m


class Tags(wiring.Component):
    """Remember what each tag is used for, give up reads that are not answered in time, and name the tag of the next read.

    A tag is *used* from its issue until its answer has been read out, and *waiting* until it has ended; it is *late* from when
    it was given up until nothing of it can come any more. All that is kept in rows of memories, of which each has one writer. So
    there are *marks*, bits that are turned: a tag is used while the mark of its issue is not that of its reading, waiting while
    it is not that of its end, and fresh while that of its completions is not the one that its issue gave them. After reset the
    marks are made equal first, one tag a cycle; nothing is issued and no completion believed until then.

    Time is counted in :class:`Visits`: a tag's third one after its issue, or after its end, finds it too old.

    Parameters
    ----------
    tags, slot_bytes, clients, timeout_cycles : int
        As of :class:`Reader`.

    Members
    -------
    ext_tag, timeout_disable, stalled, stop : In(1)
        As of :class:`Reader`.
    tag : Out(range(tags)), free : Out(1)
        The tag of the next read, once it is free. The one after it is found in two cycles.
    issue : In(Issue)
        Of ``tag``, while it is free.
    place : In(CompletionLookup), verdict : In(Verdict)
        What completions ask, and what becomes of their tags.
    answer : In(AnswerLookup)
        What is asked to read an answer out.
    next : In(range(tags)), next_ended : Out(1)
        A used tag, and whether it has ended, in the same cycle.
    ended : Out(Ended)
    gone : Out(1)
        Strobe, a cycle later: nothing can come any more for a tag that was late.
    timeout : Out(1)
        Strobe: a tag is given up.
    used, pending : Out(1)
        A tag is used; a tag is waiting.
    """
    def __init__(self, *, tags, slot_bytes, clients, timeout_cycles):
        self.tags, self.slot_bytes, self.clients, self.timeout_cycles = tags, slot_bytes, clients, timeout_cycles
        super().__init__({
            "ext_tag":    In(1),
            "timeout_disable": In(1),
            "stalled":    In(1),
            "stop":       In(1),
            "tag":        Out(range(tags)),
            "free":       Out(1),
            "issue":      In(Issue(tags, slot_bytes, clients)),
            "place":      In(CompletionLookup(tags, slot_bytes)),
            "verdict":    In(Verdict(tags)),
            "answer":     In(AnswerLookup(tags, slot_bytes)),
            "next":       In(range(tags)),
            "next_ended": Out(1),
            "ended":      Out(Ended(tags, clients)),
            "gone":       Out(1),
            "timeout":    Out(1),
            "used":       Out(1),
            "pending":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        issue, place, verdict, answer = self.issue, self.place, self.verdict, self.answer
        m.submodules.visits = visits = Visits(tags=self.tags, timeout_cycles=self.timeout_cycles)
        m.d.comb += [visits.stalled.eq(self.stalled), visits.hold.eq(verdict.valid)]

        rows = {}

        def row(name, shape):
            """A memory with a row for each tag, and its one writer."""
            m.submodules[name] = rows[name] = memory.Memory(shape=shape, depth=self.tags, init=[])
            return rows[name].write_port()

        def look(name, tag):
            port = rows[name].read_port(domain="comb")
            m.d.comb += port.addr.eq(tag)
            return port.data
        infos = row("infos", tag_info(self.slot_bytes))
        lives = row("lives", data.StructLayout({"mark": 1, "fresh": 1, "round": 2, "client": range(self.clients)}))
        ends  = row("ends", data.StructLayout({"mark": 1, "late": 1, "round": 2, "bad": 1}))
        reads = row("reads", 1)
        comes = row("comes", 1)

        # The next tag. Where ``ext_tag`` goes, it may be one that is not allowed any more.
        last  = Signal(range(self.tags))
        seen  = Signal()   # ``free`` is that of ``tag``
        moves = Signal()
        read_mark = look("reads", self.tag)
        m.d.comb += [
            last.eq(Mux(self.ext_tag, self.tags - 1, min(self.tags, 32) - 1)),
            moves.eq(issue.valid | (seen & ~self.free)),
        ]
        m.d.sync += [
            seen.eq(~moves & ~visits.clear),
            self.free.eq((look("lives", self.tag).mark == read_mark) & ~look("ends", self.tag).late & (self.tag <= last)
                         & ~moves & ~visits.clear),
        ]
        with m.If(moves):
            m.d.sync += self.tag.eq(Mux(self.tag >= last, 0, self.tag + 1))

        # Issue. ``round`` of a row: that of the tag's next visit.
        m.d.comb += [
            infos.addr.eq(issue.tag),
            infos.data.eq(issue.info),
            infos.en.eq(issue.valid),
            lives.addr.eq(issue.tag),
            lives.data.mark.eq(~read_mark),
            lives.data.fresh.eq(~look("comes", self.tag)),
            lives.data.round.eq(visits.round + ((visits.tag + visits.visit) > issue.tag)),
            lives.data.client.eq(issue.client),
            lives.en.eq(issue.valid),
        ]

        # Completions come, and are judged two cycles later.
        life, end = look("lives", place.tag), look("ends", place.tag)
        m.d.comb += [
            place.info.eq(look("infos", place.tag)),
            place.fresh.eq(look("comes", place.tag) != life.fresh),
            place.waiting.eq((life.mark != end.mark) & ~visits.clear),
            place.late.eq(end.late & ~visits.clear),
            comes.addr.eq(place.begin_tag),
            comes.en.eq(place.begin),
        ]
        m.d.sync += comes.data.eq(life.fresh)

        # A verdict or a visit ends the life of a tag, or its being late.
        tag = Signal(range(self.tags))
        waiting, passed = Signal(), Signal()
        ends_now, given_up, gone = Signal(), Signal(), Signal()
        m.d.comb += tag.eq(Mux(verdict.valid, verdict.tag, visits.tag))
        life, end = look("lives", tag), look("ends", tag)
        m.d.comb += [
            waiting.eq((life.mark != end.mark) & ~visits.clear),
            passed.eq(~verdict.valid | (visits.tag > tag)),
            self.timeout.eq(visits.visit & waiting & ((visits.round - life.round)[:2] == 2)
                            & ~(self.timeout_disable & ~self.stop)),
            ends_now.eq((verdict.valid & verdict.finish & waiting) | self.timeout),
            given_up.eq(~verdict.valid | verdict.broken),
            gone.eq(end.late & ~visits.clear & Mux(
                verdict.valid, verdict.forget, visits.visit & ((visits.round - end.round)[:2] == 2))),
            ends.addr.eq(tag),
            ends.data.mark.eq(life.mark),
            ends.data.late.eq(ends_now & given_up),
            ends.data.round.eq(visits.round + passed),
            ends.data.bad.eq(given_up | verdict.bad | verdict.forget),
            ends.en.eq(ends_now | gone | visits.clear),
        ]
        m.d.sync += [
            self.ended.valid.eq(ends_now),
            self.ended.tag.eq(tag),
            self.ended.client.eq(life.client),
            self.ended.late.eq(given_up),
            self.gone.eq(gone),
        ]
        m.d.comb += self.next_ended.eq(look("lives", self.next).mark == look("ends", self.next).mark)

        # Answers are read out.
        m.d.comb += [
            answer.info.eq(look("infos", answer.tag)),
            answer.failed.eq(look("ends", answer.tag).bad),
            reads.addr.eq(Mux(visits.clear, visits.tag, answer.free_tag)),
            reads.en.eq(answer.free | visits.clear),
        ]
        m.d.comb += reads.data.eq(look("lives", reads.addr).mark)

        awaited, in_use = Signal(range(self.tags + 1)), Signal(range(self.tags + 1))
        m.d.sync += [
            awaited.eq(awaited + issue.valid - ends_now),
            in_use.eq(in_use + issue.valid - answer.free),
        ]
        m.d.comb += [self.pending.eq(awaited != 0), self.used.eq(in_use != 0)]
        return m
