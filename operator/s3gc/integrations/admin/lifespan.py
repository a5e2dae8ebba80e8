"""Start and end with the application, around its own lifespan and not in place of it.

A server that is asked to stop waits for its open answers first and ends the lifespan afterwards; a stream of events, or
somebody who waits for a cycle, would keep it waiting. So the signal is heard here too: whatever handler was there is
called all the same, and is put back at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import FastAPI

from s3gc.exceptions import S3GCError
from s3gc.integrations.admin.auth import VARIABLE
from s3gc.integrations.admin.problems import ProblemError
from s3gc.integrations.admin.runs import Runs
from s3gc.integrations.admin.runtime import Runtime
from s3gc.integrations.admin.scheduler import Scheduler

__all__ = ["Life", "wrap_lifespan"]

log = logging.getLogger(__name__)


class Life:
    """One plugin's start and end. Safe to end twice."""

    def __init__(self, runtime: Runtime, runs: Runs, scheduler: Scheduler) -> None:
        self._runtime, self._runs, self._scheduler = runtime, runs, scheduler
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._runtime.is_stopping = False  # a lifespan may begin again, in tests for instance
        if not os.environ.get(VARIABLE, "").strip():
            log.warning("%s is not set: every endpoint of s3gc answers 503 until it is", VARIABLE)
        self._opening = asyncio.create_task(self._open(), name="s3gc start")
        self._scheduler.start()

    async def _open(self) -> None:
        """Open the vault, so that what is wrong with it is in the log; the application starts all the same."""
        try:
            await self._runtime.state()
        except (S3GCError, ProblemError, OSError) as error:
            log.error("s3gc cannot work yet, and tries again when it is asked: %s", error)
        except Exception:
            log.exception("s3gc cannot work yet, and tries again when it is asked")

    def hurry(self) -> None:
        """The process was asked to stop: end streams, and begin to end what runs."""
        self._runtime.is_stopping = True
        for work in (self._runs.cycle, self._runs.restore):
            if work is not None and work.task is not None:
                work.task.cancel()

    async def end(self) -> None:
        self._runtime.is_stopping = True
        await self._scheduler.stop()
        await self._runs.stop()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        await self._runtime.close()


def wrap_lifespan(app: FastAPI, life: Life) -> None:
    """Let `life` begin after the application's own start and end before its own end."""
    own = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def with_s3gc(started: Any) -> AsyncIterator[Any]:
        async with own(started) as state:
            with _heard(life.hurry):
                await life.start()
                try:
                    yield state
                finally:
                    await life.end()

    app.router.lifespan_context = with_s3gc


@contextlib.contextmanager
def _heard(hurry: Callable[[], None]) -> Iterator[None]:
    """Call `hurry` in the loop when SIGTERM or SIGINT comes, beside the handler that is there."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has signals; a test's client runs elsewhere
        return
    loop = asyncio.get_running_loop()
    placed: list[tuple[int, Any, Any]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if not callable(before):
            continue  # the system's own: the process ends at once, and the next cycle recovers

        def handler(received: int, frame: Any, before: Callable[..., Any] = before) -> None:
            loop.call_soon_threadsafe(hurry)
            before(received, frame)

        signal.signal(number, handler)
        placed.append((number, handler, before))
    try:
        yield
    finally:
        for placed_number, placed_handler, earlier in placed:
            if signal.getsignal(placed_number) is placed_handler:
                signal.signal(placed_number, earlier)
