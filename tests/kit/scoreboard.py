"""What is expected against what comes, in order, for each key by itself."""

from collections import defaultdict, deque

__all__ = ["Scoreboard"]


class Scoreboard:
    """``expect(item)`` before ``got(item)``: in order among those of one ``key``. What was not expected fails at once."""
    def __init__(self):
        self._due = defaultdict(deque)
        self.count = 0               # of what came

    def expect(self, *items, key=None):
        self._due[key].extend(items)

    def got(self, item, key=None):
        assert self._due[key], f"nothing is expected{of(key)}, but there came {item!r}"
        due = self._due[key].popleft()
        assert item == due, f"expected{of(key)} {due!r}, but there came {item!r}"
        self.count += 1

    def empty(self):
        return not any(self._due.values())

    def check(self):
        """All that was expected has come."""
        for key, due in self._due.items():
            assert not due, f"{len(due)} items did not come{of(key)}, the first is {due[0]!r}"


def of(key):
    return "" if key is None else f" of {key!r}"
