"""What the watches have shown, what we wrote ourselves, and who must look when something changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB, Cache
from s3gc.controller.inbox import Inbox
from s3gc.controller.observe import JobState
from s3gc.controller.queue import Key, WorkQueue
from s3gc.controller.vaults import describe_overlap, vault_id
from tests.controller.made import bucketgc, bucketgc_body, gcrestore, job, job_body


@pytest.fixture
def cache() -> Cache:
    return Cache()


def restore_body(**changes: Any) -> dict[str, Any]:
    meta = {"name": "undo", "namespace": "shop", "uid": "uid-shop-undo", "resourceVersion": "10", **changes}
    return {"metadata": meta, "spec": {"bucketGCRef": {"name": "media"}, "latest": True}}


# --- the newest counts


def test_what_we_wrote_stands_until_the_watch_shows_it(cache: Cache) -> None:
    cache.put(BUCKETGC, bucketgc_body(version="10"))
    cache.put(BUCKETGC, bucketgc_body(version="12", status={"lastHandledRunRequest": "one"}))
    assert not cache.put(BUCKETGC, bucketgc_body(version="11"))
    found = cache.bucketgc("shop", "media")
    assert found is not None
    assert found.status.last_handled_run_request == "one"
    assert cache.put(BUCKETGC, bucketgc_body(version="12", mode="AuditOnly"))
    assert cache.put(BUCKETGC, bucketgc_body(version="9", uid="another"))


def test_versions_are_numbers(cache: Cache) -> None:
    cache.put(BUCKETGC, bucketgc_body(version="99"))
    assert cache.put(BUCKETGC, bucketgc_body(version="100"))
    assert not cache.put(BUCKETGC, bucketgc_body(version="99"))


def test_a_job_is_found_by_owner_and_vault_and_no_more_when_it_is_gone(cache: Cache) -> None:
    owner = bucketgc()
    second = replace(job("b", owner=owner, minutes=1), vault="v2")
    for view in (second, job("a", owner=owner)):
        cache.put(JOB, job_body(view))
    assert [each.name for each in cache.jobs_of(owner.meta.uid)] == ["a", "b"]
    assert [each.name for each in cache.jobs_of_vault("v2")] == ["b"]
    assert cache.remove(JOB, ("shop", "b"), "another uid") is None
    assert cache.remove(JOB, ("shop", "b"), second.uid) is not None
    assert cache.jobs_of_vault("v2") == []
    assert [each.name for each in cache.jobs_of(owner.meta.uid)] == ["a"]


def test_a_policy_is_found_by_bucket_and_vault_as_it_is_now(cache: Cache) -> None:
    cache.put(BUCKETGC, bucketgc_body("a", version="1"))
    cache.put(BUCKETGC, bucketgc_body("b", version="1"))
    gc = bucketgc("a")
    assert gc.spec is not None
    vault = vault_id(gc.spec, "shop")
    assert [each.meta.name for each in cache.policies_of_vault(vault)] == ["a", "b"]
    assert [each.meta.name for each in cache.same_bucket(gc)] == ["a", "b"]
    cache.put(BUCKETGC, bucketgc_body("b", version="2", vault={"s3": {"bucket": "elsewhere"}}))
    assert [each.meta.name for each in cache.policies_of_vault(vault)] == ["a"]
    cache.remove(BUCKETGC, ("shop", "a"))
    assert cache.policies_of_vault(vault) == []
    assert [each.meta.name for each in cache.same_bucket(gc)] == ["b"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {"name": "x", "namespace": "shop"}, "spec": None},
        {"metadata": {"name": "x", "namespace": "shop", "annotations": None}, "spec": {"bucket": 7}},
        {"metadata": {"name": "x", "namespace": "shop", "generation": None}, "spec": [], "status": []},
    ],
)
@pytest.mark.parametrize("kind", [BUCKETGC, GCRESTORE, JOB])
def test_nothing_that_stands_in_an_object_breaks_the_watch(
    cache: Cache, kind: str, body: dict[str, Any]
) -> None:
    cache.put(kind, body)


# --- the same vault, the same objects


def s3(**changes: Any) -> dict[str, Any]:
    return {"s3": {"bucket": "shop-vault", **changes}}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (s3(), s3(), True),
        (s3(prefix="a/"), s3(prefix="a"), True),
        (s3(prefix="a/"), s3(prefix="b/"), False),
        (s3(endpointURL="http://minio:9000"), s3(endpointURL="http://MINIO:9000"), True),
        (s3(endpointURL="https://minio"), s3(endpointURL="https://minio:443"), True),
        (s3(endpointURL="http://minio:9000"), s3(), False),
    ],
)
def test_a_vault_is_a_place_whatever_the_namespace(one: Any, other: Any, same: bool) -> None:
    first, second = bucketgc(vault=one).spec, bucketgc(vault=other).spec
    assert first is not None
    assert second is not None
    assert (vault_id(first, "shop") == vault_id(second, "other")) == same


def test_a_claim_is_one_of_its_namespace() -> None:
    spec = bucketgc().spec
    assert spec is not None
    assert vault_id(spec, "shop") != vault_id(spec, "other")
    assert len(vault_id(spec, "shop")) <= 63


def scoped(name: str, *prefixes: str, exclude: tuple[str, ...] = (), **bucket: Any) -> Any:
    return bucketgc(
        name,
        bucket={"name": "shop-media", "prefixes": list(prefixes), "excludePrefixes": list(exclude), **bucket},
    )


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        (scoped("a"), scoped("b"), True),
        (scoped("a", "uploads/"), scoped("b"), True),
        (scoped("a", "uploads/"), scoped("b", "uploads/2024/"), True),
        (scoped("a", "uploads/"), scoped("b", "media/"), False),
        (scoped("a", "uploads/", exclude=("uploads/legal/",)), scoped("b", "uploads/legal/"), False),
        (scoped("a", "uploads/", exclude=("uploads/legal/",)), scoped("b", "uploads/l"), True),
        (scoped("a"), scoped("b", endpointURL="http://minio:9000"), False),
        (
            scoped("a", endpointURL="http://minio:9000"),
            scoped("b", endpointURL="http://Minio:9000"),
            True,
        ),
    ],
)
def test_an_overlap_is_seen_from_both_sides(one: Any, other: Any, overlaps: bool) -> None:
    for first, second in ((one, other), (other, one)):
        found = describe_overlap(first, [first, second])
        assert (found is not None) == overlaps
        if found is not None:
            assert f"BucketGC shop/{second.meta.name} has" in found


def test_a_policy_that_goes_or_cannot_be_used_claims_nothing() -> None:
    one = scoped("a")
    assert describe_overlap(one, [one, bucketgc("b", deleting=True)]) is None
    assert describe_overlap(one, [one, bucketgc("b", schedule="never")]) is None
    assert describe_overlap(one, [one]) is None


# --- who looks


async def looks(inbox: Inbox, queue: WorkQueue, kind: str, body: dict[str, Any], **more: Any) -> set[str]:
    while len(queue):
        queue.done(await queue.get())
    inbox.seen(kind, body, **more)
    found = set()
    while len(queue):
        key = await queue.get()
        queue.done(key)
        found.add(f"{key.kind} {key.name}")
    return found


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(lambda: 0.0)


@pytest.fixture
def inbox(cache: Cache, queue: WorkQueue) -> Inbox:
    return Inbox(cache, queue)


async def test_a_policy_that_changes_is_looked_at_with_whoever_may_overlap(
    inbox: Inbox, queue: WorkQueue
) -> None:
    await looks(inbox, queue, BUCKETGC, bucketgc_body("a"))
    await looks(inbox, queue, BUCKETGC, bucketgc_body("elsewhere", bucket={"name": "other"}))
    assert await looks(inbox, queue, BUCKETGC, bucketgc_body("b")) == {"BucketGC a", "BucketGC b"}
    assert await looks(inbox, queue, BUCKETGC, bucketgc_body("b"), deleted=True) == {
        "BucketGC a",
        "BucketGC b",
    }


async def test_a_job_that_ends_wakes_whoever_waits_for_its_vault(inbox: Inbox, queue: WorkQueue) -> None:
    gc = bucketgc()
    assert gc.spec is not None
    vault = vault_id(gc.spec, "shop")
    for name in ("media", "other"):
        await looks(inbox, queue, BUCKETGC, bucketgc_body(name))
    await looks(inbox, queue, GCRESTORE, restore_body())
    running = job("media-1", JobState.RUNNING, owner=gc, vault=vault)
    assert await looks(inbox, queue, JOB, job_body(running)) == {"BucketGC media"}
    everybody = {"BucketGC media", "BucketGC other", "GCRestore undo"}
    ended = job("media-1", owner=gc, vault=vault, resource_version="21")
    assert await looks(inbox, queue, JOB, job_body(ended)) == everybody
    assert await looks(inbox, queue, JOB, job_body(ended), deleted=True) == everybody
    assert await looks(inbox, queue, JOB, job_body(ended), deleted=True) == set()


async def test_a_restore_that_goes_wakes_the_cycles_that_let_it_pass(inbox: Inbox, queue: WorkQueue) -> None:
    await looks(inbox, queue, BUCKETGC, bucketgc_body())
    assert await looks(inbox, queue, GCRESTORE, restore_body()) == {"GCRestore undo"}
    assert await looks(inbox, queue, GCRESTORE, restore_body(), deleted=True) == {
        "GCRestore undo",
        "BucketGC media",
    }


async def test_what_is_older_than_what_is_known_wakes_nobody(inbox: Inbox, queue: WorkQueue) -> None:
    await looks(inbox, queue, BUCKETGC, bucketgc_body(version="10"))
    assert await looks(inbox, queue, BUCKETGC, bucketgc_body(version="9")) == set()


async def test_everything_is_every_policy_and_every_restore(
    inbox: Inbox, queue: WorkQueue, cache: Cache
) -> None:
    cache.put(BUCKETGC, bucketgc_body())
    cache.put(GCRESTORE, restore_body())
    inbox.everything()
    assert {await queue.get(), await queue.get()} == {
        Key(BUCKETGC, "shop", "media"),
        Key(GCRESTORE, "shop", "undo"),
    }
    assert gcrestore().problems == ()
