"""`versions: Purge`: what s3gc hid goes for good in a later cycle, and nothing else ever does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import During, audit, kinds, restore, set_versioning, versions
from tests.library.sweep.users import Act, allow, deny
from tests.testbed.services import S3Server, make_bucket

from s3gc import create_config, get_metrics, initialize_gc_state, shutdown_gc_state
from s3gc.config import S3GCConfig
from s3gc.exceptions import ConfigurationError, StoreError
from s3gc.results import GCResult, Outcome
from s3gc.store.bucket import Bucket
from s3gc.vault.state import Hold, ScopeState

KEYS = [f"uploads/{number:03d}.bin" for number in range(12)]
BODIES = {key: key.encode() * (number + 1) for number, key in enumerate(KEYS)}
ORPHANS = KEYS[6:]
SIZE = sum(len(BODIES[key]) for key in ORPHANS)


def purging(world: World, **changes: Any) -> S3GCConfig:
    # Restored objects count as referenced for a while; these tests look at what happens without that, unless they say.
    return world.config(versions="purge", **{"restore_hold_days": 0, **changes})


async def deleted(world: World, config: S3GCConfig | None = None) -> GCResult:
    """A world in which the first cycle has deleted the orphans."""
    await world.upload(
        BODIES, ContentType="image/x-test", Metadata={"owner": "shop"}, CacheControl="max-age=7"
    )
    await world.reference(KEYS[:6])
    first = await world.run(config or purging(world))
    assert (first.outcome, first.deleted_count) == (Outcome.SUCCEEDED, 6), first.errors
    assert (first.reclaimed_bytes, first.purged_count) == (0, 0)
    return first


async def test_what_a_cycle_hid_is_purged_by_a_later_one_and_comes_back_from_the_vault(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3)
    # An older version of the application's own lies below one of the orphans.
    await world.upload({ORPHANS[0]: b"older"})
    first = await deleted(world)
    assert kinds(world, ORPHANS[0]) == ["marker", "object", "object"]
    assert kinds(world, ORPHANS[1]) == ["marker", "object"]

    second = await world.run(purging(world))
    assert second.outcome is Outcome.SUCCEEDED, second.errors
    assert (second.purged_count, second.purged_bytes, second.reclaimed_bytes) == (6, SIZE, SIZE)
    assert (second.deleted_count, second.purge_kept) == (0, {})
    # The version is gone, what the application made noncurrent is not, and our marker above it hides it still.
    assert kinds(world, ORPHANS[0]) == ["marker", "object"]
    # A marker that stands alone is tidied away.
    assert kinds(world, ORPHANS[1]) == []
    assert world.present() == {key: BODIES[key] for key in KEYS[:6]}
    purged = [record for record in await audit(world, first.operation_id) if record.action == "purged"]
    assert sorted(record.key for record in purged) == ORPHANS
    assert all(second.operation_id in record.detail for record in purged)

    third = await world.run(purging(world))
    assert (third.purged_count, third.reclaimed_bytes, third.purge_kept) == (0, 0, {})

    back = await restore(world, first.operation_id)
    assert (back.restored_count, back.failed_count) == (6, 0), back.failed_keys
    assert world.present() == BODIES
    head = world.client.head_object(Bucket=world.bucket, Key=ORPHANS[0])
    assert (head["ContentType"], head["Metadata"], head["CacheControl"]) == (
        "image/x-test",
        {"owner": "shop"},
        "max-age=7",
    )
    state = await initialize_gc_state(purging(world))
    metrics = await get_metrics(state["config"], state)
    await shutdown_gc_state(state)
    assert metrics.reclaimed_bytes == SIZE


async def test_a_vault_in_s3_proves_its_copies_and_brings_them_back(
    minio: S3Server, new_world: NewWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world = await new_world(minio)
    config = purging(
        world,
        vault_path=f"s3://{make_bucket(minio)}/some/vault",
        vault_endpoint_url=minio.endpoint,
        vault_path_style=True,
    )
    first = await deleted(world, config)
    second = await world.run(config)
    assert (second.outcome, second.purged_count, second.reclaimed_bytes) == (Outcome.SUCCEEDED, 6, SIZE)
    assert kinds(world, ORPHANS[1]) == []
    assert (await restore(world, first.operation_id, config=config)).restored_count == 6
    assert world.present() == BODIES


async def test_a_reference_that_comes_after_the_purge_is_healed_from_the_vault(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3)
    await deleted(world)
    await world.run(purging(world))
    await world.reference([ORPHANS[2]])
    healed = await world.run(purging(world))
    assert healed.healed_count == 1, healed.errors
    assert world.present()[ORPHANS[2]] == BODIES[ORPHANS[2]]
    head = world.client.head_object(Bucket=world.bucket, Key=ORPHANS[2])
    assert (head["ContentType"], head["Metadata"]) == ("image/x-test", {"owner": "shop"})


async def test_objects_of_before_versioning_are_purged_as_well(s3: S3Server, new_world: NewWorld) -> None:
    world = await new_world(s3, versioning=False)
    await world.upload(BODIES)
    set_versioning(world, "Enabled")
    first = await deleted_of(world)
    assert versions(world, ORPHANS[0])[1][1] == "null"
    second = await world.run(purging(world))
    assert (second.purged_count, second.reclaimed_bytes) == (6, SIZE), second.purge_kept
    assert kinds(world, ORPHANS[0]) == []
    assert (await restore(world, first.operation_id)).restored_count == 6
    assert world.present() == BODIES


async def deleted_of(world: World) -> GCResult:
    await world.reference(KEYS[:6])
    first = await world.run(purging(world))
    assert first.deleted_count == 6, (first.errors, first.skipped)
    return first


async def test_what_an_application_made_its_own_again_is_untouched(s3: S3Server, new_world: NewWorld) -> None:
    world = await new_world(s3)
    await deleted(world)
    client, bucket = world.client, world.bucket
    again, own_marker, undeleted, gone = ORPHANS[:4]
    client.put_object(Bucket=bucket, Key=again, Body=b"uploaded again")
    client.put_object(Bucket=bucket, Key=own_marker, Body=b"uploaded again, deleted by itself")
    client.delete_object(Bucket=bucket, Key=own_marker)
    marker = versions(world, undeleted)[0][1]
    client.delete_object(Bucket=bucket, Key=undeleted, VersionId=marker)
    client.delete_object(Bucket=bucket, Key=gone, VersionId=versions(world, gone)[1][1])
    await world.reference([again, undeleted])  # or this cycle would sweep them anew
    before = {key: versions(world, key) for key in (again, own_marker, undeleted, gone)}
    result = await world.run(purging(world))
    assert result.outcome is Outcome.SUCCEEDED, result.errors
    assert result.purged_count == 2
    # What is in view is referenced: the reading says so before anybody looks at versions.
    assert result.purge_kept == {"referenced": 2, "another marker": 1, "gone": 1}
    assert {key: versions(world, key) for key in before} == before
    assert world.present()[undeleted] == BODIES[undeleted]


async def test_what_is_in_view_again_is_untouched_without_any_reference_to_it(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3)
    await deleted(world)
    again, undeleted = ORPHANS[:2]
    world.client.put_object(Bucket=world.bucket, Key=again, Body=b"uploaded again")
    world.client.delete_object(Bucket=world.bucket, Key=undeleted, VersionId=versions(world, undeleted)[0][1])
    before = {key: versions(world, key) for key in (again, undeleted)}
    result = await world.run(
        purging(world, exclude_prefixes=[], retention_days=1)
    )  # too young to be swept again
    assert (result.purged_count, result.purge_kept) == (4, {"uploaded again": 1, "back in view": 1})
    assert {key: versions(world, key) for key in before} == before


async def test_what_is_held_out_of_scope_or_of_an_operation_on_hold_stays(
    minio: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(minio)
    first = await deleted(world)
    state = await initialize_gc_state(purging(world))
    await state["vault"].operation(first.operation_id).hold("an incident", by="test")
    await shutdown_gc_state(state)
    result = await world.run(purging(world))
    assert (result.purged_count, result.purge_kept) == (0, {"operation on hold": 1})

    state = await initialize_gc_state(purging(world))
    await state["vault"].operation(first.operation_id).unhold()
    await shutdown_gc_state(state)
    config = purging(world, exclude_prefixes=[ORPHANS[0], ORPHANS[1]])
    result = await world.run(config)
    assert (result.purged_count, result.purge_kept) == (4, {"out of scope": 2})
    assert kinds(world, ORPHANS[0]) == ["marker", "object"]
    state = await initialize_gc_state(purging(world))
    remembered = ScopeState(state["vault"], state["scope"])
    until = datetime.now(UTC) + timedelta(days=1)
    await remembered.add_holds([Hold(ORPHANS[0], until, first.operation_id, "restored")])
    result = await world.run(purging(world))
    assert (result.purged_count, result.purge_kept) == (1, {"held": 1})
    await remembered.drop_holds([ORPHANS[0]])
    await shutdown_gc_state(state)
    result = await world.run(purging(world))
    assert (result.purged_count, result.purge_kept) == (1, {})


async def test_nothing_is_purged_in_a_dry_run_by_marker_mode_or_while_a_writer_is_open(
    minio: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(minio)
    await deleted(world)
    before = {key: versions(world, key) for key in ORPHANS}
    for config in (purging(world, mode="dry_run"), purging(world, mode="audit_only"), world.config()):
        result = await world.run(config)
        assert (result.purged_count, result.reclaimed_bytes) == (0, 0)
    # A check that could not be finished: the transaction may reference anything.
    await world.upload({"uploads/new.bin": b"new"})
    writer = await asyncpg.connect(world.dsn)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("insert into files(key) values ('uploads/other.bin')")
    result = await world.run(purging(world, barrier_timeout_seconds=1))
    await transaction.rollback()
    await writer.close()
    assert (result.verified, result.deleted_count, result.purged_count) == (False, 1, 0)
    assert {key: versions(world, key) for key in ORPHANS} == before


async def test_a_copy_that_the_vault_cannot_prove_keeps_its_version(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3)
    first = await deleted(world)
    (pack,) = (world.vault / "operations" / first.operation_id / "packs").iterdir()
    whole = pack.read_bytes()
    entry = await _entry(world, first.operation_id, ORPHANS[3])
    at = entry["parts"][0][1] + entry["parts"][0][2] // 2
    pack.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
    result = await world.run(purging(world))
    assert (result.outcome, result.purged_count) == (Outcome.PARTIALLY_FAILED, 5)
    assert result.purge_kept == {"backup damaged": 1}
    assert "damaged" in result.errors[0]
    assert ORPHANS[3] in result.errors[0]
    assert kinds(world, ORPHANS[3]) == ["marker", "object"]
    pack.write_bytes(whole)
    result = await world.run(purging(world))
    assert (result.purged_count, result.purge_kept) == (1, {}), result.errors


async def _entry(world: World, operation_id: str, key: str) -> dict[str, Any]:
    folder = world.vault / "operations" / operation_id / "journal"
    for path in sorted(folder.iterdir()):
        for line in path.read_text().splitlines():
            value: dict[str, Any] = json.loads(line)
            if value.get("key") == key:
                return value
    raise AssertionError(f"{key} is in no journal")


async def test_a_marker_that_is_not_provably_ours_is_left_with_what_is_below_it(
    s3: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await new_world(s3)
    real = Bucket.delete

    async def lost(self: Bucket, key: str, **how: Any) -> Any:
        answer = await real(self, key, **how)
        if key == ORPHANS[0] and how.get("version_id") is None:
            raise StoreError("the answer was lost")
        return answer

    monkeypatch.setattr(Bucket, "delete", lost)
    await deleted(world)
    monkeypatch.undo()
    world_environment(monkeypatch, s3)
    result = await world.run(purging(world))
    assert (result.purged_count, result.purge_kept) == (5, {"no marker": 1})
    assert kinds(world, ORPHANS[0]) == ["marker", "object"]


def world_environment(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)


@pytest.mark.parametrize("older", [False, True])
async def test_an_object_that_a_person_uncovers_at_that_very_moment_is_back_as_it_was(
    s3: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    world = await new_world(s3)
    if older:
        await world.upload({ORPHANS[0]: b"older"})
    await deleted(world)
    version = versions(world, ORPHANS[0])[1][1]
    real = Bucket.delete

    async def uncovered_first(self: Bucket, key: str, **how: Any) -> Any:
        if key == ORPHANS[0] and how.get("version_id") == version:
            marker = versions(world, key)[0][1]
            world.client.delete_object(Bucket=world.bucket, Key=key, VersionId=marker)
            assert world.present()[key] == BODIES[key]
        return await real(self, key, **how)

    monkeypatch.setattr(Bucket, "delete", uncovered_first)
    result = await world.run(purging(world))
    assert (result.outcome, result.purged_count) == (Outcome.PARTIALLY_FAILED, 5)
    assert "brought back from the vault" in result.errors[0]
    assert world.present()[ORPHANS[0]] == BODIES[ORPHANS[0]]
    head = world.client.head_object(Bucket=world.bucket, Key=ORPHANS[0])
    assert (head["ContentType"], head["Metadata"]) == ("image/x-test", {"owner": "shop"})


async def test_suspended_under_the_purge_it_stops(s3: S3Server, new_world: NewWorld) -> None:
    world = await new_world(s3)
    await deleted(world)
    result = await world.run(
        purging(world), progress=During("Purging", lambda: set_versioning(world, "Suspended"))
    )
    assert (result.outcome, result.purged_count) == (Outcome.PARTIALLY_FAILED, 0)
    assert "Suspended now" in result.errors[0]
    assert kinds(world, ORPHANS[0]) == ["marker", "object"]


async def test_the_right_that_a_purge_needs_is_asked_for_before_anything_is_deleted(
    minio: S3Server, new_world: NewWorld, act_as: Act
) -> None:
    world = await new_world(minio)
    await world.upload(BODIES)
    await world.reference(KEYS[:6])
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObjectVersion", "*"))
    # MinIO ignores If-Match, so that the right is needed by markers as well is another refusal: see the table of rights.
    with pytest.raises(Exception, match="s3:DeleteObjectVersion"):
        await world.run(purging(world))
    assert world.present() == BODIES


async def test_versions_that_may_not_be_removed_are_kept_and_the_others_go(
    minio: S3Server, new_world: NewWorld, act_as: Act
) -> None:
    world = await new_world(minio)
    await deleted(world)
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObjectVersion", ORPHANS[0]))
    result = await world.run(purging(world))
    assert (result.outcome, result.purged_count, result.purge_kept) == (Outcome.SUCCEEDED, 5, {"denied": 1})
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObjectVersion", "uploads/*"))
    result = await world.run(purging(world))
    assert (result.outcome, result.purged_count) == (Outcome.PARTIALLY_FAILED, 0)
    assert "s3:DeleteObjectVersion was denied for every object that was tried" in result.errors[0]
    assert kinds(world, ORPHANS[0]) == ["marker", "object"]


async def test_in_an_unversioned_bucket_there_is_nothing_to_purge(
    versitygw: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(versitygw, versioning=False)
    await world.upload(BODIES)
    await world.reference(KEYS[:6])
    first = await world.run(purging(world))
    assert (first.deleted_count, first.reclaimed_bytes) == (6, SIZE)
    second = await world.run(purging(world))
    assert (second.outcome, second.reclaimed_bytes, second.purged_count) == (Outcome.SUCCEEDED, 0, 0)


async def test_locked_versions_are_kept_and_go_once_the_lock_is_over(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3, lock=True)
    await deleted(world)
    client, bucket = world.client, world.bucket
    version = versions(world, ORPHANS[0])[1][1]
    client.put_object_legal_hold(Bucket=bucket, Key=ORPHANS[0], VersionId=version, LegalHold={"Status": "ON"})
    result = await world.run(purging(world))
    assert (result.outcome, result.purged_count, result.purge_kept) == (Outcome.SUCCEEDED, 5, {"locked": 1})
    assert kinds(world, ORPHANS[0]) == ["marker", "object"]
    client.put_object_legal_hold(
        Bucket=bucket, Key=ORPHANS[0], VersionId=version, LegalHold={"Status": "OFF"}
    )
    result = await world.run(purging(world))
    assert (result.purged_count, result.purge_kept) == (1, {})


async def test_a_purged_object_lives_in_the_vault_for_a_whole_retention_from_then_on_and_its_end_is_recorded(
    minio: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(minio)
    first = await deleted(world)
    record = world.vault / "operations" / first.operation_id / "operation.json"

    def age(**changes: Any) -> None:
        value = json.loads(record.read_text())
        value.update({name: text for name, text in changes.items() if name != "extra"})
        value["extra"].update(changes.get("extra", {}))
        record.write_text(json.dumps(value))

    age(completed_at="2020-01-01T00:00:00+00:00", started_at="2020-01-01T00:00:00+00:00")
    # Long over its time when it is purged: the vault becomes the only place, and keeps it a whole retention more.
    second = await world.run(purging(world))
    assert second.purged_count == 6
    assert record.exists()
    await world.run(purging(world))
    assert (await restore(world, first.operation_id, keys=[ORPHANS[0]])).restored_count == 1
    age(extra={"only_copy_since": "2020-01-01T00:00:00+00:00"})
    await world.run(purging(world))
    assert not record.exists()
    (month,) = sorted(Path(world.vault / "expired").iterdir())
    line = json.loads(month.read_text().splitlines()[0])
    assert line["operation_id"] == first.operation_id
    # One of the six was restored since.
    assert (line["purged_objects"], line["purged_bytes"]) == (5, SIZE - len(BODIES[ORPHANS[0]]))


def test_a_purge_needs_a_vault_that_keeps_what_it_purged() -> None:
    with pytest.raises(ConfigurationError, match="vault_retention_days"):
        create_config(bucket="shop-media", versions="purge", vault_retention_days=0)
