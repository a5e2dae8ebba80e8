"""A page of a plan is exactly what a sorted list would give, whatever the keys, the prefix and the place."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.integrations.admin import plans
from s3gc.plan.planfile import PLAN_SCHEMA

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = st.text(st.sampled_from("ab/é\U0001f600 �%_"), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.sets(KEYS, max_size=40),
    st.none() | KEYS,
    st.none() | KEYS,
    st.integers(1, 12),
    st.integers(1, 9),
)
def test_a_page_is_a_part_of_the_sorted_keys(
    keys: set[str], after: str | None, prefix: str | None, limit: int, batch: int
) -> None:
    ordered = sorted(keys, key=str.encode)
    rows = [
        {
            "key": key,
            "etag": '"e"',
            "size": len(key),
            "last_modified": NOW,
            "storage_class": "STANDARD",
            "first_listed": NOW,
            "first_unreferenced": None,
        }
        for key in ordered
    ]
    wanted = [
        key
        for key in ordered
        if (after is None or key.encode() > after.encode()) and key.startswith(prefix or "")
    ]
    kept = plans._KEYS_AT_ONCE
    plans._KEYS_AT_ONCE = batch  # the seams between batches are where a page could go wrong
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA), path, row_group_size=5)
            objects, size, page, is_last = plans._rows(path, limit, after, prefix)
    finally:
        plans._KEYS_AT_ONCE = kept
    assert [row["key"] for row in page] == wanted[:limit]
    assert is_last is (len(wanted) <= limit)
    assert (objects, size) == (len(ordered), sum(map(len, ordered)))
