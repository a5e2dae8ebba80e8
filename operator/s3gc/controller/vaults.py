"""Which policies write to the same vault, and which claim the same objects: what must never run side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from urllib.parse import urlsplit

from s3gc.config import S3GCConfig
from s3gc.controller.resources import GCObject
from s3gc.manifest import BucketGCSpec
from s3gc.vault.scopes import find_overlap

__all__ = ["bucket_key", "describe_overlap", "vault_id"]


def vault_id(spec: BucketGCSpec, namespace: str) -> str:
    """A label's value for the vault of a policy: equal for equal places, in whatever namespace."""
    if spec.vault.s3 is not None:
        s3 = spec.vault.s3
        place = f"s3 {_store(s3.endpoint_url)} {s3.bucket} {s3.prefix.strip('/')}"
    else:
        assert spec.vault.persistent_volume_claim is not None  # noqa: S101  the model has exactly one of them
        place = f"claim {namespace} {spec.vault.persistent_volume_claim.claim_name}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]


def bucket_key(config: S3GCConfig) -> str:
    """Equal for policies whose buckets are surely the same one."""
    return f"{_store(config.endpoint_url)} {config.bucket}"


def _store(endpoint: str | None) -> str:
    """A store's address without what does not tell two stores apart: case, scheme, the scheme's own port."""
    if endpoint is None:
        return "aws"
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{(parts.hostname or '').rstrip('.').lower()}:{port}"


def describe_overlap(one: GCObject, others: Iterable[GCObject]) -> str | None:
    """Which other policy claims objects that `one` claims, in a sentence; None when none does.

    Each of the two would delete what only the other's database references, so both are refused, whichever came
    first; the rule looks at both in the same way, so that both see it.
    """
    if one.config is None:
        return None
    for other in sorted(others, key=lambda each: each.meta.key):
        if other.meta.uid == one.meta.uid or other.meta.is_deleting or other.config is None:
            continue
        if bucket_key(other.config) != bucket_key(one.config):
            continue
        found = find_overlap(
            one.config.effective_prefixes,
            one.config.exclude_prefixes,
            other.config.effective_prefixes,
            other.config.exclude_prefixes,
        )
        if found is not None:
            ours, theirs = (repr(prefix) if prefix else "the whole bucket" for prefix in found)
            return (
                f"BucketGC {other.meta.namespace}/{other.meta.name} has {theirs} of bucket "
                f"{one.config.bucket!r} in scope, and this one {ours}. Each would delete what only the other's "
                "database references: give one of them other prefixes"
            )
    return None
