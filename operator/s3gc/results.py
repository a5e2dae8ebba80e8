"""What a cycle, a restore and the vault have to say: plain records that every face of s3gc shows.

The library returns them, the command line prints them, `result.json` stores them, and the operator copies their
numbers into a status. They hold facts only; how they are shown is the business of `report` and `cli`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ColumnCoverage",
    "GCMetrics",
    "GCResult",
    "GuardReport",
    "Outcome",
    "Progress",
    "RestoreResult",
    "SourceVerification",
    "VerificationLevel",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(StrEnum):
    """How a cycle ended. Only SUCCEEDED and AWAITING_APPROVAL count as success."""

    SUCCEEDED = "Succeeded"
    PARTIALLY_FAILED = "PartiallyFailed"
    REFUSED = "Refused"
    AWAITING_APPROVAL = "AwaitingApproval"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class VerificationLevel(StrEnum):
    """How candidates were checked against the databases just before and just after their deletion."""

    CDC = "cdc"
    QUERY = "query"
    RESCAN = "rescan"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a cycle or a restore is. `phase` is one of Preflight, Recovering, Listing, Reading, Joining, Healing,
    Planning, BackingUp, Verifying, Deleting, Checking, Purging, Finishing, Restoring; `total` is what the phase's own
    count will reach, 0 while nobody knows; `operation_id` is "" until the operation is known."""

    phase: str
    listed: int = 0
    references: int = 0
    candidates: int = 0
    backed_up: int = 0
    deleted: int = 0
    restored: int = 0
    total: int = 0
    operation_id: str = ""


class ColumnCoverage(_Record):
    """What one column (or query, or template) contributed: the way to see a wrong column before anything is deleted.

    `resolved` counts values that name an object that exists in the bucket. `outside` counts values all of whose keys
    lie outside the scope. `approximate` is true where `resolved` and `missing` were extrapolated from a sample.
    """

    source: str
    column: str
    format: str = "auto"
    values: int = 0
    references: int = 0
    resolved: int = 0
    missing: int = 0
    unparsed: int = 0
    other_bucket: int = 0
    foreign: int = 0
    outside: int = 0
    ignored: int = 0
    approximate: bool = False
    undeclared_hosts: dict[str, int] = Field(default_factory=dict)
    unparsed_samples: list[str] = Field(default_factory=list)
    missing_samples: list[str] = Field(default_factory=list)
    prefix_kept: dict[str, int] = Field(default_factory=dict)


class SourceVerification(_Record):
    """How deletions were verified in one database; after a dry run, how they would be.

    `reason` says why not by a stronger level, `next_step` what gives the next one, mostly a statement to run as an
    administrator; "" where nothing is to be gained. `lag_bytes` is the most of its log that the server kept for this
    cycle's change capture; None where it keeps nothing for whoever reads its log.
    """

    name: str
    level: VerificationLevel
    reason: str = ""
    next_step: str = ""
    lag_bytes: int | None = None


class GuardReport(_Record):
    """One guard's judgement. `waivable` guards can be waived by approving exactly this plan."""

    guard: str
    tripped: bool
    subject: str = ""
    value: float | None = None
    limit: float | None = None
    message: str = ""
    way_on: str = ""
    waivable: bool = False
    waived: bool = False


class GCResult(_Record):
    """Result of one garbage collection cycle.

    Counts are objects, sizes are bytes, times are UTC. `candidates_found` counts what no reference names, the waiting
    ones included; `planned_objects` is the plan's size, `verified_orphans` the same in dry run and what passed
    verification otherwise. `skipped_count` is what of the plan was kept, by reason in `skipped`. `reclaimable_bytes` is
    the plan's size, `reclaimed_bytes` what this cycle freed in the bucket: nothing by delete markers, `purged_bytes` of
    it by removing `purged_count` noncurrent versions that earlier cycles left. `purge_kept` says why others of those
    stayed.
    """

    operation_id: str
    scope: str = ""
    bucket: str = ""
    mode: Literal["dry_run", "audit_only", "execute"] = "dry_run"
    outcome: Outcome = Outcome.SUCCEEDED
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_seconds: float = 0.0
    total_scanned: int = 0
    total_bytes: int = 0
    candidates_found: int = 0
    planned_objects: int = 0
    verified_orphans: int = 0
    deleted_count: int = 0
    backed_up_count: int = 0
    skipped_count: int = 0
    waiting_count: int = 0
    young_count: int = 0
    excluded_count: int = 0
    not_actionable_count: int = 0
    held_count: int = 0
    unverifiable_count: int = 0
    missing_objects: int = 0
    late_references: int = 0
    late_reference_keys: list[str] = Field(default_factory=list)
    healed_count: int = 0
    reclaimable_bytes: int = 0
    reclaimed_bytes: int = 0
    purged_count: int = 0
    purged_bytes: int = 0
    purge_kept: dict[str, int] = Field(default_factory=dict)
    backed_up_bytes: int = 0
    vault_bytes_written: int = 0
    verification: VerificationLevel = VerificationLevel.NONE
    verification_reason: str = ""
    sources: list[SourceVerification] = Field(default_factory=list)
    verified: bool = True
    deletion: str = ""
    plan_digest: str | None = None
    approval_expires_at: datetime | None = None
    guards: list[GuardReport] = Field(default_factory=list)
    coverage: list[ColumnCoverage] = Field(default_factory=list)
    skipped: dict[str, int] = Field(default_factory=dict)
    phase_seconds: dict[str, float] = Field(default_factory=dict)
    requests: dict[str, int] = Field(default_factory=dict)
    errors: list[str] = Field(default_factory=list)
    report: str | None = None


class RestoreResult(_Record):
    """Result of a restore. `skipped_keys` were there already; `failed_keys` maps a key to the reason.

    `errors` say what is lost or may be; `warnings` what came back by another way (a damaged manifest whose journals
    served) or not quite as it was (a header that the store does not keep). Only the first mean that it failed.
    """

    operation_id: str
    dry_run: bool
    restored_count: int = 0
    skipped_count: int = 0
    failed_count: int = 0
    restored_bytes: int = 0
    restored_keys: list[str] = Field(default_factory=list)
    skipped_keys: list[str] = Field(default_factory=list)
    failed_keys: dict[str, str] = Field(default_factory=dict)
    errors: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    duration_seconds: float = 0.0
    #: The three key lists hold at most this many entries; the counts are always whole.
    listed_keys_limit: int = 1000


class GCMetrics(_Record):
    """Statistics over every operation that the vault remembers."""

    total_runs: int = 0
    last_run_at: datetime | None = None
    total_deleted: int = 0
    total_backed_up: int = 0
    total_restored: int = 0
    reclaimed_bytes: int = 0
    vault_size_bytes: int = 0
    avg_compression_ratio: float = 0.0
    last_error: str | None = None
