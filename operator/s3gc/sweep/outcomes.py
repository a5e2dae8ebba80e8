"""What becomes of one object that was to be deleted. Judged by what is left afterwards, never by a status code."""

from __future__ import annotations

from dataclasses import dataclass

from s3gc.exceptions import AccessDeniedError

__all__ = ["NO_VERSION", "Deleted", "Deletion", "Denied", "Kept", "Unversioned"]

#: How stores name the version of a bucket that has none: not at all, or "null".
NO_VERSION = (None, "", "null")


@dataclass(frozen=True, slots=True)
class Deleted:
    """The object is gone from view. `marker_version_id` is the delete marker above it, where that is provably ours
    (None: unversioned, or the answer that named it was lost). `freed` says that no version of it is left."""

    marker_version_id: str | None = None
    freed: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """The object (or what replaced it) is there; `reason` is a short fixed phrase."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """The object is there: these credentials may not delete it."""

    error: AccessDeniedError


@dataclass(frozen=True, slots=True)
class Unversioned:
    """Versioning is not Enabled any more: what was to be hidden may be destroyed. Nothing more may be deleted, and
    the object must come back from the vault."""

    detail: str


Deletion = Deleted | Kept | Denied | Unversioned
