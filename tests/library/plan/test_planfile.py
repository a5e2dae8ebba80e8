"""Plans on disk: sorted by bytes, named by a digest, smaller but never larger when they are resumed."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.library.plan.tables import DAY, T0

from s3gc.exceptions import S3GCError, VaultCorruptedError
from s3gc.plan.digest import PlanDigest
from s3gc.plan.planfile import PLAN_SCHEMA, intersect, read_plan, summarise, write_plan
from s3gc.vault.records import PlannedObject

ODD = [
    "a",
    "A",
    "a ",
    " a",
    "a\n",
    "a\x01b",
    "a\x7fb",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "\U0001f600/emoji.jpg",
    "\uffff/last-of-the-plane.jpg",
    "it's 'quoted'",
    'say "so"',
    "50%25 off",
    "a/b*?[c]",
    "\u202eright-to-left",
]


def planned(key: str, **changes: object) -> PlannedObject:
    return replace(PlannedObject(key, "etag", 5, T0 - 9 * DAY, "STANDARD", T0 - 2 * DAY), **changes)  # type: ignore[arg-type]  # fields by name


def candidates(path: Path, *objects: PlannedObject) -> Path:
    rows = [
        {name: getattr(item, name, None) for name in PLAN_SCHEMA.names}
        | {"first_listed": item.first_unreferenced}
        for item in objects
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA), path)
    return path


def test_a_plan_is_sorted_by_the_bytes_of_its_keys_whatever_they_are(tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(ODD, len(ODD))
    given = candidates(tmp_path / "c.parquet", *(planned(key) for key in shuffled))
    plan = write_plan([given], tmp_path / "plan.parquet", work=tmp_path, memory_limit_mb=64)
    read = [item for batch in read_plan(plan.path, 3) for item in batch]
    assert [item.key for item in read] == sorted(ODD, key=str.encode)
    assert read == [planned(key) for key in sorted(ODD, key=str.encode)]
    digest = PlanDigest()
    for item in read:
        digest.add(item.key, item.etag, item.size, item.last_modified)
    assert (plan.objects, plan.bytes, plan.digest) == (len(ODD), 5 * len(ODD), digest.hexdigest())
    assert summarise(plan.path) == plan


def test_the_order_of_the_candidates_does_not_change_the_digest(tmp_path: Path) -> None:
    digests = set()
    for seed in range(3):
        shuffled = random.Random(seed).sample(ODD, len(ODD))
        files = [
            candidates(tmp_path / f"{seed}-{part}.parquet", *(planned(key) for key in shuffled[part::2]))
            for part in range(2)
        ]
        digests.add(write_plan(files, tmp_path / f"p{seed}", work=tmp_path, memory_limit_mb=64).digest)
    assert len(digests) == 1


def test_only_what_is_ripe_is_planned(tmp_path: Path) -> None:
    given = candidates(
        tmp_path / "c.parquet",
        planned("edge", first_unreferenced=T0 - DAY),
        planned("ripe", first_unreferenced=T0 - 2 * DAY),
        planned("waiting", first_unreferenced=T0),
    )
    plan = write_plan([given], tmp_path / "p", work=tmp_path, memory_limit_mb=64, ripe_since=T0 - DAY)
    assert [item.key for batch in read_plan(plan.path) for item in batch] == ["edge", "ripe"]


def test_pages_of_a_plan_start_after_a_key(tmp_path: Path) -> None:
    given = candidates(tmp_path / "c.parquet", *(planned(key) for key in "abcde"))
    plan = write_plan([given], tmp_path / "p", work=tmp_path, memory_limit_mb=64)
    batches = [[item.key for item in batch] for batch in read_plan(plan.path, 2, start_after="b")]
    assert [key for batch in batches for key in batch] == ["c", "d", "e"]


def test_an_empty_plan_is_a_plan(tmp_path: Path) -> None:
    plan = write_plan([candidates(tmp_path / "c")], tmp_path / "p", work=tmp_path, memory_limit_mb=64)
    assert (plan.objects, plan.bytes, list(read_plan(plan.path))) == (0, 0, [])


@pytest.mark.parametrize(
    "now",
    [
        {"etag": "other"},
        {"size": 6},
        {"last_modified": T0 - 8 * DAY},
        {"last_modified": (T0 - 9 * DAY).replace(microsecond=1)},
    ],
)
def test_an_approved_plan_loses_what_is_another_object_by_now(tmp_path: Path, now: dict[str, object]) -> None:
    stored = candidates(tmp_path / "stored", planned("a"), planned("b"))
    today = candidates(tmp_path / "today", planned("a"), planned("b", **now))
    plan = intersect(stored, [today], tmp_path / "p", work=tmp_path, memory_limit_mb=64)
    assert [item.key for batch in read_plan(plan.path) for item in batch] == ["a"]


def test_an_approved_plan_loses_what_is_referenced_now_and_gains_nothing(tmp_path: Path) -> None:
    stored = candidates(tmp_path / "stored", *(planned(key) for key in ("a", "b", "caf\u00e9")))
    waited: datetime = T0 - DAY
    today = candidates(
        tmp_path / "today",
        *(planned(key, first_unreferenced=waited) for key in ("a", "c", "A", "cafe\u0301")),
    )
    plan = intersect(stored, [today], tmp_path / "p", work=tmp_path, memory_limit_mb=64)
    assert [item for batch in read_plan(plan.path) for item in batch] == [planned("a")]


def test_a_key_that_comes_twice_is_never_planned(tmp_path: Path) -> None:
    given = candidates(tmp_path / "c", planned("a"), planned("a", etag="other"))
    with pytest.raises(S3GCError, match="not strictly sorted"):
        write_plan([given], tmp_path / "p", work=tmp_path, memory_limit_mb=64)
    assert not (tmp_path / "p").exists()


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(VaultCorruptedError, match="cannot be read"):
        list(read_plan(tmp_path / "junk"))
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other")
    with pytest.raises(VaultCorruptedError, match="no column"):
        list(read_plan(tmp_path / "other"))
