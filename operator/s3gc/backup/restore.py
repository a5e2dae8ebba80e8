"""Bring an operation's objects back: all of them, or by key, prefix or glob; here, or to another place.

A restore to the original place takes the scope's lock (a running cycle ends after its group) and puts a
hold on every key *before* it is touched: killed at any instant, nothing that came back can be taken away
by the next cycle. It can be repeated: what is there is left alone, so a second run finishes what a first
one left.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiosqlite

from s3gc.backup.bringing import bring_back
from s3gc.backup.restoring import Locks, Restoration
from s3gc.backup.settle import settle
from s3gc.config import S3GCConfig
from s3gc.exceptions import RestoreError, VaultCorruptedError
from s3gc.results import Progress, RestoreResult
from s3gc.store.bucket import Bucket
from s3gc.store.clock import StoreClock
from s3gc.vault import layout
from s3gc.vault.lock import hold_scope
from s3gc.vault.operations import Operation
from s3gc.vault.scopes import Scope
from s3gc.vault.vault import Vault

__all__ = ["bring_back", "restore_operation"]


async def restore_operation(
    config: S3GCConfig,
    state: Mapping[str, Any],
    vault_db: aiosqlite.Connection | None,
    operation_id: str,
    dry_run: bool = True,
    skip_existing: bool = True,
    *,
    keys: Sequence[str] | None = None,
    prefixes: Sequence[str] | None = None,
    globs: Sequence[str] | None = None,
    target_bucket: str | None = None,
    target_prefix: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    wait_seconds: float = 1800,
) -> RestoreResult:
    """Restore what an operation deleted; `state` is that of `initialize_gc_state`, of which `vault` and
    `bucket` are used.

    Without filters everything that it deleted; `keys` (exact), `prefixes` and `globs` choose, any match
    counts. By default a dry run: `restored_keys` then are those that would come back. `skip_existing`
    leaves whatever is there; False backs the present object up first, as an operation of its own, and
    overwrites it only while it is still that object. `target_bucket` and `target_prefix` (put before each
    key) restore to another place, always create-only, and need no lock. `progress` gets the number of
    objects done; `wait_seconds` is how long to wait for a running cycle.

    `failed_keys` says why each of them did not come back, `errors` what the vault has lost, `warnings` what a store did
    not keep and which damage was made up for.
    Raises RestoreError when there is no such operation or the restore makes no sense, LockedError when a
    cycle does not end.
    """
    began = time.monotonic()
    vault: Vault = state["vault"]
    operation = await _find(vault, operation_id)
    problems: list[str] = []
    origin = await _origin(operation, problems) or config.bucket
    elsewhere = target_bucket not in (None, origin) or bool(target_prefix)
    if elsewhere and not skip_existing:
        raise RestoreError(
            "a restore to another place never overwrites: leave skip_existing at True (no --overwrite), or leave "
            "the target out"
        )
    restore = Restoration(
        vault=vault,
        operation=operation,
        config=config,
        filters={"keys": keys, "prefixes": prefixes, "globs": globs},
        named=frozenset(keys or ()),
        skip_existing=skip_existing,
        dry_run=dry_run,
        prefix=target_prefix or "" if elsewhere else None,
        progress=progress,
        vault_db=vault_db,
        problems=problems,
    )
    if not elsewhere and origin != config.bucket:
        raise RestoreError(
            f"operation {operation.id} deleted from bucket {origin!r}, and this policy is for "
            f"{config.bucket!r}. Use that "
            f"bucket's policy, or name a place: target_bucket={config.bucket!r} (--to-bucket)",
            details={"operation_id": operation.id, "bucket": origin},
        )
    async with _target(config, state, target_bucket) as bucket:
        if not dry_run:
            restore.clock = await StoreClock.of(bucket)
            restore.versioning = (await bucket.versioning()).status
        if dry_run or elsewhere:
            await restore.run(bucket, None)
        else:
            async with _locked(vault, state, operation, wait_seconds) as (locks, scopes):
                await _settle(bucket, operation, restore)
                await restore.hold_keys(scopes)
                await restore.run(bucket, locks)
                await restore.finish()
    return restore.result(operation_id, time.monotonic() - began)


async def _find(vault: Vault, operation_id: str) -> Operation:
    """The operation, or a RestoreError that helps to find it."""
    if layout.is_operation_id(operation_id):
        operation = vault.operation(operation_id)
        if await operation.exists() or await operation.pack_numbers() or await operation.journal_groups():
            return operation
    known = await vault.operation_ids()
    near = difflib.get_close_matches(operation_id.upper(), known, 3, 0.6) or known[:3]
    hint = f"nearest: {', '.join(near)}; " if near else "it has none at all; "
    raise RestoreError(
        f"the vault {vault.location} has no operation {operation_id!r} ({hint}`s3gc operations` lists "
        "them). Operations older "
        "than vault.retentionDays have expired; expired/ in the vault says when",
        details={"operation_id": operation_id, "nearest": near},
    )


@asynccontextmanager
async def _target(
    config: S3GCConfig, state: Mapping[str, Any], target_bucket: str | None
) -> AsyncIterator[Bucket]:
    if target_bucket is None or target_bucket == config.bucket:
        yield state["bucket"]
        return
    bucket = await Bucket.open(
        target_bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        path_style=config.path_style,
        concurrency=config.concurrency,
        requests_per_second=config.requests_per_second,
    )
    try:
        yield bucket
    finally:
        await bucket.close()


async def _origin(operation: Operation, problems: list[str]) -> str | None:
    """The bucket that the operation deleted from, by its result where its record cannot be read (a problem is noted
    then); None where neither says."""
    try:
        return (await operation.record()).bucket
    except (VaultCorruptedError, FileNotFoundError) as error:
        problems.append(str(error) or "operation.json is missing")
    try:
        result = await operation.result()
    except VaultCorruptedError:
        return None
    return result.bucket or None if result is not None else None


async def _settle(bucket: Bucket, operation: Operation, restore: Restoration) -> None:
    """Put on record what a killed run deleted, while it can still be told; damage must not stop a restore."""
    try:
        if (await operation.record()).journal == "open":
            await settle(bucket, operation, versioning=restore.versioning)
    except (VaultCorruptedError, FileNotFoundError) as error:
        restore.problems.append(str(error) or "operation.json is missing")


@asynccontextmanager
async def _locked(
    vault: Vault, state: Mapping[str, Any], operation: Operation, wait_seconds: float
) -> AsyncIterator[tuple[Locks, list[Scope]]]:
    """Hold the policy's scope, and the operation's own where a rename made it another one, always in one
    order."""
    scopes = {scope.id: scope for scope in await _scopes_of(vault, state, operation)}
    async with AsyncExitStack() as stack:
        locks = [
            await stack.enter_async_context(hold_scope(vault, scopes[name], "restore", wait_seconds))
            for name in sorted(scopes)
        ]
        yield Locks(locks), list(scopes.values())


async def _scopes_of(vault: Vault, state: Mapping[str, Any], operation: Operation) -> list[Scope]:
    """Where the keys are held: in the operation's own scope, and in the policy's where that is another one that has had
    a cycle. A damaged record or scope.json must not stop a restore: then it is the policy's that counts."""
    known = {scope.id: scope for scope in await vault.scopes(strict=False)}
    policy: Scope | None = state.get("scope")
    found: list[Scope] = []
    try:
        own = (await operation.record()).scope
        if not (own in known and known[own].retired):
            found.append(known.get(own) or Scope(own, own, "", None, ("",)))
    except (VaultCorruptedError, FileNotFoundError):
        pass
    if policy is not None and (policy.id in known or not found):
        found.append(policy)
    if not found:
        raise RestoreError(
            "there is no scope to hold: state['scope'] is not set and the operation's scope is not known"
        )
    return found
