"""What a `BucketGC` manifest may say: its models, bounded as a CustomResourceDefinition must be.

They stand beside `config`: a manifest has what only Kubernetes needs (secrets by reference, the Job's pod),
its own spelling (camelCase, `DryRun`) and two defaults of its own; `policy` turns one into the other. The
models carry structure and bounds only, no meaning, so that a structural schema can be made from them; what
a template or a host may contain is judged by `config`, once, for every face of s3gc.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "API_VERSION",
    "BucketGC",
    "BucketGCSpec",
    "ReferenceSpec",
    "camel",
]

API_VERSION = "s3gc.dev/v1"

_ACRONYMS = {"url": "URL", "urls": "URLs", "id": "ID", "mb": "MB"}


def camel(name: str) -> str:
    """`base_urls` -> `baseURLs`, as Kubernetes spells fields."""
    head, *rest = name.split("_")
    return head + "".join(_ACRONYMS.get(part, part.capitalize()) for part in rest)


class _Part(BaseModel):
    """Frozen; only the manifest's own spelling; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=camel, validate_by_name=False)


Name = Annotated[str, Field(min_length=1, max_length=253)]
Key = Annotated[str, Field(max_length=1024)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Identifier = Annotated[str, Field(min_length=1, max_length=256)]
Template = Annotated[str, Field(min_length=1, max_length=1024)]
Days = Annotated[float, Field(ge=0, le=36500)]
Percent = Annotated[float, Field(ge=0, le=100)]
Format = Literal["auto", "key", "url", "json", "text", "prefix"]


class SecretRef(_Part):
    """A Secret of the same namespace, all of whose standard keys are used."""

    name: Name


class SecretKeyRef(SecretRef):
    """One key of a Secret of the same namespace."""

    key: Name


class BaseURLSpec(_Part):
    url: Url
    key_prefix: Key = ""


class BucketSpec(_Part):
    name: Annotated[str, Field(min_length=3, max_length=63)]
    region: Annotated[str, Field(min_length=1, max_length=63)] = "us-east-1"
    endpoint_url: Url | None = None
    path_style: bool | None = None
    prefixes: Annotated[tuple[Key, ...], Field(max_length=256)] = ()
    exclude_prefixes: Annotated[tuple[Key, ...], Field(max_length=1024)] = ()
    base_urls: Annotated[tuple[BaseURLSpec, ...], Field(max_length=64)] = ()
    foreign_hosts: Annotated[tuple[Name, ...], Field(max_length=1024)] = ()
    credentials_secret_ref: SecretRef | None = None


class DatabaseSpec(_Part):
    url_secret_ref: SecretKeyRef


class CDCSpec(_Part):
    backend: Literal["postgres", "mysql"]
    url_secret_ref: SecretKeyRef | None = None


class ColumnSpec(_Part):
    name: Identifier | None = None
    template: Template | None = None
    format: Format = "auto"
    key_prefixes: Annotated[tuple[Key, ...], Field(max_length=16)] = ()


class TableSpec(_Part):
    table: Identifier
    columns: Annotated[tuple[ColumnSpec, ...], Field(min_length=1, max_length=128)]
    where: Annotated[str, Field(max_length=4096)] | None = None


class QuerySpec(_Part):
    name: Annotated[str, Field(min_length=1, max_length=128)]
    sql: Annotated[str, Field(min_length=1, max_length=16384)]
    format: Format = "auto"
    key_prefixes: Annotated[tuple[Key, ...], Field(max_length=16)] = ()


class ReferenceSpec(_Part):
    """One database and what in it references objects."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    database: DatabaseSpec
    cdc: CDCSpec | None = None
    tables: Annotated[tuple[TableSpec, ...], Field(max_length=256)] = ()
    queries: Annotated[tuple[QuerySpec, ...], Field(max_length=64)] = ()
    derivatives: Annotated[tuple[Template, ...], Field(max_length=64)] = ()
    ignore_columns: Annotated[tuple[Identifier, ...], Field(max_length=1024)] = ()


class LimitsSpec(_Part):
    """Numbers of the guards; 100 percent switches a percentage cap off."""

    min_references: Annotated[int, Field(ge=0)] = 1
    max_reference_drop_percent: Percent = 20
    min_resolved_percent: Percent = 10
    max_unparsed_percent: Percent = 5
    max_delete_percent: Percent = 10
    max_delete_objects: Annotated[int, Field(ge=0)] | None = None
    max_delete_bytes: Annotated[int, Field(ge=0)] | None = None
    max_plan_age_hours: Annotated[float, Field(gt=0, le=720)] = 24


class DeletionSpec(_Part):
    condition: Literal["Required", "BestEffort"] = "Required"


class VaultS3Spec(_Part):
    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    prefix: Key = ""
    endpoint_url: Url | None = None
    region: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    path_style: bool | None = None
    storage_class: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    kms_key_id: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    credentials_secret_ref: SecretRef | None = None


class VaultClaimSpec(_Part):
    claim_name: Name


class VaultSpec(_Part):
    s3: VaultS3Spec | None = None
    persistent_volume_claim: VaultClaimSpec | None = None
    retention_days: Days = 90
    compression_level: Annotated[int, Field(ge=1, le=19)] = 3

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.s3 is None) == (self.persistent_volume_claim is None):
            raise ValueError("give exactly one of s3 and persistentVolumeClaim")
        return self


class EngineSpec(_Part):
    """How much of the pod and of the store a cycle may use."""

    concurrency: Annotated[int, Field(ge=1, le=512)] = 32
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    memory_limit_mb: Annotated[int, Field(ge=64)] = 512
    pack_size_bytes: Annotated[int, Field(ge=64 * 1024)] = 64 * 1024 * 1024
    group_objects: Annotated[int, Field(ge=1, le=100_000)] = 1000
    canary_objects: Annotated[int, Field(ge=1, le=10_000)] = 20
    barrier_timeout_seconds: Annotated[float, Field(gt=0)] = 300


class JobSpec(_Part):
    """What the Job's pod needs in a cluster; the API server judges the parts when it creates the Job."""

    service_account_name: Name | None = None
    resources: dict[str, Any] | None = None
    node_selector: dict[str, str] | None = None
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(max_length=64)] = ()
    affinity: dict[str, Any] | None = None
    priority_class_name: Name | None = None
    image_pull_secrets: Annotated[tuple[SecretRef, ...], Field(max_length=16)] = ()
    pod_labels: dict[str, str] | None = None
    pod_annotations: dict[str, str] | None = None
    env: Annotated[tuple[dict[str, Any], ...], Field(max_length=64)] = ()
    active_deadline_seconds: Annotated[int, Field(ge=600)] | None = None
    host_network: bool = False


class BucketGCSpec(_Part):
    """The `spec` of a BucketGC."""

    bucket: BucketSpec
    references: Annotated[tuple[ReferenceSpec, ...], Field(max_length=64)] = ()
    mode: Literal["DryRun", "AuditOnly", "Execute"] = "DryRun"
    retention_days: Days = 7
    # The library's default is 0: a person who calls it looks at the result. Nobody looks at a schedule at
    # night.
    unreferenced_days: Days = 1
    approval: Literal["Automatic", "Manual"] = "Automatic"
    limits: LimitsSpec = LimitsSpec()
    versions: Literal["Marker", "Purge"] = "Marker"
    deletion: DeletionSpec = DeletionSpec()
    restore_hold_days: Days = 30
    vault: VaultSpec
    schedule: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    suspend: bool = False
    starting_deadline_seconds: Annotated[int, Field(ge=10)] | None = None
    successful_jobs_history_limit: Annotated[int, Field(ge=0, le=100)] = 3
    failed_jobs_history_limit: Annotated[int, Field(ge=0, le=100)] = 3
    job: JobSpec = JobSpec()
    engine: EngineSpec = EngineSpec()


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
