"""`s3gc vault …`: what is kept, whether it is whole, how long it stays."""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command
from s3gc.cli.vault_policies import rename, retire

if TYPE_CHECKING:
    from s3gc.backup.retention import Expired
    from s3gc.backup.verifying import VerifyReport
    from s3gc.config import S3GCConfig

__all__ = ["app"]

_PROBLEMS_SHOWN = 50

app = typer.Typer(
    help="Look after the vault: what is kept, whether it is whole, how long it stays.", no_args_is_help=True
)


@app.command()
@shared_command("vault")
def status(flags: Flags) -> None:
    """Show what the vault keeps, who holds which scope, and what is unfinished."""
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy

    config = vault_policy(flags)
    facts = run_async(lambda: _status(config))
    how = form(flags.output)
    if how is Output.TABLE:
        _show_status(facts)
    else:
        emit(facts, how)


async def _status(config: S3GCConfig) -> dict[str, Any]:
    from s3gc.cli.engine import open_vault

    async with open_vault(config) as vault:
        records = await vault.operations()
        scopes = await vault.scopes()
        held = [record.id for record in records if await vault.operation(record.id).is_held()]
        return {
            "location": vault.location,
            "id": vault.id,
            "bytes": await vault.size(),
            "retention_days": config.vault_retention_days,
            "operations": len(records),
            "oldest": records[-1].started_at.isoformat() if records else None,
            "newest": records[0].started_at.isoformat() if records else None,
            "unfinished": [record.id for record in records if record.journal == "open"],
            "damaged": [record.id for record in records if record.problem],
            "held": held,
            "scopes": [
                {
                    "id": scope.id,
                    "policy": scope.name,
                    "bucket": scope.bucket,
                    "prefixes": list(scope.prefixes),
                    "retired": scope.retired,
                    "operations": sum(record.scope == scope.id for record in records),
                    "lock": await _holder(vault.storage, scope.id),
                }
                for scope in scopes
            ],
        }


async def _holder(storage: Any, scope_id: str) -> str | None:
    """Who holds the scope, as its lock says; None when nobody does."""
    import json

    from s3gc.vault import layout
    from s3gc.vault.holder import Holder

    try:
        state = json.loads(await storage.read(layout.scope_path(scope_id, "lock.json")))
        released, purpose, holder = state.get("released"), state.get("purpose"), state["holder"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError):
        return "somebody (its lock.json is damaged)"
    return None if released else f"{purpose or 'something'}: {Holder.from_json(holder)}"


def _show_status(facts: dict[str, Any]) -> None:
    from datetime import datetime

    from rich.text import Text

    from s3gc.cli.output import console, grid, table
    from s3gc.cli.show import when
    from s3gc.report.text import bytes_text, plural, visible

    out = console()
    lines = grid()
    lines.add_row("vault", facts["location"])
    lines.add_row("id", facts["id"])
    lines.add_row("size", bytes_text(facts["bytes"]))
    span = ""
    if facts["oldest"]:
        oldest, newest = (datetime.fromisoformat(facts[name]) for name in ("oldest", "newest"))
        span = f", the newest {when(newest)}, the oldest {when(oldest)}"
    lines.add_row("operations", f"{facts['operations']}{span}")
    lines.add_row(
        "kept for", f"{facts['retention_days']:g} days, {plural(len(facts['held']), 'operation')} on hold"
    )
    for name, style in (("unfinished", "yellow"), ("damaged", "red")):
        if facts[name]:
            lines.add_row(name, Text(", ".join(facts[name]), style=style))
    out.print(lines)
    if facts["scopes"]:
        made = table(
            "policy", ("bucket", "key"), ("prefixes", "fold"), ("operations", "right"), ("held by", "key")
        )
        for scope in facts["scopes"]:
            prefixes = (
                ", ".join(visible(prefix, 40) or "all of it" for prefix in scope["prefixes"]) or "all of it"
            )
            made.add_row(
                visible(scope["policy"], 30) + (" (retired)" if scope["retired"] else ""),
                visible(scope["bucket"], 30),
                prefixes,
                str(scope["operations"]),
                scope["lock"] or "–",
            )
        out.print()
        out.print(made)


@app.command()
@shared_command("vault", long_running=True)
def verify(
    flags: Flags,
    operation_id: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPERATION]…", help="Only these; default: all of it.", show_default=False),
    ] = None,
) -> None:
    """Read every backed-up object back and compare its SHA-256.

    Ends with 9 when anything is damaged or lost.
    """
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy
    from s3gc.exceptions import VaultCorruptedError

    config = vault_policy(flags)
    report = run_async(lambda: _verify(config, operation_id))
    how = form(flags.output, watched_only=True)
    if how is Output.TABLE:
        _show_verified(report)
    else:
        plain = asdict(report)
        emit({"whole": report.is_whole, **plain, "problems": plain["problems"][:_PROBLEMS_SHOWN]}, how)
    if not report.is_whole:
        raise typer.Exit(VaultCorruptedError.exit_code)


async def _verify(config: S3GCConfig, wanted: list[str] | None) -> VerifyReport:
    from s3gc.backup.retention import verify as verify_vault
    from s3gc.cli.engine import find_operation, open_vault
    from s3gc.cli.progress import counting

    async with open_vault(config) as vault:
        chosen = (
            None if not wanted else [(await find_operation(vault, each, of=config))[0].id for each in wanted]
        )
        with counting("Reading back", "objects") as progress:
            return await verify_vault(vault, chosen, progress)


