"""`s3gc operations`: what was done, newest first, or everything about one cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.results import GCResult
    from s3gc.vault.operations import OperationRecord

__all__ = ["command"]


@shared_command("vault")
def command(
    flags: Flags,
    operation_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="One operation: its id, the end of it, or latest.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many to list.", min=1)] = 20,
) -> None:
    """List operations, or show one."""
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy

    config = vault_policy(flags)
    how = form(flags.output)
    if operation_id is not None:
        record, result, details = run_async(lambda: _one(config, operation_id))
        if how is Output.TABLE:
            _show_one(flags, record, result, details)
        else:
            emit(
                {**_plain(record, None), **details, "result": result and result.model_dump(mode="json")}, how
            )
        return
    rows = run_async(lambda: _several(config, limit))
    if how is Output.TABLE:
        _show_several(rows, config.vault_path)
    else:
        emit([_plain(record, result) for record, result in rows], how)


async def _several(config: S3GCConfig, limit: int) -> list[tuple[OperationRecord, GCResult | None]]:
    import asyncio

    from s3gc.cli.engine import open_vault
    from s3gc.cli.settings import ANY_BUCKET
    from s3gc.exceptions import VaultError

    async with open_vault(config) as vault:
        records = [
            record
            for record in await vault.operations()
            if config.bucket in (ANY_BUCKET, record.bucket) or record.problem
        ][:limit]

        async def result_of(record: OperationRecord) -> GCResult | None:
            try:
                return await vault.operation(record.id).result()
            except VaultError:  # a damaged result must not hide the others
                return None

        return list(zip(records, await asyncio.gather(*map(result_of, records)), strict=True))


async def _one(config: S3GCConfig, wanted: str) -> tuple[OperationRecord, GCResult | None, dict[str, Any]]:
    from s3gc.cli.engine import find_operation, open_vault

    async with open_vault(config) as vault:
        operation, record = await find_operation(vault, wanted, of=config)
        approval = await operation.approval()
        details = {
            "vault": vault.location,
            "groups": len(await operation.journal_groups()),
            "packs": len(await operation.pack_numbers()),
            "held": await operation.is_held(),
            "approved_by": approval.by if approval else None,
            "approved_at": approval.at.isoformat() if approval else None,
        }
        return record, await operation.result(), details


def _plain(record: OperationRecord, result: GCResult | None) -> dict[str, Any]:
    plain = {
        "operation_id": record.id,
        "scope": record.scope,
        "bucket": record.bucket,
        "mode": record.mode,
        "started_at": record.started_at.isoformat(),
        "completed_at": record.completed_at.isoformat() if record.completed_at else None,
        "outcome": record.outcome,
        "journal": record.journal,
        "problem": record.problem or None,
    }
    if result is not None:
        for name in (
            "candidates_found",
            "verified_orphans",
            "deleted_count",
            "backed_up_count",
            "reclaimed_bytes",
            "purged_count",
        ):
            plain[name] = getattr(result, name)
        plain["plan_digest"] = result.plan_digest
    return plain


def _show_several(rows: list[tuple[OperationRecord, GCResult | None]], vault: str) -> None:
    from rich.text import Text

    from s3gc.cli.output import console, table
    from s3gc.cli.show import OUTCOME_COLOURS, when
    from s3gc.report.text import bytes_text, count

    out = console()
    if not rows:
        out.print(f"no operations in {vault}")
        return
    # The end of an id names an operation as well as the whole, and leaves room for what a person looks for.
    whole = out.width >= 100
    made = table("operation", "began", "mode", "outcome", ("objects", "right"), ("bytes", "right"))
    for record, result in rows:
        outcome = record.outcome or ("damaged" if record.problem else "cut off")
        done, size = "–", "–"
        if result is not None:
            did = result.mode == "execute"
            done = count(result.deleted_count if did else result.verified_orphans)
            size = bytes_text(result.backed_up_bytes if did else result.reclaimable_bytes)
        made.add_row(
            record.id if whole else f"…{record.id[-8:]}",
            when(record.started_at),
            record.mode.replace("_", " "),
            Text(outcome, style=OUTCOME_COLOURS.get(outcome, "yellow")),
            done,
            size,
        )
    out.print(made)


def _show_one(
    flags: Flags, record: OperationRecord, result: GCResult | None, details: dict[str, Any]
) -> None:
    from s3gc.cli.output import console, grid
    from s3gc.cli.show import show_result, when
    from s3gc.report.text import plural

    out = console()
    if result is not None:
        show_result(result, again=flags.again)
        out.print()
    facts = grid()
    if result is None:
        facts.add_row("operation", record.id)
        facts.add_row("mode", record.mode)
        facts.add_row("outcome", record.outcome or "cut off; the next cycle recovers it")
        facts.add_row("began", f"{record.started_at:%Y-%m-%d %H:%M} UTC, {when(record.started_at)}")
    else:
        facts.add_row("began", f"{record.started_at:%Y-%m-%d %H:%M} UTC, {when(record.started_at)}")
    groups = f"{plural(details['groups'], 'group')} in {plural(details['packs'], 'pack')}, journal {record.journal}"
    facts.add_row("swept", groups if details["groups"] else "nothing")
    if details["approved_by"]:
        facts.add_row("approved", f"by {details['approved_by']} at {details['approved_at']}")
    if details["held"]:
        facts.add_row("hold", "it does not expire")
    if record.problem:
        facts.add_row("problem", record.problem)
    out.print(facts)
