"""back_up: what gets an entry, what is skipped and why, and that every entry's bytes are in the vault."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.library.backup.support import World, open_world
from tests.testbed.services import S3Server

from s3gc.backup.backup import read_object
from s3gc.exceptions import BackupError, VaultError
from s3gc.vault.packindex import read_pack_index
from s3gc.vault.records import BackupEntry

ODD_KEYS = [
    "plain.txt", "with space.txt", " leading and trailing ", "ünïcødé/漢字.txt", "nfd/u\u0308.txt", "nfc/\u00fc.txt",
    "percent%20.txt", "percent%zz", "plus+plus.txt", "a?b#c&d.txt", "tab\there.txt", "line\nbreak.txt", "quote\"'`.txt",
    "back\\slash.txt", "emoji/😀.txt", "dots/..a/...b", "x" * 200, "{}[]()$!*:;,=@~^|<>",
]  # fmt: skip


async def _content(world: World, entry: BackupEntry) -> bytes:
    return b"".join([piece async for piece in read_object(world.vault, entry)])


async def test_every_kind_of_content_is_in_the_vault_byte_for_byte(world: World) -> None:
    contents = {
        "empty": b"",
        "one": b"\0",
        "text": b"the quick brown fox " * 5000,
        "random": os.urandom(300_000),
        "gzip": gzip.compress(b"compressed already " * 10_000),
        "zeros": bytes(3_000_000),
    }
    for key, body in contents.items():
        world.put(key, body)
    operation = await world.begin()
    backup = await world.back_up(operation, await world.planned())
    assert backup.skipped == {}
    assert {key: await _content(world, entry) for key, entry in backup.entries.items()} == contents
    for key, entry in backup.entries.items():
        assert entry.sha256 == hashlib.sha256(contents[key]).hexdigest()
        assert entry.size == len(contents[key])


async def test_odd_keys_are_backed_up_under_exactly_their_names(world: World) -> None:
    for key in ODD_KEYS:
        world.put(key, key.encode())
    operation = await world.begin()
    backup = await world.back_up(operation, await world.planned())
    assert set(backup.entries) == set(ODD_KEYS)
    assert {key: await _content(world, entry) for key, entry in backup.entries.items()} == {
        key: key.encode() for key in ODD_KEYS
    }
    files = [str(path.relative_to(world.vault_folder)) for path in world.vault_folder.rglob("*")]
    assert not any("txt" in name for name in files), "a key became a path in the vault"


async def test_a_content_encoding_is_bytes_and_never_decoded(world: World) -> None:
    body = gzip.compress(b"hello " * 1000)
    world.put("page.html", body, ContentEncoding="gzip", ContentType="text/html")
    backup = await world.back_up(await world.begin(), await world.planned())
    entry = backup.entries["page.html"]
    assert await _content(world, entry) == body
    assert entry.headers["content-encoding"] == "gzip"


async def test_zstd_reads_a_pack_and_gives_the_objects_one_after_another(
    world: World, tmp_path: Path
) -> None:
    bodies = [b"first " * 1000, b"", os.urandom(100_000), b"last"]
    for number, body in enumerate(bodies):
        world.put(f"k{number}", body)
    operation = await world.begin()
    backup = await world.back_up(operation, await world.planned())
    pack = world.vault_folder / operation.pack_path(1)
    out = subprocess.run(["zstd", "-d", "-c", str(pack)], check=True, capture_output=True).stdout
    rows = await read_pack_index(world.vault.storage, operation.pack_path(1))
    order = [int(row.key.removeprefix("k")) for row in rows]
    assert out == b"".join(bodies[number] for number in order)
    assert len(backup.entries) == 4


async def test_the_commands_of_the_manual_find_one_object_with_nothing_but_a_shell(world: World) -> None:
    world.put("needle.txt", b"found " * 100)
    world.put("other.bin", os.urandom(50_000))
    operation = await world.begin()
    backup = await world.back_up(operation, await world.planned())
    pack = world.vault_folder / operation.pack_path(1)
    part = backup.entries["needle.txt"].parts[0]
    script = f"""
        set -e
        where=$(tail -c 192 '{pack}')
        offset=$(echo "$where" | grep -o 'index_offset=[0-9]*' | cut -d= -f2 | sed 's/^0*//')
        length=$(echo "$where" | grep -o 'index_length=[0-9]*' | cut -d= -f2 | sed 's/^0*//')
        tail -c +$((offset + 1)) '{pack}' | head -c "$length" | zstd -d | grep needle.txt > /dev/null
        tail -c +{part.offset + 1} '{pack}' | head -c {part.length} | zstd -d
    """
    out = subprocess.run(["bash", "-c", script], check=True, capture_output=True).stdout
    assert out == b"found " * 100


async def test_what_changed_since_the_plan_is_skipped_and_not_backed_up(world: World) -> None:
    for key in ("same", "rewritten", "gone", "older", "longer"):
        world.put(key, b"one")
    planned = {item.key: item for item in await world.planned()}
    world.put("rewritten", b"two")
    world.client.delete_object(Bucket=world.bucket.name, Key="gone")
    planned["older"] = dataclasses.replace(
        planned["older"], last_modified=planned["older"].last_modified - timedelta(seconds=5)
    )
    planned["longer"] = dataclasses.replace(planned["longer"], size=4)
    backup = await world.back_up(await world.begin(), planned.values())
    assert list(backup.entries) == ["same"]
    assert {key: reason for key, (reason, _) in backup.skipped.items()} == {
        "rewritten": "replaced", "gone": "missing", "older": "replaced", "longer": "replaced",
    }  # fmt: skip


async def test_all_that_must_come_back_is_recorded(world: World) -> None:
    world.put(
        "a", b"x", ContentType="text/x-test", CacheControl="max-age=5", ContentDisposition='attachment; filename="a"',
        ContentLanguage="de", Expires=datetime(2030, 1, 1, tzinfo=UTC), Metadata={"Owner": "me", "empty": ""},
        Tagging="team=media&kind=x%20y",
    )  # fmt: skip
    for number in range(10):
        world.put(f"untagged-{number}", b"y")
    backup = await world.back_up(await world.begin(), await world.planned())
    entry = backup.entries["a"]
    assert entry.headers["content-type"] == "text/x-test"
    assert entry.headers["cache-control"] == "max-age=5"
    assert entry.headers["content-disposition"] == 'attachment; filename="a"'
    assert entry.headers["content-language"] == "de"
    assert "2030" in entry.headers["expires"]
    assert entry.headers["x-amz-meta-owner"] == "me"
    assert entry.headers["x-amz-meta-empty"] == ""
    assert dict(entry.tags or ()) == {"team": "media", "kind": "x y"}
    asked = world.bucket.requests["GetObjectTagging"]
    assert asked <= 1 + 3, (
        "only an object that has tags is asked for them, and a few to see whether they may be read"
    )


async def test_version_ids_are_recorded_in_a_versioned_bucket(versioned: World) -> None:
    versioned.put("k", b"old")
    newest = versioned.put("k", b"new")
    backup = await versioned.back_up(await versioned.begin(), await versioned.planned())
    assert backup.entries["k"].version_id == newest["VersionId"]
    assert await _content(versioned, backup.entries["k"]) == b"new"


async def test_a_locked_object_is_skipped_with_its_date(
    s3: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    credentials(s3)
    async with open_world(s3, make_bucket(s3, lock=True), str(tmp_path / "vault")) as world:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
        world.put("retained", b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
        world.put("held", b"x", ObjectLockLegalHoldStatus="ON")
        world.put("free", b"x")
        backup = await world.back_up(await world.begin(), await world.planned())
        assert list(backup.entries) == ["free"]
        assert backup.skipped["retained"][0] == "locked"
        assert f"{until:%Y-%m-%d}" in backup.skipped["retained"][1]
        assert backup.skipped["held"] == ("locked", "under legal hold")


async def test_objects_larger_than_a_pack_go_through_several_packs(
    s3, make_bucket, credentials, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    from tests.library.backup.support import open_world

    credentials(s3)
    async with open_world(s3, make_bucket(s3), str(tmp_path / "vault"), pack_size_bytes=256 * 1024) as world:
        bodies = {"big": os.urandom(1_500_001), "exact": os.urandom(512 * 1024), "small": b"s" * 1000}
        for key, body in bodies.items():
            world.put(key, body)
        operation = await world.begin()
        backup = await world.back_up(operation, await world.planned())
        assert {key: await _content(world, entry) for key, entry in backup.entries.items()} == bodies
        assert len({part.pack for part in backup.entries["big"].parts}) >= 5
        assert all(
            file.stat().st_size < 600 * 1024
            for file in (world.vault_folder / operation.path("packs")).iterdir()
        )


async def test_numbers_of_packs_go_on_and_no_pack_is_ever_replaced(world: World) -> None:
    world.put("a", b"one")
    world.put("b", b"two")
    operation = await world.begin()
    first, second = await world.planned()
    await world.back_up(operation, [first], group=1)
    before = (world.vault_folder / operation.pack_path(1)).read_bytes()
    await world.back_up(operation, [second], group=2)
    assert await operation.pack_numbers() == [1, 2]
    assert (world.vault_folder / operation.pack_path(1)).read_bytes() == before


async def test_a_foreign_pack_at_our_number_ends_the_group_and_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", b"one")
    operation = await world.begin()
    await world.vault.storage.create(operation.pack_path(1), b"another process was here")

    async def blind(_self: object) -> list[int]:
        return []

    monkeypatch.setattr(type(operation), "pack_numbers", blind)
    with pytest.raises((VaultError, BackupError), match=r"000001\.pack"):
        await world.back_up(operation, await world.planned())
    assert (world.vault_folder / operation.pack_path(1)).read_bytes() == b"another process was here"


async def test_a_vault_that_gives_back_other_bytes_gets_no_entry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", b"hello " * 100)
    operation = await world.begin()
    storage = type(world.vault.storage)
    create = storage.create

    async def corrupting(self: object, path: str, data: bytes) -> bool:
        if path.endswith(".pack"):
            data = data[:20] + bytes([data[20] ^ 1]) + data[21:]
        return await create(self, path, data)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "create", corrupting)
    with pytest.raises(BackupError, match="read back"):
        await world.back_up(operation, await world.planned())
