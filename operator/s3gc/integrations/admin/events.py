"""What happens, as server-sent events: each listener looks at the state and says what changed since it looked last.

Nothing is queued for a listener that is slow or gone, so their memory is bounded, and one that was away misses nothing
but the steps between. A stream ends when the application does: a server waits for its open answers before it shuts
down, and a stream that waited for the shutdown would hold it for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from pydantic import BaseModel

from s3gc.exceptions import S3GCError
from s3gc.integrations.admin import problems
from s3gc.integrations.admin.models import GCRunning, GCRunState, GCStatus
from s3gc.integrations.admin.runs import Runs
from s3gc.integrations.admin.runtime import Runtime

__all__ = ["Events"]

_LISTENERS = 32
_LOOK_SECONDS = 0.5
#: While nothing runs here, the vault is asked what another process does: less often, as it costs a request.
_LOOK_ELSEWHERE_SECONDS = 2.0
_KEEPALIVE_SECONDS = 15.0


class Events:
    """Streams of one plugin. `status` makes the data of the event of that name."""

    def __init__(self, runtime: Runtime, runs: Runs, status: Callable[[], Awaitable[GCStatus]]) -> None:
        self._runtime, self._runs, self._status = runtime, runs, status
        self._listeners = 0

    def listen(self) -> AsyncIterator[bytes]:
        """A new stream. Raises ProblemError (503) where there are too many, or the application ends."""
        if self._runtime.is_stopping:
            raise problems.stopping()
        if self._listeners >= _LISTENERS:
            raise problems.made(
                "too-many",
                429,
                f"{_LISTENERS} streams of events are open already; close one",
                headers={"Retry-After": "30"},
            )
        return self._stream()

    async def _stream(self) -> AsyncIterator[bytes]:
        self._listeners += 1
        try:
            yield b"retry: 2000\n\n"
            async for data in self._changes():
                yield data
        finally:
            self._listeners -= 1

    async def _changes(self) -> AsyncIterator[bytes]:
        ended = self._runs.ended
        before: GCRunning | None = None
        is_first = True
        said = time.monotonic()
        while not self._runtime.is_stopping:
            try:
                running, _ = await self._runs.running()
            except (S3GCError, problems.ProblemError, OSError):
                running = before  # the vault is away for a moment: nothing new is known
            has_ended = self._runs.ended != ended
            if has_ended and self._runs.last is not None:
                ended = self._runs.ended
                yield _event("ended", self._runs.last)
            if is_first or has_ended or _work(running) != _work(before):
                if (status := await self._now()) is not None:
                    yield _event("status", status)
                said = time.monotonic()
            if is_first or running != before:
                yield _event("progress", GCRunState(running=running))
                said = time.monotonic()
            elif time.monotonic() - said > _KEEPALIVE_SECONDS:
                yield b": still here\n\n"
                said = time.monotonic()
            before, is_first = running, False
            is_here = running is not None and running.here
            await self._pause(_LOOK_SECONDS if is_here else _LOOK_ELSEWHERE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait, and no longer than until the application ends or something starts or ends here."""
        works, ended = (self._runs.cycle, self._runs.restore), self._runs.ended
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._runtime.is_stopping:
            await asyncio.sleep(min(0.25, max(0.0, until - time.monotonic())))
            if (self._runs.cycle, self._runs.restore) != works or self._runs.ended != ended:
                return

    async def _now(self) -> GCStatus | None:
        try:
            return await self._status()
        except (S3GCError, problems.ProblemError, OSError):
            return None


def _work(running: GCRunning | None) -> tuple[object, ...] | None:
    return None if running is None else (running.kind, running.operation_id, running.started_at)


def _event(name: str, data: BaseModel) -> bytes:
    """One event. JSON has no line break outside of its strings, and none in them: one line of data is enough."""
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
