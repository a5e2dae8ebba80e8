"""What the operator says about a BucketGC and a GCRestore: the `status` of both, as frozen values.

Everything is bounded, because the API server refuses a status that is not what the CRD says, and a
controller that cannot write its status is blind. So texts are cut where a status is made (`cut`), lists are
short, and what grows with a bucket stays in the vault. Reading is lenient: a status written by another
version is read as far as it is understood.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from s3gc.manifest.base import camel, ruled
from s3gc.results import Outcome

__all__ = [
    "MAX_COVERAGE",
    "MAX_ERRORS",
    "MAX_HISTORY",
    "MAX_SOURCES",
    "Active",
    "BucketGCStatus",
    "Condition",
    "ConditionStatus",
    "Coverage",
    "Cycle",
    "GCRestoreStatus",
    "HistoryEntry",
    "PendingApproval",
    "ProgressCounts",
    "SourceLevel",
    "VaultMetrics",
    "cut",
]

MAX_ERRORS = 10
MAX_COVERAGE = 20
MAX_HISTORY = 10
MAX_SOURCES = 16
_TEXT = 1024

ConditionStatus = Literal["True", "False", "Unknown"]


def cut(text: str, length: int = _TEXT) -> str:
    """`text`, no longer than `length` characters and without what a terminal would obey."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return clean if len(clean) <= length else clean[: length - 1] + "…"


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


#: Whole seconds, as Kubernetes writes times.
Time = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]
Text = Annotated[str, Field(max_length=_TEXT)]
Short = Annotated[str, Field(max_length=253)]
Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Amount = Annotated[float, Field(ge=0)]


class _Status(BaseModel):
    """Frozen; spelled as Kubernetes spells; what is not known is left out."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=camel, validate_by_name=True, validate_by_alias=True
    )

    def to_json(self) -> dict[str, Any]:
        """As it stands in the object; what is not set is absent."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {name: value for name, value in plain.items() if value != []}

    @classmethod
    def read(cls, value: object) -> Self:
        """The status of an object; what cannot be read, another version's perhaps, is as if it was never written."""
        if not isinstance(value, dict):
            return cls()
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            broken = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        try:
            return cls.model_validate({name: part for name, part in value.items() if name not in broken})
        except ValidationError:
            return cls()


class Condition(_Status):
    """One aspect of the object's state, as Kubernetes writes conditions."""

    type: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="What it is about.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    observed_generation: Count | None = Field(None, description="The generation that it is about.")
    last_transition_time: Time = Field(description="When the status changed last.")
    reason: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Why, in one word.")
    message: Text = Field("", description="Why, for a person.")


