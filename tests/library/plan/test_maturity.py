"""The memory between cycles: what may be judged, and for how long it must have been unreferenced."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.library.plan.tables import DAY, T0, Thing, config, listing

from s3gc.plan.duck import open_session, table_of
from s3gc.plan.maturity import STATE_SCHEMA, is_ripe, next_state
from s3gc.plan.planfile import PLAN_SCHEMA
from s3gc.plan.scope import IN_SCOPE, ScopeCounts, Verdict, classify

SECOND = timedelta(seconds=1)


def verdicts(
    work: Path, things: list[Thing], *, t0: datetime = T0, state: Path | None = None, **policy: object
) -> tuple[dict[str, Verdict], ScopeCounts]:
    inventory = listing(work, things, t0=t0)
    out = work / "classified.parquet"
    with open_session(work, memory_limit_mb=64) as session:
        objects = classify(session, inventory.files, work, config=config(**policy), t0=t0, state=state)
        session.copy(f"SELECT * FROM {objects.all}", out)
        assert session.rows(f"SELECT key, oid FROM {objects.keys} ORDER BY oid") == session.rows(
            f"SELECT key, oid FROM {objects.all} ORDER BY oid"
        )
    rows = pq.read_table(out).to_pylist()
    return {row["key"]: Verdict(row["verdict"]) for row in rows}, objects.counts


def test_each_object_has_the_verdict_that_comes_first(tmp_path: Path) -> None:
    found, counts = verdicts(
        tmp_path,
        [
            Thing("u/old"),
            Thing("u/young", age=6 * DAY),
            Thing("u/legal/old"),
            Thing("u/legal/"),
            Thing("u//x"),
            Thing("v/old"),
            Thing(".s3gc/claims/x"),
        ],
        prefixes=("u/",),
        exclude_prefixes=("u/legal/",),
    )
    assert found == {
        "u/old": Verdict.JUDGED,
        "u/young": Verdict.YOUNG,
        "u/legal/old": Verdict.EXCLUDED,
        "u/legal/": Verdict.EXCLUDED,
        "u//x": Verdict.NOT_ACTIONABLE,
        "v/old": Verdict.OUTSIDE,
        ".s3gc/claims/x": Verdict.OUTSIDE,
    }
    assert counts == ScopeCounts(
        scanned=5, bytes=50, judged=1, young=1, excluded=2, not_actionable=1, listed=7
    )


def test_prefixes_are_compared_byte_for_byte(tmp_path: Path) -> None:
    found, _ = verdicts(
        tmp_path,
        [Thing("caf\u00e9/a"), Thing("cafe\u0301/a"), Thing("Caf\u00e9/a"), Thing("100%/a"), Thing("1000/a")],
        prefixes=("caf\u00e9/", "100%"),
    )
    inside = {key for key, verdict in found.items() if verdict is Verdict.JUDGED}
    assert inside == {"caf\u00e9/a", "100%/a"}


def test_the_reserved_prefix_is_never_in_a_scope_of_the_whole_bucket(tmp_path: Path) -> None:
    found, counts = verdicts(tmp_path, [Thing(".s3gc/probe/x"), Thing("a")])
    assert found[".s3gc/probe/x"] is Verdict.OUTSIDE
    assert (counts.scanned, counts.listed) == (1, 2)


@pytest.mark.parametrize(
    ("age", "retention_days", "verdict"),
    [
        (7 * DAY, 7, Verdict.YOUNG),  # exactly: not yet before the cutoff
        (7 * DAY + SECOND, 7, Verdict.JUDGED),
        (7 * DAY - SECOND, 7, Verdict.YOUNG),
        (SECOND, 0, Verdict.JUDGED),
        (0 * DAY, 0, Verdict.YOUNG),
        (-DAY, 0, Verdict.YOUNG),  # from the store's future
        (12 * 3600 * SECOND + SECOND, 0.5, Verdict.JUDGED),
    ],
)
def test_the_age_is_measured_from_the_stores_own_time(
    tmp_path: Path, age: timedelta, retention_days: float, verdict: Verdict
) -> None:
    found, _ = verdicts(tmp_path, [Thing("a", age=age)], retention_days=retention_days)
    assert found["a"] is verdict


def state(path: Path, *rows: tuple[Thing, datetime, datetime | None]) -> Path:
    table = [
        {
            "key": thing.key,
            "etag": thing.etag,
            "size": thing.size,
            "last_modified": T0 - thing.age,
            "first_listed": listed,
            "first_unreferenced": unreferenced,
        }
        for thing, listed, unreferenced in rows
    ]
    pq.write_table(pa.Table.from_pylist(table, schema=STATE_SCHEMA), path)
    return path


@pytest.mark.parametrize(
    ("first_listed", "verdict"),
    [
        (None, Verdict.YOUNG),  # seen for the first time: it may have been completed a minute ago
        (T0 - 6 * DAY, Verdict.YOUNG),
        (T0 - 7 * DAY, Verdict.JUDGED),
    ],
)
def test_a_multipart_object_ages_from_the_first_listing_that_saw_it(
    tmp_path: Path, first_listed: datetime | None, verdict: Verdict
) -> None:
    thing = Thing("video.mp4", etag="9bb58f26192e4ba00f01e2e7b136bbd8-17", age=300 * DAY)
    known = state(tmp_path / "s", (thing, first_listed, None)) if first_listed else None
    found, _ = verdicts(tmp_path, [thing], state=known)
    assert found["video.mp4"] is verdict


def test_a_multipart_object_that_was_replaced_ages_anew(tmp_path: Path) -> None:
    before = Thing("video.mp4", etag="9bb58f26192e4ba00f01e2e7b136bbd8-17", age=300 * DAY)
    known = state(tmp_path / "s", (before, T0 - 100 * DAY, None))
    for now in (
        Thing("video.mp4", etag="0-1", age=300 * DAY),
        Thing("video.mp4", etag=before.etag, age=299 * DAY),
    ):
        found, _ = verdicts(tmp_path, [now], state=known)
        assert found["video.mp4"] is Verdict.YOUNG


def test_without_retention_days_a_multipart_object_is_judged_at_once(tmp_path: Path) -> None:
    found, _ = verdicts(tmp_path, [Thing("v", etag="ab-2")], retention_days=0)
    assert found["v"] is Verdict.JUDGED


def advance(
    work: Path, things: list[Thing], candidates: dict[str, datetime], last: Path | None, *, t0: datetime = T0
) -> dict[str, tuple[datetime, datetime | None]]:
    """One cycle that found `candidates` (key -> first_unreferenced) unreferenced; the state after it."""
    verdicts(work, things, t0=t0, state=last)
    objects = pq.read_table(work / "classified.parquet").to_pylist()
    first_listed = {row["key"]: row["first_listed"] for row in objects}
    rows = [
        {
            "key": thing.key,
            "etag": thing.etag,
            "size": thing.size,
            "last_modified": T0 - thing.age,
            "storage_class": "STANDARD",
            "first_listed": first_listed[thing.key],
            "first_unreferenced": candidates[thing.key],
        }
        for thing in things
        if thing.key in candidates
    ]
    found = work / "candidates.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA), found)
    with open_session(work, memory_limit_mb=64) as session:
        next_state(
            session,
            table_of([work / "classified.parquet"]),
            [found],
            work / "next.parquet",
            t0=t0,
            in_scope=IN_SCOPE,
        )
    table = pq.read_table(work / "next.parquet")
    assert table.schema.names == STATE_SCHEMA.names
    return {row["key"]: (row["first_listed"], row["first_unreferenced"]) for row in table.to_pylist()}


def test_the_state_remembers_what_is_unreferenced_and_every_multipart_object(tmp_path: Path) -> None:
    things = [
        Thing("orphan"),
        Thing("used"),
        Thing("video", etag="ab-2"),
        Thing("young-video", etag="cd-2", age=DAY),
    ]
    after = advance(tmp_path, things, {"orphan": T0}, None)
    assert after == {"orphan": (T0, T0), "video": (T0, None), "young-video": (T0, None)}


def test_first_times_are_kept_and_a_reference_resets_the_clock(tmp_path: Path) -> None:
    orphan, found_again = Thing("orphan"), Thing("found-again")
    last = state(
        tmp_path / "s",
        (orphan, T0 - 9 * DAY, T0 - 3 * DAY),
        (found_again, T0 - 9 * DAY, T0 - 3 * DAY),
        (Thing("gone"), T0 - 9 * DAY, T0 - 3 * DAY),
    )
    after = advance(tmp_path, [orphan, found_again], {"orphan": T0 - 3 * DAY}, last)
    assert after == {"orphan": (T0 - 9 * DAY, T0 - 3 * DAY)}


@pytest.mark.parametrize(
    ("since", "days", "ripe"),
    [
        (T0, 0, True),
        (None, 0, True),
        (None, 1, False),
        (T0 - DAY, 1, True),
        (T0 - DAY + SECOND, 1, False),
        (T0 - 2 * DAY, 1, True),
        (T0 + DAY, 0, False),  # the clock went backwards: wait
    ],
)
def test_an_object_is_ripe_after_so_many_days_without_a_reference(
    since: datetime | None, days: float, ripe: bool
) -> None:
    assert is_ripe(since, T0, days) is ripe
