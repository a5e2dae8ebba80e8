"""When a cycle is due: the clock, the schedule, the promise; nothing that happened, or did not, in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.controller.made import at

from s3gc.schedule import ScheduleError, Timetable, judge

NIGHTLY = Timetable("30 2 * * *", "UTC")


def times(timetable: Timetable, start: str, count: int) -> list[str]:
    found, moment = [], at(start)
    for _ in range(count):
        moment = timetable.after(moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


# --- what is due


@pytest.mark.parametrize(
    ("now", "promised", "due", "missed", "upcoming"),
    [
        ("02:29", "02:30", None, 0, "02:30"),
        ("02:30", "02:30", "02:30", 0, "2026-11-24 02:30"),
        ("02:31", "02:30", "02:30", 0, "2026-11-24 02:30"),
        # asleep for days: once, and for the last time that passed
        ("12:00", "2026-11-20 02:30", "02:30", 3, "2026-11-24 02:30"),
        # nobody promised anything for a time that passed
        ("12:00", None, None, 0, "2026-11-24 02:30"),
    ],
)
def test_a_promise_that_has_passed_is_kept_once(
    now: str, promised: str | None, due: str | None, missed: int, upcoming: str
) -> None:
    verdict = judge(at(now), NIGHTLY, promised=at(promised) if promised else None)
    assert verdict.due == (at(due) if due else None)
    assert verdict.missed == missed
    assert verdict.upcoming == at(upcoming)
    assert verdict.promised == (at(promised) if due and promised else at(upcoming))


def test_a_new_policy_is_meant_from_its_creation_on() -> None:
    created = at("02:00")
    assert judge(at("02:10"), NIGHTLY, promised=None, created=created).due is None
    assert judge(at("02:40"), NIGHTLY, promised=None, created=created).due == at("02:30")


@pytest.mark.parametrize("now", ["02:30", "12:00", "23:59"])
def test_an_edited_schedule_starts_nothing_for_an_hour_that_has_passed(now: str) -> None:
    later = Timetable("0 10 * * *", "UTC")
    verdict = judge(at(now), later, promised=at("02:30"))
    assert verdict.due is None
    assert verdict.promised == later.after(at(now))


def test_a_suspension_is_not_caught_up() -> None:
    suspended = judge(at("12:00"), NIGHTLY, promised=at("02:30"), suspended=True)
    assert (suspended.due, suspended.too_late) == (None, None)
    assert suspended.promised == at("2026-11-24 02:30")
    resumed = judge(at("12:01"), NIGHTLY, promised=suspended.promised)
    assert resumed.due is None


@pytest.mark.parametrize(("now", "is_due"), [("03:30", True), ("03:31", False)])
def test_what_could_not_start_within_its_deadline_is_left_out(now: str, is_due: bool) -> None:
    verdict = judge(at(now), NIGHTLY, promised=at("02:30"), deadline_seconds=3600)
    assert (verdict.due is not None) == is_due
    assert (verdict.too_late is not None) != is_due
    assert verdict.upcoming == at("2026-11-24 02:30")
    assert verdict.promised == (at("02:30") if is_due else verdict.upcoming)


def test_a_promise_beyond_the_next_time_came_from_a_wrong_clock() -> None:
    verdict = judge(at("02:00"), NIGHTLY, promised=at("2030-01-01 02:30"))
    assert verdict.promised == at("02:30")


def test_a_month_of_every_minute_is_one_catch_up_and_is_found_fast() -> None:
    every_minute = Timetable("* * * * *", "UTC")
    verdict = judge(at("2026-12-23 02:30"), every_minute, promised=at("2026-11-23 02:30"))
    assert verdict.due == at("2026-12-23 02:30")
    assert verdict.missed >= 500


# --- daylight saving, in Berlin: 2026-03-29 has no 02:30, 2026-10-25 has two


def test_a_time_that_does_not_exist_runs_once_right_after_the_gap() -> None:
    berlin = Timetable("30 2 * * *", "Europe/Berlin")
    assert times(berlin, "2026-03-27 12:00", 3) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_a_time_that_comes_twice_runs_once() -> None:
    berlin = Timetable("30 2 * * *", "Europe/Berlin")
    assert times(berlin, "2026-10-24 12:00", 2) == ["10-25 00:30", "10-26 01:30"]


def test_every_hour_is_every_hour_whatever_the_clocks_do() -> None:
    berlin = Timetable("0 * * * *", "Europe/Berlin")
    assert times(berlin, "2026-10-24 22:30", 5) == [
        f"10-{d} {h:02}:00" for d, h in ((24, 23), *((25, h) for h in range(4)))
    ]
    assert times(berlin, "2026-03-28 23:30", 3) == ["03-29 00:00", "03-29 01:00", "03-29 02:00"]


def test_a_day_is_that_of_the_zone() -> None:
    assert times(Timetable("0 0 1 * *", "Pacific/Auckland"), "2026-11-23 00:00", 1) == ["11-30 11:00"]


def test_hours_and_minutes_are_a_daily_schedule() -> None:
    assert Timetable("02:30", "UTC").expression == NIGHTLY.expression


@pytest.mark.parametrize(
    ("expression", "zone", "why"),
    [
        ("30 2 * *", "UTC", "five fields"),
        ("0 30 2 * * *", "UTC", "five fields"),
        ("61 2 * * *", "UTC", "not a schedule"),
        ("0 0 30 2 *", "UTC", "not a schedule"),
        ("25:99x", "UTC", "not a schedule"),
        ("30 2 * * *", "Europe/Atlantis", "not a time zone"),
        ("30 2 * * *", "../../etc/passwd", "not a time zone"),
    ],
)
def test_what_means_nothing_is_said(expression: str, zone: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=why):
        Timetable(expression, zone)


# --- whatever the schedule and the hour


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"])
SCHEDULES = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 2 * * *", "15 1,2,3 * * *", "0 0 * * 0", "5 4 1 * *"]
)
MOMENTS = st.integers(0, 2 * 365 * 86400).map(
    lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)


@settings(deadline=None)
@given(SCHEDULES, ZONES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_time_that_passes_starts_each_time_at_most_once_and_never_a_future_one(
    expression: str, zone: str, start: datetime, asleep: timedelta
) -> None:
    timetable = Timetable(expression, zone)
    first = judge(start, timetable, promised=None)
    now = start + asleep
    verdict = judge(now, timetable, promised=first.promised)
    assert verdict.upcoming > now
    if verdict.due is None:
        assert first.promised > now
    else:
        assert first.promised <= verdict.due <= now
        assert timetable.has(verdict.due)
        assert timetable.after(verdict.due) > now
        again = judge(now, timetable, promised=verdict.upcoming)
        assert again.due is None
