"""A scope's claim in the customers' bucket: how two vaults, which cannot see each other's locks, keep apart.

Each scope that executes writes one small object, ``.s3gc/claims/<vault id>/<scope id>.json``, that says which
prefixes it owns. The claim is written first and the others are read afterwards, so of two vaults that come at
the same moment at least one sees the other; both being refused is safe, both going on is not. One object a
scope, not one a vault: two scopes of one vault may claim at the same moment, and S3 has no merge.

The claim also names the last operation that began to delete here. The bucket and the vault are backed up and rolled
back apart from each other: a vault that does not know that operation is one of an earlier day, and what was deleted
since could be neither healed nor restored from it, nor would it know what on-call has brought back.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from s3gc.config import RESERVED_PREFIX
from s3gc.exceptions import RefusedError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.vault import layout
from s3gc.vault.scopes import Scope, find_overlap
from s3gc.vault.vault import Vault

__all__ = ["CLAIMS_PREFIX", "claim", "claim_key", "note_deleting", "refuse_older_vault", "release_claim"]

log = logging.getLogger(__name__)

CLAIMS_PREFIX = f"{RESERVED_PREFIX}claims/"
_LARGEST_CLAIM = 1024 * 1024


def claim_key(vault_id: str, scope: Scope) -> str:
    return f"{CLAIMS_PREFIX}{vault_id}/{scope.id}.json"


async def claim(bucket: Bucket, vault_id: str, scope: Scope) -> str:
    """Claim the scope's prefixes in its bucket for this vault; repeated calls change nothing. Returns the id of the
    last operation of this claim that began to delete, or "".

    Raises RefusedError (guard "overlap") when another claim overlaps, naming its object: a claim that nobody
    stands behind any more is removed by a person, never by us. An unreadable foreign claim counts as one of
    everything.
    """
    key = claim_key(vault_id, scope)
    existing = await _read(bucket, key)
    is_new = existing is None
    last = _last_operation(existing)
    if existing is None or not _same(existing, scope):
        await _write(bucket, key, vault_id, scope, last)
    async for page in bucket.list_pages(CLAIMS_PREFIX):
        for other in page.rows.column("key").to_pylist():
            if other == key:
                continue
            data = await _read(bucket, other)
            if data is None:
                continue  # released meanwhile
            overlap = _overlap(scope, data)
            if overlap is None:
                continue
            if is_new:
                await release_claim(bucket, vault_id, scope)
            raise RefusedError(
                f"bucket {bucket.name!r}: the scope {scope.id!r} overlaps with another claim, {other} "
                f"({overlap}). Two owners "
                "would each delete what only the other's database references. Give one of them other "
                "prefixes; if nobody "
                f"stands behind that claim any more, delete the object s3://{bucket.name}/{other}",
                details={"guard": "overlap", "scope": scope.id, "claim": other},
            )
    return last


async def note_deleting(bucket: Bucket, vault_id: str, scope: Scope, operation_id: str) -> None:
    """Say in the claim that this operation is about to delete. Its record is in the vault already."""
    await _write(bucket, claim_key(vault_id, scope), vault_id, scope, operation_id)


async def refuse_older_vault(bucket: Bucket, vault: Vault, scope: Scope, last: str) -> None:
    """Raise RefusedError (guard "vaultRolledBack") where the vault never heard of the operation that `claim` returned:
    it has no file of it, and no line that says that it expired."""
    if not layout.is_operation_id(last):
        return
    async for _ in vault.storage.list(vault.operation(last).path()):
        return
    async for file in vault.storage.list(layout.EXPIRED):
        if last.encode() in await vault.storage.read(file.path):
            return
    key = claim_key(vault.id, scope)
    raise RefusedError(
        f"the vault {vault.location} does not know operation {last}, and its claim in the bucket says that this "
        "operation began to delete here: the vault was rolled back to an earlier day, or a part of it was lost. What "
        "was deleted since could not be brought back from it, and what was restored since would be deleted again. "
        "Bring back a newer copy of the vault. If there is none, delete the object "
        f"s3://{bucket.name}/{key}, and the next cycle goes on with what this vault knows",
        details={"guard": "vaultRolledBack", "operation": last, "claim": key},
    )


async def release_claim(bucket: Bucket, vault_id: str, scope: Scope) -> None:
    """Give the claim back; missing is fine. It is our own object, so the delete needs no condition."""
    await bucket.delete(claim_key(vault_id, scope))


async def _write(bucket: Bucket, key: str, vault_id: str, scope: Scope, last_operation: str) -> None:
    value = {
        "s3gc": "claim",
        "version": 1,
        "vault_id": vault_id,
        "scope": scope.id,
        "policy": scope.name,
        "prefixes": list(scope.prefixes),
        "exclude_prefixes": list(scope.exclude_prefixes),
        "claimed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "last_operation": last_operation,
    }
    body = (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
    await bucket.put(key, body, size=len(body), headers={"content-type": "application/json"})


async def _read(bucket: Bucket, key: str) -> bytes | None:
    async with bucket.get(key) as download:
        if download is None:
            return None
        if download.head.size > _LARGEST_CLAIM:
            raise StoreError(
                f"{key} in bucket {bucket.name!r} is no claim: it has {download.head.size} bytes"
            )
        return b"".join([chunk async for chunk in download.chunks])


def _last_operation(data: bytes | None) -> str:
    try:
        value = json.loads(data or b"{}")
        return str(value.get("last_operation", ""))
    except (ValueError, AttributeError):
        return ""


def _same(data: bytes, scope: Scope) -> bool:
    try:
        value = json.loads(data)
        known = tuple(value["prefixes"]), tuple(value["exclude_prefixes"])
    except (ValueError, KeyError, TypeError):
        return False
    return known == (scope.prefixes, scope.exclude_prefixes)


def _overlap(scope: Scope, data: bytes) -> str | None:
    """What overlaps, in words; None when nothing does."""
    try:
        value: dict[str, Any] = json.loads(data)
        prefixes, excluded = (
            list(map(str, value["prefixes"])),
            list(map(str, value.get("exclude_prefixes", []))),
        )
        who = f"policy {value.get('policy', '?')!r} of vault {value.get('vault_id', '?')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it cannot be read, so it may own everything"
    found = find_overlap(scope.prefixes, scope.exclude_prefixes, prefixes, excluded)
    return None if found is None else f"{who}, prefix {found[1]!r}, ours {found[0]!r}"
