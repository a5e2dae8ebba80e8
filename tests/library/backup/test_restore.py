"""restore_operation and bring_back: everything comes back exactly, and nothing newer is ever covered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.library.backup.support import World, open_world
from tests.library.backup.test_back_up import ODD_KEYS
from tests.testbed.services import S3Server

from s3gc.backup.restore import bring_back, restore_operation
from s3gc.exceptions import LockedError, RestoreError, StoreError
from s3gc.results import Progress, RestoreResult
from s3gc.store.bucket import Bucket
from s3gc.vault import catalog
from s3gc.vault.lock import hold_scope, stop_requested
from s3gc.vault.operations import Operation
from s3gc.vault.state import ScopeState

_HEADERS: dict[str, Any] = {
    "ContentType": "text/x-test", "CacheControl": "max-age=5, private", "ContentLanguage": "de",
    "ContentDisposition": "attachment; filename=\"ä b.txt\"; filename*=UTF-8''%C3%A4.txt".replace("ä", "a"),
    "Metadata": {"owner": "me  and you", "empty": "", "x_y": "1"}, "Tagging": "team=media&kind=a%20b%2Bc%3D",
    "Expires": datetime(2030, 1, 1, tzinfo=UTC),
}  # fmt: skip
_COMPARED = (
    "ContentType", "CacheControl", "ContentLanguage", "ContentDisposition", "ContentEncoding", "Metadata",
    "ExpiresString", "ContentLength", "ETag", "StorageClass", "WebsiteRedirectLocation",
)  # fmt: skip


async def restore(world: World, operation: Operation, **more: Any) -> RestoreResult:
    more.setdefault("dry_run", False)
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        return await restore_operation(world.config, world.state, db, operation.id, **more)


def _facts(world: World, key: str) -> dict[str, Any]:
    head = world.head(key)
    tags = world.client.get_object_tagging(Bucket=world.bucket.name, Key=key)["TagSet"]
    facts = {name: head.get(name) for name in _COMPARED}
    return facts | {"tags": sorted((tag["Key"], tag["Value"]) for tag in tags), "body": world.body(key)}


async def test_an_object_comes_back_with_its_bytes_metadata_and_tags(world: World) -> None:
    world.put("a.txt", b"hello " * 1000, **_HEADERS)
    world.put("b.gz", os.urandom(40_000), ContentEncoding="gzip", ContentType="application/json")
    world.put("empty", b"")
    before = {key: _facts(world, key) for key in ("a.txt", "b.gz", "empty")}
    operation, _ = await world.sweep()
    assert all(world.body(key) is None for key in before)
    result = await restore(world, operation)
    assert (result.restored_count, result.skipped_count, result.failed_count) == (3, 0, 0)
    assert result.errors == []
    assert result.restored_bytes == 46_000
    assert {key: _facts(world, key) for key in before} == before


async def test_odd_keys_come_back(world: World) -> None:
    for key in ODD_KEYS:
        world.put(key, key.encode())
    operation, _ = await world.sweep()
    result = await restore(world, operation)
    assert result.restored_count == len(ODD_KEYS)
    assert {key: world.body(key) for key in ODD_KEYS} == {key: key.encode() for key in ODD_KEYS}


async def test_in_a_versioned_bucket_the_marker_goes_and_the_very_version_is_back(
    versioned: World, s3: S3Server
) -> None:
    made = versioned.put("k", b"data", **_HEADERS)
    before = versioned.head("k")
    operation, _ = await versioned.sweep()
    assert versioned.body("k") is None
    result = await restore(versioned, operation)
    after = versioned.head("k")
    assert result.restored_count == 1
    assert after["VersionId"] == made["VersionId"]
    if s3.name == "minio":  # versitygw copies the version's file back, which gives it a new time
        assert after["LastModified"] == before["LastModified"], "no byte moved"


async def test_a_dry_run_is_the_default_and_changes_nothing(world: World) -> None:
    world.put("a", b"x")
    operation, _ = await world.sweep()
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        result = await restore_operation(world.config, world.state, db, operation.id)
    assert result.dry_run
    assert result.restored_keys == ["a"]
    assert world.body("a") is None
    assert (await ScopeState(world.vault, world.scope).holds()).num_rows == 0


async def test_newer_data_is_left_alone(world: World) -> None:
    for key in ("replaced", "gone"):
        world.put(key, b"old")
    operation, _ = await world.sweep()
    world.put("replaced", b"newer")
    result = await restore(world, operation)
    assert (result.restored_keys, result.skipped_keys) == (["gone"], ["replaced"])
    assert world.body("replaced") == b"newer"


async def test_newer_data_in_a_versioned_bucket_is_left_alone(versioned: World) -> None:
    versioned.put("k", b"old")
    operation, _ = await versioned.sweep()
    versioned.put("k", b"newer")
    result = await restore(versioned, operation)
    assert result.skipped_keys == ["k"]
    assert versioned.body("k") == b"newer"


async def test_an_upload_at_the_same_moment_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("k", b"old")
    _, backup = await world.sweep()
    real = type(world.bucket).head
    calls = 0

    async def head_then_upload(self: Any, key: str, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        found = await real(self, key, **more)
        if calls == 1:  # the restore has just seen that nothing is there
            world.put("k", b"raced")
        return found

    monkeypatch.setattr(type(world.bucket), "head", head_then_upload)
    how = await bring_back(
        world.bucket, world.vault, backup.entries["k"], versioning="Off", create_only="honoured"
    )
    assert how == "present"
    assert world.body("k") == b"raced"


async def test_bytes_come_back_when_the_version_below_the_marker_was_purged(versioned: World) -> None:
    made = versioned.put("k", b"data", **_HEADERS)
    before = _facts(versioned, "k")
    operation, _ = await versioned.sweep()
    versioned.client.delete_object(Bucket=versioned.bucket.name, Key="k", VersionId=made["VersionId"])
    result = await restore(versioned, operation)
    assert (result.restored_count, result.failed_keys) == (1, {})
    assert _facts(versioned, "k") == before


async def test_an_old_version_below_our_marker_is_never_shown_in_place_of_the_backup(
    versioned: World,
) -> None:
    versioned.put("k", b"ancient")
    made = versioned.put("k", b"data")
    operation, _ = await versioned.sweep()
    versioned.client.delete_object(Bucket=versioned.bucket.name, Key="k", VersionId=made["VersionId"])
    await restore(versioned, operation)
    assert versioned.body("k") == b"data"


async def test_an_upload_between_our_marker_and_our_write_is_uncovered_again(
    versioned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store answers 412 above a delete marker, we write without a condition and look below
    afterwards."""
    made = versioned.put("k", b"data")
    _, backup = await versioned.sweep()
    versioned.client.delete_object(Bucket=versioned.bucket.name, Key="k", VersionId=made["VersionId"])
    real = type(versioned.bucket).put

    async def slow_put(self: Any, key: str, body: Any, **more: Any) -> Any:
        if key == "k" and more.get("create_only"):
            return None  # what versitygw answers
        if key == "k":
            versioned.put("k", b"slipped in")
        return await real(self, key, body, **more)

    monkeypatch.setattr(type(versioned.bucket), "put", slow_put)
    how = await bring_back(versioned.bucket, versioned.vault, backup.entries["k"], versioning="Enabled")
    assert how == "present"
    assert versioned.body("k") == b"slipped in"


