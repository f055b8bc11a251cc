"""Who is answered next: owners take turns, and what one of them asked comes in its order."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from langbridge.serve.live import Busy

Item = TypeVar("Item")

RECENT = 32
"""Answers by whose times a wait is estimated."""


class Turns(Generic[Item]):
    """What waits. One thread at a time may use it."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, owner: str, item: Item) -> None:
        self._waiting.setdefault(owner, deque()).append(item)

    def back(self, owner: str, item: Item) -> None:
        """Put back what was taken: it is the next."""
        self._waiting.setdefault(owner, deque()).appendleft(item)
        self._waiting.move_to_end(owner, last=False)

    def next(self) -> Item:
        owner, items = next(iter(self._waiting.items()))
        item = items.popleft()
        if items:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]
        return item

    def admit(self, owner: str, item: Item, limit: int, gone: Callable[[Item], bool]) -> Item | None:
        """Add, where at most `limit` may wait. Returns who has to go, if anybody: the last of the owner with most of
        them, so that who asks much cannot keep out who asks little, or `item` itself."""
        if len(self) >= limit:
            self.without(gone)
        out = None
        if len(self) >= limit:
            most = max(self._waiting, key=lambda one: len(self._waiting[one]))
            if len(self._waiting[most]) <= len(self._waiting.get(owner, ())) + 1:
                return item
            out = self._waiting[most].pop()
        self.add(owner, item)
        return out

    def all(self) -> list[Item]:
        """Take all."""
        return [self.next() for _ in range(len(self))]

    def without(self, gone: Callable[[Item], bool]) -> None:
        """Let go what is no longer wanted."""
        for owner, items in list(self._waiting.items()):
            kept = deque(item for item in items if not gone(item))
            if kept:
                self._waiting[owner] = kept
            else:
                del self._waiting[owner]


class Pace:
    """How often a place becomes free."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now, self._ends, self._busy = now, deque[float](maxlen=RECENT), now()

    def begun(self) -> None:
        """There is something to do again: the time before does not count."""
        self._ends.clear()
        self._busy = self._now()

    def ended(self) -> None:
        self._ends.append(self._now())

    def busy(self, limit: int) -> Busy:
        """What is told to who finds no room among `limit` that wait."""
        after = self.seconds
        return Busy(f"the queue is full: {limit} requests wait; try again in {after:.0f} s", after)

    @property
    def seconds(self) -> float:
        """Until another place is likely to be free: as long as it took on average lately, or, where nothing has ended
        yet, as long as the first has taken so far."""
        passed = self._now() - (self._ends[0] if len(self._ends) > 1 else self._busy)
        return passed / max(len(self._ends) - 1, 1)
