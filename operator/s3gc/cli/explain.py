"""`s3gc explain`: why one object is kept, or would go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from s3gc.config import S3GCConfig
    from s3gc.plan.explain import Explanation, KeyFacts, NamedBy, PastOperation
    from s3gc.store.bucket import Bucket
    from s3gc.vault.vault import Vault

__all__ = ["command"]


@shared_command("cycle")
def command(
    flags: Flags,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The object's key, exactly.")],
) -> None:
    """Say why one object is kept, or would go.

    Reads every configured column for this key, asks the store for the object and the vault for its history, and
    decides by the same rules as a cycle. Changes nothing.
    """
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import cycle_policy

    config = cycle_policy(flags)
    explanation = run_async(lambda: _explanation(config, key))
    how = form(flags.output)
    if how is Output.TABLE:
        _show(explanation)
    else:
        emit(explanation.to_json(), how)


async def _explanation(config: S3GCConfig, key: str) -> Explanation:
    from s3gc.plan.explain import explain
    from s3gc.state import open_bucket

    async with _existing_vault(config) as vault:
        bucket = await open_bucket(config)
        try:
            references = await _references(config, bucket, key)
            now = await bucket.server_time()
            facts = await _facts(config, bucket, vault, key, now)
        finally:
            await bucket.close()
    return explain(facts, references, config=config, now=now, has_source=config.has_source)


@asynccontextmanager
async def _existing_vault(config: S3GCConfig) -> AsyncIterator[Vault | None]:
    """The vault, or None where no cycle has made it yet: nothing is remembered then, and asking makes nothing."""
    from s3gc.exceptions import VaultError
    from s3gc.vault.vault import Vault

    try:
        vault = await Vault.open(config, create=False)
    except VaultError as error:
        if not error.details.get("is_missing"):
            raise
        yield None
        return
    try:
        yield vault
    finally:
        await vault.close()


async def _references(config: S3GCConfig, bucket: Bucket, key: str) -> list[NamedBy]:
    from s3gc.plan.explain import references_to
    from s3gc.references.rules import reference_rules
    from s3gc.references.sources import open_source
    from s3gc.references.types import Source

    opened: list[Source] = []
    try:
        for declared in config.effective_sources:
            if declared.is_readable:
                rules = reference_rules(config, bucket.endpoint, derivatives=declared.derivatives)
                opened.append(await open_source(declared, rules))
        preflights = [await source.preflight(execute=False) for source in opened]
        return await references_to(key, opened, preflights)
    finally:
        for source in opened:
            await source.close()


async def _facts(
    config: S3GCConfig, bucket: Bucket, vault: Vault | None, key: str, now: datetime
) -> KeyFacts:
    import asyncio
    import tempfile
    from pathlib import Path

    import pyarrow as pa

    from s3gc.inventory.problems import problems
    from s3gc.plan.explain import KeyFacts
    from s3gc.vault.state import ScopeState

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
    import pyarrow.dataset as ds

    rows = ds.dataset(state, format="parquet").to_table(filter=ds.field("key") == key).to_pylist()
    for row in rows:
        if (row["etag"], row["size"], row["last_modified"]) == (etag, size, modified):
            return row["first_listed"], row["first_unreferenced"]
    return None, None


async def _left_out(bucket: Bucket, key: str) -> str | None:
    """Why the listing leaves the key out: a vault's sentinel in a folder above it."""
    from s3gc.inventory.listing import VAULT_SENTINEL

    folders = key.split("/")[:-1]
    for depth in range(len(folders) + 1):
        prefix = "".join(f"{folder}/" for folder in folders[:depth])
        if await bucket.head(prefix + VAULT_SENTINEL) is not None:
            return f"it is in a vault of s3gc ({prefix or 'the whole bucket'})"
    return None


async def _history(vault: Vault, key: str) -> tuple[PastOperation, ...]:
    """What each operation did to the key, newest first: the catalog says which, their own records say what."""
    from s3gc.exceptions import VaultCorruptedError
    from s3gc.plan.explain import PastOperation
    from s3gc.vault.catalog import catch_up, find_key, open_catalog

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


def _show(found: Explanation) -> None:
    from rich.text import Text

    from s3gc.cli.output import console, grid
    from s3gc.cli.show import when
    from s3gc.report.text import bytes_text, visible

    out = console()
    out.print(Text(visible(found.key), style="bold"), soft_wrap=True)
    mark = (
        ("would go", "yellow") if found.would_go else ("kept", "green") if found.exists else ("gone", "dim")
    )
    out.print(Text.assemble((f" {mark[0]} ", f"bold reverse {mark[1]}"), " ", visible(found.sentence)))
    facts: list[tuple[str, Any]] = []
    if found.exists:
        size = bytes_text(found.size or 0)
        facts.append(("object", f"{size}, {found.storage_class}, modified {when(found.last_modified)}"))
    facts += [
        (reference.source, f"{visible(reference.column)} = {visible(reference.value, 120)}")
        for reference in found.references
    ]
    facts += [
        ("also" if number else "because", visible(reason)) for number, reason in enumerate(found.reasons)
    ][1:]
    if found.first_unreferenced:
        facts.append(("unreferenced", f"since {when(found.first_unreferenced)}"))
    if found.held_until:
        facts.append(("held", f"until {found.held_until:%Y-%m-%d} ({found.held_because})"))
    facts += [("history", f"{past.action} by {past.operation_id}") for past in found.history]
    if facts:
        lines = grid()
        for name, value in facts:
            lines.add_row(name, value)
        out.print()
        out.print(lines)
