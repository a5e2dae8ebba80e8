"""What each source of a policy allows, what a cycle would use of it, and what to grant for more: `s3gc doctor`.

Asks the databases and changes nothing: no slot is made, nothing is read but the catalog and the settings. A source
that cannot be used at all has a `problem` in place of the rest, so that one broken password does not hide the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from s3gc.config import GCMode, S3GCConfig, SourceConfig
from s3gc.exceptions import CDCError, S3GCError
from s3gc.references.cdc.types import Capture
from s3gc.references.sources import opened_source
from s3gc.references.types import ReferenceRules, Source, SourcePreflight
from s3gc.results import VerificationLevel

__all__ = ["LevelStanding", "SourceStanding", "plain", "stand", "stronger"]


class LevelStanding(BaseModel):
    """One way to verify. `missing`: everything in the way, each with what to do; `partly`: column -> why not it."""

    level: VerificationLevel
    possible: bool
    missing: list[str] = Field(default_factory=list)
    partly: dict[str, str] = Field(default_factory=dict)


class SourceStanding(BaseModel):
    """One source, as it is now. `used` is what the next cycle verifies by, None where it would refuse."""

    name: str
    location: str
    dialect: str
    used: VerificationLevel | None = None
    because: str = ""
    levels: list[LevelStanding] = Field(default_factory=list)  # strongest first
    barrier: str = ""  # how the end of open writers is seen
    barrier_missing: str = ""
    next_step: str = ""  # what would make it stronger, or work at all
    warnings: list[str] = Field(default_factory=list)
    problem: str = ""

    @property
    def can_execute(self) -> bool:
        return not self.problem and bool(self.barrier) and self.used is not None


async def stand(config: S3GCConfig) -> list[SourceStanding]:
    """Ask every source of `config`. Never raises for a source: what is wrong with it stands in its `problem`."""
    return [await _of_source(config, source) for source in config.effective_sources]


async def stronger(
    source_config: SourceConfig, source: Source, preflight: SourcePreflight, capture: Capture | None
) -> str:
    """What would make the verification of an opened source stronger, or its deletions possible; "" for nothing.

    For a cycle to tell, so it is never an error: a cycle does not end because a question about more went wrong.
    `capture` is that of the policy, None where it asks for none.
    """
    if preflight.barrier_missing or capture is not None or source.dialect == "sqlite":
        return preflight.barrier_missing
    with contextlib.suppress(S3GCError, OSError):
        level = await _of_capture(source, preflight)
        return _next_step(source_config, preflight.barrier_missing, level, source.dialect)
    return ""


async def _of_source(config: S3GCConfig, source_config: SourceConfig) -> SourceStanding:
    if not source_config.is_readable:
        return SourceStanding(
            name=source_config.name,
            location="",
            dialect="",
            problem="it has no database URL, or names neither tables nor queries",
        )
    found = SourceStanding(
        name=source_config.name, location=source_config.location, dialect=source_config.dialect
    )
    try:
        async with opened_source(source_config, ReferenceRules(bucket=config.bucket)) as source:
            await _ask(config, source_config, source, found)
    except S3GCError as error:
        found.problem = error.message
    return found


async def _ask(
    config: S3GCConfig, source_config: SourceConfig, source: Source, found: SourceStanding
) -> None:
    preflight = await source.preflight(execute=config.mode is GCMode.EXECUTE)
    found.warnings, found.barrier = list(preflight.warnings), preflight.barrier
    found.barrier_missing = preflight.barrier_missing
    capture = await _of_capture(source, preflight)
    query = LevelStanding(
        level=VerificationLevel.QUERY,
        possible=preflight.can_query,
        missing=[] if preflight.can_query else [preflight.query_reason],
    )
    found.levels = [capture, query, LevelStanding(level=VerificationLevel.RESCAN, possible=True)]
    own = VerificationLevel.QUERY if preflight.can_query else VerificationLevel.RESCAN
    if source_config.cdc is None:
        found.used = own
        found.because = "no cdc is configured"
    elif capture.possible:
        found.used = VerificationLevel.RESCAN if capture.partly else VerificationLevel.CDC
        found.because = "; ".join(f"{label} is read again ({why})" for label, why in capture.partly.items())
    else:
        found.because = "cdc is configured and cannot be had: a cycle ends with CDCError"
    if preflight.barrier_missing or found.used is not VerificationLevel.CDC:
        found.next_step = _next_step(source_config, preflight.barrier_missing, capture, source.dialect)


async def _of_capture(source: Source, preflight: SourcePreflight) -> LevelStanding:
    try:
        capture = await source.capture()
    except CDCError as error:
        errors = error.details.get("errors")
        missing = [str(one) for one in errors] if isinstance(errors, list) else [error.message]
        return LevelStanding(level=VerificationLevel.CDC, possible=False, missing=missing)
    labels = {column.index: column.label for column in preflight.columns}
    partly = {labels[index]: why for index, why in sorted(capture.left_over.items())}
    await capture.close()
    return LevelStanding(level=VerificationLevel.CDC, possible=True, partly=partly)


def _next_step(
    source_config: SourceConfig, barrier_missing: str, capture: LevelStanding, dialect: str
) -> str:
    if barrier_missing:
        return barrier_missing
    if source_config.cdc is None and capture.possible:
        backend = {"postgresql": "postgres"}.get(dialect, dialect)
        return f"add cdc: {{backend: {backend}}} to the source: changes are then followed, and nothing is read twice"
    if not capture.possible and dialect != "sqlite":
        return "; ".join(capture.missing)
    return ""


def plain(found: Sequence[SourceStanding]) -> list[dict[str, Any]]:
    """For JSON and YAML."""
    return [{**one.model_dump(mode="json"), "can_execute": one.can_execute} for one in found]
