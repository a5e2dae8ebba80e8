"""What the plugin's endpoints take and answer: the types of the application's OpenAPI document.

Results of the engine (`GCResult`, `RestoreResult`, `GCMetrics`) are answered as they are; here is what HTTP needs
beside them. Times are UTC, sizes are bytes. Keys and values of a bucket or database are other people's text: a page
that shows them must escape them. Names begin with GC, so that they are not those of the application's own models.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StringConstraints

from s3gc.results import GCResult, GuardReport, Outcome, RestoreResult

__all__ = [
    "GCApproveRequest",
    "GCApproved",
    "GCBin",
    "GCComponent",
    "GCConfigView",
    "GCDatabase",
    "GCEnded",
    "GCExplanation",
    "GCHealth",
    "GCHistoryEntry",
    "GCNamedBy",
    "GCOperationDetail",
    "GCOperationList",
    "GCOperationState",
    "GCOperationSummary",
    "GCPendingApproval",
    "GCPlanPage",
    "GCPlannedItem",
    "GCProgress",
    "GCRestoreAccepted",
    "GCRestoreRequest",
    "GCRunAccepted",
    "GCRunState",
    "GCRunning",
    "GCSampleObject",
    "GCSchedule",
    "GCStatus",
    "GCSummary",
    "GCWorkKind",
    "S3GCProblem",
]

#: As long as a key may be in S3, in bytes; a key has at most as many characters.
KEY_CHARACTERS = 1024
Key = Annotated[str, StringConstraints(min_length=1, max_length=KEY_CHARACTERS)]
Prefix = Annotated[str, StringConstraints(min_length=1, max_length=KEY_CHARACTERS)]
OperationID = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
Mode = Literal["dry_run", "audit_only", "execute"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class S3GCProblem(_Answer):
    """An error, as RFC 9457 has it (`application/problem+json`). `type` names the kind and never changes.

    `operation_id` is the operation that is meant, or that is in the way (409). `errors` lists every problem of a
    request or a policy, `guard` and `plan_digest` say what refused.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    operation_id: str | None = None
    errors: list[str] | None = None
    guard: str | None = None
    plan_digest: str | None = None


# --- what runs


class GCWorkKind(StrEnum):
    CYCLE = "cycle"
    RESTORE = "restore"


class GCProgress(_Answer):
    """How far it is. `phase` as in `s3gc.results.Progress`; `total` is what its count will reach, 0: unknown."""

    phase: str = "Starting"
    listed: int = 0
    references: int = 0
    candidates: int = 0
    backed_up: int = 0
    deleted: int = 0
    restored: int = 0
    total: int = 0


class GCRunning(_Answer):
    """What runs now. `operation_id` is null until it is known. `here` is false for another worker process's."""

    kind: GCWorkKind
    operation_id: str | None
    mode: Mode | None = None
    trigger: Literal["request", "schedule"] = "request"
    started_at: datetime
    progress: GCProgress
    here: bool = True


class GCEnded(_Answer):
    """What ended last. Exactly one of `outcome` (of a cycle), `restore` and `problem` says how."""

    kind: GCWorkKind
    operation_id: str | None
    started_at: datetime
    ended_at: datetime
    outcome: Outcome | None = None
    restore: RestoreResult | None = None
    problem: S3GCProblem | None = None


class GCRunState(_Answer):
    """Data of the event `progress`: what runs now, in any worker process, or null."""

    running: GCRunning | None


class GCRunAccepted(_Answer):
    """202: the cycle runs. `href` is where its record is, relative to the host."""

    operation_id: str
    mode: Mode
    started_at: datetime
    href: str


class GCRestoreAccepted(_Answer):
    """202: the restore runs; its end is in `GET status` (`last_ended`) and among the events."""

    operation_id: str
    started_at: datetime


# --- state


class GCSchedule(_Answer):
    """`last_slot` is the scheduled time that was run last, by whichever worker process."""

    cron: str
    time_zone: str
    next_run_at: datetime
    last_slot: datetime | None


class GCPendingApproval(_Answer):
    """A plan that waits for a person: approve exactly `plan_digest`. `guards` are those that an approval waives."""

    operation_id: str
    plan_digest: str
    objects: int
    bytes: int
    expires_at: datetime | None
    guards: list[GuardReport]


class GCOperationState(StrEnum):
    """`cut_off`: it left no result and does not run any more; the next cycle recovers it."""

    RUNNING = "running"
    FINISHED = "finished"
    CUT_OFF = "cut_off"
    DAMAGED = "damaged"


class GCOperationSummary(_Answer):
    """One line of the history. Counts are null where the operation left no result."""

    operation_id: str
    state: GCOperationState
    bucket: str
    mode: str
    outcome: Outcome | None
    started_at: datetime
    completed_at: datetime | None
    journal: str
    problem: str | None = None
    duration_seconds: float | None = None
    total_scanned: int | None = None
    candidates_found: int | None = None
    planned_objects: int | None = None
    verified_orphans: int | None = None
    deleted_count: int | None = None
    backed_up_count: int | None = None
    skipped_count: int | None = None
    healed_count: int | None = None
    late_references: int | None = None
    missing_objects: int | None = None
    reclaimable_bytes: int | None = None
    reclaimed_bytes: int | None = None
    backed_up_bytes: int | None = None
    plan_digest: str | None = None
    errors: int | None = None


