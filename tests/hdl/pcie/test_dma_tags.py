"""What is known of each tag, against a model that keeps sets of them; and when a tag is given up."""

import pytest

from ringnic.hdl.pcie.dma_tags import Tags, Visits

from ...kit.simulation import Simulation

TAGS, SLOT, CLIENTS, TIMEOUT = 8, 128, 3, 320


def test_each_tag_is_visited_twice_in_a_timeout():
    dut, visits, cycle = Visits(tags=4, timeout_cycles=160), [], 0

    async def main(ctx):
        nonlocal cycle
        for cycle in range(900):
            ctx.set(dut.hold, not ctx.get(dut.clear) and cycle % 20 == 3)
            if ctx.get(dut.visit):
                visits.append((cycle, ctx.get(dut.tag), ctx.get(dut.clear), ctx.get(dut.round)))
            await ctx.tick()
    Simulation(dut).run(main)
    assert [(cycle, tag, clear) for cycle, tag, clear, _ in visits[:4]] == [(k, k, 1) for k in range(4)]
    assert [tag for _, tag, _, _ in visits] == [k % 4 for k in range(len(visits))]
    assert [turn for *_, turn in visits] == [k // 4 % 4 for k in range(len(visits))]
    for (before, *_), (after, *_) in zip(visits[4:], visits[8:]):
        assert 79 <= after - before <= 81
    assert not any(clear for _, _, clear, _ in visits[4:])


def test_no_visit_while_the_link_takes_nothing():
    dut, visits = Visits(tags=4, timeout_cycles=160), 0

    async def main(ctx):
        nonlocal visits
        ctx.set(dut.stalled, 1)
        for cycle in range(1000):
            visits += ctx.get(dut.visit) and not ctx.get(dut.clear)
            await ctx.tick()
        assert visits <= 1
        ctx.set(dut.stalled, 0)
        for cycle in range(200):
            visits += ctx.get(dut.visit)
            await ctx.tick()
        assert visits >= 9
    Simulation(dut).run(main)


class Model:
    """Tags as sets, and for each used one what it is used for."""
    def __init__(self, rng):
        self.rng = rng
        self.waiting, self.fresh, self.late, self.bad, self.used, self.since = set(), set(), set(), set(), {}, {}

    def pick(self, tags):
        return self.rng.choice(sorted(tags)) if tags else None

    def issue(self):
        offset = self.rng.randrange(4)
        return {"client": self.rng.randrange(CLIENTS), "info": {
            "word": self.rng.randrange(32), "offset": offset, "end": offset + self.rng.randint(1, SLOT - offset),
            "last": self.rng.randrange(2)}}

    def end(self, tag, cycle, bad, late):
        self.waiting.remove(tag)
        if bad:
            self.bad.add(tag)
        if late:
            self.late.add(tag)
            self.since[tag] = cycle


@pytest.mark.parametrize("ends", [0.02, 0.2])
def test_tags_are_what_they_are_used_for(rng, ends):
    """Whatever happens in a cycle: an issue, a verdict, an answer read out, a tag given up. All of it is known in the next one."""
    dut, model = Tags(tags=TAGS, slot_bytes=SLOT, clients=CLIENTS, timeout_cycles=TIMEOUT), Model(rng)
    timeouts = gone = 0

    def compare(ctx):
        tag, place, answer = rng.randrange(TAGS), dut.place, dut.answer
        ctx.set(place.tag, tag)
        assert ctx.get(place.waiting) == (tag in model.waiting)
        assert ctx.get(place.late) == (tag in model.late)
        if tag in model.waiting:
            assert ctx.get(place.fresh) == (tag in model.fresh)
            assert {name: ctx.get(place.info[name]) for name in model.used[tag]["info"]} == model.used[tag]["info"]
        if (ended := model.pick(model.used.keys() - model.waiting)) is not None:
            ctx.set(answer.tag, ended)
            assert ctx.get(answer.failed) == (ended in model.bad)
            assert {name: ctx.get(answer.info[name]) for name in model.used[ended]["info"]} == model.used[ended]["info"]
        if (used := model.pick(model.used)) is not None:
            ctx.set(dut.next, used)
            assert ctx.get(dut.next_ended) == (used not in model.waiting)
        assert ctx.get(dut.used) == bool(model.used) and ctx.get(dut.pending) == bool(model.waiting)
        return tag

    async def main(ctx):
        nonlocal timeouts, gone
        ctx.set(dut.ext_tag, 1)
        looked, awaited, issued = None, False, False
        for cycle in range(5000):
            ctx.set(dut.place.begin, begun := awaited and looked in model.waiting and rng.random() < 0.5)
            ctx.set(dut.place.begin_tag, looked or 0)
            began = looked
            looked = compare(ctx)
            awaited = looked in model.waiting
            # One of several things, or none.
            tag, verdict, ended = None, dut.verdict, None
            finish = broken = bad = forget = False
            if (chosen := model.pick(model.waiting)) is not None and rng.random() < ends:
                tag, finish, broken, bad = chosen, rng.random() < 0.9, rng.random() < 0.2, rng.random() < 0.3
            elif (chosen := model.pick(model.late)) is not None and rng.random() < 0.002:
                tag, forget = chosen, True
            for name, value in (("valid", tag is not None), ("tag", tag or 0), ("finish", finish), ("broken", broken),
                                ("bad", bad), ("forget", forget)):
                ctx.set(getattr(verdict, name), value)
            free = model.pick(model.used.keys() - model.waiting) if rng.random() < 0.1 else None
            ctx.set(dut.answer.free, free is not None)
            ctx.set(dut.answer.free_tag, free or 0)
            issue = bool(ctx.get(dut.free)) and not issued and rng.random() < 0.3
            new, issue_tag = model.issue(), ctx.get(dut.tag)
            ctx.set(dut.issue.valid, issue)
            ctx.set(dut.issue.tag, issue_tag)
            ctx.set(dut.issue.client, new["client"])
            ctx.set(dut.issue.info, new["info"])
            timeout = ctx.get(dut.timeout)
            await ctx.tick()
            assert not (timeout and tag is not None)
            # The model follows.
            if begun:
                model.fresh.discard(began)
            if finish:
                ended = tag, (bad or broken), broken
            elif timeout:
                ended = ctx.get(dut.ended.tag), True, True
                timeouts += 1
                assert TIMEOUT <= cycle - model.since[ended[0]] <= 1.5 * TIMEOUT + 50
            assert ctx.get(dut.ended.valid) == (ended is not None)
            if ended:
                assert (ctx.get(dut.ended.tag), ctx.get(dut.ended.client)) == (ended[0], model.used[ended[0]]["client"])
                assert ctx.get(dut.ended.late) == ended[2]
                model.end(ended[0], cycle, *ended[1:])
            if forget:
                model.late.remove(tag)
            elif ctx.get(dut.gone):
                over = [tag for tag in model.late if TIMEOUT <= cycle - model.since[tag]]
                ctx.set(dut.place.tag, 0)
                found = []
                for tag in over:
                    ctx.set(dut.place.tag, tag)
                    found += [tag] * (not ctx.get(dut.place.late))
                assert len(found) == 1
                model.late.remove(found[0])
                gone += 1
            if free is not None:
                del model.used[free]
            if issue:
                assert issue_tag not in model.used and issue_tag not in model.late
                model.used[issue_tag], model.since[issue_tag] = new, cycle
                model.waiting.add(issue_tag)
                model.fresh.add(issue_tag)
                model.bad.discard(issue_tag)
            issued = issue
    Simulation(dut, watch_busy=False).run(main)
    assert gone and (timeouts or ends > 0.1)


def test_after_reset_nothing_is_known_of_what_was():
    """Rows of memories outlive a reset, marks in any state."""
    from amaranth.hdl import ResetInserter, Signal
    inner, reset = Tags(tags=TAGS, slot_bytes=SLOT, clients=CLIENTS, timeout_cycles=TIMEOUT), Signal()

    async def main(ctx):
        ctx.set(inner.ext_tag, 1)
        for turn in range(6):
            for count in range(turn + 2):
                while not ctx.get(inner.free):
                    await ctx.tick()
                ctx.set(inner.issue.tag, ctx.get(inner.tag))
                ctx.set(inner.issue.valid, 1)
                await ctx.tick()
                ctx.set(inner.issue.valid, 0)
                await ctx.tick().repeat(2)
                if count % 2:
                    ctx.set(inner.place.tag, ctx.get(inner.issue.tag))
                    await ctx.tick()
                    ctx.set(inner.place.begin_tag, ctx.get(inner.issue.tag))
                    ctx.set(inner.place.begin, 1)
                    await ctx.tick()
                    ctx.set(inner.place.begin, 0)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for cycle in range(TAGS + 4):
                for tag in range(TAGS):
                    ctx.set(inner.place.tag, tag)
                    assert not ctx.get(inner.place.waiting) and not ctx.get(inner.place.late)
                assert not ctx.get(inner.used) and not ctx.get(inner.pending) and not ctx.get(inner.timeout)
                assert cycle >= TAGS or not ctx.get(inner.free)
                await ctx.tick()
            assert ctx.get(inner.free) and ctx.get(inner.tag) == 0
            ctx.set(inner.issue.tag, 0)
            ctx.set(inner.issue.valid, 1)
            await ctx.tick()
            ctx.set(inner.issue.valid, 0)
            ctx.set(inner.place.tag, 0)
            assert ctx.get(inner.place.waiting) and ctx.get(inner.place.fresh)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
    Simulation(ResetInserter(reset)(inner)).run(main)
