"""The page that a cycle leaves: self-contained, without a script, readable in ten years and by a screen
reader.

Keys, values and errors are other people's text: everything goes through jinja2's autoescape, keys also
through `text.visible`, and the page forbids itself to load or run anything. What the page says comes from
the result and the summary; only the arrangement is decided here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from s3gc.report import text
from s3gc.report.charts import Part, bar, column, parts_of, stacked

if TYPE_CHECKING:
    from jinja2 import Template

    from s3gc.report.summary import Bin, Summary
    from s3gc.results import ColumnCoverage, GCResult, GuardReport

__all__ = ["render_html"]

_TEMPLATES = Path(__file__).with_name("templates")
_TITLES = {
    "Succeeded": "Succeeded",
    "PartiallyFailed": "Partially failed",
    "Refused": "Refused by a guard",
    "AwaitingApproval": "Waits for approval",
    "Failed": "Failed",
    "Unknown": "Unknown",
}
_TONES = {"Succeeded": "good", "AwaitingApproval": "info", "Refused": "warn", "Unknown": "warn"}
_MODES = {"dry_run": "Dry run", "audit_only": "Audit only", "execute": "Execute"}
#: What each guard counts, for a reader who has never seen its name.
_GUARDS = {
    "sources": "every database was read to its end",
    "listing": "the listing of the bucket is provably complete",
    "noSource": "a database says what is referenced",
    "minReferences": "references that a database yields",
    "maxReferenceDropPercent": "values gone since the last believed cycle",
    "minResolvedPercent": "values that name an object that exists",
    "maxUnparsedPercent": "values that could not be understood",
    "undeclaredColumns": "columns that nobody declared and that name planned objects",
    "overlap": "other owners of the same keys",
    "maxPlanAge": "hours since the plan was made",
    "maxDeletePercent": "planned, of the objects in scope",
    "maxDeleteObjects": "objects in the plan",
    "maxDeleteBytes": "bytes in the plan",
}
_PHASES = {
    "Preflight": "Preflight",
    "Recovering": "Recovering",
    "Listing": "Listing objects",
    "Reading": "Reading references",
    "Joining": "Joining",
    "Healing": "Healing",
    "Planning": "Planning",
    "BackingUp": "Backing up",
    "Verifying": "Verifying",
    "Deleting": "Deleting",
    "Checking": "Checking",
    "Purging": "Purging",
    "Finishing": "Finishing",
}


@functools.cache
def _page() -> Template:
    """The page's template, compiled once a process: that takes longer than to fill it in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bytes=text.bytes_text,
        count=text.count,
        day=_day,
        duration=text.duration,
        money=text.money,
        plural=text.plural,
        visible=text.visible,
        when=_when,
    )
    environment.globals.update(bar=bar, column=column, stacked=stacked, percent=text.percent, ago=text.ago)
    return environment.get_template("report.html.j2")


