"""Guards: whether the reading can be believed (trust), and whether the plan is too big to be true (caps).

Pure functions: facts in, reports out, in a fixed order. They never look anything up, so that each can be
tested as a table and `docs/safety.md` can say exactly what they do. Every guard reports, tripped or not; a
report names the guard as the policy spells it, the number, the limit, and the way on.

Approving exactly this plan waives the caps, the drop, the resolved and the unparsed guard. It never waives
what could not be read (`sources`, `listing`, `noSource`), an emptied source (`minReferences`), a column
nobody declared (`undeclaredColumns`), two owners of one object (`overlap`) or an old plan (`maxPlanAge`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from s3gc.config import Limits
from s3gc.plan.baselines import Baseline, column_name, resolved_percent
from s3gc.results import ColumnCoverage, GuardReport

__all__ = [
    "CAPS",
    "ENOUGH_VALUES",
    "GONE_VALUES",
    "NEVER_WAIVED",
    "SMALL_PLAN",
    "PlanFacts",
    "UndeclaredHit",
    "apply_approval",
    "cap_guards",
    "coverage_guards",
    "failed_guards",
    "no_source_guard",
    "overlap_guard",
    "plan_age_guard",
    "reference_guards",
    "refusal_message",
    "refusals",
    "trust_passed",
    "undeclared_guard",
]

#: A column with fewer values says nothing about percentages.
ENOUGH_VALUES: Final = 20
#: Fewer values gone (or fewer that stopped resolving) than this are ordinary life, whatever the percentage.
GONE_VALUES: Final = 50
#: A plan with fewer objects, and under half of the scope, is not measured against maxDeletePercent.
SMALL_PLAN: Final = 100

#: Guards about the size of the plan; they stop a sweep but not the clocks of maturity.
CAPS: Final = frozenset({"maxDeletePercent", "maxDeleteObjects", "maxDeleteBytes"})
_WAIVABLE: Final = CAPS | {"maxReferenceDropPercent", "minResolvedPercent", "maxUnparsedPercent"}
#: Guards that no approval waives.
NEVER_WAIVED: Final = frozenset(
    {"sources", "listing", "noSource", "minReferences", "undeclaredColumns", "overlap", "maxPlanAge"}
)

_APPROVE = "approve exactly this plan if the number is right"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The size of a plan, and of its scope (objects of the scope, whatever their age)."""

    objects: int
    bytes: int
    scope_objects: int


@dataclass(frozen=True, slots=True)
class UndeclaredHit:
    """A column that nobody declared, whose sampled `value` names the planned object `key`."""

    source: str
    column: str
    key: str
    value: str


def _report(
    guard: str,
    tripped: bool,
    *,
    subject: str = "",
    value: float | None = None,
    limit: float | None = None,
    message: str = "",
    way_on: str = "",
) -> GuardReport:
    return GuardReport(
        guard=guard,
        tripped=tripped,
        subject=subject,
        value=value,
        limit=limit,
        message=message if tripped else "",
        way_on=way_on if tripped else "",
        waivable=guard in _WAIVABLE,
    )


def failed_guards(source_errors: Mapping[str, str], listing_error: str | None = None) -> list[GuardReport]:
    """A source (name -> error), or a part of the listing, failed. `sources` and `listing` always report."""
    reports = [
        _report(
            "sources",
            True,
            subject=name,
            message=f"Source {name!r} was not read to its end, so nothing is known unreferenced: {error}",
            way_on="make the source readable again; the next cycle reads everything anew",
        )
        for name, error in sorted(source_errors.items())
    ]
    reports = reports or [_report("sources", False)]
    reports.append(
        _report(
            "listing",
            listing_error is not None,
            message=f"The listing of the bucket is not provably complete: {listing_error}",
            way_on="look at the store's health; the next cycle lists everything anew",
        )
    )
    return reports


def no_source_guard(has_source: bool) -> GuardReport:
    """No source at all: every object is unverifiable and kept; Execute is a ConfigurationError."""
    return _report(
        "noSource",
        not has_source,
        message="No database is configured, so no object can be proven unreferenced; every object is kept.",
        way_on="configure tables with database_url, or sources",
    )


def reference_guards(
    coverage: Sequence[ColumnCoverage], limits: Limits, *, sources: Sequence[str] = ()
) -> list[GuardReport]:
    """`minReferences`, a report a source (of `sources` too): an emptied or wrong database."""
    counted = dict.fromkeys(sources, 0)
    for column in coverage:
        counted[column.source] = counted.get(column.source, 0) + column.references
    return [
        _report(
            "minReferences",
            found < limits.min_references,
            subject=source,
            value=found,
            limit=limits.min_references,
            message=(
                f"Source {source!r} yields {found:,} references, fewer than minReferences = "
                f"{limits.min_references:,}: an emptied, wrong or not yet filled database."
            ),
            way_on=f"check that {source!r} is the right database; set minReferences: 0 if it may be empty",
        )
        for source, found in counted.items()
    ]