async def test_a_newer_version_that_our_own_marker_hides_is_uncovered(versioned: World) -> None:
    versioned.put("k", b"old")
    operation = await versioned.begin()
    backup = await versioned.back_up(operation, await versioned.planned())
    await asyncio.sleep(1.1)  # a later second, as an upload after the backup has
    versioned.put("k", b"newer")
    await versioned.delete(
        operation, 1, list(backup.entries.values())
    )  # the marker lies above the newer upload
    assert versioned.body("k") is None
    result = await restore(versioned, operation)
    assert versioned.body("k") == b"newer"
    assert result.restored_count == 0


async def test_keys_prefixes_and_globs_choose_and_any_match_counts(world: World) -> None:
    names = ["a/1.jpg", "a/2.png", "b/1.jpg", "c/x", "d[1]"]
    for key in names:
        world.put(key, b"x")
    operation, _ = await world.sweep()
    named = await restore(world, operation, keys=["d[1]", "no such"], dry_run=True)
    assert named.restored_keys == ["d[1]"]
    assert named.warnings == [f"operation {operation.id} has no backup of key 'no such'"]
    assert (await restore(world, operation, prefixes=["a/"], dry_run=True)).restored_count == 2
    assert sorted((await restore(world, operation, globs=["*.jpg"], dry_run=True)).restored_keys) == [
        "a/1.jpg",
        "b/1.jpg",
    ]
    assert (await restore(world, operation, keys=["c/x"], globs=["b/*"])).restored_count == 2
    assert {key for key in names if world.body(key) is not None} == {"b/1.jpg", "c/x"}


