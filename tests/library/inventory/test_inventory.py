"""The inventory is the bucket: every key once, whatever the ranges; nothing of s3gc's own; or an error."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.stub.server import Fault, Stub, error, million_keys, start_stub
from tests.testbed.services import S3Server, make_bucket

from s3gc.exceptions import AccessDeniedError, ListingError, S3GCError
from s3gc.inventory.listing import Inventory, take_inventory
from s3gc.inventory.problems import INVENTORY_SCHEMA
from s3gc.inventory.ranges import cut, discover, outermost
from s3gc.store.bucket import Bucket, RetryPolicy
from s3gc.store.keys import key_bytes

FAST = RetryPolicy(attempts=4, first_wait_seconds=0.01, longest_wait_seconds=0.05)


@pytest.fixture(autouse=True)
def _keys_of_the_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stub")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stub")


async def open_stub(stub: Stub) -> Bucket:
    return await Bucket.open(stub.bucket, endpoint_url=stub.endpoint, retry=FAST)


@pytest.fixture
async def real(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    async with await Bucket.open(make_bucket(s3), endpoint_url=s3.endpoint) as bucket:
        yield bucket


def rows(inventory: Inventory) -> list[dict[str, Any]]:
    for file in inventory.files:
        assert pq.read_schema(file).equals(INVENTORY_SCHEMA)
    return [row for file in inventory.files for row in pq.read_table(file).to_pylist()]


def keys(inventory: Inventory) -> list[str]:
    return [row["key"] for row in rows(inventory)]


async def test_a_real_bucket_is_listed_as_it_is(real: Bucket, tmp_path: Path) -> None:
    names = [f"{folder}/{n:03d}" for folder in ("a", "b/c", "ü") for n in range(40)] + ["a+b %2F\n", "top"]
    await asyncio.gather(*(real.put(name, b"x" * (n % 7), size=n % 7) for n, name in enumerate(names)))
    before = await real.server_time()
    seen: list[int] = []
    inventory = await take_inventory(real, prefixes=[], work=tmp_path, concurrency=4, progress=seen.append)
    assert keys(inventory) == sorted(names, key=str.encode)
    assert inventory.objects == len(names) == seen[-1]
    assert inventory.bytes == sum(n % 7 for n in range(len(names)))
    assert before - timedelta(seconds=1) <= inventory.t0 <= await real.server_time()
    assert {row["problem"] for row in rows(inventory)} == {None}
    assert inventory.left_out == {}
    for row in rows(inventory)[:5]:
        head = await real.head(row["key"])
        assert head is not None
        assert (head.size, head.etag, head.last_modified) == (
            row["size"], row["etag"], row["last_modified"].replace(microsecond=0),
        )  # fmt: skip


async def test_only_the_scopes_prefixes_are_listed(real: Bucket, tmp_path: Path) -> None:
    names = ["a/1", "a/2", "ab/1", "b/1", "c/1", "c"]
    await asyncio.gather(*(real.put(name, b"", size=0) for name in names if name != "c"))
    inventory = await take_inventory(real, prefixes=["c/", "a/", "a/1"], work=tmp_path, concurrency=2)
    assert keys(inventory) == ["a/1", "a/2", "c/1"]
    assert (await take_inventory(real, prefixes=["none/"], work=tmp_path, concurrency=2)).files == ()


async def test_ranges_are_an_exact_partition_whatever_keys_bounds_and_prefixes(tmp_path: Path) -> None:
    draw = random.Random(11)

    def some(most: int) -> list[str]:
        return [
            "".join(draw.choices("ab/é\U0001f600.%+\n\x01", k=draw.randint(1, 6)))
            for _ in range(draw.randint(0, most))
        ]

    async with start_stub(page_size=3) as stub, await open_stub(stub) as bucket:
        for _ in range(80):
            names, bounds = some(60), some(12)
            prefixes = draw.sample(["", "a", "a/", "b", "é", "ab"], draw.randint(0, 3))
            stub.keys = sorted({name.encode() for name in names})
            stub.render()
            inventory = await take_inventory(
                bucket, prefixes=prefixes, work=tmp_path, concurrency=draw.randint(1, 5), bounds=bounds
            )
            scope = tuple(prefixes) or ("",)
            assert keys(inventory) == sorted({n for n in names if n.startswith(scope)}, key=str.encode)
            assert inventory.objects == len(keys(inventory))


@given(
    st.lists(st.text("ab/", max_size=4)),
    st.lists(st.text("ab/\ufffd", max_size=5)),
    st.text("ab/", max_size=6),
)
def test_each_key_falls_in_exactly_one_range(prefixes: list[str], bounds: list[str], key: str) -> None:
    ranges = cut(prefixes, bounds)

    def holds(start: str, end: str | None) -> bool:
        return start.encode() < key.encode() and (end is None or key.encode() <= end.encode())

    hits = sum(key.startswith(r.prefix) and holds(r.start_after, r.end_at) for r in ranges)
    assert hits == (bool(key) and any(key.startswith(prefix) for prefix in outermost(prefixes)))
    for prefix in prefixes:
        assert all(r.may_hold(prefix) for r in ranges if key.startswith((r.prefix, prefix)) and key.startswith(prefix)
                   and key.startswith(r.prefix) and holds(r.start_after, r.end_at))  # fmt: skip


async def test_the_next_listing_is_cut_evenly_by_the_bounds_of_this_one(tmp_path: Path) -> None:
    names = million_keys(60_000)
    async with start_stub(names) as stub, await open_stub(stub) as bucket:
        first = await take_inventory(bucket, prefixes=[], work=tmp_path / "1", concurrency=8)
        assert 5 <= len(first.bounds) <= 6
        second = await take_inventory(
            bucket, prefixes=[], work=tmp_path / "2", concurrency=8, bounds=first.bounds
        )
        assert keys(second) == keys(first) == [name.decode() for name in names]
        assert len(second.files) == len(first.bounds) + 1
        sizes = [pq.read_metadata(file).num_rows for file in second.files]
        assert max(sizes) < 3 * 60_000 / len(sizes)


async def test_a_first_run_finds_ranges_through_the_folders(tmp_path: Path) -> None:
    async with start_stub(million_keys(20_000)) as stub, await open_stub(stub) as bucket:
        bounds = await discover(bucket, [""], 16)
        assert len(bounds) == 16
        assert all(bound.startswith("media/") for bound in bounds)
        inventory = await take_inventory(bucket, prefixes=[], work=tmp_path, concurrency=4)
        assert len(inventory.files) > 8
        assert inventory.objects == 20_000


async def test_keys_that_must_not_be_acted_on_are_there_with_the_reason(tmp_path: Path) -> None:
    odd: dict[str | bytes, str | None] = {
        "plain": None, "/lead": "starts with '/'", "a//b": "has an empty segment", "a/./b": "has a '.' or '..' segment",
        "dir/": "ends with '/'", "x\ufffdy": "contains U+FFFD", b"\xff\xfe": "not UTF-8",
        "k" * 1025: "longer than 1024 bytes",
        "new\nline": None, "..a": None,
    }  # fmt: skip
    async with start_stub(odd) as stub, await open_stub(stub) as bucket:
        inventory = await take_inventory(
            bucket, prefixes=[], work=tmp_path, concurrency=2, bounds=["dir", "zz"]
        )
        found = {key_bytes(row["key"]): row["problem"] for row in rows(inventory)}
        assert found == {k.encode() if isinstance(k, str) else k: reason for k, reason in odd.items()}


async def test_names_that_stand_for_several_objects_are_there_once(tmp_path: Path) -> None:
    raw = [b"a\x80b", b"a\x81b", b"a\x82b", b"aab", b"b"]
    async with start_stub(raw, echo_encoding=False) as stub, await open_stub(stub) as bucket:
        inventory = await take_inventory(bucket, prefixes=[], work=tmp_path, concurrency=2, bounds=["aab"])
        assert sorted(keys(inventory)) == ["aab", "a\ufffdb", "b"]
        assert {r["key"]: r["problem"] for r in rows(inventory)}["a\ufffdb"] == "contains U+FFFD"


async def test_what_belongs_to_s3gc_is_left_out_and_said(real: Bucket, tmp_path: Path) -> None:
    ours = [".s3gc/claims/x.json", ".s3gc/probe/1"]
    vault = ["backup/s3gc-vault.json", "backup/operations/01/packs/000001.pack", "backup/zz", "backup/a"]
    theirs = ["backup.txt", "backups/1", "my-s3gc-vault.json", ".s3gcx", "other/a", "zz"]
    await asyncio.gather(*(real.put(name, b"12", size=2) for name in ours + vault + theirs))
    for bounds in ([], ["backup/operations/02"], ["backup/t", "backup/zzz", "zz"]):
        inventory = await take_inventory(real, prefixes=[], work=tmp_path, concurrency=2, bounds=bounds)
        assert keys(inventory) == sorted(theirs)
        assert (inventory.objects, inventory.bytes) == (len(theirs), 2 * len(theirs))
        assert set(inventory.left_out) == {".s3gc/", "backup/"}
        assert "vault" in inventory.left_out["backup/"]


async def test_a_scope_inside_a_vault_is_empty(real: Bucket, tmp_path: Path) -> None:
    for name in ("v/s3gc-vault.json", "v/operations/01/packs/1", "w/1"):
        await real.put(name, b"", size=0)
    inventory = await take_inventory(real, prefixes=["v/operations/", "w/"], work=tmp_path, concurrency=2)
    assert keys(inventory) == ["w/1"]
    assert set(inventory.left_out) == {"v/"}
    await real.put("s3gc-vault.json", b"", size=0)
    for prefixes in ([], ["w/"]):
        inventory = await take_inventory(real, prefixes=prefixes, work=tmp_path, concurrency=2)
        assert (inventory.files, inventory.objects) == ((), 0)
        assert "" in inventory.left_out


@pytest.mark.parametrize(
    "fault",
    [f for f in Fault if f not in (Fault.SLOW_DOWN, Fault.INTERNAL, Fault.SAME_TOKEN, Fault.REPEATED_PAGE,
                                   Fault.TOKEN_AT_END, Fault.LOST_ANSWER, Fault.HANG)],
)  # fmt: skip
async def test_any_part_that_is_not_provably_complete_is_an_error_and_no_inventory(
    fault: Fault, tmp_path: Path
) -> None:
    names = [f"{folder}/{n:03d}" for folder in "abcd" for n in range(40)]
    async with start_stub(names, page_size=10) as stub, await open_stub(stub) as bucket:
        stub.fail(fault, times=400, after=9)
        with pytest.raises(S3GCError) as caught:
            await take_inventory(bucket, prefixes=[], work=tmp_path, concurrency=3, bounds=["b", "c"])
        assert isinstance(caught.value, ListingError) or fault in (Fault.CUT, Fault.DROP, Fault.NO_DATE)
        assert list(tmp_path.iterdir()) == []  # nothing that could be taken for a listing


async def test_a_denied_listing_is_said(tmp_path: Path) -> None:
    async with start_stub(["a"]) as stub, await open_stub(stub) as bucket:
        await bucket.server_time()
        stub.answer(403, body=error("AccessDenied"), times=9)
        with pytest.raises(AccessDeniedError, match="s3:ListBucket"):
            await take_inventory(bucket, prefixes=["a"], work=tmp_path, concurrency=1)


async def test_a_cancelled_listing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small row groups, so that at any moment some thread is writing one.
    monkeypatch.setattr("s3gc.inventory.writer._FLUSH_BYTES", 20_000)
    async with start_stub(million_keys(20_000), page_size=100) as stub, await open_stub(stub) as bucket:
        for number in range(25):
            task = asyncio.create_task(take_inventory(bucket, prefixes=[], work=tmp_path, concurrency=8))
            await asyncio.sleep(0.02 + number * 0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
            assert list(tmp_path.iterdir()) == []


async def test_memory_is_bounded_by_the_ranges_and_not_by_the_bucket(tmp_path: Path) -> None:
    draw = random.Random(1)
    names = [f"{draw.getrandbits(128):032x}/{n}".encode() for n in range(120_000)]
    async with start_stub(names, keep_requests=False) as stub, await open_stub(stub) as bucket:
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        highest = 0

        def watch(_: int) -> None:
            nonlocal highest
            highest = max(highest, pa.total_allocated_bytes() - before)

        inventory = await take_inventory(
            bucket, prefixes=[], work=tmp_path, concurrency=2, bounds=["8"], progress=watch
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert inventory.objects == 120_000
        assert highest < 40e6
        assert peak < 40e6
