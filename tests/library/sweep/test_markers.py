"""Markers are proven in batches: whatever is uploaded at whatever moment is there when the cycle ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import audit, kinds, versions
from tests.testbed.services import S3Server

from s3gc.exceptions import ListingError
from s3gc.results import Outcome
from s3gc.store.bucket import Bucket
from s3gc.store.types import DeleteAnswer
from s3gc.sweep import markers

KEYS = [f"uploads/{number:04d}.bin" for number in range(160)]
BODIES = {key: key.encode() for key in KEYS}
#: Neighbours, the first and last of a batch, and the very last.
RACED = [KEYS[number] for number in (3, 4, 5, 60, 127, 128, 159)]

KEPT = "uploads/kept.bin"

Delete = Callable[..., Awaitable[DeleteAnswer]]


@pytest.fixture
def around_delete(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Delete, str], Any]], None]:
    """``around_delete(act)``: `act(delete, key)` in place of each DELETE of a current object."""
    real = Bucket.delete

    def use(act: Callable[[Delete, str], Awaitable[DeleteAnswer]]) -> None:
        async def delete(self: Bucket, key: str, **options: Any) -> DeleteAnswer:
            async def send() -> DeleteAnswer:
                return await real(self, key, **options)

            if options.get("version_id") is not None or key.startswith(".s3gc/"):
                return await send()
            return await act(send, key)

        monkeypatch.setattr(Bucket, "delete", delete)

    return use


async def _world(new_world: NewWorld, server: S3Server) -> World:
    world = await new_world(server)
    await world.upload({**BODIES, KEPT: b"kept"})
    await world.reference([KEPT])
    return world


def _present(world: World) -> dict[str, bytes]:
    """What is visible now, but for the one object that a row names."""
    present = world.present()
    assert present.pop(KEPT) == b"kept"
    return present


def _put(world: World, key: str, body: bytes) -> str:
    return str(world.client.put_object(Bucket=world.bucket, Key=key, Body=body)["VersionId"])


async def test_neighbours_are_proven_by_a_few_pages(minio: S3Server, new_world: NewWorld) -> None:
    world = await _world(new_world, minio)
    result = await world.run(world.config(canary_objects=20))
    assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, len(KEYS)), result.errors
    assert _present(world) == {}
    assert result.requests["DeleteObject"] - len(KEYS) < 20  # the probe's
    assert result.requests["ListObjectVersions"] < 20
    deleted = {r.key: r.marker_version_id for r in await audit(world, result.operation_id)}
    for key in RACED:
        (kind, marker), (below, _) = versions(world, key)
        assert (kind, below, marker) == ("marker", "object", deleted[key])


@pytest.mark.parametrize("same_bytes", [False, True], ids=["other bytes", "the same bytes"])
async def test_what_is_uploaded_just_before_the_delete_is_there_again_at_once(
    same_bytes: bool, s3: S3Server, new_world: NewWorld, around_delete: Any
) -> None:
    world = await _world(new_world, s3)
    newer: dict[str, str] = {}

    async def upload_first(delete: Any, key: str) -> DeleteAnswer:
        if key in RACED:
            newer[key] = await asyncio.to_thread(_put, world, key, BODIES[key] if same_bytes else b"newer")
        return await delete()

    around_delete(upload_first)
    result = await world.run(world.config(canary_objects=1))
    assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, len(KEYS) - len(RACED)), (
        result.errors
    )
    assert result.skipped == {"replaced": len(RACED)}
    assert set(_present(world)) == set(newer) == set(RACED)
    for key, version in newer.items():
        assert versions(world, key)[0] == ("object", version)


async def test_what_is_uploaded_above_our_marker_stays_as_it_is(
    s3: S3Server, new_world: NewWorld, around_delete: Any
) -> None:
    world = await _world(new_world, s3)

    async def upload_after(delete: Any, key: str) -> DeleteAnswer:
        answer: DeleteAnswer = await delete()
        if key in RACED:
            await asyncio.to_thread(_put, world, key, b"newer")
        return answer

    around_delete(upload_after)
    result = await world.run(world.config(canary_objects=1))
    assert result.deleted_count == len(KEYS) - len(RACED)
    assert _present(world) == dict.fromkeys(RACED, b"newer")


async def test_a_delete_that_was_sent_twice_is_not_taken_for_somebody_elses(
    s3: S3Server, new_world: NewWorld, around_delete: Any
) -> None:
    """The first answer is lost, and the second is a 404 or 412 about what the first did (AWS), or another marker."""
    world = await _world(new_world, s3)

    async def twice(delete: Any, key: str) -> DeleteAnswer:
        answer: DeleteAnswer = await delete()
        if key in RACED:
            answer = DeleteAnswer(404 if key < KEYS[64] else 412, False, None, is_repeated=True)
        return answer

    around_delete(twice)
    result = await world.run(world.config(canary_objects=1))
    assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, len(KEYS)), result.errors
    assert result.skipped == {}
    assert _present(world) == {}


async def test_a_marker_that_cannot_be_proven_is_looked_at_before_the_cycle_ends(
    minio: S3Server, new_world: NewWorld, around_delete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await _world(new_world, minio)
    uploaded = await _hide_newer_data(world, around_delete)
    unanswered = dict.fromkeys(RACED, 1)
    _no_versions(monkeypatch, unanswered)
    result = await world.run(world.config(canary_objects=1))
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert uploaded  # once a proof is missing no further DELETE is sent, so perhaps not all of them
    assert {key: _present(world)[key] for key in uploaded} == dict.fromkeys(uploaded, b"newer")
    assert not any(unanswered[key] for key in uploaded)


async def test_a_marker_that_cannot_be_proven_all_cycle_long_is_looked_at_by_the_next(
    minio: S3Server, new_world: NewWorld, around_delete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await _world(new_world, minio)
    await _hide_newer_data(world, around_delete)
    unanswered = dict.fromkeys(RACED, 1000)
    _no_versions(monkeypatch, unanswered)
    result = await world.run(world.config(canary_objects=1))
    assert (result.outcome, result.verified) == (Outcome.PARTIALLY_FAILED, False)
    assert any("may still hide a newer version" in error for error in result.errors), result.errors
    assert not set(RACED) <= set(_present(world))
    unanswered.update(dict.fromkeys(RACED, 0))
    again = await world.run()
    assert again.outcome in (Outcome.SUCCEEDED, Outcome.PARTIALLY_FAILED)
    for key in RACED:  # uncovered by recovery, and then judged as the new objects that they are
        assert "object" in kinds(world, key)[:2], kinds(world, key)
    removed = [r.key for r in await audit(world, result.operation_id) if r.action == "removed_marker"]
    assert removed
    assert set(removed) <= set(RACED)


async def _hide_newer_data(world: World, around_delete: Any) -> list[str]:
    """Upload to the raced keys just before their DELETE; the list fills with the keys that it was done to."""
    uploaded: list[str] = []

    async def upload_first(delete: Any, key: str) -> DeleteAnswer:
        if key in RACED:
            await asyncio.to_thread(_put, world, key, b"newer")
            uploaded.append(key)
        return await delete()

    around_delete(upload_first)
    return uploaded


def _no_versions(monkeypatch: pytest.MonkeyPatch, unanswered: dict[str, int]) -> None:
    """Lists of these keys alone fail so many times; pages go on and show that something is wrong with them."""
    real = Bucket.versions

    async def versions_of(self: Bucket, key: str) -> Any:
        if unanswered.get(key, 0):
            unanswered[key] -= 1
            raise ListingError(f"no versions of {key}")
        return await real(self, key)

    monkeypatch.setattr(Bucket, "versions", versions_of)


async def test_once_the_sweep_must_stop_no_further_delete_is_sent_and_what_was_sent_is_proven(
    minio: S3Server, new_world: NewWorld, around_delete: Any
) -> None:
    world = await _world(new_world, minio)
    sent: list[str] = []

    async def note(delete: Any, key: str) -> DeleteAnswer:
        sent.append(key)
        if len(sent) == 30:
            world.client.put_bucket_versioning(
                Bucket=world.bucket, VersioningConfiguration={"Status": "Suspended"}
            )
        return await delete()

    around_delete(note)
    result = await world.run(world.config(canary_objects=1, concurrency=8))
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert len(sent) < 60
    assert set(_present(world)) | {
        r.key for r in await audit(world, result.operation_id) if r.action == "deleted"
    } >= set(KEYS)
    assert len(sent) <= 30 + markers.SIDE_BY_SIDE * 8 + 8
