"""Each guard, both ways, at its edges: what trips it, what does not, what an approval waives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from s3gc.config import Limits
from s3gc.plan import guards
from s3gc.plan.baselines import Baseline, load_baselines, update_baselines
from s3gc.plan.guards import PlanFacts, UndeclaredHit
from s3gc.results import ColumnCoverage, GuardReport

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def column(values: int = 100, resolved: int | None = None, **numbers: int) -> ColumnCoverage:
    """A column all of whose values resolve, unless `numbers` say otherwise."""
    found = values if resolved is None else resolved
    numbers.setdefault("references", values)
    return ColumnCoverage(source="shop", column="users.avatar", values=values, resolved=found, **numbers)


def only(reports: list[GuardReport], guard: str) -> GuardReport:
    (report,) = [item for item in reports if item.guard == guard]
    return report


def judged(
    now: ColumnCoverage, guard: str, before: Baseline | None = None, limits: Limits | None = None
) -> GuardReport:
    baselines = {"shop: users.avatar": before} if before else {}
    return only(guards.coverage_guards([now], limits or Limits(), baselines), guard)


def test_the_defaults_are_those_of_the_design() -> None:
    limits = Limits()
    assert (limits.min_references, limits.max_reference_drop_percent) == (1, 20)
    assert (limits.min_resolved_percent, limits.max_unparsed_percent) == (10, 5)
    assert (limits.max_delete_percent, limits.max_delete_objects, limits.max_delete_bytes) == (10, None, None)
    assert limits.max_plan_age_hours == 24
    assert (guards.ENOUGH_VALUES, guards.GONE_VALUES, guards.SMALL_PLAN) == (20, 50, 100)


def test_a_failed_source_and_a_failed_listing_trip_and_cannot_be_waived() -> None:
    reports = guards.failed_guards({"shop": "connection reset", "blog": "timeout"}, "page 7 was cut off")
    assert [(item.guard, item.subject) for item in reports if item.tripped] == [
        ("sources", "blog"),
        ("sources", "shop"),
        ("listing", ""),
    ]
    assert guards.refusals(guards.apply_approval(reports, approved=True)) == reports
    assert "connection reset" in reports[1].message
    assert not guards.refusals(guards.failed_guards({}))


def test_no_source_at_all_trips_and_cannot_be_waived() -> None:
    (waived,) = guards.apply_approval([guards.no_source_guard(False)], approved=True)
    assert waived.tripped
    assert not waived.waived
    assert not guards.no_source_guard(True).tripped


@pytest.mark.parametrize(
    ("references", "minimum", "tripped"), [(0, 1, True), (1, 1, False), (0, 0, False), (9, 10, True)]
)
def test_a_source_with_fewer_references_than_min_references(
    references: int, minimum: int, tripped: bool
) -> None:
    limits = Limits(min_references=minimum)
    (report,) = guards.reference_guards([column(values=references, references=references)], limits)
    assert (report.tripped, report.waivable, report.subject) == (tripped, False, "shop")
    assert (report.value, report.limit) == (references, minimum)


def test_min_references_counts_each_source_on_its_own_and_one_without_columns_has_none() -> None:
    other = column(values=0, references=0).model_copy(update={"source": "blog"})
    reports = guards.reference_guards([column(), other], Limits(), sources=["wiki"])
    assert {item.subject: item.tripped for item in reports} == {"wiki": True, "shop": False, "blog": True}


@pytest.mark.parametrize(
    ("before", "now", "tripped"),
    [
        (1000, 1000, False),
        (1000, 800, False),  # exactly 20 % is allowed
        (1000, 799, True),
        (1000, 0, True),
        (50, 0, True),  # 50 values are gone
        (49, 0, True),  # fewer, and none is left
        (49, 1, False),  # fewer are ordinary life
        (20, 0, True),
        (19, 0, False),  # too few to judge by
        (100, 51, False),
        (1000, 5000, False),
        (0, 10, False),
    ],
)
def test_a_column_that_lost_values_since_the_last_believed_cycle(
    before: int, now: int, tripped: bool
) -> None:
    report = judged(column(values=now), "maxReferenceDropPercent", Baseline(before, 100.0))
    assert (report.tripped, report.waivable) == (tripped, True)
    assert not judged(column(values=now), "maxReferenceDropPercent").tripped  # nothing to compare with


def test_a_column_that_is_not_read_any_more_has_lost_all_its_values() -> None:
    reports = guards.coverage_guards([], Limits(), {"shop: users.avatar": Baseline(20, None)})
    assert only(reports, "maxReferenceDropPercent").tripped
    assert "not configured any more" in reports[0].message
    assert not guards.refusals(guards.coverage_guards([], Limits(), {"shop: x": Baseline(19, None)}))


@pytest.mark.parametrize(
    ("values", "resolved", "missing", "tripped"),
    [
        (100, 10, 90, False),  # exactly 10 %
        (100, 9, 91, True),
        (20, 1, 19, True),
        (19, 1, 18, False),  # too few to say anything
        (19, 0, 19, False),
        (20, 0, 20, True),
        (20, 0, 0, True),  # none resolves, whatever the reason: all foreign, all outside
        (100, 10, 9, False),  # the rest is not ours: hosts without a hit, data:, outside the scope
    ],
)
def test_a_column_whose_values_hardly_name_an_object(
    values: int, resolved: int, missing: int, tripped: bool
) -> None:
    report = judged(column(values=values, resolved=resolved, missing=missing), "minResolvedPercent")
    assert (report.tripped, report.waivable) == (tripped, True)


@pytest.mark.parametrize(
    ("before", "resolved", "missing", "tripped"),
    [
        (100.0, 790, 210, True),  # 21 % fewer, 210 values
        (100.0, 800, 200, False),
        (100.0, 60, 40, False),  # 40 values only
        (100.0, 49, 51, True),
        (30.0, 230, 770, True),
        (None, 300, 700, False),
    ],
)
def test_a_sharp_drop_of_what_resolves_since_the_last_believed_cycle(
    before: float | None, resolved: int, missing: int, tripped: bool
) -> None:
    now = column(values=resolved + missing, resolved=resolved, missing=missing)
    report = judged(now, "minResolvedPercent", Baseline(resolved + missing, before))
    assert report.tripped is tripped


def test_min_resolved_percent_zero_switches_the_guard_off() -> None:
    assert not judged(
        column(values=50, resolved=0), "minResolvedPercent", limits=Limits(min_resolved_percent=0)
    ).tripped


@pytest.mark.parametrize(
    ("values", "unparsed", "tripped"), [(100, 5, False), (100, 6, True), (20, 2, True), (19, 19, False)]
)
def test_a_column_with_values_of_an_unknown_format(values: int, unparsed: int, tripped: bool) -> None:
    report = judged(column(values=values, unparsed=unparsed), "maxUnparsedPercent")
    assert (report.tripped, report.waivable) == (tripped, True)


def test_an_undeclared_column_that_names_a_planned_object_cannot_be_waived() -> None:
    hits = [UndeclaredHit("shop", "public.audit.payload", f"a{number}.jpg", "{…}") for number in range(3)]
    (report,) = guards.apply_approval(guards.undeclared_guard(hits), approved=True)
    assert report.tripped
    assert not report.waived
    assert report.value == 3
    assert "ignoreColumns" in report.way_on
    assert not guards.refusals(guards.undeclared_guard([]))


def test_two_owners_of_one_object_cannot_be_waived() -> None:
    (report,) = guards.apply_approval([guards.overlap_guard(["policy 'other'"])], approved=True)
    assert report.tripped
    assert not report.waived
    assert not guards.overlap_guard([]).tripped


@pytest.mark.parametrize(
    ("hours", "tripped"), [(0, False), (24, False), (24.01, True), (-0.5, False), (-2, True)]
)
def test_a_plan_older_than_a_day_cannot_be_waived(hours: float, tripped: bool) -> None:
    report = guards.plan_age_guard(NOW - timedelta(hours=hours), NOW, Limits())
    assert (report.tripped, report.waivable) == (tripped, False)


@pytest.mark.parametrize(
    ("objects", "scope", "tripped"),
    [
        (100, 1000, False),  # exactly 10 %
        (101, 1000, True),
        (99, 200, False),  # fewer than 100 and under half
        (99, 198, True),  # half of the scope
        (1, 1, True),
        (1, 3, False),
        (100, 250, True),
        (0, 0, False),
    ],
)
def test_a_plan_too_large_for_its_scope(objects: int, scope: int, tripped: bool) -> None:
    facts = PlanFacts(objects=objects, bytes=0, scope_objects=scope)
    report = only(guards.cap_guards(facts, Limits()), "maxDeletePercent")
    assert (report.tripped, report.waivable) == (tripped, True)


def test_absolute_caps_are_off_by_default_and_exact_when_set() -> None:
    facts = PlanFacts(objects=11, bytes=1001, scope_objects=1000)
    assert [item.guard for item in guards.cap_guards(facts, Limits())] == ["maxDeletePercent"]
    caps = Limits(max_delete_percent=None, max_delete_objects=10, max_delete_bytes=1000)
    assert {item.guard for item in guards.refusals(guards.cap_guards(facts, caps))} == {
        "maxDeleteObjects",
        "maxDeleteBytes",
    }
    fitting = Limits(max_delete_percent=None, max_delete_objects=11, max_delete_bytes=1001)
    assert not guards.refusals(guards.cap_guards(facts, fitting))


def test_an_approval_waives_caps_drop_resolved_and_unparsed_and_nothing_else() -> None:
    bad = column(values=100, resolved=1, missing=49, unparsed=50)
    reports = [
        *guards.failed_guards({"shop": "x"}, "y"),
        guards.no_source_guard(False),
        *guards.reference_guards([column(values=0, references=0)], Limits()),
        *guards.coverage_guards([bad], Limits(), {"shop: users.avatar": Baseline(1000, 100.0)}),
        *guards.undeclared_guard([UndeclaredHit("shop", "t.c", "k", "v")]),
        guards.overlap_guard(["other"]),
        guards.plan_age_guard(NOW - timedelta(days=9), NOW, Limits()),
        *guards.cap_guards(PlanFacts(500, 500, 1000), Limits(max_delete_objects=1, max_delete_bytes=1)),
    ]
    assert all(item.tripped for item in reports)
    after = guards.apply_approval(reports, approved=True)
    assert {item.guard for item in after if item.waived} == {
        "maxReferenceDropPercent",
        "minResolvedPercent",
        "maxUnparsedPercent",
        "maxDeletePercent",
        "maxDeleteObjects",
        "maxDeleteBytes",
    }
    assert {item.guard for item in guards.refusals(after)} == guards.NEVER_WAIVED
    assert guards.apply_approval(reports, approved=False) == reports


def test_every_tripped_report_names_the_number_the_limit_and_the_way_on() -> None:
    facts = PlanFacts(objects=500, bytes=1, scope_objects=1000)
    (report,) = guards.refusals(guards.cap_guards(facts, Limits()))
    assert (report.value, report.limit) == (50.0, 10.0)
    assert "500 of the 1,000 objects" in report.message
    assert "maxDeletePercent" in report.way_on
    text = guards.refusal_message([report], digest="ab12")
    assert "ab12" in text
    assert "ab12" not in guards.refusal_message([report, guards.no_source_guard(False)], digest="ab12")


def test_caps_do_not_stop_maturity_but_trust_guards_do() -> None:
    cap = guards.cap_guards(PlanFacts(500, 1, 1000), Limits())
    trust = guards.coverage_guards([column(values=20, resolved=0)], Limits(), {})
    assert guards.trust_passed(cap)
    assert not guards.trust_passed([*cap, *trust])
    assert guards.trust_passed(guards.apply_approval([*cap, *trust], approved=True))


def test_baselines_survive_their_json_form_and_forget_columns_that_are_gone() -> None:
    stored = update_baselines([column(values=10, resolved=9, missing=1)], operation_id="01HX")
    assert load_baselines(stored) == {"shop: users.avatar": Baseline(10, 90.0)}
    assert load_baselines(update_baselines([column(values=0)], operation_id="01HY")) == {
        "shop: users.avatar": Baseline(0, None)
    }
    assert load_baselines({}) == {}
    assert load_baselines({"columns": {"a": "broken", "b": {"values": "x"}}}) == {}
