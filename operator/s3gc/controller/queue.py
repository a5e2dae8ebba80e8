"""What is to be looked at: keys, each once, now or at a time; never two workers on one key.

The semantics are those of client-go's work queue: a key that is added while it is worked on comes again afterwards; a
key that failed comes again after a pause that doubles. Times are the clock's and not a timer's, because a schedule is
about the clock, and a machine that slept must notice.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Key", "WorkQueue"]

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
#: However far the next time is, the clock is looked at this often: somebody may have set it.
_GLANCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One object to be looked at."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class WorkQueue:
    """A queue without duplicates. `now` is the clock, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ready: dict[Key, None] = {}  # in the order of their coming
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: Key) -> None:
        """Look at `key` as soon as may be."""
        if key in self._working:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._changed.set()

    def add_at(self, key: Key, when: float) -> None:
        """Look at `key` at `when` at the latest. A later time never replaces an earlier one."""
        known = self._due.get(key)
        if known is not None and known <= when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, key))
        self._changed.set()

    def forget(self, key: Key) -> None:
        """The key's object is gone: no time and no failure of it matters any more."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key; `done` or `failed` must follow."""
        while True:
            self._raise_due()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._working.add(key)
                # Whoever looks now looks at everything; what is due later is said anew by the look.
                self._due.pop(key, None)
                return key
            self._changed.clear()
            pause = min(_GLANCE_SECONDS, max(0.0, self._heap[0][0] - self._now())) if self._heap else None
            try:
                await asyncio.wait_for(self._changed.wait(), _GLANCE_SECONDS if pause is None else pause)
            except TimeoutError:
                continue

    def done(self, key: Key, next_look: float | None = None) -> None:
        """`key` was looked at; look again at `next_look`."""
        self._failures.pop(key, None)
        self._end(key)
        if next_look is not None:
            self.add_at(key, next_look)

    def failed(self, key: Key) -> float:
        """Looking at `key` failed: look again after a pause, which is returned in seconds."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(count - 1, 16))
        self._end(key)
        self.add_at(key, self._now() + pause)
        return pause

    def _end(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._ready[key] = None
            self._changed.set()

    def _raise_due(self) -> None:
        now = self._now()
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._due.get(key) == when:  # else it was replaced, or forgotten
                del self._due[key]
                self.add(key)
