"""Where a BucketGC keeps plans, backups, audit and state."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from s3gc.manifest.base import BucketName, Days, Flag, Key, Label, Name, Part, SecretRef, Url, ruled

__all__ = ["VaultClaimSpec", "VaultS3Spec", "VaultSpec"]

_ONE_OF = "give exactly one of s3 and persistentVolumeClaim"


class VaultS3Spec(Part):
    """An S3 prefix, in a store and an account of its own."""

    bucket: BucketName = Field(
        description="Bucket of the vault; another one than the bucket that is cleaned."
    )
    prefix: Key = Field("", description="Where in it. Default: its root.")
    endpoint_url: Url | None = Field(
        None, description="Another store than AWS, as http://host:port or https://host."
    )
    region: Label | None = Field(None, description="AWS region of the vault's bucket.")
    path_style: Flag | None = Field(
        None, description="Address it as https://host/bucket/key. Default: for every store but AWS."
    )
    storage_class: Label | None = Field(None, description="Storage class of what is written.")
    kms_key_id: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, description="Encrypt what is written with this KMS key."
    )
    credentials_secret_ref: SecretRef | None = Field(
        None,
        description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if there is one, AWS_SESSION_TOKEN. "
        "Default: the identity of the Job's service account.",
    )


class VaultClaimSpec(Part):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: Name = Field(description="Name of the PersistentVolumeClaim.")


class VaultSpec(Part):
    """Exactly one place, and how long what was deleted can be brought back."""

    model_config = ConfigDict(
        json_schema_extra=ruled(("has(self.s3) != has(self.persistentVolumeClaim)", _ONE_OF))
    )

    s3: VaultS3Spec | None = Field(None, description="An S3 prefix.")
    persistent_volume_claim: VaultClaimSpec | None = Field(
        None, description="A PersistentVolumeClaim of the same namespace."
    )
    retention_days: Days = Field(90, description="How long what was deleted can be brought back.")
    compression_level: Annotated[int, Field(strict=True, ge=1, le=19)] = Field(
        3, description="Of zstd; 3 is a good one."
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.s3 is None) == (self.persistent_volume_claim is None):
            raise ValueError(_ONE_OF)
        return self
