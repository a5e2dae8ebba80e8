"""How a cycle's and a restore's result look in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from s3gc.cli.output import console, grid, table
from s3gc.report.text import ago, bytes_text, count, duration, percent, plural, visible

if TYPE_CHECKING:
    from rich.text import Text

    from s3gc.config import S3GCConfig
    from s3gc.results import GCResult, GuardReport, RestoreResult

__all__ = ["OUTCOME_COLOURS", "show_restore", "show_result"]

OUTCOME_COLOURS = {
    "Succeeded": "green",
    "AwaitingApproval": "cyan",
    "Refused": "yellow",
    "PartiallyFailed": "red",
    "Failed": "red",
    "Unknown": "magenta",
}
_SAMPLES = 5


def show_result(
    result: GCResult,
    policy: S3GCConfig | None = None,
    *,
    again: Callable[[str], str] = lambda needs: "",
    coverage: bool = True,
) -> None:
    """Print a cycle's result: what was found, what was done, what a person should look at, and the way on.

    `policy` is the one of this very cycle, where there is one; `again` is `Flags.again`: how this command was
    told its policy, to be repeated in the commands that are suggested.
    """
    from rich.text import Text

    out = console()
    colour = OUTCOME_COLOURS[result.outcome]
    out.print(
        Text.assemble(
            (f" {result.outcome} ", f"bold reverse {colour}"),
            (f"  {result.mode.replace('_', ' ')}", "bold"),
            f" of {result.bucket}",
            (f"  {duration(result.duration_seconds)}", "dim"),
        )
    )
    facts = grid()
    for name, value in _facts(result):
        facts.add_row(name, value)
    out.print()
    out.print(facts)
    _show_guards(result.guards)
    if coverage:
        _show_coverage(result)
    if result.errors:
        out.print()
        for error in result.errors[:_SAMPLES]:
            out.print(Text.assemble(("✗ ", "red"), visible(error)))
        if len(result.errors) > _SAMPLES:
            out.print(f"  and {len(result.errors) - _SAMPLES} more", style="dim")
    lines = list(_ways_on(result, policy, again))
    if lines:
        out.print()
    for line in lines:  # a terminal wraps a command that is too long in a way that can be copied
        out.print(Text.assemble(("→ ", "cyan bold"), line), soft_wrap=True)


def _facts(result: GCResult) -> Iterator[tuple[str, str | Text]]:
    from rich.text import Text

    yield "operation", result.operation_id
    yield "in scope", f"{plural(result.total_scanned, 'object')}, {bytes_text(result.total_bytes)}"
    left = [
        (result.young_count, "too young"),
        (result.excluded_count, "excluded"),
        (result.held_count, "held after a restore"),
        (result.not_actionable_count, "with a name no store can be trusted with"),
        (result.unverifiable_count, "that nothing could vouch for"),
    ]
    kept = ", ".join(f"{count(number)} {why}" for number, why in left if number)
    if kept:
        yield "left alone", kept
    waiting = f", {count(result.waiting_count)} of them waiting to be sure" if result.waiting_count else ""
    yield "unreferenced", f"{plural(result.candidates_found, 'object')}{waiting}"
    size = bytes_text(result.reclaimable_bytes)
    if result.mode == "dry_run":
        yield "would go", Text(f"{plural(result.verified_orphans, 'object')}, {size}", style="bold")
    else:
        yield "verified", f"{plural(result.verified_orphans, 'object')}, {size}"
    if result.mode == "execute":
        written = (
            f", {bytes_text(result.vault_bytes_written)} in the vault" if result.vault_bytes_written else ""
        )
        yield "backed up", f"{plural(result.backed_up_count, 'object')}{written}"
        by_deletes = result.reclaimed_bytes - result.purged_bytes
        freed = f", {bytes_text(by_deletes)} freed"
        marker = " (a delete marker frees nothing yet)" if result.deleted_count and not by_deletes else ""
        yield "deleted", Text(f"{plural(result.deleted_count, 'object')}{freed}{marker}", style="bold")
    if result.purged_count or result.purge_kept:
        versions = f"{plural(result.purged_count, 'version')} of earlier cycles"
        yield "purged", Text(f"{versions}, {bytes_text(result.purged_bytes)} freed", style="bold")
    if result.purge_kept:
        yield "not purged", ", ".join(f"{count(number)} {why}" for why, number in result.purge_kept.items())
    if result.skipped_count:
        reasons = ", ".join(
            f"{count(number)} {why.replace('_', ' ')}" for why, number in result.skipped.items()
        )
        yield "skipped", reasons or count(result.skipped_count)
    if result.late_references:
        text = f"{plural(result.late_references, 'object')} referenced during the sweep, restored"
        yield "late references", Text(text, style="red bold")
        for key in result.late_reference_keys[:3]:
            yield "", visible(key, 60)
    if result.healed_count:
        yield "healed", f"{plural(result.healed_count, 'object')} that are referenced again"
    if result.missing_objects:
        text = f"{plural(result.missing_objects, 'reference')} to an object that does not exist"
        yield "missing", Text(text, style="yellow")
    if result.mode != "dry_run":
        checked = "" if result.verified else ", and the last check is still open"
        reason = f" ({result.verification_reason})" if result.verification_reason else ""
        yield "verification", f"{result.verification}{reason}{checked}"
    if result.plan_digest:
        yield "plan digest", f"{result.plan_digest[:16]}…"


def _show_guards(guards: list[GuardReport]) -> None:
    tripped = [guard for guard in guards if guard.tripped]
    if not tripped:
        return
    from rich.text import Text

    out = console()
    out.print()
    for guard in tripped:
        mark = ("waived ", "yellow") if guard.waived else ("✗ ", "red bold")
        subject = f" ({visible(guard.subject, 60)})" if guard.subject else ""
        out.print(Text.assemble(mark, (f"{guard.guard}{subject}", "bold"), f": {visible(guard.message)}"))
        if guard.way_on:
            out.print(Text(f"  {guard.way_on}", style="dim"))


def _show_coverage(result: GCResult) -> None:
    if not result.coverage:
        return
    from rich.text import Text

    made = table(("column", "key"), ("values", "right"), ("name an object", "right"), ("remarks", "fold"))
    for column in result.coverage:
        good = column.values == 0 or column.resolved * 2 >= column.values
        share = Text(percent(column.resolved, column.values), style="" if good else "yellow")
        remarks = [
            f"{count(number)} {what}"
            for number, what in (
                (column.missing, "missing"),
                (column.unparsed, "unparsed"),
                (column.other_bucket, "another bucket's"),
                (column.foreign, "foreign"),
                (column.outside, "out of scope"),
                (sum(column.undeclared_hosts.values()), "on undeclared hosts"),
            )
            if number
        ]
        made.add_row(
            visible(f"{column.source}: {column.column}", 44), count(column.values), share, ", ".join(remarks)
        )
    out = console()
    out.print()
    out.print(made)


def _ways_on(result: GCResult, policy: S3GCConfig | None, again: Callable[[str], str]) -> Iterator[str]:
    if policy is not None and policy.retention_days == 0 and result.young_count:
        yield (
            "an object must be older than the second in which its listing began, even with retention_days 0: "
            "run it again in a moment"
        )
    tripped = [guard for guard in result.guards if guard.tripped]
    is_refused = result.outcome == "Refused" and tripped and all(guard.waivable for guard in tripped)
    if result.plan_digest and (is_refused or result.outcome == "AwaitingApproval"):
        yield f"look at it:  s3gc plan{again('vault')} --operation-id {result.operation_id}"
        yield f"approve it:  s3gc approve{again('vault')} {result.operation_id} {result.plan_digest[:16]}"
    if result.mode == "execute" and result.deleted_count:
        yield f"undo it:     s3gc restore{again('bucket')} {result.operation_id} --no-dry-run"
    if result.report:
        yield f"read it:     {_short(result.report)}"


def _short(path: str) -> str:
    """A path as a person would type it here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def show_restore(result: RestoreResult) -> None:
    """Print what a restore did, or would do."""
    from rich.text import Text

    out = console()
    verb = "would be restored" if result.dry_run else "restored"
    colour = "red" if result.failed_count else "green"
    out.print(
        Text.assemble(
            (f"{plural(result.restored_count, 'object')} {verb}", f"bold {colour}"),
            f", {bytes_text(result.restored_bytes)}",
            (f"  {duration(result.duration_seconds)}", "dim"),
        )
    )
    facts = grid()
    facts.add_row("operation", result.operation_id)
    if result.skipped_count:
        facts.add_row("already there", plural(result.skipped_count, "object"))
    if result.failed_count:
        facts.add_row("failed", Text(plural(result.failed_count, "object"), style="red"))
    out.print(facts)
    for key, reason in list(result.failed_keys.items())[:_SAMPLES]:
        out.print(Text.assemble(("✗ ", "red"), f"{visible(key, 60)}: {visible(reason)}"))
    for error in result.errors[:_SAMPLES]:
        out.print(Text.assemble(("✗ ", "red"), visible(error)))
    for warning in result.warnings[:_SAMPLES]:
        out.print(Text.assemble(("! ", "yellow"), visible(warning)))
    if result.dry_run:
        for key in result.restored_keys[:10]:
            out.print(Text(f"  {visible(key, 76)}", style="dim"))
        if result.restored_count > 10:
            out.print(f"  and {count(result.restored_count - 10)} more", style="dim")
        if result.restored_count:
            out.print()
            out.print(Text.assemble(("→ ", "cyan bold"), "nothing was changed; add --no-dry-run to restore"))


def when(moment: datetime | None) -> str:
    """``3 h ago``, from now."""
    return ago(moment, datetime.now(UTC))
