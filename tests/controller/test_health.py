"""Health notices a loop that stands still, a look that hangs and a watch that is blind; metrics come from statuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB, Cache
from s3gc.controller.health import Health, Sync
from s3gc.controller.metrics import Meters
from s3gc.controller.observe import JobState
from s3gc.controller.queue import Key
from s3gc.controller.readings import gone_cycle, read_cycle
from s3gc.controller.status import take_in
from s3gc.controller.statuses import BucketGCStatus
from tests.controller.made import DIGEST, NOW, at, bucketgc, bucketgc_body, job, pod, short

KEY = Key(BUCKETGC, "shop", "media")


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


# --- health


def test_a_loop_that_stands_still_is_noticed() -> None:
    clock = Clock()
    health = Health(clock, turn_seconds=120)
    assert health.trouble() is None
    clock.seconds = 119
    assert health.trouble() is None
    clock.seconds = 121
    assert health.trouble() == "the loop has not turned for 121 s"
    health.turn()
    assert health.trouble() is None


def test_a_look_that_hangs_is_noticed_by_name() -> None:
    clock = Clock()
    health = Health(clock, turn_seconds=10**6, look_seconds=600)
    with health.busy(KEY):
        clock.seconds = 601
        assert health.trouble() == "looking at BucketGC shop/media takes 601 s"
    assert health.trouble() is None


# --- a watch that is blind


class Listed:
    """What an API server would list."""

    def __init__(self) -> None:
        self.version = 100
        self.there: dict[str, dict[tuple[str, str], tuple[str, str]]] = {BUCKETGC: {}, GCRESTORE: {}, JOB: {}}

    async def versions(self, kind: str) -> tuple[int, dict[tuple[str, str], tuple[str, str]]]:
        return self.version, dict(self.there[kind])


@pytest.fixture
def listed() -> Listed:
    return Listed()


@pytest.fixture
def cache() -> Cache:
    return Cache()


def sync_of(listed: Any, cache: Cache) -> Sync:
    return Sync(listed, cache)


async def test_what_the_watch_has_not_shown_is_behind_until_it_does(listed: Listed, cache: Cache) -> None:
    sync = sync_of(listed, cache)
    listed.there[BUCKETGC]["shop", "media"] = ("uid-shop-media", "10")
    assert await sync.compare() == ["BucketGC shop/media"]
    assert sync.still_missed() == ["BucketGC shop/media"]
    cache.put(BUCKETGC, bucketgc_body(version="9"))
    assert sync.still_missed() == ["BucketGC shop/media"]
    cache.put(BUCKETGC, bucketgc_body(version="11"))
    assert sync.still_missed() == []
    assert await sync.compare() == []


async def test_an_object_that_was_made_anew_is_behind(listed: Listed, cache: Cache) -> None:
    cache.put(BUCKETGC, bucketgc_body(version="50", uid="old"))
    listed.there[BUCKETGC]["shop", "media"] = ("new", "10")
    assert await sync_of(listed, cache).compare() == ["BucketGC shop/media"]


async def test_an_object_that_went_while_the_watch_was_away_is_forgotten(
    listed: Listed, cache: Cache
) -> None:
    cache.put(BUCKETGC, bucketgc_body(version="50"))
    cache.put(
        BUCKETGC, bucketgc_body("young", version="101")
    )  # newer than the list, so the list says nothing
    assert await sync_of(listed, cache).compare() == []
    assert cache.bucketgc("shop", "media") is None
    assert cache.bucketgc("shop", "young") is not None


# --- metrics


def value(meters: Meters, metric: str, /, **wanted: str) -> float | None:
    for family in text_string_to_metric_families(meters.text().decode()):
        for sample in family.samples:
            if sample.name == metric and wanted.items() <= sample.labels.items():
                return float(sample.value)
    return None


def with_status(status: BucketGCStatus, **spec: Any) -> Any:
    return replace(bucketgc(**spec), status=status)


def test_gauges_are_read_from_the_statuses() -> None:
    message = short(
        reclaimable_bytes=500, missing_objects=3, metrics={"vault_size_bytes": 99}, plan_digest=DIGEST,
        sources=[{"name": "a", "level": "cdc", "lag_bytes": 7}, {"name": "b", "level": "cdc", "lag_bytes": 70},
                 {"name": "c", "level": "rescan"}],
    )  # fmt: skip
    status = take_in(BucketGCStatus(), read_cycle(job(), [pod(message)]), NOW)
    status = status.model_copy(update={"next_schedule_time": at("2026-11-24 02:30")})
    gc = with_status(status, schedule="30 2 * * *", suspend=True)
    meters = Meters(lambda: [gc], version="1.2.3")
    assert value(meters, "s3gc_build_info", version="1.2.3") == 1
    assert value(meters, "s3gc_last_success_timestamp_seconds", name="media") == at("02:31").timestamp()
    assert value(meters, "s3gc_next_run_timestamp_seconds") == at("2026-11-24 02:30").timestamp()
    assert value(meters, "s3gc_schedule_expected_interval_seconds") == 86400
    assert value(meters, "s3gc_reclaimable_bytes") == 500
    assert value(meters, "s3gc_missing_objects") == 3
    assert value(meters, "s3gc_vault_size_bytes") == 99
    assert value(meters, "s3gc_capture_lag_bytes") == 70
    assert value(meters, "s3gc_suspended") == 1
    assert value(meters, "s3gc_stalled") == 0


def test_counters_count_by_what_the_cycle_did_and_go_with_the_policy() -> None:
    gc = bucketgc()
    meters = Meters(lambda: [gc], version="1")
    message = short(deleted_count=4, total_scanned=10, late_references=1, reclaimed_bytes=77)
    meters.cycle_ended(gc, read_cycle(job(), [pod(message)]).cycle, job())
    meters.cycle_ended(gc, gone_cycle("j", "u", NOW, NOW), None)
    other = bucketgc("other")
    meters.cycle_ended(other, read_cycle(job(state=JobState.FAILED), []).cycle, job())
    assert value(meters, "s3gc_cycles_total", name="media", outcome="Succeeded") == 1
    assert value(meters, "s3gc_cycles_total", name="media", outcome="Unknown") == 1
    assert value(meters, "s3gc_objects_total", name="media", action="deleted") == 4
    assert value(meters, "s3gc_objects_total", name="media", action="scanned") == 10
    assert value(meters, "s3gc_deleted_bytes_total", name="media") == 77
    assert value(meters, "s3gc_late_references_total", name="media") == 1
    assert value(meters, "s3gc_cycle_duration_seconds_count", name="media") == 1
    meters.forget("shop", "media")
    assert value(meters, "s3gc_cycles_total", name="media") is None
    assert value(meters, "s3gc_cycle_duration_seconds_count", name="media") is None
    assert value(meters, "s3gc_cycles_total", name="other", outcome="Failed") == 1
