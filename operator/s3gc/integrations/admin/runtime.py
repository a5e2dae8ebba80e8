"""What the plugin has open while the application runs: the engine's state, opened once and when it can be.

An application must start although its bucket is away; so a state that cannot be opened at the start is tried again by
whoever needs it next, and `health` says what is wrong meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from s3gc.config import S3GCConfig
from s3gc.integrations.admin import problems
from s3gc.results import GCMetrics
from s3gc.schedule import Timetable
from s3gc.state import GCState, get_metrics, initialize_gc_state, shutdown_gc_state
from s3gc.vault.operations import Operation

__all__ = ["Runtime"]

_T = TypeVar("_T")

#: Lists of a vault cost requests, and a page asks again and again.
_IDS_SECONDS = 2.0
_METRICS_SECONDS = 10.0
#: Plans that are kept on disk for whoever pages through them.
_PLANS = 4


@dataclass(slots=True)
class _Kept(Generic[_T]):
    """A value that is asked for again only when it is older than `seconds`; one question at a time."""

    seconds: float
    value: _T | None = None
    at: float = -1e9
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        async with self.busy:
            if self.value is None or time.monotonic() - self.at > self.seconds:
                self.value = await ask()
                self.at = time.monotonic()
            return self.value

    def forget(self) -> None:
        self.value = None


class Runtime:
    """One policy in one process of the application."""

    def __init__(self, config: S3GCConfig, prefix: str) -> None:
        self.config = config
        self.prefix = prefix
        self.timetable: Timetable | None = None
        if config.schedule_cron is not None:
            self.timetable = Timetable(config.schedule_cron, config.time_zone)
        self.is_stopping = False
        self._state: GCState | None = None
        self._opening = asyncio.Lock()
        self._ids: _Kept[list[str]] = _Kept(_IDS_SECONDS)
        self._metrics: _Kept[GCMetrics] = _Kept(_METRICS_SECONDS)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._fetching = asyncio.Lock()

    async def state(self) -> GCState:
        """The engine's state. Raises VaultError or ConfigurationError where it cannot be opened, and ProblemError when
        the application ends."""
        async with self._opening:
            if self.is_stopping:
                raise problems.stopping()
            if self._state is None:
                self._state = await initialize_gc_state(self.config)
            return self._state

    async def close(self) -> None:
        self.is_stopping = True
        async with self._opening:
            state, self._state = self._state, None
        if state is not None:
            await shutdown_gc_state(state)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)
            self._folder = None

    async def operation_ids(self) -> list[str]:
        """Every operation of the vault, newest first, as of a moment ago."""
        vault = (await self.state())["vault"]
        return await self._ids.get(vault.operation_ids)

    async def metrics(self) -> GCMetrics:
        """The vault's numbers, as of a moment ago."""
        state = await self.state()
        return await self._metrics.get(lambda: get_metrics(self.config, state))

    def something_ended(self) -> None:
        """What is kept is of before."""
        self._ids.forget()
        self._metrics.forget()

    async def plan_file(self, operation: Operation) -> Path:
        """The operation's plan on this machine's disk. Raises FileNotFoundError when it has none."""
        async with self._fetching:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="s3gc-plans-")
            folder = Path(self._folder.name)
            path = folder / f"{operation.id}.parquet"
            if not path.exists():
                for old in sorted(folder.glob("*.parquet"), key=lambda each: each.stat().st_mtime)[
                    : 1 - _PLANS
                ]:
                    old.unlink(missing_ok=True)
                part = path.with_suffix(".part")
                await operation.fetch_plan(part)
                part.replace(path)
            path.touch()
            return path
