"""`s3gc approve`: a person's consent to exactly one plan."""

from __future__ import annotations

import getpass
import socket
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.results import GCResult

__all__ = ["command"]

#: So many characters of a digest are enough to be meant and not guessed: 64 bits.
_ENOUGH = 16


@shared_command("vault")
def command(
    flags: Flags,
    operation_id: Annotated[
        str, typer.Argument(metavar="OPERATION", help="Its id, the end of it, or latest.")
    ],
    digest: Annotated[
        str | None,
        typer.Argument(metavar="DIGEST", help="Of the plan, as the result shows it.", show_default=False),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Approve whatever plan the operation has.")
    ] = False,
) -> None:
    """Approve a plan, so that the next cycle may sweep it.

    The next cycle reads every reference anew and deletes what of this plan is still unreferenced, never
    more. An approval waives the caps and the doubts about coverage for this one plan; a source that failed,
    a column that nobody declared and the plan's age are never waived.
    """
    from s3gc.cli.output import console, emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy
    from s3gc.report.text import bytes_text, plural, visible

    config = vault_policy(flags)
    result = run_async(lambda: _plan_of(config, operation_id))
    wanted = _digest(result, digest, yes)
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    approved = run_async(lambda: _approve(config, result.operation_id, wanted, by))
    how = form(flags.output)
    never = [guard for guard in result.guards if guard.tripped and not guard.waivable]
    if how is not Output.TABLE:
        emit({**approved, "not_waived": sorted({guard.guard for guard in never})}, how)
        return
    what = f"{plural(result.planned_objects, 'object')}, {bytes_text(result.reclaimable_bytes)}"
    out = console()
    out.print(f"approved by {by}: {what}, plan {wanted[:12]}…", style="green")
    for guard in never:
        out.print(f"no approval waives {guard.guard}: {visible(guard.way_on)}", style="yellow")
    again = flags.again("cycle")
    out.print(
        f"→ the next cycle sweeps it; at once: s3gc run{again} --mode execute --operation-id {result.operation_id}",
        soft_wrap=True,
    )


def _digest(result: GCResult, digest: str | None, yes: bool) -> str:
    """The digest that is approved: given, or the operation's own where the person says yes to it."""
    from s3gc.exceptions import ConfigurationError, RefusedError
    from s3gc.report.text import bytes_text, plural

    own = result.plan_digest or ""
    if digest is not None:
        given = digest.strip().lower()
        if len(given) < _ENOUGH or not own.startswith(given):
            raise RefusedError(
                f"operation {result.operation_id} has another plan: its digest is {own}. Look at it with "
                f"s3gc plan --operation-id {result.operation_id}",
                details={"guard": "approval", "plan_digest": own},
            )
        return own
    if yes:
        return own
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "give the plan's digest, or --yes to approve whatever plan the operation has"
        )
    size = bytes_text(result.reclaimable_bytes)
    typer.echo(
        f"The plan of {result.operation_id} deletes {plural(result.planned_objects, 'object')} ({size})"
    )
    typer.echo(f"from {result.bucket}. Its digest is {own}.")
    if not typer.confirm("Approve it?"):
        raise typer.Exit(1)
    return own


async def _plan_of(config: S3GCConfig, operation_id: str) -> GCResult:
    from datetime import UTC, datetime

    from s3gc.cli.engine import find_operation, open_vault
    from s3gc.plan.approving import approvable_plan

    async with open_vault(config) as vault:
        operation, _ = await find_operation(vault, operation_id, of=config)
        result = await operation.result()
    return approvable_plan(operation.id, result, datetime.now(UTC))


async def _approve(config: S3GCConfig, operation_id: str, digest: str, by: str) -> dict[str, Any]:
    from s3gc.cli.engine import open_vault

    async with open_vault(config, read_only=False) as vault:
        approval = await vault.operation(operation_id).approve(digest, by)
    return {
        "operation_id": operation_id,
        "plan_digest": approval.digest,
        "by": approval.by,
        "at": approval.at.isoformat(),
    }
