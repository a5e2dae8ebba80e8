"""A million objects and a million references in a small memory limit: exact, and spilling instead of failing."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from tests.library.plan.tables import T0, columns, config, keys_of, listing, spec

from s3gc.config import ReferenceFormat
from s3gc.inventory.listing import Inventory
from s3gc.plan.join import find_candidates
from s3gc.plan.planfile import read_plan, write_plan
from s3gc.references.reader import ReadColumn
from s3gc.references.shapes import Shape

OBJECTS = 1_000_000
#: One object in a thousand is not referenced.
ORPHANS = OBJECTS // 1000

_KEY = "'uploads/' || (i % 1000) || '/' || md5(i::VARCHAR) || '.jpg'"


def generate(work: Path, value: str, shape: Shape) -> tuple[Inventory, Path]:
    """A listing and a column of a million rows each, neither in order; `value` is SQL over `i` and `key`."""
    objects, values = work / "inventory.parquet", work / "column.parquet"
    with duckdb.connect(
        config={"threads": 2, "memory_limit": "512MB", "temp_directory": str(work / "t")}
    ) as db:
        db.execute(
            f"""COPY (
                SELECT {_KEY} AS key, 1000::BIGINT AS size, md5('e' || i) AS etag,
                       make_timestamptz(1600000000000000::BIGINT) AS last_modified,
                       'STANDARD' AS storage_class, NULL::VARCHAR AS problem
                FROM range({OBJECTS}) t(i)) TO '{objects}' (FORMAT parquet, ROW_GROUP_SIZE 50000)"""
        )
        db.execute(
            f"""COPY (
                SELECT {value} AS value, false AS is_prefix, row_number() OVER () - 1 AS row, false AS is_extra,
                       {shape.value}::UTINYINT AS shape
                FROM (SELECT i, {_KEY} AS key FROM range({OBJECTS}) t(i)) WHERE i % 1000 <> 7
                ) TO '{values}' (FORMAT parquet, ROW_GROUP_SIZE 50000)"""
        )
    return Inventory((objects,), T0, OBJECTS, OBJECTS * 1000, {}, ()), values


@pytest.mark.parametrize(
    ("column_format", "value", "shape"),
    [
        (ReferenceFormat.KEY, "'/' || key", Shape.ODD),
        (ReferenceFormat.AUTO, "key", Shape.PATH),
        (ReferenceFormat.AUTO, "'https://my-bucket.s3.amazonaws.com/' || key", Shape.ADDRESS),
        (ReferenceFormat.AUTO, "'https://cdn.example/media/' || key", Shape.ADDRESS),
        (ReferenceFormat.AUTO, "'https://my-bucket.s3.amazonaws.com/' || key || '?v=2'", Shape.ODD),
    ],
    ids=["key", "path", "own-address", "undeclared-address", "odd"],
)
async def test_a_million_by_a_million_in_128_mb_is_exact(
    tmp_path: Path, column_format: ReferenceFormat, value: str, shape: Shape
) -> None:
    inventory, values = generate(tmp_path, value, shape)
    column = ReadColumn(spec(fmt=column_format), (values,), OBJECTS - ORPHANS)
    found = await find_candidates(
        inventory, [column], config=config(memory_limit_mb=128), work=tmp_path / "join"
    )
    assert (found.counts.scanned, found.counts.candidates) == (OBJECTS, ORPHANS)
    assert (found.coverage[0].resolved, found.coverage[0].missing) == (OBJECTS - ORPHANS, 0)
    plan = write_plan([found.candidates], tmp_path / "plan.parquet", work=tmp_path, memory_limit_mb=64)
    with duckdb.connect() as db:
        expected = db.execute(
            f"SELECT {_KEY} FROM range({OBJECTS}) t(i) WHERE i % 1000 = 7 ORDER BY 1"
        ).fetchall()
    assert [item.key for batch in read_plan(plan.path) for item in batch] == [row[0] for row in expected]


@pytest.mark.parametrize("paragraphs", [10, 200, 3_000], ids=["700 B", "12 kB", "200 kB"])
async def test_documents_much_larger_than_the_memory_limit_fit_through_it(
    tmp_path: Path, paragraphs: int
) -> None:
    page = "<p>lorem ipsum dolor sit amet</p>" * paragraphs
    count = 100 if paragraphs > 1_000 else 2_000
    values = (f'{page}<img src="/k/{number}.jpg">{page}' for number in range(count))
    inventory = listing(tmp_path, [f"k/{number}.jpg" for number in range(count + 10)])
    read = await columns(tmp_path, (spec(), list(values)))
    found = await find_candidates(
        inventory, read, config=config(memory_limit_mb=64), work=tmp_path / "join", sample_values=100
    )
    assert keys_of(found.candidates) == [f"k/{number}.jpg" for number in range(count, count + 10)]
    assert found.coverage[0].resolved == count
