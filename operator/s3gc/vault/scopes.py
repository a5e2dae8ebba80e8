"""What one policy owns in a bucket, and whether two policies would own the same object.

A scope's id is chosen once, when its policy has its first cycle, and everything that must survive an edit (maturity,
holds, the lock, journals) hangs on it: a new endpoint name, other prefixes, a namespace or a new name change
scope.json, never the id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Scope", "differ_in_namespace", "find_overlap", "scope_id", "widened"]


@dataclass(frozen=True, slots=True)
class Scope:
    """`prefixes` are never empty: ``("",)`` is the whole bucket. What `exclude_prefixes` has is nobody's of
    ours, so another scope may own it. `sources` are the databases and what is read in them, without
    credentials. A `retired` scope keeps its history and owns nothing any more."""

    id: str
    name: str
    bucket: str
    endpoint_url: str | None
    prefixes: tuple[str, ...]
    exclude_prefixes: tuple[str, ...] = ()
    retired: bool = False
    sources: tuple[str, ...] = ()

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
            sources=_strings(value.get("sources", [])),
        )

    @property
    def shown(self) -> str:
        """For messages: whose it is, and the first of its prefixes."""
        names = ", ".join(repr(prefix) if prefix else "the whole bucket" for prefix in self.prefixes[:3])
        return f"policy {self.name!r}, {names}{' …' if len(self.prefixes) > 3 else ''}"


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("not a list of strings")
    return tuple(value)


def scope_id(policy: str, bucket: str) -> str:
    """A name that a person recognises, made unique: what a policy's first cycle chooses as its scope's id."""
    digest = hashlib.sha256(f"{policy}\0{bucket}".encode()).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', policy)[:80].strip('-') or 'scope'}-{digest}"


def differ_in_namespace(name: str, other: str) -> bool:
    """Whether one is the other with a namespace before it: ``media`` and ``shop.media``. Two namespaces are two
    policies. (A namespace has no dots, a policy's name may.)"""
    return bool(name and other) and (name.partition(".")[2] == other or other.partition(".")[2] == name)


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


def widened(scope: Scope, other: Scope) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Prefixes and excluded prefixes that own every key that either of the two owns, and perhaps more."""
    prefixes: list[str] = []
    for prefix in sorted({*scope.prefixes, *other.prefixes}):
        if not prefixes or not prefix.startswith(prefixes[-1]):
            prefixes.append(prefix)
    # What one leaves out stays out only where the other owns nothing of it.
    excluded = {
        prefix
        for mine, theirs in ((scope, other), (other, scope))
        for prefix in mine.exclude_prefixes
        if find_overlap((prefix,), (), theirs.prefixes, theirs.exclude_prefixes) is None
    }
    return tuple(prefixes), tuple(sorted(excluded))
