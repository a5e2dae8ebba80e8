"""The vault's storage: the same promises from a folder and from an S3 prefix."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.library.store.conftest import FAST
from tests.stub.server import Fault, error, start_stub
from tests.testbed.services import S3Server, make_bucket

from s3gc.exceptions import VaultError
from s3gc.store.storage import S3Storage, open_storage
from s3gc.store.types import Storage


@pytest.fixture(params=["folder", "minio", "versitygw"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storage]:
    if request.param == "folder":
        opened = await open_storage(str(tmp_path / "deep" / "vault"))
    else:
        server: S3Server = request.getfixturevalue(request.param)
        monkeypatch.setenv("S3GC_VAULT_AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("S3GC_VAULT_AWS_SECRET_ACCESS_KEY", server.secret_key)
        opened = await open_storage(f"s3://{make_bucket(server)}/team/vault", endpoint_url=server.endpoint)
    yield opened
    await opened.close()


async def _all(storage: Storage, prefix: str = "") -> list[tuple[str, int]]:
    return [(file.path, file.size) async for file in storage.list(prefix)]


async def test_what_is_written_is_read(storage: Storage) -> None:
    await storage.write("s3gc-vault.json", b"{}")
    await storage.write("operations/01/plan.parquet", b"plan")
    await storage.write("operations/01/plan.parquet", b"another plan")
    await storage.write("empty", b"")
    assert await storage.read("operations/01/plan.parquet") == b"another plan"
    assert await storage.read("operations/01/plan.parquet", 8) == b"plan"
    assert await storage.read("operations/01/plan.parquet", 0, 7) == b"another"
    assert await storage.read("operations/01/plan.parquet", 8, 100) == b"plan"
    assert await storage.read("operations/01/plan.parquet", 3, 0) == b""
    assert await storage.read("operations/01/plan.parquet", 12) == b""
    assert await storage.read("operations/01/plan.parquet", 100) == b""
    assert await storage.read("empty") == b""
    assert await storage.size("operations/01/plan.parquet") == 12
    assert await storage.size("empty") == 0


async def test_a_missing_file_is_filenotfounderror_everywhere(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        await storage.read("no/such")
    with pytest.raises(FileNotFoundError):
        await storage.read("no/such", 5, 0)
    with pytest.raises(FileNotFoundError):
        await storage.size("no/such")
    with pytest.raises(FileNotFoundError):
        async for _ in storage.stream("no/such"):
            pass
    await storage.delete("no/such")
    assert not await storage.replace("no/such", b"x", expected=b"")
    assert await _all(storage, "no/") == []


async def test_create_has_one_winner(storage: Storage) -> None:
    won = await asyncio.gather(*(storage.create("scopes/a/lock.json", b"%d" % n) for n in range(12)))
    assert sum(won) == 1
    assert await storage.read("scopes/a/lock.json") == b"%d" % won.index(True)
    assert not await storage.create("scopes/a/lock.json", b"late")
    await storage.delete("scopes/a/lock.json")
    assert await storage.create("scopes/a/lock.json", b"again")


async def test_replace_is_compare_and_swap(storage: Storage) -> None:
    await storage.write("counter", b"0")
    assert not await storage.replace("counter", b"x", expected=b"1")
    assert await storage.read("counter") == b"0"
    done = 0

    async def count() -> None:
        nonlocal done
        while True:
            before = await storage.read("counter")
            if await storage.replace("counter", b"%d" % (int(before) + 1), expected=before):
                done += 1
                return
            await asyncio.sleep(random.random() * 0.01)

    await asyncio.gather(*(count() for _ in range(12)))
    assert (done, await storage.read("counter")) == (12, b"12")
    await storage.delete("counter")
    assert not await storage.replace("counter", b"13", expected=b"12")


async def test_files_are_listed_in_the_order_of_their_whole_path(storage: Storage) -> None:
    names = ["a-b", "a/b", "a/c/d", "a.b", "a0", "ab", "b/000001.jsonl", "b/000002.jsonl", "b/00001"]
    for name in names:
        await storage.write(name, name.encode())
    assert await _all(storage) == [(name, len(name)) for name in sorted(names)]
    assert [path for path, _ in await _all(storage, "b/00000")] == ["b/000001.jsonl", "b/000002.jsonl"]
    assert [path for path, _ in await _all(storage, "a/")] == ["a/b", "a/c/d"]
    assert [path for path, _ in await _all(storage, "a")] == sorted(n for n in names if n.startswith("a"))


async def test_a_big_file_is_written_from_disk_and_streamed_back_in_small_chunks(
    storage: Storage, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for size in (0, 1, 1_000_000, 40 * 1024 * 1024 + 17):
        data = os.urandom(size)
        source.write_bytes(data)
        await storage.write_file("packs/000001.pack", source)
        chunks = [chunk async for chunk in storage.stream("packs/000001.pack")]
        assert b"".join(chunks) == data
        assert max(map(len, chunks), default=0) <= 1024 * 1024
        part = b"".join([chunk async for chunk in storage.stream("packs/000001.pack", size // 2, 1000)])
        assert part == data[size // 2 : size // 2 + 1000]


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "", "a//b", "a/./b", ".", "a/", "a\\b", "a\0b"]
)
async def test_a_path_that_leads_out_is_refused(storage: Storage, path: str) -> None:
    calls: list[Any] = [
        storage.read(path), storage.write(path, b"x"), storage.create(path, b"x"), storage.size(path),
        storage.replace(path, b"x", expected=b""), storage.delete(path), storage.write_file(path, Path(__file__)),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(VaultError, match="not a path inside"):
            await call


async def test_the_location_is_for_people(storage: Storage) -> None:
    assert storage.location.endswith("vault")
    assert "@" not in storage.location


# --- only in S3


async def test_a_store_without_conditional_writes_cannot_hold_a_vault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    for lie in ("if-none-match", "if-match"):
        async with start_stub() as stub:
            stub.ignored_put_conditions = {lie}
            with pytest.raises(VaultError, match=f"(?i)ignores {lie}") as caught:
                await open_storage(f"s3://{stub.bucket}/v", endpoint_url=stub.endpoint, retry=FAST)
            assert "conditional writes" in str(caught.value)
            assert stub.objects == {}
    async with start_stub() as stub:  # and an honest one can
        storage = await open_storage(f"s3://{stub.bucket}/v", endpoint_url=stub.endpoint, retry=FAST)
        await storage.close()
        assert stub.objects == {}


async def test_a_create_whose_answer_was_lost_knows_its_own_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    async with start_stub() as stub:
        storage = await open_storage(f"s3://{stub.bucket}/v", endpoint_url=stub.endpoint, retry=FAST)
        stub.fail(Fault.LOST_ANSWER)
        assert await storage.create("lock.json", b"mine")
        assert not await storage.create("lock.json", b"mine")  # the same bytes by somebody else are not ours
        stub.fail(Fault.LOST_ANSWER, after=1)
        assert await storage.replace("lock.json", b"renewed", expected=b"mine")
        assert await storage.read("lock.json") == b"renewed"
        await storage.close()


async def test_storage_class_and_key_are_sent_with_every_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    (tmp_path / "f").write_bytes(b"x")
    async with start_stub() as stub:
        storage = await open_storage(
            f"s3://{stub.bucket}/v",
            endpoint_url=stub.endpoint,
            storage_class="STANDARD_IA",
            kms_key_id="k1",
            retry=FAST,
        )
        stub.requests.clear()
        await storage.write("a", b"x")
        await storage.create("b", b"x")
        await storage.replace("a", b"y", expected=b"x")
        await storage.write_file("c", tmp_path / "f")
        puts = [seen.headers for seen in stub.requests if seen.method == "PUT"]
        assert len(puts) == 4
        for headers in puts:
            assert headers["x-amz-storage-class"] == "STANDARD_IA"
            assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "k1"
        await storage.close()


async def test_a_failed_upload_in_parts_is_aborted(
    minio: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_client: Any
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    name = make_bucket(minio)
    storage = await open_storage(f"s3://{name}/v", endpoint_url=minio.endpoint, retry=FAST)
    assert isinstance(storage, S3Storage)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(40 * 1024 * 1024))
    bucket = storage.bucket
    original = bucket.upload_part

    async def broken(key: str, upload_id: str, number: int, body: bytes, *, size: int) -> str:
        if number == 2:
            raise VaultError("the disk is gone")
        return await original(key, upload_id, number, body, size=size)

    monkeypatch.setattr(bucket, "upload_part", broken)
    with pytest.raises(VaultError, match="disk is gone"):
        await storage.write_file("packs/1", source)
    monkeypatch.setattr(bucket, "upload_part", original)
    task = asyncio.create_task(storage.write_file("packs/2", source))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for key in ("v/packs/1", "v/packs/2"):
        assert s3_client(minio).list_multipart_uploads(Bucket=name, Prefix=key).get("Uploads", []) == []
    await storage.close()


async def test_failures_of_the_store_are_vault_errors_that_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    async with start_stub() as stub:
        with pytest.raises(VaultError, match="'s3://other-one/v' cannot be used.*does not exist"):
            await open_storage("s3://other-one/v", endpoint_url=stub.endpoint, retry=FAST)
        with pytest.raises(VaultError, match="does not exist"):
            await open_storage("s3://other-one/v", endpoint_url=stub.endpoint, retry=FAST, create=False)
        storage = await open_storage(f"s3://{stub.bucket}/v", endpoint_url=stub.endpoint, retry=FAST)
        stub.answer(403, body=error("AccessDenied"))
        with pytest.raises(
            VaultError, match=r"'s3://stub-bucket/v' .*\(file 'a/b'\).*s3:PutObject was denied"
        ):
            await storage.write("a/b", b"x")
        stub.fail(Fault.DROP, times=5)
        with pytest.raises(VaultError, match="no whole answer"):
            await storage.read("a")
        stub.fail(Fault.HTML, times=3)
        with pytest.raises(VaultError, match="listing"):
            await _all(storage)
        await storage.close()


async def test_reading_only_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    async with start_stub() as stub:
        storage = await open_storage(
            f"s3://{stub.bucket}", endpoint_url=stub.endpoint, retry=FAST, create=False
        )
        await storage.close()
        assert {seen.method for seen in stub.requests} == {"GET"}
    with pytest.raises(VaultError, match="does not exist"):
        await open_storage(str(tmp_path / "none"), create=False)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_vanishes_is_never_taken_for_an_empty_one(tmp_path: Path) -> None:
    """A volume that is unmounted while in use leaves its mount point: an empty folder."""
    storage = await open_storage(str(tmp_path / "vault"))
    await storage.write("state/holds/a", b"held")
    (tmp_path / "vault").rename(tmp_path / "elsewhere")
    for mount_point in (False, True):
        if mount_point:
            (tmp_path / "vault").mkdir()
        for ask in (
            lambda: storage.read("state/holds/a"),
            lambda: storage.size("no/such"),
            lambda: _all(storage),
            lambda: _all(storage, "state/"),
            lambda: storage.write("state/holds/b", b"held"),
            lambda: storage.create("state/holds/b", b"held"),
            lambda: storage.delete("state/holds/a"),
        ):
            with pytest.raises(VaultError, match="not there any more: it was moved, removed or unmounted"):
                await ask()
        assert list((tmp_path / "vault").glob("**/*")) == []  # nothing is written beside the vault
    (tmp_path / "vault").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "vault")
    assert await storage.read("state/holds/a") == b"held"
    assert await _all(storage) == [("state/holds/a", 4)]
