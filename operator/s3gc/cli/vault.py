"""`s3gc vault …`: what is kept, whether it is whole, how long it stays."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig

__all__ = ["app"]

app = typer.Typer(
    help="Look after the vault: status, verify, reindex, expire, hold, unhold.", no_args_is_help=True
)


@app.command()
@shared_command("vault")
def status(flags: Flags) -> None:
    """Show what the vault keeps, who holds which scope, and what is unfinished."""
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy

    config, _ = vault_policy(flags)
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
def verify(flags: Flags) -> None:
    """Read every backed-up object back and compare its SHA-256. Ends with 9 when anything is damaged."""
    _maintain(flags, "verify", read_only=True)


@app.command()
@shared_command("vault", long_running=True)
def reindex(flags: Flags) -> None:
    """Rebuild the catalog vault.db from what is in the vault."""
    _maintain(flags, "reindex", read_only=False)


@app.command()
@shared_command("vault", long_running=True)
def expire(flags: Flags) -> None:
    """Remove operations older than the policy's vault retention, with an audit record. A hold stops it."""
    _maintain(flags, "expire", read_only=False)


def _maintain(flags: Flags, name: str, *, read_only: bool) -> None:
    raise NotImplementedError


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

    config, _ = vault_policy(flags)
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

    config, _ = vault_policy(flags)
    _held(flags, run_async(lambda: _set_hold(config, operation_id, None, "")), False)


async def _set_hold(config: S3GCConfig, wanted: str, reason: str | None, by: str) -> str:
    from s3gc.cli.engine import find_operation, open_vault

    async with open_vault(config, read_only=False) as vault:
        operation, _ = await find_operation(vault, wanted)
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