def coverage_guards(
    coverage: Sequence[ColumnCoverage], limits: Limits, baselines: Mapping[str, Baseline]
) -> list[GuardReport]:
    """The three guards of each column: drop against the last believed cycle, resolved, unparsed.

    A column that the last believed cycle read and this one did not is a drop of all its values.
    """
    reports: list[GuardReport] = []
    for column in coverage:
        name = column_name(column)
        known = baselines.get(name)
        reports.append(_drop(name, column.values, known, limits))
        reports.append(_resolved(name, column, known, limits))
        reports.append(_unparsed(name, column, limits))
    read = {column_name(column) for column in coverage}
    reports += [
        _drop(name, 0, known, limits, removed=True) for name, known in baselines.items() if name not in read
    ]
    return reports


def _drop(
    name: str, values: int, known: Baseline | None, limits: Limits, *, removed: bool = False
) -> GuardReport:
    gone = known.values - values if known else 0
    percent = 100 * gone / known.values if known and known.values else 0.0
    # Nothing left of what was enough to judge by is no ordinary life, however few they were.
    is_emptied = known is not None and known.values >= ENOUGH_VALUES and values == 0
    before = f"{known.values:,}" if known else "none"
    what = "is not configured any more" if removed else f"has {values:,} values"
    return _report(
        "maxReferenceDropPercent",
        percent > limits.max_reference_drop_percent and (gone >= GONE_VALUES or is_emptied),
        subject=name,
        value=round(max(percent, 0.0), 2),
        limit=limits.max_reference_drop_percent,
        message=(
            f"Column {name} {what}; the last believed cycle read {before} ({percent:.1f} % gone, limit "
            f"{limits.max_reference_drop_percent:g} %): a truncated table, a bad migration or another policy."
        ),
        way_on=f"restore the rows, or {_APPROVE}; the next cycle then compares with today's numbers",
    )


def _resolved(name: str, column: ColumnCoverage, known: Baseline | None, limits: Limits) -> GuardReport:
    limit = limits.min_resolved_percent
    ours = column.resolved + column.missing
    percent = resolved_percent(column)
    message = ""
    if column.values >= ENOUGH_VALUES and column.resolved == 0 and limit > 0:
        # Whatever the reason: also when every value is on a foreign host or outside the scope. A column
        # that names nothing proves nothing, and somebody believed that it did.
        percent = 0.0
        message = f"None of the {column.values:,} values of column {name} names an object in the bucket"
    elif percent is not None and ours >= ENOUGH_VALUES and percent < limit:
        message = f"Only {percent:.1f} % of the {ours:,} values of column {name} name an object in the bucket"
    elif percent is not None and ours >= ENOUGH_VALUES and known is not None and known.resolved_percent:
        lost = known.resolved_percent - percent
        sharp = 100 * lost / known.resolved_percent > limits.max_reference_drop_percent
        if sharp and lost * ours / 100 >= GONE_VALUES:
            limit = round(known.resolved_percent * (1 - limits.max_reference_drop_percent / 100), 2)
            message = (
                f"{percent:.1f} % of the {ours:,} values of column {name} name an object; it was "
                f"{known.resolved_percent:.1f} % in the last believed cycle"
            )
    return _report(
        "minResolvedPercent",
        bool(message),
        subject=name,
        value=None if percent is None else round(percent, 2),
        limit=limit,
        message=f"{message} (limit {limit:g} %): a wrong column, format, base URL or bucket.",
        way_on=f"look at the column's missing samples, correct its format or baseURLs, or {_APPROVE}",
    )


def _unparsed(name: str, column: ColumnCoverage, limits: Limits) -> GuardReport:
    percent = 100 * column.unparsed / column.values if column.values else 0.0
    limit = limits.max_unparsed_percent
    return _report(
        "maxUnparsedPercent",
        column.values >= ENOUGH_VALUES and percent > limit,
        subject=name,
        value=round(percent, 2),
        limit=limit,
        message=(
            f"Nothing could be extracted from {column.unparsed:,} of the {column.values:,} values of column "
            f"{name} ({percent:.1f} %, limit {limit:g} %): a format that is not understood."
        ),
        way_on=f"look at the unparsed samples, set the format, use a query that yields keys, or {_APPROVE}",
    )


