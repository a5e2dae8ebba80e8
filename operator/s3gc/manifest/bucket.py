"""The bucket of a BucketGC, and what of it is in scope."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from s3gc.manifest.base import BucketName, Flag, Key, Label, Name, Part, SecretRef, Url, ruled

__all__ = ["BaseURLSpec", "BucketSpec"]

ExcludedPrefix = Annotated[str, Field(min_length=1, max_length=1024)]


class BaseURLSpec(Part):
    """A place under which the bucket is served: `url` + rest names the key `keyPrefix` + rest."""

    url: Url = Field(description="Beginning of the URLs, such as https://cdn.example.com/img/.")
    key_prefix: Key = Field("", description="What stands in the bucket in place of it. Default: nothing.")


class BucketSpec(Part):
    """The bucket to clean. `name` and `endpointURL` cannot be changed: backups and journals belong to them."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            (
                "self.name == oldSelf.name",
                "the bucket's name cannot be changed; make another BucketGC for another bucket",
            ),
            (
                "has(self.endpointURL) == has(oldSelf.endpointURL) && "
                "(!has(self.endpointURL) || self.endpointURL == oldSelf.endpointURL)",
                "the bucket's endpointURL cannot be changed; make another BucketGC for another store",
            ),
            (
                "!has(self.prefixes) || self.prefixes.all(p, !p.startsWith('/'))",
                "keys in a bucket do not start with '/': write prefixes without it",
            ),
            (
                "!has(self.endpointURL) || self.endpointURL.startsWith('https://') || "
                "self.endpointURL.startsWith('http://')",
                "endpointURL is http://host:port or https://host",
            ),
        )
    )

    name: Annotated[
        BucketName, Field(json_schema_extra={"pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"})
    ] = Field(description="Name of the bucket. Cannot be changed.")
    region: Label = Field("us-east-1", description="AWS region of the bucket; what a store calls its own.")
    endpoint_url: Url | None = Field(
        None, description="Another store than AWS, as http://host:port or https://host. Cannot be changed."
    )
    path_style: Flag | None = Field(
        None,
        description="Address the bucket as https://host/bucket/key. Default: for every store but AWS.",
    )
    prefixes: Annotated[tuple[Key, ...], Field(max_length=256)] = Field(
        (), description="What of the bucket is in scope. Default: the whole bucket."
    )
    exclude_prefixes: Annotated[tuple[ExcludedPrefix, ...], Field(max_length=1024)] = Field(
        (), description="What is never touched, though a prefix would include it."
    )
    base_urls: Annotated[tuple[BaseURLSpec, ...], Field(max_length=64)] = Field(
        (),
        description="Where the bucket is served: a CDN, a custom domain. URLs under them name its keys.",
    )
    foreign_hosts: Annotated[tuple[Name, ...], Field(max_length=1024)] = Field(
        (), description="Hosts whose URLs never mean this bucket."
    )
    credentials_secret_ref: SecretRef | None = Field(
        None,
        description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if there is one, AWS_SESSION_TOKEN. "
        "Default: the identity of the Job's service account.",
    )