def render_html(result: GCResult, summary: Summary, *, now: datetime | None = None) -> str:
    """Return the page for `result`; `summary` is of its plan or manifest. `now` is when the page is made
    (UTC)."""
    figures = list(_figures(result, summary))
    return _page().render(
        result=result,
        summary=summary,
        now=now or datetime.now(UTC),
        ended=result.completed_at or now or datetime.now(UTC),
        title=_TITLES[result.outcome],
        tone=_TONES.get(result.outcome, "bad"),
        mode=_MODES[result.mode],
        done=result.mode == "execute",
        figures=figures,
        # Rows of one length, as far as it goes: a lonely last one looks like a mistake.
        figure_columns=-(-len(figures) // -(-len(figures) // 6)),
        scope=_scope(result),
        tripped=[guard for guard in result.guards if guard.tripped],
        passed=_passed(result.guards),
        guard_numbers=_guard_numbers,
        guard_words=_GUARDS,
        coverage=[_Coverage(each) for each in result.coverage],
        prefixes=_bars(summary.by_prefix),
        sizes=_bars(_trimmed(summary.by_size), by="objects"),
        ages=_bars(summary.by_age, by="objects"),
        classes=parts_of(
            [(each.label, each.bytes, text.bytes_text(each.bytes)) for each in summary.by_class]
        ),
        timeline=_timeline(result),
        can_approve=_can_approve(result),
    )


def _when(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else "–"


def _day(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}" if moment else "–"


def _figures(result: GCResult, summary: Summary) -> Iterator[tuple[str, str, str]]:
    """The large numbers: (name, value, remark)."""
    if result.mode == "execute":
        yield (
            "Deleted",
            text.count(result.deleted_count),
            f"of {text.plural(result.verified_orphans, 'verified orphan')}",
        )
        size = result.reclaimed_bytes - result.purged_bytes
        freed = "behind delete markers" if result.deleted_count and not size else "freed"
        yield "Size", text.bytes_text(size or result.backed_up_bytes), freed
        yield (
            "Backed up",
            text.count(result.backed_up_count),
            f"{text.bytes_text(result.vault_bytes_written)} in the vault",
        )
    else:
        yield "Would go", text.count(result.verified_orphans), _of_scope(result)
        yield (
            "Size",
            text.bytes_text(result.reclaimable_bytes),
            f"of {text.bytes_text(result.total_bytes)} in scope",
        )
    if result.purged_count:
        versions = text.plural(result.purged_count, "version")
        yield "Purged", text.bytes_text(result.purged_bytes), f"freed: {versions} that earlier cycles hid"
    if summary.objects:
        yield (
            "Saves a month",
            text.money(summary.monthly),
            f"{text.money(12 * summary.monthly)} a year, estimated",
        )
    yield "In scope", text.count(result.total_scanned), text.bytes_text(result.total_bytes)
    if result.missing_objects:
        yield "Missing objects", text.count(result.missing_objects), "referenced, but not in the bucket"
    if result.late_references:
        yield "Late references", text.count(result.late_references), "restored at once"
    if result.healed_count:
        yield "Healed", text.count(result.healed_count), "referenced again, restored"


def _of_scope(result: GCResult) -> str:
    if not result.total_scanned:
        return "nothing is in scope"
    return f"{text.percent(result.verified_orphans, result.total_scanned)} of the objects in scope"


def _scope(result: GCResult) -> list[Part]:
    """What the objects in scope are, as parts of all of them, the planned ones first."""
    planned = max(0, result.candidates_found - result.waiting_count)
    left = (
        ("waiting to be sure", result.waiting_count),
        ("too young", result.young_count),
        ("excluded", result.excluded_count),
        ("held after a restore", result.held_count),
        ("nothing can vouch for", result.unverifiable_count),
        ("not actionable", result.not_actionable_count),
    )
    referenced = result.total_scanned - planned - sum(number for _, number in left)
    values = [("unreferenced", planned), ("referenced", max(0, referenced)), *left]
    return parts_of([(label, number, text.count(number)) for label, number in values])


def _bars(bins: Sequence[Bin], *, by: str = "bytes") -> list[tuple[Bin, float]]:
    """Each bin with its length as a share of the longest."""
    longest = max((getattr(each, by) for each in bins), default=0)
    return [(each, getattr(each, by) / longest if longest else 0.0) for each in bins]


def _trimmed(bins: Sequence[Bin]) -> Sequence[Bin]:
    """Without the empty bins at both ends: of a bucket of pictures nobody needs to read that none has a gigabyte."""
    filled = [index for index, each in enumerate(bins) if each.objects]
    return bins[filled[0] : filled[-1] + 1] if filled else bins


def _timeline(result: GCResult) -> list[Part]:
    return parts_of(
        [
            (_PHASES.get(name, name), seconds, text.duration(seconds))
            for name, seconds in result.phase_seconds.items()
        ]
    )


def _passed(guards: Sequence[GuardReport]) -> list[tuple[GuardReport, int]]:
    """The guards that passed, one row a kind: the subject that came closest to its limit, and how many there were."""
    kinds: dict[str, list[GuardReport]] = {}
    for guard in guards:
        if not guard.tripped:
            kinds.setdefault(guard.guard, []).append(guard)

    def closeness(guard: GuardReport) -> float:
        value = guard.value or 0.0
        return -value if guard.guard.startswith("min") else value

    return [(max(found, key=closeness), len(found)) for _, found in sorted(kinds.items())]


def _guard_numbers(guard: GuardReport) -> tuple[str, str]:
    """``("82 %", "at most 20 %")``, in whatever the guard counts; empty where it counts nothing."""
    unit = " %" if "percent" in guard.guard.lower() else ""
    size = "bytes" in guard.guard.lower()

    def shown(number: float) -> str:
        if size:
            return text.bytes_text(number)
        return f"{number:,.1f}".removesuffix(".0") + unit

    if guard.limit is None:
        return ("" if guard.value is None else shown(guard.value), "")
    if guard.guard.startswith("min"):
        return ("–" if guard.value is None else shown(guard.value), f"at least {shown(guard.limit)}")
    if not guard.limit:
        return (shown(guard.value), "none allowed") if guard.value else ("none", "")
    return ("–" if guard.value is None else shown(guard.value), f"at most {shown(guard.limit)}")


def _can_approve(result: GCResult) -> bool:
    tripped = [guard for guard in result.guards if guard.tripped and not guard.waived]
    waits = result.outcome == "AwaitingApproval"
    return bool(result.plan_digest) and (
        waits or (bool(tripped) and all(guard.waivable for guard in tripped))
    )


class _Coverage:
    """One column's row: its shares and what a person should look at."""

    def __init__(self, column: ColumnCoverage) -> None:
        self.column = column
        self.share = column.resolved / column.values if column.values else 0.0
        self.tone = (
            "accent" if not column.values or self.share >= 0.5 else "warn" if self.share >= 0.1 else "bad"
        )
        self.warnings = list(self._warnings())

    def _warnings(self) -> Iterator[str]:
        column = self.column
        if not column.values:
            yield "no values at all"
        elif not column.resolved:
            yield "no value names an object that exists: is this the right column, format and bucket?"
        for number, what in (
            (column.missing, "name an object that does not exist"),
            (column.unparsed, "could not be understood"),
            (column.other_bucket, "name another bucket"),
            (column.outside, "lie outside of the scope"),
            (column.foreign, "are on foreign hosts"),
            (column.ignored, "were ignored (data:, mailto: and the like)"),
        ):
            if number:
                yield f"{text.count(number)} {what}"
        if column.approximate:
            yield "extrapolated from a sample"
        for prefix, kept in list(column.prefix_kept.items())[:3]:
            yield f"keeps {text.plural(kept, 'object')} under {text.visible(prefix, 60)}"

    @property
    def hosts(self) -> list[tuple[str, int]]:
        return sorted(self.column.undeclared_hosts.items(), key=lambda item: -item[1])[:5]

    @property
    def samples(self) -> list[str]:
        return [*self.column.unparsed_samples[:2], *self.column.missing_samples[:2]]
