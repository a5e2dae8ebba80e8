"""Worlds for deletions: a bucket on each store, a database, and what lies in the bucket version by version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.world import World
from tests.library.sweep.users import Act, temporary_user
from tests.testbed.services import Postgres, S3Server, make_bucket

NewWorld = Callable[..., Awaitable[World]]


@pytest.fixture
def new_world(
    postgres: Postgres,
    credentials: Callable[[S3Server], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> NewWorld:
    """``await new_world(server, versioning=True, lock=False)``: a world whose credentials are the store's own."""

    async def make(server: S3Server, *, versioning: bool = True, lock: bool = False) -> World:
        credentials(server)
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)  # of a user that an earlier world was for
        world = World(server, await postgres.fresh_database(), tmp_path / "vault", versioning=versioning)
        await world.begin()
        if lock:
            world.bucket = make_bucket(server, lock=True)
        return world

    return make


@pytest.fixture
def act_as(monkeypatch: pytest.MonkeyPatch) -> Act:
    """``act_as(minio, *statements)`` (see `users`): what runs from here on may do only that."""

    def use(server: S3Server, *statements: dict[str, Any]) -> None:
        for name, value in temporary_user(server, *statements).items():
            monkeypatch.setenv(name, value)

    return use
