"""Every path in a vault, in one place. Paths are ours: a customer's key never becomes one.

An operation's id is a ULID and a scope's id is made by `scopes`; both are checked before they become part of
a path, because both may come from a command line.
"""

from __future__ import annotations

import re

from s3gc.exceptions import VaultError

__all__ = [
    "EXPIRED",
    "OPERATIONS",
    "SCOPES",
    "SENTINEL",
    "audit_path",
    "is_operation_id",
    "journal_path",
    "number_in",
    "operation_path",
    "pack_path",
    "purge_path",
    "purged_path",
    "restore_path",
    "scope_path",
]

SENTINEL = "s3gc-vault.json"
OPERATIONS = "operations/"
SCOPES = "scopes/"
EXPIRED = "expired/"

_ULID = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")
_SCOPE_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,160}$")
_RECORD = re.compile(r"^[a-z0-9][a-z0-9.-]{0,126}$")
_NUMBER = re.compile(r"/(\d{6,})\.(?:pack|jsonl|jsonl\.zst)$")


def is_operation_id(text: str) -> bool:
    """Whether `text` is a ULID, as every operation's id is."""
    return bool(_ULID.match(text))


def operation_path(operation_id: str, name: str = "") -> str:
    """``operations/<ULID>/<name>``. Raises VaultError for what is not a ULID."""
    if not is_operation_id(operation_id):
        raise VaultError(f"{operation_id!r} is not an operation id (a ULID of 26 letters and digits)")
    return f"{OPERATIONS}{operation_id}/{name}"


def scope_path(scope_id: str, name: str = "") -> str:
    """``scopes/<id>/<name>``. Raises VaultError for what cannot be a scope's id."""
    if not _SCOPE_ID.match(scope_id) or ".." in scope_id:
        raise VaultError(f"{scope_id!r} is not a scope's id")
    return f"{SCOPES}{scope_id}/{name}"


def restore_path(name: str, selection: str) -> str:
    """``restores/<name>.<hash of what was selected>.json``. Raises VaultError for what cannot be a name."""
    if not _RECORD.match(name) or ".." in name or not selection.isalnum():
        raise VaultError(f"{name!r} is no name for the record of a restore: a-z, 0-9, '.' and '-'")
    return f"restores/{name}.{selection}.json"


def pack_path(operation_id: str, number: int) -> str:
    return operation_path(operation_id, f"packs/{number:06d}.pack")


def journal_path(operation_id: str, group: int) -> str:
    return operation_path(operation_id, f"journal/{group:06d}.jsonl")


def purge_path(operation_id: str, number: int) -> str:
    """What an operation was about to purge, one file a batch."""
    return operation_path(operation_id, f"purge/{number:06d}.jsonl")


def purged_path(operation_id: str, number: int) -> str:
    """What became of that batch."""
    return operation_path(operation_id, f"purged/{number:06d}.jsonl")


def audit_path(operation_id: str, group: int) -> str:
    return operation_path(operation_id, f"audit/{group:06d}.jsonl.zst")


def number_in(path: str) -> int | None:
    """The number in a pack's, journal's or audit's path; None for any other file (a person's copy, say)."""
    found = _NUMBER.search(path)
    return int(found[1]) if found else None
