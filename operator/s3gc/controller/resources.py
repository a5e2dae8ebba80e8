"""The objects that the operator watches, read once into frozen values: a BucketGC, a GCRestore, a Job, a pod.

Whatever stands in an object, reading it never raises: a spec that cannot be used becomes a list of problems, each
with its field, and ends as a condition; a status of another version is read as far as it is understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from s3gc.config import S3GCConfig, list_problems
from s3gc.controller.statuses import BucketGCStatus, GCRestoreStatus
from s3gc.exceptions import ConfigurationError
from s3gc.manifest import BucketGC, BucketGCSpec, GCRestoreSpec, Metadata
from s3gc.policy import manifest_path, to_config

__all__ = [
    "APPROVE",
    "RUN_REQUESTED_AT",
    "GCObject",
    "Meta",
    "Owner",
    "RestoreObject",
    "moment",
    "read_bucketgc",
    "read_gcrestore",
    "read_meta",
]

#: Annotations that a person sets. They are never removed by us.
RUN_REQUESTED_AT = "s3gc.dev/run-requested-at"
APPROVE = "s3gc.dev/approve"


@dataclass(frozen=True, slots=True)
class Meta:
    """What matters of an object's metadata."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    is_deleting: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a Job."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class GCObject:
    """A BucketGC. `spec` and `config` are None where `problems` says why."""

    meta: Meta
    spec: BucketGCSpec | None
    config: S3GCConfig | None
    problems: tuple[str, ...]
    status: BucketGCStatus
    run_requested: str | None = None
    approve: str | None = None


@dataclass(frozen=True, slots=True)
class RestoreObject:
    """A GCRestore. `spec` is None where `problems` says why."""

    meta: Meta
    spec: GCRestoreSpec | None
    problems: tuple[str, ...]
    status: GCRestoreStatus


def moment(text: object) -> datetime | None:
    """A time as Kubernetes writes it, in UTC; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def read_meta(body: Mapping[str, Any]) -> Meta:
    meta = body.get("metadata") or {}
    return Meta(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        generation=int(meta.get("generation") or 0),
        resource_version=str(meta.get("resourceVersion", "")),
        created=moment(meta.get("creationTimestamp")) or datetime(1970, 1, 1, tzinfo=UTC),
        is_deleting=meta.get("deletionTimestamp") is not None,
    )


def read_bucketgc(body: Mapping[str, Any]) -> GCObject:
    """Read a BucketGC, its spec judged as `s3gc run -f` would judge it, without its secrets."""
    meta = read_meta(body)
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    spec, problems = _spec(BucketGCSpec, body)
    config = None
    if spec is not None:
        try:
            named = Metadata(name=meta.name, namespace=meta.namespace)
            manifest = BucketGC(apiVersion="s3gc.dev/v1", kind="BucketGC", metadata=named, spec=spec)
            config = to_config(manifest, None)
        except ConfigurationError as error:
            listed = error.details.get("errors")
            problems = [str(each) for each in listed] if isinstance(listed, list) else [error.message]
        except ValidationError as error:  # of the metadata, which the API server lets nobody write
            problems = list_problems(error)
    return GCObject(
        meta=meta,
        spec=spec if config is not None else None,
        config=config,
        problems=tuple(problems),
        status=BucketGCStatus.read(body.get("status")),
        run_requested=_token(annotations.get(RUN_REQUESTED_AT)),
        approve=_token(annotations.get(APPROVE)),
    )


def read_gcrestore(body: Mapping[str, Any]) -> RestoreObject:
    spec, problems = _spec(GCRestoreSpec, body)
    return RestoreObject(
        meta=read_meta(body),
        spec=spec,
        problems=tuple(problems),
        status=GCRestoreStatus.read(body.get("status")),
    )


_M = TypeVar("_M", bound=BaseModel)


def _spec(model: type[_M], body: Mapping[str, Any]) -> tuple[_M | None, Sequence[str]]:
    try:
        return model.model_validate(body.get("spec") or {}), ()
    except ValidationError as error:
        return None, list_problems(error, where=lambda loc: manifest_path(["spec", *loc]))


def _token(value: object) -> str | None:
    text = value.strip() if isinstance(value, str) else ""
    return text or None
