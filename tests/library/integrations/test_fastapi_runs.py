"""Cycles in a server process: seen while they run, one at a time, ended in good order, one a day whoever is awake."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.library.integrations.conftest import Shop
from tests.library.integrations.serving import BASE, Answer, Served

from s3gc import create_config
from s3gc.exceptions import SlotTakenError
from s3gc.integrations.admin.models import GCRestoreRequest
from s3gc.integrations.admin.problems import ProblemError
from s3gc.integrations.admin.runs import Runs
from s3gc.integrations.admin.runtime import Runtime
from s3gc.integrations.admin.scheduler import Scheduler, due
from s3gc.schedule import Timetable
from s3gc.state import initialize_gc_state, shutdown_gc_state
from s3gc.vault.ownership import claimed_scope
from s3gc.vault.slots import SlotsRun, begin_slots


def slow(shop: Shop, vault: Path, **changes: Any) -> dict[str, Any]:
    """A policy whose sweep takes its time: few requests a second, and groups of a few objects."""
    return shop.policy(
        vault, mode="execute", requests_per_second=60, canary_objects=2, group_objects=2, **changes
    )


def lock_of(vault: Path) -> dict[str, Any]:
    (path,) = vault.glob("scopes/*/lock.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_shutdown_in_the_middle_leaves_the_vault_consistent_and_the_scope_unlocked(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    shop = make_shop(orphans=60)
    vault = tmp_path / "vault"
    served = serve(shop, slow(shop, vault))
    answers: list[Answer] = []
    with served.events() as events:
        assert next(events)[0] == "status"
        waits = threading.Thread(target=lambda: answers.append(served.post(f"{BASE}/run?wait=true")))
        waits.start()
        seen: list[str] = []
        operation_id = ""
        for name, data in events:
            if name == "progress" and data["running"] is not None:
                seen.append(data["running"]["progress"]["phase"])
                operation_id = data["running"]["operation_id"] or operation_id
                if data["running"]["progress"]["deleted"] >= 4:
                    break
        assert operation_id
        assert {"BackingUp", "Deleting"} & set(seen)

        # a second one meanwhile: 409, with the id of the one that runs
        second = served.post(f"{BASE}/run")
        assert (second.status, second.json["operation_id"]) == (409, operation_id), second.body
        running = served.get(f"{BASE}/operations/{operation_id}").json["operation"]
        assert running["state"] == "running"
        assert served.get(f"{BASE}/status").json["running"]["operation_id"] == operation_id

        # the open stream and the open request end with the process, and do not hold it
        served.terminate()
        assert list(events) is not None
    waits.join(timeout=30)
    assert (answers[0].status, answers[0].json["type"]) == (503, "urn:s3gc:stopping")

    assert lock_of(vault)["released"] is True
    gone = set(shop.orphans) - shop.keys()
    assert set(shop.referenced) <= shop.keys()
    assert 0 < len(gone) < 60
    # what was deleted was checked and is on record: the next process just carries on
    served.start()
    detail = served.get(f"{BASE}/operations/{operation_id}").json
    assert (detail["operation"]["journal"], detail["operation"]["deleted_count"]) == ("closed", len(gone))
    assert detail["result"]["verified"] is True
    would = served.post(f"{BASE}/restore/{operation_id}").json
    assert set(would["restored_keys"]) == gone
    assert served.get(f"{BASE}/health").json["status"] == "ok"


def _missed(config: Any, days: int = 3) -> None:
    """A vault whose schedule has counted for days in which no process lived."""

    async def begin() -> None:
        state = await initialize_gc_state(config)
        try:
            storage = state["vault"].storage
            scope = await claimed_scope(storage, config)
            since = datetime.now(UTC) - timedelta(days=days)
            await begin_slots(storage, scope, "30 2 * * *", "UTC", since)
        finally:
            await shutdown_gc_state(state)

    asyncio.run(begin())


def test_two_workers_run_one_cycle_a_day(
    make_shop: Callable[..., Shop],
    serve: Callable[..., Served],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = make_shop()
    vault = tmp_path / "vault"
    policy = shop.policy(vault, mode="execute", schedule_cron="02:30")
    for name, value in shop.s3.environment.items():
        monkeypatch.setenv(name, value)
    _missed(create_config(**policy))

    served = serve(shop, policy, options=("--workers", "2"))
    for times in (1, 2):  # both are awake, and again after a restart
        served.until(lambda n=times: served.log.count("Application startup complete") == 2 * n, "two workers")  # type: ignore[misc]
        served.until(
            lambda: served.get(f"{BASE}/status").json["schedule"]["last_slot"] is not None,
            "the slot is taken",
        )
        served.until(served.idle, "the cycle has ended")
        # whichever worker answers
        for _ in range(8):
            history = served.get(f"{BASE}/operations").json["items"]
            assert [(each["outcome"], each["deleted_count"]) for each in history] == [("Succeeded", 4)]
            assert served.get(f"{BASE}/health").json["schedule"]["state"] == "ok"
        if times == 1:
            served.terminate()
            served.start()
    assert lock_of(vault)["released"] is True
    assert served.log.count("make up") <= 1


async def test_of_schedulers_that_wake_together_one_runs(
    make_shop_async: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop: Shop = await make_shop_async()
    for name, value in shop.s3.environment.items():
        monkeypatch.setenv(name, value)
    config = create_config(**shop.policy(tmp_path / "vault", schedule_cron="02:30"))
    await asyncio.to_thread(_missed, config)
    runtimes = [Runtime(config, "/admin/s3gc") for _ in range(3)]
    try:
        made = [(runtime, Runs(runtime)) for runtime in runtimes]
        schedulers = [Scheduler(runtime, runs) for runtime, runs in made]
        for _ in range(2):
            await asyncio.gather(*(each._look(each._runtime.timetable) for each in schedulers))  # type: ignore[arg-type]
        vault = (await runtimes[0].state())["vault"]
        records = await vault.operations()
        assert [record.outcome for record in records] == ["Succeeded"]
        view = await schedulers[2].view()
        assert view is not None
        assert view.last_slot is not None
        assert view.last_slot + timedelta(days=1) > datetime.now(UTC)
        with pytest.raises(SlotTakenError):
            from s3gc.vault.slots import Slot

            await made[1][1].start_cycle(slot=Slot(view.last_slot, "30 2 * * *", "UTC"), trigger="schedule")
        assert sum(runs.ended for _, runs in made) == 1
        assert len(await vault.operation_ids()) == 1
    finally:
        for runtime in runtimes:
            await runtime.close()


async def test_another_worker_sees_the_cycle_is_kept_out_and_restores_in_its_way(
    make_shop_async: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop: Shop = await make_shop_async(orphans=60)
    for name, value in shop.s3.environment.items():
        monkeypatch.setenv(name, value)
    config = create_config(**slow(shop, tmp_path / "vault"))
    runtimes = [Runtime(config, "/admin/s3gc") for _ in range(2)]
    here, there = (Runs(runtime) for runtime in runtimes)
    try:
        work = await here.start_cycle()
        while True:
            seen, _ = await there.running()
            if seen is not None and seen.progress.deleted >= 4:
                break
            assert work.task is not None
            assert not work.task.done(), work.error
            await asyncio.sleep(0.05)
        assert (seen.here, seen.operation_id, seen.kind, seen.mode) == (
            False,
            work.operation_id,
            "cycle",
            "execute",
        )
        with pytest.raises(ProblemError) as kept_out:
            await there.start_cycle()
        assert (kept_out.value.problem.status, kept_out.value.problem.operation_id) == (
            409,
            work.operation_id,
        )
        assert (there.ended, there.last) == (0, None)

        # a restore has the way: the cycle ends after its group, and what it took comes back
        assert work.operation_id is not None
        restoring = await there.start_restore(work.operation_id, GCRestoreRequest(dry_run=False))
        await there.wait(restoring)
        await here.wait(work)
        assert restoring.restore is not None
        assert work.result is not None
        assert restoring.restore.restored_count == work.result.deleted_count < 60
        assert shop.keys() == {*shop.referenced, *shop.orphans}
        assert there.last is not None
        assert (there.last.kind, there.last.problem) == ("restore", None)
    finally:
        for runtime in runtimes:
            await runtime.close()


NIGHTLY = Timetable("02:30", "UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-{text}:00+00:00")


@pytest.mark.parametrize(
    ("now", "since", "last", "expected", "missed"),
    [
        ("05T02:29", "01T00:00", "04T02:30", None, 0),
        ("05T02:30", "01T00:00", "04T02:30", "05T02:30", 0),
        ("05T13:00", "01T00:00", "04T02:30", "05T02:30", 0),
        ("09T13:00", "01T00:00", "04T02:30", "09T02:30", 4),  # caught up once
        ("05T13:00", "05T12:00", None, None, 0),  # a schedule that is new begins with the next slot
        ("06T02:31", "05T12:00", None, "06T02:30", 0),
        ("04T01:00", "01T00:00", "04T02:30", None, 0),  # a clock that went back
    ],
)
def test_what_is_due(now: str, since: str, last: str | None, expected: str | None, missed: int) -> None:
    run = SlotsRun("30 2 * * *", "UTC", at(since), at(last) if last else None)
    verdict = due(at(now), NIGHTLY, run)
    assert (verdict.due, verdict.missed) == (at(expected) if expected else None, missed)


def test_the_reference_s_example_runs(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    """The example of the API reference as it is written there, the bucket's name aside."""
    shop = make_shop()
    document = (Path(__file__).parents[3] / "docs/fastapi.md").read_text()
    example = document.partition("```python\n")[2].partition("```")[0]
    assert example == (
        "from fastapi import FastAPI\n"
        "from s3gc import create_config\n"
        "from s3gc.integrations.fastapi import setup_s3gc_plugin\n"
        "\n"
        "app = FastAPI()\n"
        'config = create_config(bucket="my-bucket")\n'
        "setup_s3gc_plugin(app, config)\n"
    )
    (tmp_path / "example.py").write_text(example.replace("my-bucket", shop.bucket))
    served = serve(
        shop,
        {},
        application="example:app",
        environment={"PYTHONSAFEPATH": ""},
        options=("--app-dir", str(tmp_path)),
    )
    done = served.run()
    assert (done["outcome"], done["mode"], done["total_scanned"]) == ("Succeeded", "dry_run", 11)
    assert done["unverifiable_count"] + done["young_count"] == 11  # no database vouches for any of them
    assert served.get(f"{BASE}/status").json["vault"].endswith("s3gc_vault")
    assert served.get(f"{BASE}/metrics").json["total_runs"] == 1
    assert served.get(f"{BASE}/health").json["status"] == "ok"
    restored = served.post(f"{BASE}/restore/{done['operation_id']}").json
    assert restored["restored_count"] == 0
    served.terminate()
