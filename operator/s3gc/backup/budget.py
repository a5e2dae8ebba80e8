"""A bound on bytes in flight: whoever wants to hold some waits until there is room."""

from __future__ import annotations

import asyncio

__all__ = ["Budget"]


class Budget:
    """First come, first served. Something larger than the whole budget goes when nothing else is in
    flight."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self, amount: int) -> None:
        async with self._turn:  # one waits for room, the others for their turn: a large one is not starved
            while self._used and self._used + amount > self._size:
                self._freed.clear()
                await self._freed.wait()
            self._used += amount

    def give(self, amount: int) -> None:
        self._used -= amount
        self._freed.set()
