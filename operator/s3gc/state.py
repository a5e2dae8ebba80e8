"""What is open while s3gc runs: the vault, the bucket, the scope. Made once, used by any number of cycles.

The dictionary is public (`state["vault_db_path"]`); everything behind it is not. Databases are not kept open in it:
each cycle connects for itself, so that an idle application holds no session.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TypedDict

from s3gc.config import S3GCConfig
from s3gc.results import GCMetrics
from s3gc.store.bucket import Bucket
from s3gc.vault.catalog import open_catalog
from s3gc.vault.vault import Scope, Vault

__all__ = ["GCState", "get_metrics", "initialize_gc_state", "shutdown_gc_state"]


class GCState(TypedDict):
    """Runtime state. `vault_path` is the vault's location for people, `vault_db_path` its SQLite catalog."""

    config: S3GCConfig
    vault_path: str
    vault_db_path: Path
    vault: Vault
    scope: Scope
    bucket: Bucket


async def initialize_gc_state(config: S3GCConfig, *, create: bool = True) -> GCState:
    """Open the vault (made when it is new, unless `create` is False), its catalog, and the bucket's client.

    Raises VaultError for a vault that cannot be used, ConfigurationError where no credentials can be found. No object
    is read and no database is connected yet, and what the policy owns in the vault is not changed: a cycle does that.
    """
    vault = await Vault.open(config, create=create)
    try:
        scope = await vault.scope(config)
        path = vault.catalog_path
        await (await open_catalog(path)).close()
        bucket = await open_bucket(config)
    except BaseException:
        await vault.close()
        raise
    return GCState(
        config=config, vault_path=vault.location, vault_db_path=path, vault=vault, scope=scope, bucket=bucket
    )


async def open_bucket(config: S3GCConfig) -> Bucket:
    """Return a client for the bucket of `config`, with its limits."""
    return await Bucket.open(
        config.bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        path_style=config.path_style,
        concurrency=config.concurrency,
        requests_per_second=config.requests_per_second,
    )


async def shutdown_gc_state(state: GCState) -> None:
    """Close what `initialize_gc_state` opened. Safe to call twice."""
    try:
        await state["bucket"].close()
    finally:
        await state["vault"].close()


async def get_metrics(config: S3GCConfig, state: GCState) -> GCMetrics:
    """Return statistics over every operation of this scope that the vault remembers."""
    vault = state["vault"]
    runs = deleted = backed_up = restored = reclaimed = original = stored = 0
    last_run: datetime | None = None
    last_error: str | None = None
    for record in await vault.operations(scope_id=state["scope"].id):
        result = await vault.operation(record.id).result()
        if result is None:
            continue
        runs += 1
        if last_run is None or record.started_at > last_run:
            last_run = record.started_at
            last_error = result.errors[0] if result.errors else None
        deleted += result.deleted_count
        backed_up += result.backed_up_count
        restored += result.healed_count + result.late_references
        restored += int(record.extra.get("restored_count", 0))
        reclaimed += result.reclaimed_bytes
        original += result.backed_up_bytes
        stored += result.vault_bytes_written
    return GCMetrics(
        total_runs=runs,
        last_run_at=last_run,
        total_deleted=deleted,
        total_backed_up=backed_up,
        total_restored=restored,
        reclaimed_bytes=reclaimed,
        vault_size_bytes=await vault.size(),
        avg_compression_ratio=original / stored if stored else 0.0,
        last_error=last_error,
    )
