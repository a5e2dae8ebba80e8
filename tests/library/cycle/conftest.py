"""Worlds on real servers: which store, which database."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.rows import MariaRows, PostgresRows, Rows, SqliteRows
from tests.library.cycle.runner import Runner, start_runner
from tests.library.cycle.story import Story, environment_of
from tests.library.cycle.world import World
from tests.testbed.s3servers import make_bucket
from tests.testbed.services import S3Server

#: Soak tests share S3GC_SOAK_MINUTES: three of writers, and the kills, which get three parts.
SOAK_PARTS = 6
#: Each store and each database twice; every pair would only take longer.
PAIRS = [("minio", "postgres"), ("versitygw", "sqlite"), ("minio", "mariadb")]


async def fresh_rows(request: pytest.FixtureRequest, database: str, folder: Path) -> Rows:
    if database == "sqlite":
        return await SqliteRows.fresh(folder / "rows.sqlite")
    server = request.getfixturevalue(database)
    return await (PostgresRows if database == "postgres" else MariaRows).fresh(server)


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def world(
    request: pytest.FixtureRequest, credentials: Callable[[S3Server], None], tmp_path: Path
) -> World:
    """A versioned bucket on each store, and each database."""
    store, database = request.param
    server: S3Server = request.getfixturevalue(store)
    credentials(server)
    rows = await fresh_rows(request, database, tmp_path)
    return await World(server, rows, tmp_path / "vault").begin()


@pytest.fixture(scope="session")
def runner(testbed_home: object) -> Iterator[Runner]:
    """Runs cycles in processes of their own."""
    with start_runner() as started:
        yield started


@pytest.fixture
def make_story(
    request: pytest.FixtureRequest,
    runner: Runner,
    credentials: Callable[[S3Server], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[int, tuple[str, bool, str, str]], Callable[[], Coroutine[Any, Any, Story]]]:
    """``make_story(seed, world)`` gives what makes the story of that seed, in a world of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def of(seed: int, chosen: tuple[str, bool, str, str]) -> Callable[[], Coroutine[Any, Any, Story]]:
        store, versioned, database, vault = chosen
        server: S3Server = request.getfixturevalue(store)
        if database != "sqlite":
            request.getfixturevalue(database)  # a running loop could not

        async def make() -> Story:
            credentials(server)
            folder = tmp_path / f"{seed}-{time.monotonic_ns()}"
            folder.mkdir()
            rows = await fresh_rows(request, database, folder)
            world = await World(server, rows, folder / "vault", versioning=versioned).begin()
            chance = random.Random(seed)
            settings = {
                "prefixes": ["s/"],
                "exclude_prefixes": ["s/legal/"],
                "limits": {
                    "max_delete_percent": None, "max_reference_drop_percent": 100,
                    "min_resolved_percent": 0, "min_references": 0,
                },
                "restore_hold_days": chance.choice([0, 30]),
                "canary_objects": chance.choice([1, 3]),
                "group_objects": chance.choice([2, 5]),
                "pack_size_bytes": 64 * 1024,
                "concurrency": 4,
                "barrier_timeout_seconds": 0.5,
            }  # fmt: skip
            if vault == "s3":
                settings["vault_path"] = f"s3://{make_bucket(server)}/vault"
                settings["vault_endpoint_url"] = server.endpoint
                settings["vault_path_style"] = True
            return Story(world, runner, settings, environment_of(world, folder))

        return make

    return of


@pytest.fixture
def soak_seconds() -> float:
    """One part of the time that the soak tests have; without S3GC_SOAK_MINUTES as long as their numbers take."""
    return float(os.environ.get("S3GC_SOAK_MINUTES", "inf")) * 60 / SOAK_PARTS
