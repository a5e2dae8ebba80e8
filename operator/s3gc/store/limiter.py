"""How many requests may start: a window that shrinks when the store says SlowDown, and an optional budget a
second.

AIMD as TCP does it: halve on SlowDown (once a second, because one overload answers many requests), add one
per window of successes. A library for this would need the answer's meaning anyway, and the whole rule is
thirty lines. A place in the window is held until the answer's head has come, never while a body streams: a
caller that reads one object while it writes another could otherwise wait for itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Limiter"]


class Limiter:
    """Bounds requests in flight (1 to `concurrency`, adaptive) and, if set, requests a second. For one event
    loop.
    """

    def __init__(
        self,
        concurrency: int,
        requests_per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.concurrency = max(1, concurrency)
        self.window = float(self.concurrency)
        self.in_flight = 0
        self.slowdowns = 0
        self._clock = clock
        self._interval = 1 / requests_per_second if requests_per_second else 0.0
        self._next_start = 0.0
        self._last_cut = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a place in the window and for the budget. Cancellation gives the place back."""
        if self._waiting or self.in_flight >= int(self.window):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place  # the one that wakes us has counted us in already
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.release()
                elif place in self._waiting:
                    self._waiting.remove(place)
                raise
        else:
            self.in_flight += 1
        if self._interval:
            now = self._clock()
            start = max(now, self._next_start)
            self._next_start = start + self._interval
            if start > now:
                try:
                    await asyncio.sleep(start - now)
                except asyncio.CancelledError:
                    self.release()
                    raise

    def release(self) -> None:
        self.in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        if self.window < self.concurrency:
            self.window = min(float(self.concurrency), self.window + 1 / self.window)
            self._wake()

    def slow_down(self) -> None:
        self.slowdowns += 1
        now = self._clock()
        if now - self._last_cut >= 1.0:
            self._last_cut = now
            self.window = max(1.0, self.window / 2)

    def _wake(self) -> None:
        while self._waiting and self.in_flight < int(self.window):
            place = self._waiting.popleft()
            if not place.done():
                self.in_flight += 1
                place.set_result(None)
