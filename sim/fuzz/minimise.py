"""A case that breaks a promise made as short as it gets, and still breaks it."""

from dataclasses import replace

from .campaign import replay
from .case import open_engine

__all__ = ["minimise"]


def minimise(case, opened=open_engine, tell=lambda length: None, limit=2000):
    """Return the case with as few actions as delta debugging finds in ``limit`` replays; each breaks the same rule.

    Taken away are lives of the device that ended before, then halves, quarters and so on, down to single actions. Raises
    :exc:`ValueError` if the case does not break its rule when it is done again.
    """
    runs = 0

    def breaks(actions):
        nonlocal runs
        runs += 1
        broken = replay(replace(case, actions=actions), opened)
        return broken is not None and broken.rule == case.broken
    actions = list(case.actions)
    if not breaks(actions):
        raise ValueError(f"The case does not break {case.broken!r} again: something in it is not determined by its seed")
    ends = [k + 1 for k, action in enumerate(actions) if action[0] == "reset"]
    for end in reversed(ends):
        if breaks(actions[end:]):
            actions = actions[end:]
            break
    size = len(actions) // 2
    while size and runs < limit:
        at, shorter = 0, False
        while at < len(actions) and runs < limit:
            rest = actions[:at] + actions[at + size:]
            if breaks(rest):
                actions, shorter = rest, True
                tell(len(actions))
            else:
                at += size
        # Single actions are tried again as long as one of them could go.
        size = size if size == 1 and shorter else size // 2
    return replace(case, actions=actions)
