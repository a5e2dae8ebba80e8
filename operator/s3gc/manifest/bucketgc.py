"""A BucketGC: one policy for one bucket."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from s3gc.manifest.base import Days, Flag, Part, Percent, ruled
from s3gc.manifest.bucket import BucketSpec
from s3gc.manifest.job import EngineSpec, JobSpec
from s3gc.manifest.references import ReferenceSpec
from s3gc.manifest.vault import VaultSpec

__all__ = ["BucketGC", "BucketGCSpec", "DeletionSpec", "LimitsSpec", "Metadata"]

_MAX_COUNT = 2**53 - 1  # the largest whole number that survives every JSON reader


class LimitsSpec(Part):
    """Numbers of the guards; 100 percent switches a percentage cap off."""

    min_references: Annotated[int, Field(strict=True, ge=0, le=_MAX_COUNT)] = Field(
        1, description="A database with fewer references than this is not believed."
    )
    max_reference_drop_percent: Percent = Field(
        20, description="How much fewer references a column may have than in the last believed cycle."
    )
    min_resolved_percent: Percent = Field(
        10, description="So many of a column's values must name an object that exists."
    )
    max_unparsed_percent: Percent = Field(
        5, description="So many of a column's values may be of a form that is not known."
    )
    max_delete_percent: Percent = Field(
        10, description="A plan with more of the objects in scope is too big to be true."
    )
    max_delete_objects: Annotated[int, Field(strict=True, ge=0, le=_MAX_COUNT)] | None = Field(
        None, description="The same in objects. Default: no such limit."
    )
    max_delete_bytes: Annotated[int, Field(strict=True, ge=0, le=_MAX_COUNT)] | None = Field(
        None, description="The same in bytes. Default: no such limit."
    )
    max_plan_age_hours: Annotated[float, Field(strict=True, gt=0, le=720)] = Field(
        24, description="A plan that is older is not swept, approved or not."
    )


class DeletionSpec(Part):
    """What a delete needs where the store ignores conditions on DELETE."""

    condition: Literal["Required", "BestEffort"] = Field(
        "Required",
        description="Required: refuse such a store. BestEffort: look at the object immediately before and accept "
        "the remaining race.",
    )


class BucketGCSpec(Part):
    """The `spec` of a BucketGC."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            (
                "self.mode != 'Execute' || (has(self.references) && self.references.size() > 0)",
                "mode Execute needs references: without a database nothing can be verified",
            ),
            (
                "!has(self.schedule) || !self.schedule.contains('TZ=')",
                "write the time zone into timeZone, not into the schedule",
            ),
            (
                "self.versions != 'Purge' || self.vault.retentionDays >= 1.0",
                "versions Purge makes the vault the only place where a purged object is: vault.retentionDays must "
                "be at least 1",
            ),
        )
    )

    bucket: BucketSpec = Field(description="The bucket to clean.")
    references: Annotated[tuple[ReferenceSpec, ...], Field(max_length=64)] = Field(
        (),
        description="Databases, and what in them references objects.",
        json_schema_extra=ruled(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["name"]),
    )
    mode: Literal["DryRun", "AuditOnly", "Execute"] = Field(
        "DryRun",
        description="DryRun plans and reports, AuditOnly also verifies every object, Execute deletes.",
    )
    retention_days: Days = Field(7, description="An object younger than this is never a candidate.")
    # The library's default is 0: a person who calls it looks at the result. Nobody looks at a schedule at
    # night.
    unreferenced_days: Days = Field(1, description="How long an object must have been unreferenced.")
    approval: Literal["Automatic", "Manual"] = Field(
        "Automatic",
        description="Manual: every plan waits for the annotation s3gc.dev/approve with its digest.",
    )
    limits: LimitsSpec = Field(LimitsSpec(), description="Numbers of the guards.")
    versions: Literal["Marker", "Purge"] = Field(
        "Marker",
        description="In a versioned bucket: Marker leaves the noncurrent version, Purge removes it in a later cycle.",
    )
    deletion: DeletionSpec = Field(DeletionSpec(), description="How objects are deleted.")
    restore_hold_days: Days = Field(
        30, description="How long a restored key counts as referenced, so that it is not deleted again."
    )
    vault: VaultSpec = Field(description="Where plans, backups, audit and state are kept.")
    schedule: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None,
        description="Five cron fields, or HH:MM for daily. Default: only when s3gc.dev/run-requested-at asks.",
    )
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        "UTC", description="Of the schedule, by its name in the IANA database, such as Europe/Berlin."
    )
    suspend: Flag = Field(False, description="Stop the schedule. Requested and approved cycles still run.")
    starting_deadline_seconds: Annotated[int, Field(strict=True, ge=10, le=2_147_483_647)] | None = Field(
        None, description="A cycle that could not start so long is left out. Default: it is caught up, once."
    )
    successful_jobs_history_limit: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        3, description="How many Jobs that succeeded are kept, with their logs."
    )
    failed_jobs_history_limit: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        3, description="How many Jobs that failed are kept, with their logs."
    )
    job: JobSpec = Field(JobSpec(), description="What the Job's pod needs in this cluster.")
    engine: EngineSpec = Field(EngineSpec(), description="How much of the pod and the store a cycle may use.")


class Metadata(BaseModel):
    """Of the object; what the API server adds is kept out of our way."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    namespace: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")] | None = None


class BucketGC(BaseModel):
    """A whole manifest. `status` is the operator's and is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    apiVersion: Literal["s3gc.dev/v1"]  # noqa: N815  Kubernetes' own spelling
    kind: Literal["BucketGC"]
    metadata: Metadata
    spec: BucketGCSpec
    status: dict[str, Any] | None = Field(default=None, exclude=True)
