"""Fetching in portions whose memory is bounded, where a driver counts rows and not bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["batched"]

#: A batch is handed on when it holds about this much, however few rows that are.
_BATCH_BYTES = 4 * 1024 * 1024
#: Rows asked for at once: few enough that a sudden run of large values does not fill the memory.
_MOST_ROWS = 250


async def batched(
    fetch: Callable[[int], Awaitable[Sequence[Sequence[object]]]], batch: int
) -> AsyncIterator[list[Sequence[object]]]:
    """Yield rows of `fetch(n)` in batches of at most `batch` rows and about 4 MiB, until it returns none."""
    ready: list[Sequence[object]] = []
    size = 0
    rows_at_once = _MOST_ROWS
    while True:
        rows = await fetch(min(rows_at_once, batch))
        if not rows:
            break
        ready.extend(rows)
        largest = 1
        for row in rows:
            width = sum(len(value) for value in row if isinstance(value, (str, bytes)))
            size += width
            largest = max(largest, width)
        rows_at_once = max(1, min(_MOST_ROWS, _BATCH_BYTES // largest))
        if len(ready) + rows_at_once > batch or size >= _BATCH_BYTES:
            yield ready
            ready, size = [], 0
    if ready:
        yield ready
