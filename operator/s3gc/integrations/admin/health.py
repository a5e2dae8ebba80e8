"""Whether everything that a cycle needs can be reached now: each part by itself, side by side, in bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from s3gc.config import SourceConfig
from s3gc.exceptions import S3GCError
from s3gc.integrations.admin.models import GCComponent, GCHealth
from s3gc.integrations.admin.problems import ProblemError
from s3gc.integrations.admin.runtime import Runtime
from s3gc.integrations.admin.scheduler import Scheduler
from s3gc.references.rules import reference_rules
from s3gc.references.sources import opened_source
from s3gc.vault import layout

__all__ = ["look"]

#: Of one part. Whoever asks for health has a time limit of their own, and it is rarely longer.
_SECONDS = 8.0


async def look(runtime: Runtime, scheduler: Scheduler) -> GCHealth:
    """Ask the vault, the bucket and every database, and say what each answered."""
    sources = runtime.config.effective_sources
    asked = await asyncio.gather(
        _part("vault", lambda: _vault(runtime)),
        _part("bucket", lambda: _bucket(runtime)),
        *(_part(source.name, lambda source=source: _database(runtime, source)) for source in sources),  # type: ignore[misc]  # mypy takes the default for an argument
        *(_change_capture(runtime, source) for source in sources),
    )
    vault, bucket, databases = asked[0], asked[1], list(asked[2 : 2 + len(sources)])
    change_capture = list(asked[2 + len(sources) :])
    schedule = _schedule(runtime, scheduler)
    parts = [vault, bucket, schedule, *databases, *change_capture]
    status: Literal["ok", "degraded", "failed"] = "ok"
    if any(part.state == "failed" for part in parts):
        status = "failed"
    elif any(part.state == "unknown" for part in parts):
        status = "degraded"
    return GCHealth(
        status=status,
        vault=vault,
        bucket=bucket,
        databases=databases,
        cdc=change_capture,
        schedule=schedule,
    )


async def _part(name: str, ask: Callable[[], Awaitable[str]]) -> GCComponent:
    began = time.monotonic()
    state: Literal["ok", "failed", "unknown"] = "ok"
    try:
        async with asyncio.timeout(_SECONDS):
            detail = await ask()
    except TimeoutError:
        state, detail = "unknown", f"it did not answer within {_SECONDS:.0f} s"
    except S3GCError as error:
        state, detail = "failed", error.message
    except ProblemError as error:
        state, detail = "unknown", error.problem.detail
    except OSError as error:
        state, detail = "failed", f"{type(error).__name__}: {error.strerror or 'no connection'}"
    milliseconds = round(1000 * (time.monotonic() - began), 1)
    return GCComponent(name=name, state=state, detail=detail, milliseconds=milliseconds)


async def _vault(runtime: Runtime) -> str:
    vault = (await runtime.state())["vault"]
    try:
        await vault.storage.read(layout.SENTINEL)
    except FileNotFoundError:
        raise S3GCError(f"the vault {vault.location} has lost its {layout.SENTINEL}") from None
    return vault.location


async def _bucket(runtime: Runtime) -> str:
    bucket = (await runtime.state())["bucket"]
    await bucket.server_time()
    return f"s3://{runtime.config.bucket}"


async def _database(runtime: Runtime, source: SourceConfig) -> str:
    if not source.is_readable:
        what = "no database URL" if source.url is None else "neither tables nor queries"
        raise S3GCError(f"source {source.name!r} has {what}: nothing vouches for any object")
    bucket = (await runtime.state())["bucket"]
    rules = reference_rules(runtime.config, bucket.endpoint, derivatives=source.derivatives)
    async with opened_source(source, rules) as opened:
        preflight = await opened.preflight(execute=False)
    columns = len(preflight.columns)
    return f"{source.location}, {columns} column{'s' if columns != 1 else ''} can be read"


async def _change_capture(runtime: Runtime, source: SourceConfig) -> GCComponent:
    """Whether a cycle could capture changes now, asked as a cycle asks it, and how much log waits for those that do."""
    if source.cdc is None:
        detail = "not configured: deletions are verified by query or rescan"
        return GCComponent(name=source.name, state="off", detail=detail)
    backend = source.cdc.backend
    lag: int | None = None

    async def ask() -> str:
        nonlocal lag
        bucket = (await runtime.state())["bucket"]
        rules = reference_rules(runtime.config, bucket.endpoint, derivatives=source.derivatives)
        async with opened_source(source, rules) as opened:
            await opened.preflight(execute=False)
            capture = await opened.capture()
            try:
                again = len(capture.left_over)
                lag = await capture.lag()
            finally:
                await capture.close()
        more = f"; {again} column{'s are' if again != 1 else ' is'} read again in its place" if again else ""
        if lag:
            return (
                f"{backend}: a cycle captures changes, the server keeps {lag:,} bytes of its log for it{more}"
            )
        return f"{backend}: each cycle opens it and closes it, nothing lags between them{more}"

    part = await _part(source.name, ask)
    return part.model_copy(update={"lag_bytes": lag})


def _schedule(runtime: Runtime, scheduler: Scheduler) -> GCComponent:
    if runtime.timetable is None:
        return GCComponent(name="schedule", state="off", detail="schedule_cron is not set")
    shown = f"{runtime.timetable.expression} in {runtime.config.time_zone}"
    if not scheduler.is_alive:
        return GCComponent(
            name="schedule", state="failed", detail=f"{shown}: the schedule has ended in this process"
        )
    if scheduler.trouble:
        return GCComponent(name="schedule", state="unknown", detail=f"{shown}: {scheduler.trouble}")
    return GCComponent(name="schedule", state="ok", detail=shown)
