"""A cycle over a million keys: a dry run through the library, exact to the key, in the memory that it was given."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from benchmarks import corpus, liststub
from tests.stub.server import BUCKET
from tests.testbed.services import Postgres

from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
from s3gc.plan.planfile import read_plan

OBJECTS = 1_000_000

#: Most rows hold a plain address; of every hundred a few are written otherwise. `k` is the key, `n` the row's number.
VALUE = f"""
    CASE n % 100
        WHEN 1 THEN k
        WHEN 2 THEN '/' || k
        WHEN 3 THEN '{corpus.CDN}' || k || '?v=' || n
        WHEN 4 THEN 'https://old-cdn.example/' || replace(k, '/', '%2F')
        WHEN 5 THEN '{{"image": {{"src": "' || replace(k, '/', '\\/') || '"}}, "id": ' || n || '}}'
        ELSE '{corpus.CDN}' || k END
"""


async def test_a_dry_run_over_a_million_keys_finds_exactly_the_orphans(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stub")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stub")
    dsn = await postgres.fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute(corpus.rows_sql("files", OBJECTS, VALUE))
    await connection.close()
    with liststub.start(OBJECTS) as endpoint:
        config = create_config(
            bucket=BUCKET,
            endpoint_url=endpoint,
            database_url=dsn,
            tables={"files": ["value"]},
            base_urls=[{"url": corpus.CDN}],
            vault_path=str(tmp_path / "vault"),
            work_dir=str(tmp_path / "work"),
            retention_days=0,
            unreferenced_days=0,
            limits={"max_delete_percent": 50},
        )
        state = await initialize_gc_state(config)
        try:
            result = await run_gc_cycle(config, state)
        finally:
            await shutdown_gc_state(state)
    expected = [corpus.key(number) for number in range(OBJECTS) if corpus.is_orphan(number)]
    assert (result.outcome, result.errors) == ("Succeeded", [])
    assert (result.total_scanned, result.candidates_found) == (OBJECTS, len(expected))
    assert result.total_bytes == sum(1000 + number % 1048576 for number in range(OBJECTS))
    (column,) = result.coverage
    assert (column.values, column.resolved, column.missing) == (
        OBJECTS,
        OBJECTS - len(expected),
        len(expected),
    )
    plan = tmp_path / "vault" / "operations" / result.operation_id / "plan.parquet"
    assert [item.key for batch in read_plan(plan, 10_000) for item in batch] == expected
    assert not list((tmp_path / "work").iterdir())