class GCStatus(_Answer):
    """The state of the policy. `busy` says who else holds the scope (another process, the command line), or null."""

    version: str
    policy: str
    bucket: str
    prefixes: list[str]
    mode: Mode
    approval: Literal["automatic", "manual"]
    retention_days: float
    unreferenced_days: float
    vault: str
    schedule: GCSchedule | None
    running: GCRunning | None
    busy: str | None
    last_ended: GCEnded | None
    last_cycle: GCOperationSummary | None
    pending_approval: GCPendingApproval | None


# --- health


class GCComponent(_Answer):
    """`unknown`: it was not asked, or did not answer in time. `off`: not configured, and nothing is wrong with that.

    `lag_bytes`, of change capture: how much of its log the server keeps for cycles that run now (0 between cycles);
    null where a server keeps nothing for whoever reads its log, or did not say.
    """

    name: str
    state: Literal["ok", "failed", "unknown", "off"]
    detail: str
    milliseconds: float | None = None
    lag_bytes: int | None = None


class GCHealth(_Answer):
    """`status` is failed when any part is (answered with 503), degraded when one is unknown, else ok."""

    status: Literal["ok", "degraded", "failed"]
    vault: GCComponent
    bucket: GCComponent
    databases: list[GCComponent]
    cdc: list[GCComponent]
    schedule: GCComponent


# --- operations


class GCOperationList(_Answer):
    """Newest first. `next_before` is the `before` of the next page, null on the last one."""

    items: list[GCOperationSummary]
    next_before: str | None


class GCOperationDetail(_Answer):
    """Everything about one operation. `why_not_approvable` is a sentence where `approvable` is false."""

    operation: GCOperationSummary
    result: GCResult | None
    groups: int
    packs: int
    held: bool
    approved_by: str | None
    approved_at: datetime | None
    approvable: bool
    why_not_approvable: str | None
    restorable: bool


class GCPlannedItem(_Answer):
    """One object of a plan and why it is in it; after the sweep also what became of it and why."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    storage_class: str
    first_unreferenced: datetime | None
    reason: str
    action: str | None = None
    action_reason: str | None = None


class GCPlanPage(_Answer):
    """A page of the plan in the order of its keys. `next_after` is the `after` of the next page, null on the last one.

    `objects` and `bytes` are those of the whole plan, whatever `prefix` selects.
    """

    operation_id: str
    plan_digest: str | None
    objects: int
    bytes: int
    items: list[GCPlannedItem]
    next_after: str | None


class GCBin(_Answer):
    """A part of the whole; `monthly` is what keeping it costs a month, in dollars (0 where no price applies)."""

    label: str
    objects: int
    bytes: int
    monthly: float = 0.0


class GCSampleObject(_Answer):
    key: str
    size: int
    last_modified: datetime
    storage_class: str
    outcome: str


class GCSummary(_Answer):
    """The report's charts as numbers: of what was swept (`source` manifest), or planned (plan), or of nothing ("")."""

    operation_id: str
    source: Literal["plan", "manifest", ""]
    objects: int
    bytes: int
    monthly: float
    price_origin: str
    by_prefix: list[GCBin]
    by_age: list[GCBin]
    by_size: list[GCBin]
    by_class: list[GCBin]
    by_outcome: list[GCBin]
    oldest: datetime | None
    newest: datetime | None
    largest: list[GCSampleObject]
    samples: list[GCSampleObject]


class GCApproveRequest(_Answer):
    """Consent to exactly one plan. `by` is who says so, for the record."""

    plan_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    by: Annotated[str, StringConstraints(max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


class GCApproved(_Answer):
    """`not_waived` are guards that tripped and that no approval waives: the next cycle judges them anew."""

    operation_id: str
    plan_digest: str
    objects: int
    bytes: int
    by: str
    at: datetime
    not_waived: list[str]


class GCRestoreRequest(_Answer):
    """What to bring back, and how. Without keys and prefixes everything that the operation deleted.

    What is null here is as the query says, and by default a dry run that leaves alone what is there.
    """

    dry_run: StrictBool | None = None  # what only looks like a boolean must not overwrite anything
    skip_existing: StrictBool | None = None
    keys: list[Key] | None = Field(default=None, min_length=1, max_length=1000)
    prefixes: list[Prefix] | None = Field(default=None, min_length=1, max_length=100)


# --- explain


class GCNamedBy(_Answer):
    """A column that names the key, by a value (its credentials hidden), or by a prefix above it."""

    source: str
    column: str
    value: str
    prefix: str | None


class GCHistoryEntry(_Answer):
    operation_id: str
    action: str
    at: datetime | None
    version_id: str | None


class GCExplanation(_Answer):
    """Why one object is kept, or would go; `sentence` says it in words, `reasons` are all of them."""

    key: str
    bucket: str
    exists: bool
    would_go: bool
    sentence: str
    reasons: list[str]
    size: int | None
    etag: str | None
    last_modified: datetime | None
    storage_class: str | None
    age_days: float | None
    retention_days: float
    in_scope: bool
    excluded_by: str | None
    is_reserved: bool
    problem: str | None
    references: list[GCNamedBy]
    held_until: datetime | None
    held_because: str | None
    first_listed: datetime | None
    first_unreferenced: datetime | None
    unreferenced_days: float
    ripe_at: datetime | None
    history: list[GCHistoryEntry]


# --- configuration


class GCDatabase(_Answer):
    """`location` is scheme, host and database, never a user or password."""

    name: str
    location: str
    tables: list[str]
    queries: list[str]
    cdc: str | None


class GCConfigView(_Answer):
    """The policy, by the names of `create_config`; every secret is shown as asterisks."""

    settings: dict[str, JsonValue]
    databases: list[GCDatabase]
