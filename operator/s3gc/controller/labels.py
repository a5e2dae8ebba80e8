"""Labels, annotations and names of what the operator makes."""

from __future__ import annotations

import hashlib

__all__ = [
    "BUCKETGC",
    "COMPONENT",
    "CONTAINER",
    "GCRESTORE",
    "GENERATION",
    "MANAGED_BY",
    "MANAGER",
    "NAME",
    "SCHEDULED_AT",
    "SELECTOR",
    "TRIGGER",
    "VAULT",
    "short_hash",
]

NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
MANAGER = "s3gc"
#: What restricts the watch of Jobs, on the server's side.
SELECTOR = f"{MANAGED_BY}={MANAGER}"

BUCKETGC = "s3gc.dev/bucketgc"
GCRESTORE = "s3gc.dev/gcrestore"
#: Which vault a Job and its pods write to: of one vault, one at a time.
VAULT = "s3gc.dev/vault"

TRIGGER = "s3gc.dev/trigger"
SCHEDULED_AT = "s3gc.dev/scheduled-at"
GENERATION = "s3gc.dev/generation"

CONTAINER = "s3gc"


def short_hash(text: str) -> str:
    """Eight hexadecimal digits, for names that must be the same whenever they are made."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
