"""What one policy owns in a bucket, and whether two policies would own the same object.

A scope's id is made once, from the policy's name and the bucket, and everything that must survive an edit
(maturity, holds, the lock) hangs on it: a new endpoint name or other prefixes change scope.json, never the
id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Scope", "find_overlap", "scope_id"]


@dataclass(frozen=True, slots=True)
class Scope:
    """`prefixes` are never empty: ``("",)`` is the whole bucket. What `exclude_prefixes` has is nobody's of
    ours, so another scope may own it. A `retired` scope keeps its history and owns nothing any more."""

    id: str
    name: str
    bucket: str
    endpoint_url: str | None
    prefixes: tuple[str, ...]
    exclude_prefixes: tuple[str, ...] = ()
    retired: bool = False

    def to_json(self) -> bytes:
        return (json.dumps({"version": 1, **asdict(self)}, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Scope:
        """Raises ValueError, KeyError or TypeError for anything else."""
        value: dict[str, Any] = json.loads(data)
        return cls(
            id=str(value["id"]),
            name=str(value["name"]),
            bucket=str(value["bucket"]),
            endpoint_url=value["endpoint_url"],
            prefixes=_strings(value["prefixes"]),
            exclude_prefixes=_strings(value.get("exclude_prefixes", [])),
            retired=bool(value.get("retired", False)),
        )


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("not a list of strings")
    return tuple(value)


def scope_id(policy: str, bucket: str) -> str:
    """A name that a person recognises, made unique: the same policy and bucket always give the same one."""
    digest = hashlib.sha256(f"{policy}\0{bucket}".encode()).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', policy)[:80].strip('-') or 'scope'}-{digest}"


def find_overlap(
    prefixes: Sequence[str], excluded: Iterable[str], others: Sequence[str], others_excluded: Iterable[str]
) -> tuple[str, str] | None:
    """The first pair of prefixes that could both hold one key, or None.

    Two prefixes share keys exactly when one begins with the other; then the longer one's keys are shared,
    unless one of the sides leaves all of them out.
    """
    ours_out, theirs_out = tuple(excluded), tuple(others_excluded)
    for ours in prefixes:
        for theirs in others:
            if not (ours.startswith(theirs) or theirs.startswith(ours)):
                continue
            shared = max(ours, theirs, key=len)
            if not shared.startswith(ours_out) and not shared.startswith(theirs_out):
                return ours, theirs
    return None