def undeclared_guard(hits: Sequence[UndeclaredHit]) -> list[GuardReport]:
    """One report a column that nobody declared and whose sample names a planned object; never waived."""
    if not hits:
        return [_report("undeclaredColumns", False, value=0, limit=0)]
    columns: dict[tuple[str, str], list[UndeclaredHit]] = {}
    for hit in hits:
        columns.setdefault((hit.source, hit.column), []).append(hit)
    return [
        _report(
            "undeclaredColumns",
            True,
            subject=f"{source}: {column}",
            value=len(found),
            limit=0,
            message=(
                f"Column {column} of source {source!r} is not declared, and {len(found):,} of its sampled "
                f"values name objects in the plan, such as {found[0].key[:200]!r}."
            ),
            way_on=f"declare {column} as a reference, or list it in ignoreColumns of source {source!r}",
        )
        for (source, column), found in columns.items()
    ]


def overlap_guard(owners: Sequence[str]) -> GuardReport:
    """Another scope or vault claims objects of this one: each would delete what the other's rows name."""
    return _report(
        "overlap",
        bool(owners),
        value=len(owners),
        limit=0,
        message=f"Objects of this scope are also claimed by {', '.join(owners)}.",
        way_on="give the two policies prefixes that do not overlap, or one of them all the references",
    )


def plan_age_guard(planned_at: datetime, now: datetime, limits: Limits) -> GuardReport:
    """The plan is older than `maxPlanAgeHours`, or claims to be from the future (the store's times)."""
    hours = (now - planned_at).total_seconds() / 3600
    limit = limits.max_plan_age_hours
    return _report(
        "maxPlanAge",
        hours > limit or hours < -1,  # an hour of disagreement between clocks is none of our business
        value=round(hours, 2),
        limit=limit,
        message=f"The plan is {hours:.1f} hours old; a plan may be swept for {limit:g} hours.",
        way_on="start a new cycle and approve its plan",
    )


def cap_guards(plan: PlanFacts, limits: Limits) -> list[GuardReport]:
    """The caps. A plan of fewer than 100 objects and under half of the scope has no percentage."""
    percent = (
        100 * plan.objects / plan.scope_objects if plan.scope_objects else (100.0 if plan.objects else 0.0)
    )
    reports: list[GuardReport] = []
    if (limit := limits.max_delete_percent) is not None:
        is_small = plan.objects < SMALL_PLAN and 2 * plan.objects < plan.scope_objects
        reports.append(
            _report(
                "maxDeletePercent",
                percent > limit and not is_small,
                value=round(percent, 2),
                limit=limit,
                message=(
                    f"The plan has {plan.objects:,} of the {plan.scope_objects:,} objects in scope "
                    f"({percent:.1f} %), more than maxDeletePercent = {limit:g} %."
                ),
                way_on=f"raise limits.maxDeletePercent, or {_APPROVE}",
            )
        )
    if (objects := limits.max_delete_objects) is not None:
        reports.append(
            _report(
                "maxDeleteObjects",
                plan.objects > objects,
                value=plan.objects,
                limit=objects,
                message=f"The plan has {plan.objects:,} objects, more than maxDeleteObjects = {objects:,}.",
                way_on=f"raise limits.maxDeleteObjects, or {_APPROVE}",
            )
        )
    if (size := limits.max_delete_bytes) is not None:
        reports.append(
            _report(
                "maxDeleteBytes",
                plan.bytes > size,
                value=plan.bytes,
                limit=size,
                message=f"The plan has {plan.bytes:,} bytes, more than maxDeleteBytes = {size:,}.",
                way_on=f"raise limits.maxDeleteBytes, or {_APPROVE}",
            )
        )
    return reports


def apply_approval(reports: Sequence[GuardReport], *, approved: bool) -> list[GuardReport]:
    """Return the reports with those waived that an approval of exactly this plan waives."""
    return [
        report.model_copy(update={"waived": True})
        if approved and report.tripped and report.waivable
        else report
        for report in reports
    ]


def refusals(reports: Sequence[GuardReport]) -> list[GuardReport]:
    """Return the reports that stop the sweep: tripped and not waived."""
    return [report for report in reports if report.tripped and not report.waived]


def trust_passed(reports: Sequence[GuardReport]) -> bool:
    """Tell whether maturity and the baselines may move: no guard but a cap stands in the way."""
    return all(report.guard in CAPS for report in refusals(reports))


def refusal_message(reports: Sequence[GuardReport], *, digest: str | None = None) -> str:
    """Return what a person reads when a cycle is refused: each guard, its numbers, and the way on."""
    stopped = refusals(reports)
    lines = [f"{report.guard}: {report.message} Way on: {report.way_on}." for report in stopped]
    if digest is not None and stopped and all(report.waivable for report in stopped):
        lines.append(f"The plan is {digest}; approve it to go on with exactly these objects.")
    return "\n".join(lines)