_CONDITIONS = Field(
    (),
    description="Aspects of the state.",
    json_schema_extra=ruled(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"]),
)
Conditions = Annotated[tuple[Condition, ...], Field(max_length=16)]


class ProgressCounts(_Status):
    """How far a cycle is."""

    listed: Count = Field(0, description="Objects listed.")
    references: Count = Field(0, description="References read.")
    candidates: Count = Field(0, description="Objects that nothing references.")
    backed_up: Count = Field(0, description="Objects backed up.")
    deleted: Count = Field(0, description="Objects deleted.")


class Active(_Status):
    """The Job that runs."""

    job_name: Short = Field(description="Name of the Job.")
    job_uid: Short = Field("", description="UID of the Job.")
    trigger: Short = Field("", description="Why it runs: Schedule, Request or Approval.")
    operation_id: Short | None = Field(None, description="The operation, once its log says so.")
    start_time: Time | None = Field(None, description="When the Job was made.")
    phase: Short = Field("Pending", description="What it does now.")
    message: Text | None = Field(None, description="Why its pod does not run.")
    progress: ProgressCounts | None = Field(None, description="How far it is, as its log says.")


class Coverage(_Status):
    """What one column contributed: the way to see a wrong column before anything is deleted."""

    source: Short = Field("", description="Which database.")
    column: Annotated[str, Field(max_length=600)] = Field("", description="Which column, query or template.")
    values: Count = Field(0, description="Values read.")
    references: Count = Field(0, description="References found in them.")
    resolved: Count = Field(0, description="Values that name an object that exists.")
    missing: Count = Field(0, description="Values that name an object that does not exist.")
    unparsed: Count = Field(0, description="Values of a form that is not known.")


class SourceLevel(_Status):
    """How deletions are verified in one database."""

    name: Short = Field("", description="Which database.")
    level: Short = Field("", description="cdc, query or rescan.")
    reason: Text = Field("", description="Why not a stronger one.")
    next_step: Text = Field("", description="What gives a stronger one, mostly a statement to run.")
    lag_bytes: Count | None = Field(
        None, description="The most of its log that the server kept for the cycle's change capture."
    )


class Cycle(_Status):
    """A cycle that ended."""

    operation_id: Short | None = Field(None, description="Its operation in the vault.")
    job_name: Short = Field("", description="Its Job.")
    job_uid: Short = Field("", description="UID of its Job.")
    mode: Short | None = Field(None, description="DryRun, AuditOnly or Execute.")
    outcome: Outcome = Field(description="How it ended; Unknown: its Job is gone and left no result.")
    start_time: Time | None = Field(None, description="When it began.")
    completion_time: Time | None = Field(None, description="When it ended.")
    duration_seconds: Amount = Field(0, description="How long it took.")
    total_scanned: Count = Field(0, description="Objects in scope.")
    candidates_found: Count = Field(
        0, description="Objects that nothing references, the waiting ones included."
    )
    verified_orphans: Count = Field(0, description="Objects that passed verification; the plan in a dry run.")
    deleted_count: Count = Field(0, description="Objects deleted.")
    backed_up_count: Count = Field(0, description="Objects backed up.")
    skipped_count: Count = Field(0, description="Objects of the plan that were left alone.")
    waiting_count: Count = Field(0, description="Objects not unreferenced for long enough.")
    missing_objects: Count = Field(0, description="References whose object is missing.")
    late_references: Count = Field(0, description="Objects that came to be referenced and were restored.")
    healed_count: Count = Field(0, description="Objects of earlier cycles that were restored.")
    reclaimable_bytes: Count = Field(0, description="Size of the plan.")
    reclaimed_bytes: Count = Field(0, description="Bytes freed.")
    verification: Short | None = Field(
        None, description="How candidates were verified: cdc, query or rescan."
    )
    sources: Annotated[tuple[SourceLevel, ...], Field(max_length=MAX_SOURCES)] = Field(
        (), description="The same for each database."
    )
    deletion: Text | None = Field(
        None, description="How objects were deleted; in another mode what Execute would meet."
    )
    plan_digest: Short | None = Field(None, description="Of the plan.")
    guards: Annotated[tuple[Text, ...], Field(max_length=MAX_ERRORS)] = Field(
        (), description="Guards that said no, with their numbers."
    )
    errors: Annotated[tuple[Text, ...], Field(max_length=MAX_ERRORS)] = Field(
        (), description="What went wrong."
    )
    coverage: Annotated[tuple[Coverage, ...], Field(max_length=MAX_COVERAGE)] = Field(
        (), description="What each column contributed."
    )
    report: Text | None = Field(None, description="Where the report is in the vault.")


class PendingApproval(_Status):
    """A plan that waits for a person: s3gc.dev/approve with its digest."""

    plan_digest: Short = Field(description="What to write into the annotation s3gc.dev/approve.")
    operation_id: Short | None = Field(None, description="The operation that made the plan.")
    objects: Count = Field(0, description="Objects in it.")
    bytes: Count = Field(0, description="Their size.")
    expires_at: Time | None = Field(None, description="Until when it can be approved.")


class VaultMetrics(_Status):
    """Numbers over every cycle that the vault remembers."""

    total_runs: Count = Field(0, description="Cycles.")
    last_run_at: Time | None = Field(None, description="When the last one began.")
    total_deleted: Count = Field(0, description="Objects deleted.")
    total_backed_up: Count = Field(0, description="Objects backed up.")
    reclaimed_bytes: Count = Field(0, description="Bytes freed.")
    vault_size_bytes: Count = Field(0, description="Bytes in the vault.")
    avg_compression_ratio: Amount = Field(0, description="Original bytes per stored byte.")


class HistoryEntry(_Status):
    """A cycle that ended, in short."""

    operation_id: Short | None = Field(None, description="Its operation in the vault.")
    job_uid: Short = Field("", description="UID of its Job.")
    mode: Short | None = Field(None, description="DryRun, AuditOnly or Execute.")
    outcome: Outcome = Field(description="How it ended.")
    completion_time: Time | None = Field(None, description="When it ended.")
    deleted_count: Count = Field(0, description="Objects deleted.")
    reclaimed_bytes: Count = Field(0, description="Bytes freed.")


class BucketGCStatus(_Status):
    """What the operator knows about a BucketGC."""

    observed_generation: Count | None = Field(None, description="The generation that this status is about.")
    conditions: Conditions = _CONDITIONS
    last_schedule_time: Time | None = Field(
        None, description="The scheduled time of the last scheduled cycle."
    )
    next_schedule_time: Time | None = Field(None, description="When the next cycle is due.")
    last_handled_run_request: Text | None = Field(
        None, description="The last value of s3gc.dev/run-requested-at that was acted upon."
    )
    last_handled_approval: Text | None = Field(
        None, description="The last value of s3gc.dev/approve that was acted upon."
    )
    active: Active | None = Field(None, description="The cycle that runs.")
    last_cycle: Cycle | None = Field(None, description="The cycle that ended last.")
    accounted_until: Time | None = Field(None, description="Jobs made until then are in this status.")
    last_success_time: Time | None = Field(None, description="When a cycle succeeded last.")
    pending_approval: PendingApproval | None = Field(None, description="A plan that waits for a person.")
    metrics: VaultMetrics | None = Field(
        None, description="Numbers over every cycle that the vault remembers."
    )
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=MAX_HISTORY)] = Field(
        (), description="The last cycles, the newest first."
    )


class GCRestoreStatus(_Status):
    """What the operator knows about a GCRestore."""

    observed_generation: Count | None = Field(None, description="The generation that this status is about.")
    conditions: Conditions = _CONDITIONS
    job_name: Short | None = Field(None, description="Its Job.")
    job_uid: Short | None = Field(None, description="UID of its Job.")
    operation_id: Short | None = Field(
        None, description="The operation that is restored; `latest` resolved once."
    )
    start_time: Time | None = Field(None, description="When its Job was made.")
    completion_time: Time | None = Field(None, description="When it ended.")
    restored_count: Count = Field(0, description="Objects brought back; in a dry run those that would be.")
    skipped_count: Count = Field(0, description="Objects that were there already.")
    failed_count: Count = Field(0, description="Objects that could not be brought back.")
    restored_bytes: Count = Field(0, description="Their size.")
    errors: Annotated[tuple[Text, ...], Field(max_length=MAX_ERRORS)] = Field(
        (), description="What went wrong."
    )