async def test_a_restore_can_be_repeated_and_finishes_what_was_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        world.put(f"k{number:02}", b"x" * number)
    operation, _ = await world.sweep()
    real = type(world.bucket).put
    count = 0
    one_is_back = asyncio.Event()

    async def failing(self: Any, key: str, body: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count > 10:
            # Many are written at once: the restore must not end before the first of them is there.
            await one_is_back.wait()
            raise asyncio.CancelledError
        written = await real(self, key, body, **more)
        if key.startswith("k"):
            one_is_back.set()
        return written

    with monkeypatch.context() as patch:
        patch.setattr(type(world.bucket), "put", failing)
        with pytest.raises(asyncio.CancelledError):
            await restore(world, operation)
    back = sum(world.body(f"k{number:02}") is not None for number in range(30))
    assert 0 < back < 30
    result = await restore(world, operation)
    assert result.restored_count == 30 - back
    assert result.skipped_count == back
    assert all(world.body(f"k{number:02}") == b"x" * number for number in range(30))


async def test_a_restored_key_is_held_before_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("k", b"x")
    operation, _ = await world.sweep()
    state = ScopeState(world.vault, world.scope)
    held_then: list[bool] = []
    real = type(world.bucket).put

    async def look_first(self: Any, key: str, body: Any, **more: Any) -> Any:
        if key == "k":
            held_then.append(await state.hold_of("k") is not None)
        return await real(self, key, body, **more)

    monkeypatch.setattr(type(world.bucket), "put", look_first)
    await restore(world, operation)
    hold = await state.hold_of("k")
    assert held_then == [True]
    assert hold is not None
    assert hold.operation_id == operation.id
    assert timedelta(days=29) < hold.until - datetime.now(UTC) < timedelta(days=31)


async def test_to_another_place_nothing_of_ours_is_touched_and_nothing_there_is_overwritten(
    world: World, make_bucket: Callable[..., str], s3: S3Server
) -> None:
    for key in ("a", "b"):
        world.put(key, key.encode(), ContentType="text/x-a")
    operation, _ = await world.sweep()
    other = make_bucket(s3)
    world.client.put_object(Bucket=other, Key="back/b", Body=b"there already")
    async with hold_scope(world.vault, world.scope):  # a running cycle does not matter
        result = await restore(world, operation, target_bucket=other, target_prefix="back/")
    assert (result.restored_keys, result.skipped_keys) == (["a"], ["b"])
    got = world.client.get_object(Bucket=other, Key="back/a")
    assert (got["Body"].read(), got["ContentType"]) == (b"a", "text/x-a")
    assert world.client.get_object(Bucket=other, Key="back/b")["Body"].read() == b"there already"
    assert world.body("a") is None
    assert (await ScopeState(world.vault, world.scope).holds()).num_rows == 0


async def test_overwriting_backs_up_what_is_there_first(world: World) -> None:
    for key in ("changed", "same", "gone"):
        world.put(key, b"old")
    operation, _ = await world.sweep()
    world.put("changed", b"newer", Metadata={"who": "app"})
    world.put("same", b"old")
    result = await restore(world, operation, skip_existing=False)
    assert sorted(result.restored_keys) == ["changed", "gone"]
    assert result.skipped_keys == ["same"]
    assert world.body("changed") == b"old"
    kept = [record for record in await world.vault.operations() if record.mode == "restore"]
    assert [record.extra["restore_of"] for record in kept] == [operation.id]
    world.client.delete_object(Bucket=world.bucket.name, Key="changed")
    again = await restore(world, world.vault.operation(kept[0].id), keys=["changed"])
    assert again.restored_count == 1
    assert world.body("changed") == b"newer"
    assert world.head("changed")["Metadata"] == {"who": "app"}


async def test_overwriting_loses_against_an_upload_after_the_backup(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("k", b"old")
    operation, _ = await world.sweep()
    world.put("k", b"newer")
    real = type(world.bucket).put

    async def raced(self: Any, key: str, body: Any, **more: Any) -> Any:
        if key == "k" and more.get("if_match"):
            world.put("k", b"newest")
        return await real(self, key, body, **more)

    monkeypatch.setattr(type(world.bucket), "put", raced)
    result = await restore(world, operation, skip_existing=False)
    assert result.failed_count == 1
    assert world.body("k") == b"newest"


async def test_what_was_backed_up_and_not_deleted_comes_back_only_when_named(world: World) -> None:
    from tests.library.backup.support import audit_record

    world.put("kept", b"x")
    operation = await world.begin()
    backup = await world.back_up(operation, await world.planned())
    await operation.append_journal(1, list(backup.entries.values()))
    await operation.append_audit(1, [audit_record(operation, backup.entries["kept"], "kept")])
    await operation.update(journal="closed")
    world.client.delete_object(Bucket=world.bucket.name, Key="kept")  # the application itself, later
    assert (await restore(world, operation)).restored_count == 0
    assert (await restore(world, operation, keys=["kept"])).restored_count == 1


async def test_an_unknown_operation_says_how_to_find_the_right_one(world: World) -> None:
    world.put("a", b"x")
    operation, _ = await world.sweep()
    wrong = operation.id[:-1] + ("0" if operation.id[-1] != "0" else "1")
    with pytest.raises(RestoreError, match=operation.id) as caught:
        await restore(world, world.vault.operation(wrong))
    assert "s3gc operations" in str(caught.value)
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        with pytest.raises(RestoreError, match="no operation"):
            await restore_operation(world.config, world.state, db, "../../etc/passwd")


async def test_a_restore_asks_the_running_cycle_to_end_and_waits_for_it(world: World) -> None:
    world.put("a", b"x")
    operation, _ = await world.sweep()
    ended = asyncio.Event()

    async def cycle() -> None:
        async with hold_scope(world.vault, world.scope, "cycle") as lock:
            while await stop_requested(world.vault, world.scope) is None:
                await lock.check()
                await asyncio.sleep(0.05)
            assert world.body("a") is None, "the restore began while a cycle held the scope"
            ended.set()

    running = asyncio.create_task(cycle())
    await asyncio.sleep(0.2)
    result = await restore(world, operation, wait_seconds=30)
    await running
    assert ended.is_set()
    assert result.restored_count == 1
    assert await stop_requested(world.vault, world.scope) is None


async def test_a_cycle_that_does_not_end_is_said_and_nothing_is_touched(world: World) -> None:
    world.put("a", b"x")
    operation, _ = await world.sweep()
    async with hold_scope(world.vault, world.scope, "cycle"):
        with pytest.raises(LockedError, match="cycle"):
            await restore(world, operation, wait_seconds=0.5)
    assert world.body("a") is None
    assert await stop_requested(world.vault, world.scope) is None


async def test_the_catalog_and_the_audit_know_what_was_restored_from_which_operation(world: World) -> None:
    world.put("a", b"1")
    first, _ = await world.sweep()
    world.put("a", b"22")
    second, _ = await world.sweep()
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        await catalog.ensure_schema(db)
        for operation in (first, second):
            await catalog.index_operation(db, operation)
    await restore(world, second)
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        known = {item.operation_id: item.restored_at for item in await catalog.find_key(db, "a")}
        await catalog.rebuild(db, world.vault)
        rebuilt = {item.operation_id: item.restored_at for item in await catalog.find_key(db, "a")}
    assert known[first.id] is None
    assert known[second.id] is not None
    assert set(known) == set(rebuilt)
    assert rebuilt[first.id] is None
    assert rebuilt[second.id] is not None
    assert "restored" in [record.action async for record in second.read_audit() if record.key == "a"]
    assert world.body("a") == b"22"


async def test_progress_is_told(world: World) -> None:
    for number in range(5):
        world.put(f"k{number}", b"x")
    operation, _ = await world.sweep()
    told: list[Progress] = []
    await restore(world, operation, progress=told.append)
    assert (told[-1].phase, told[-1].restored) == ("Restoring", 5)


def _upload_parts(world: World, key: str, upload: str, body: bytes, part: int) -> None:
    parts = []
    for number, start in enumerate(range(0, len(body), part), start=1):
        answer = world.client.upload_part(
            Bucket=world.bucket.name, Key=key, UploadId=upload, PartNumber=number,
            Body=body[start : start + part],
        )  # fmt: skip
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    world.client.complete_multipart_upload(
        Bucket=world.bucket.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
    )


async def test_a_store_that_knows_no_conditional_create_takes_back_what_was_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some answer 501 to `If-None-Match`, and whoever heals or restores has not probed that."""
    world.put("small", b"small")
    upload = world.client.create_multipart_upload(Bucket=world.bucket.name, Key="parts")["UploadId"]
    _upload_parts(world, "parts", upload, bytes(6 * 1024 * 1024), 5 * 1024 * 1024)
    operation, _ = await world.sweep()
    for name in ("put", "complete_multipart"):
        _without_conditions(monkeypatch, name, status=501)
    versioning = (await world.bucket.versioning()).status
    entries = {entry.key: entry async for entry in operation.entries()}
    for key, size in (("small", 5), ("parts", 6 * 1024 * 1024)):
        # Another key: in a versioned bucket the original needs nothing but its marker taken away.
        how = await bring_back(
            world.bucket, world.vault, entries[key], versioning=versioning, key=f"again/{key}"
        )
        assert how == "restored"
        assert len(world.body(f"again/{key}") or b"") == size


async def test_an_upload_while_parts_are_written_back_is_not_covered_by_a_store_that_ignores_the_condition(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.client.create_multipart_upload(Bucket=world.bucket.name, Key="parts")["UploadId"]
    _upload_parts(world, "parts", upload, bytes(6 * 1024 * 1024), 5 * 1024 * 1024)
    operation, _ = await world.sweep()
    [entry] = [entry async for entry in operation.entries()]
    _without_conditions(monkeypatch, "complete_multipart", status=None)
    sent = Bucket.upload_part

    async def meanwhile(bucket: Bucket, *arguments: Any, **more: Any) -> str:
        world.put("again", b"newer")
        return await sent(bucket, *arguments, **more)

    monkeypatch.setattr(Bucket, "upload_part", meanwhile)
    how = await bring_back(world.bucket, world.vault, entry, versioning="Off", key="again")
    assert (how, world.body("again")) == ("present", b"newer")


def _without_conditions(monkeypatch: pytest.MonkeyPatch, name: str, *, status: int | None) -> None:
    """A store that refuses `If-None-Match` with `status`, or, without one, takes no notice of it."""
    original = getattr(Bucket, name)

    async def call(bucket: Bucket, *arguments: Any, create_only: bool = False, **more: Any) -> Any:
        if create_only and status is not None:
            raise StoreError("A header you provided implies functionality that is not implemented",
                             details={"status": status, "code": "NotImplemented"})  # fmt: skip
        return await original(bucket, *arguments, **more)

    monkeypatch.setattr(Bucket, name, call)


async def test_tags_that_are_longer_than_a_header_may_be_come_back(on_minio: World) -> None:
    """Ten tags of letters that take three bytes each in a URL: set by themselves they are fine, a header has 8 KB."""
    world = on_minio
    tags = [{"Key": f"{number}{'@' * 127}", "Value": ":" * 256} for number in range(10)]
    for key in ("small", "parts"):
        if key == "small":
            world.put(key, b"small", Metadata={"a": "b"})
        else:
            upload = world.client.create_multipart_upload(Bucket=world.bucket.name, Key=key)["UploadId"]
            _upload_parts(world, key, upload, bytes(6 * 1024 * 1024), 5 * 1024 * 1024)
        world.client.put_object_tagging(Bucket=world.bucket.name, Key=key, Tagging={"TagSet": tags})
    before = {key: _facts(world, key) for key in ("small", "parts")}
    operation, _ = await world.sweep()
    result = await restore(world, operation)
    assert (result.restored_count, result.errors, result.warnings) == (2, [], []), result.failed_keys
    assert {key: _facts(world, key) for key in ("small", "parts")} == before


async def test_an_object_of_a_class_that_nobody_can_upload_to_comes_back(on_minio: World) -> None:
    """MinIO shows a remote tier's name as the class of what its lifecycle moved there."""
    world = on_minio
    world.put("moved", b"moved to a tier")
    upload = world.client.create_multipart_upload(Bucket=world.bucket.name, Key="parts")["UploadId"]
    _upload_parts(world, "parts", upload, bytes(6 * 1024 * 1024), 5 * 1024 * 1024)
    operation, _ = await world.sweep()
    async for entry in operation.entries():
        notes: list[str] = []
        tiered = replace(entry, storage_class="COLD-TIER")
        assert (
            await bring_back(world.bucket, world.vault, tiered, versioning="Off", notes=notes) == "restored"
        )
        assert any("COLD-TIER" in note for note in notes)
    assert world.body("moved") == b"moved to a tier"
    assert len(world.body("parts") or b"") == 6 * 1024 * 1024


async def test_a_multipart_object_comes_back_with_its_etag(world: World) -> None:
    part = 8 * 1024 * 1024
    body = os.urandom(part) + b"tail" * 1000 + bytes(part)
    upload = world.client.create_multipart_upload(
        Bucket=world.bucket.name, Key="big", ContentType="video/x", Metadata={"a": "b"}, Tagging="t=1"
    )
    _upload_parts(world, "big", upload["UploadId"], body, part)
    before = _facts(world, "big")
    operation, _ = await world.sweep()
    result = await restore(world, operation)
    assert result.restored_count == 1
    assert result.errors == []
    assert _facts(world, "big") == before
    left = world.client.list_multipart_uploads(Bucket=world.bucket.name, Prefix="big").get("Uploads", [])
    assert left == []


async def test_damaged_bytes_never_become_an_object(world: World) -> None:
    body = os.urandom(20 * 1024 * 1024)  # in two parts, so it streams
    world.put("stream", body)
    world.put("small", b"hello " * 50)
    world.put("fine", os.urandom(1000))
    operation, backup = await world.sweep()
    world.damage(
        operation.pack_path(backup.entries["stream"].parts[-1].pack),
        at=backup.entries["stream"].parts[-1].offset + 900,
    )
    world.damage(
        operation.pack_path(backup.entries["small"].parts[0].pack),
        at=backup.entries["small"].parts[0].offset + 12,
    )
    result = await restore(world, operation)
    assert result.restored_keys == ["fine"]
    assert set(result.failed_keys) == {"stream", "small"}
    assert ".pack" in result.failed_keys["stream"]
    assert world.body("stream") is None
    assert world.body("small") is None


async def test_what_a_store_silently_drops_is_said(
    versitygw: S3Server,
    make_bucket: Callable[..., str],
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
) -> None:
    """versitygw stores every object as STANDARD whatever is asked, and ignores server-side encryption."""
    import dataclasses

    credentials(versitygw)
    async with open_world(versitygw, make_bucket(versitygw), str(tmp_path / "vault")) as world:
        world.put("k", b"x")
        operation, backup = await world.sweep()
        entry = dataclasses.replace(
            backup.entries["k"],
            storage_class="STANDARD_IA",
            headers={**backup.entries["k"].headers, "x-amz-server-side-encryption": "AES256"},
        )
        notes: list[str] = []
        assert await bring_back(world.bucket, world.vault, entry, versioning="Off", notes=notes) == "restored"
        assert any("storage class" in note for note in notes)
        assert any("encryption" in note for note in notes)
        assert operation.id
