"""A GCRestore: bring back what one operation of a BucketGC deleted, once."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from s3gc.manifest.base import BucketName, Flag, Key, Name, Part, ruled
from s3gc.manifest.bucketgc import Metadata

__all__ = ["BucketGCRef", "GCRestore", "GCRestoreSpec", "TargetSpec"]

_ONE_OF = "give exactly one of operationID and latest: true"
_SOMEWHERE = "a target names a bucket, a prefix, or both"


class BucketGCRef(Part):
    """A BucketGC of the same namespace."""

    model_config = ConfigDict(json_schema_extra=ruled(x_kubernetes_map_type="atomic"))

    name: Name = Field(description="Name of the BucketGC.")


class TargetSpec(Part):
    """Another place than the original one."""

    model_config = ConfigDict(json_schema_extra=ruled(("has(self.bucket) || has(self.prefix)", _SOMEWHERE)))

    bucket: BucketName | None = Field(
        None, description="Restore into this bucket of the same store. Default: where the objects were."
    )
    prefix: Annotated[Key, Field(min_length=1)] | None = Field(
        None, description="Put this before every restored key."
    )

    @model_validator(mode="after")
    def _names_a_place(self) -> Self:
        if self.bucket is None and self.prefix is None:
            raise ValueError(_SOMEWHERE)
        return self


class GCRestoreSpec(Part):
    """The `spec` of a GCRestore. It cannot be changed: make another GCRestore."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            ("self == oldSelf", "a GCRestore cannot be changed; make another one"),
            ("has(self.operationID) != (has(self.latest) && self.latest)", _ONE_OF),
        )
    )

    bucket_gc_ref: BucketGCRef = Field(
        description="The BucketGC whose cycle deleted the objects; of the same namespace."
    )
    operation_id: (
        Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$", min_length=26, max_length=26)] | None
    ) = Field(None, description="The operation that deleted them, as status.lastCycle.operationID names it.")
    latest: Flag = Field(False, description="The newest operation that deleted anything.")
    keys: Annotated[tuple[Annotated[Key, Field(min_length=1)], ...], Field(max_length=256)] = Field(
        (), description="Only these keys. With prefixes: either counts. Default: everything that it deleted."
    )
    prefixes: Annotated[tuple[Annotated[Key, Field(min_length=1)], ...], Field(max_length=256)] = Field(
        (), description="Only keys with one of these prefixes."
    )
    target: TargetSpec | None = Field(None, description="Restore to another place. Default: where they were.")
    dry_run: Flag = Field(False, description="Only say what would come back.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.operation_id is not None) == self.latest:
            raise ValueError(_ONE_OF)
        return self


class GCRestore(BaseModel):
    """A whole manifest. `status` is the operator's and is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    apiVersion: Literal["s3gc.dev/v1"]  # noqa: N815  Kubernetes' own spelling
    kind: Literal["GCRestore"]
    metadata: Metadata
    spec: GCRestoreSpec
    status: dict[str, Any] | None = Field(default=None, exclude=True)
