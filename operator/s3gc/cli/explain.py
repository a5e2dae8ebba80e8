"""`s3gc explain`: why one object is kept, or would go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.plan.explain import Explanation
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
    from s3gc.cycle.explaining import explain_key
    from s3gc.state import open_bucket

    async with _existing_vault(config) as vault:
        bucket = await open_bucket(config)
        try:
            return await explain_key(config, key, bucket=bucket, vault=vault)
        finally:
            await bucket.close()


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
