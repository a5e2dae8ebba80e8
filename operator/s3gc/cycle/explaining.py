"""Everything that is known about one key, gathered from databases, store and vault, for `plan.explain` to judge.

Reads only: a vault that no cycle has made yet stays unmade, and a database sees one read-only snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from s3gc.config import S3GCConfig
from s3gc.exceptions import VaultCorruptedError
from s3gc.inventory.listing import VAULT_SENTINEL
from s3gc.inventory.problems import problems
from s3gc.plan.explain import Explanation, KeyFacts, NamedBy, PastOperation, explain, references_to
from s3gc.references.rules import reference_rules
from s3gc.references.sources import opened_source
from s3gc.references.types import Source
from s3gc.store.bucket import Bucket
from s3gc.vault.catalog import catch_up, find_key, open_catalog
from s3gc.vault.state import ScopeState
from s3gc.vault.vault import Vault

__all__ = ["explain_key"]


async def explain_key(config: S3GCConfig, key: str, *, bucket: Bucket, vault: Vault | None) -> Explanation:
    """Say why one object is kept, or would go, by the same rules as a cycle; `vault` is None where there is none yet.

    Raises SourceError, StoreError and VaultError for what cannot be asked.
    """
    references = await _references(config, bucket, key)
    now = await bucket.server_time()
    facts = await _facts(config, bucket, vault, key, now)
    return explain(facts, references, config=config, now=now, has_source=config.has_source)


async def _references(config: S3GCConfig, bucket: Bucket, key: str) -> list[NamedBy]:
    async with contextlib.AsyncExitStack() as stack:
        opened: list[Source] = []
        for declared in config.effective_sources:
            if declared.is_readable:
                rules = reference_rules(config, bucket.endpoint, derivatives=declared.derivatives)
                opened.append(await stack.enter_async_context(opened_source(declared, rules)))
        preflights = [await source.preflight(execute=False) for source in opened]
        return await references_to(key, opened, preflights)


async def _facts(
    config: S3GCConfig, bucket: Bucket, vault: Vault | None, key: str, now: datetime
) -> KeyFacts:
    head = await bucket.head(key)
    first_listed = first_unreferenced = hold = None
    if vault is not None:
        remembered = ScopeState(vault, await vault.scope(config))
        hold = await remembered.hold_of(key, now)
        with tempfile.TemporaryDirectory(prefix="s3gc-explain-") as folder:
            local = Path(folder) / "state.parquet"
            if head is not None and await remembered.fetch_maturity(local):
                first_listed, first_unreferenced = await asyncio.to_thread(
                    _maturity, local, key, head.etag, head.size, head.last_modified
                )
    return KeyFacts(
        key=key,
        exists=head is not None,
        size=head.size if head else None,
        etag=head.etag if head else None,
        last_modified=head.last_modified if head else None,
        storage_class=head.storage_class if head else None,
        problem=problems(pa.array([key], pa.string()))[0].as_py(),
        left_out=await _left_out(bucket, key),
        first_listed=first_listed,
        first_unreferenced=first_unreferenced,
        held_until=hold.until if hold else None,
        held_because=hold.reason if hold else None,
        history=await _history(vault, key) if vault is not None else (),
    )


def _maturity(
    state: Path, key: str, etag: str, size: int, modified: datetime
) -> tuple[datetime | None, datetime | None]:
    """When exactly this object was first listed and first seen unreferenced, as far as the vault remembers."""
    rows = ds.dataset(state, format="parquet").to_table(filter=ds.field("key") == key).to_pylist()
    for row in rows:
        if (row["etag"], row["size"], row["last_modified"]) == (etag, size, modified):
            return row["first_listed"], row["first_unreferenced"]
    return None, None


async def _left_out(bucket: Bucket, key: str) -> str | None:
    """Why the listing leaves the key out: a vault's sentinel in a folder above it."""
    folders = key.split("/")[:-1]
    for depth in range(len(folders) + 1):
        prefix = "".join(f"{folder}/" for folder in folders[:depth])
        if await bucket.head(prefix + VAULT_SENTINEL) is not None:
            return f"it is in a vault of s3gc ({prefix or 'the whole bucket'})"
    return None


async def _history(vault: Vault, key: str) -> tuple[PastOperation, ...]:
    """What each operation did to the key, newest first: the catalog says which, their own records say what."""
    database = await open_catalog(vault.catalog_path)
    try:
        await catch_up(database, vault)
        operations = [each.operation_id for each in await find_key(database, key)]
    finally:
        await database.close()
    past: list[PastOperation] = []
    for operation_id in operations:
        try:
            async for entry, outcome in vault.operation(operation_id).outcomes(keys=[key]):
                past.append(PastOperation(operation_id, outcome.action, outcome.at, entry.version_id))
        except VaultCorruptedError:
            past.append(PastOperation(operation_id, "damaged"))
    return tuple(past)