def _show_verified(report: VerifyReport) -> None:
    from rich.text import Text

    from s3gc.cli.output import console
    from s3gc.report.text import bytes_text, plural, visible

    out = console()
    what = (
        f"{plural(report.objects, 'object')}, {bytes_text(report.bytes)} "
        f"in {plural(report.packs, 'pack')} of {plural(report.operations, 'operation')}"
    )
    if report.is_whole:
        out.print(Text.assemble(("✓ ", "green"), f"read back and compared: {what}"))
        return
    out.print(
        Text.assemble(("✗ ", "red bold"), (plural(report.problem_count, "problem"), "bold"), f" in {what}")
    )
    for problem in report.problems[:_PROBLEMS_SHOWN]:
        lost = ("lost: ", "red bold") if problem.is_lost else ("", "")
        where = visible(problem.key, 60) if problem.key else problem.path
        out.print(Text.assemble("  ", lost, (where, "bold"), f": {visible(problem.what)}"))


@app.command()
@shared_command("vault", long_running=True)
def reindex(flags: Flags) -> None:
    """Rebuild the catalog vault.db from what is in the vault. It is only an index; nothing else changes."""
    from s3gc.cli.output import console, emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy
    from s3gc.report.text import plural

    config = vault_policy(flags)
    operations, path = run_async(lambda: _reindex(config))
    how = form(flags.output, watched_only=True)
    if how is Output.TABLE:
        console().print(f"{plural(operations, 'operation')} indexed in {path}", soft_wrap=True)
    else:
        emit({"operations": operations, "catalog": path}, how)


async def _reindex(config: S3GCConfig) -> tuple[int, str]:
    from s3gc.backup.retention import reindex as reindex_vault
    from s3gc.cli.engine import open_vault
    from s3gc.cli.progress import counting

    async with open_vault(config, read_only=False) as vault:
        with counting("Indexing", "operations") as progress:
            return await reindex_vault(vault, progress), str(vault.catalog_path)


@app.command()
@shared_command("bucket", long_running=True)
def expire(flags: Flags) -> None:
    """Remove this policy's operations that are older than its vault retention.

    By the store's clock, each with a line in the vault's expired/. An operation on hold, or with an open journal,
    stays.
    """
    from s3gc.cli.output import console, emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import bucket_policy
    from s3gc.report.text import bytes_text, plural

    config = bucket_policy(flags)
    gone = run_async(lambda: _expire(config))
    how = form(flags.output, watched_only=True)
    if how is Output.TABLE:
        size = bytes_text(gone.freed_bytes)
        console().print(f"{plural(len(gone.operations), 'operation')} expired, {size} freed in the vault")
    else:
        emit({"operations": list(gone.operations), "freed_bytes": gone.freed_bytes}, how)


async def _expire(config: S3GCConfig) -> Expired:
    from s3gc.backup.retention import expire as expire_vault
    from s3gc.exceptions import ConfigurationError, RefusedError
    from s3gc.state import initialize_gc_state, shutdown_gc_state
    from s3gc.store.clock import StoreClock
    from s3gc.vault.catalog import open_catalog
    from s3gc.vault.lock import hold_scope

    state = await initialize_gc_state(config, create=False)
    try:
        vault, scope = state["vault"], state["scope"]
        if scope.name != config.policy_name:
            # Found by less than its name: good enough to look, not to remove backups by this policy's retention.
            raise ConfigurationError(
                f"the vault {vault.location} has no policy {config.policy_name!r} of bucket {config.bucket!r}, but "
                f"{scope.name!r}. Its own retention counts: give -f POLICY.YAML, or --name {scope.name} and "
                "--set vault_retention_days=DAYS"
            )
        clock = await StoreClock.of(state["bucket"])
        if clock.doubt:
            raise RefusedError(clock.doubt, details={"guard": "clock"})
        now = clock.now()
        database = await open_catalog(state["vault_db_path"])
        try:
            async with hold_scope(vault, scope) as lock:
                return await expire_vault(
                    vault, config, now=now, scope_id=scope.id, lock=lock, vault_db=database
                )
        finally:
            await database.close()
    finally:
        await shutdown_gc_state(state)


@app.command()
@shared_command("vault")
def hold(
    flags: Flags,
    operation_id: Annotated[
        str, typer.Argument(metavar="OPERATION", help="Its id, the end of it, or latest.")
    ],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the operation.")] = "",
) -> None:
    """Keep an operation whatever the retention says."""
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy

    config = vault_policy(flags)
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    _held(flags, run_async(lambda: _set_hold(config, operation_id, reason, by)), True)


@app.command()
@shared_command("vault")
def unhold(
    flags: Flags,
    operation_id: Annotated[
        str, typer.Argument(metavar="OPERATION", help="Its id, the end of it, or latest.")
    ],
) -> None:
    """Let an operation expire again."""
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy

    config = vault_policy(flags)
    _held(flags, run_async(lambda: _set_hold(config, operation_id, None, "")), False)


async def _set_hold(config: S3GCConfig, wanted: str, reason: str | None, by: str) -> str:
    from s3gc.cli.engine import find_operation, open_vault

    async with open_vault(config, read_only=False) as vault:
        operation, _ = await find_operation(vault, wanted, of=config)
        if reason is None:
            await operation.unhold()
        else:
            await operation.hold(reason, by)
        return operation.id


def _held(flags: Flags, operation_id: str, held: bool) -> None:
    from s3gc.cli.output import console, emit, form

    how = form(flags.output)
    if how is Output.TABLE:
        console().print(
            f"{operation_id} {'is kept until you let it go' if held else 'expires with the others'}"
        )
    else:
        emit({"operation_id": operation_id, "held": held}, how)


app.command()(rename)
app.command()(retire)
