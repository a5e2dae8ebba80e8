"""The operator ends, the API server ends, two operators run, a watch dies: and what must be true afterwards."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kopf
import pytest

from s3gc.controller import app
from s3gc.controller.acting import Actor
from s3gc.controller.app import OperatorSettings, run_operator
from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB, Cache
from s3gc.controller.health import Health
from s3gc.controller.jobs import JobSettings
from s3gc.controller.kube import Kube, KubeError, connect
from s3gc.controller.metrics import Meters
from s3gc.controller.queue import Key, WorkQueue
from s3gc.controller.reconcile import Reconciler
from s3gc.exceptions import ConfigurationError
from tests.controller.conftest import Hands, Operator, eventually, never, policy, result_of
from tests.controller.made import OPERATION
from tests.testbed.kubernetes import Kubernetes
from tests.testbed.processes import free_port

JOBS = JobSettings("localhost/s3gc:test")


# --- killed at any instant: every write is a moment at which the process may end


class Killed(BaseException):
    """The process has ended here."""


class MortalKube(Kube):
    """Ends the process at its n-th write: just before it, or just after, when nobody has heard the answer."""

    left: int | None = None
    after = False

    async def _send(self, method: str, path: str, body: object, **more: Any) -> Any:
        if self.left is not None:
            self.left -= 1
            if self.left < 0 and not self.after:
                raise Killed
        answer = await super()._send(method, path, body, **more)
        if self.left is not None and self.left < 0:
            raise Killed
        return answer


@dataclass
class Life:
    """One life of an operator, in this process: it knows what it lists, and looks until nothing changes."""

    kube: MortalKube
    hands: Hands
    looks: int = 0
    meters: list[Meters] = field(default_factory=list)

    async def live(self) -> None:
        cache = Cache()
        queue = WorkQueue(time.time)
        meters = Meters(cache.bucketgcs, version="test")
        self.meters.append(meters)
        actor = Actor(self.kube, cache, lambda: datetime.now(UTC), host="test")
        reconciler = Reconciler(actor, queue, JOBS, meters, Health())
        for _ in range(4):
            for kind, plural in ((BUCKETGC, "bucketgcs"), (GCRESTORE, "gcrestores"), (JOB, "jobs")):
                there = self.hands.list(plural)
                for body in there:
                    cache.put(kind, body)
                gone = set(cache.versions(kind)) - {
                    (body["metadata"]["namespace"], body["metadata"]["name"]) for body in there
                }
                for name in gone:
                    cache.remove(kind, name)
            for kind in (BUCKETGC, GCRESTORE):
                for namespace, name in cache.versions(kind):
                    self.looks += 1
                    await reconciler.look(Key(kind, namespace, name))

    async def die_at(self, write: int, *, after: bool) -> bool:
        """Live until the n-th write; False when there were fewer."""
        self.kube.left, self.kube.after = write, after
        try:
            await self.live()
        except Killed:
            return True
        finally:
            self.kube.left = None
        return False


@pytest.fixture
async def life(
    plane: Kubernetes, own_namespace: Hands, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Life]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    kube = MortalKube(await connect(), (own_namespace.namespace,))
    yield Life(kube, own_namespace)
    await kube.close()


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
async def test_killed_at_any_write_of_a_cycle_no_job_is_made_twice_and_none_is_missed(
    life: Life, after: bool
) -> None:
    hands = life.hands
    for write in range(20):
        gc = policy(schedule="30 2 * * *", successfulJobsHistoryLimit=0)
        hands.create("bucketgcs", gc.name, gc.spec)
        hands.request(gc.name)
        died = await life.die_at(write, after=after)
        await life.live()
        (job,) = hands.jobs(gc.name)
        name = job["metadata"]["name"]
        assert hands.status(gc.name)["active"]["jobName"] == name
        assert hands.status(gc.name)["lastHandledRunRequest"] == "one"

        await asyncio.to_thread(hands.run, name)
        await asyncio.to_thread(hands.end, name, result_of(deleted_count=3))
        await asyncio.to_thread(_until_complete, hands, name)
        died = await life.die_at(write, after=after) or died
        await life.live()
        status = hands.status(gc.name)
        assert status["lastCycle"]["deletedCount"] == 3
        assert [each["jobUID"] for each in status["history"]] == [job["metadata"]["uid"]]
        assert "active" not in status
        assert await asyncio.to_thread(
            eventually, "it is pruned", lambda n=name: hands.get("jobs", n) is None
        )
        hands.delete("bucketgcs", gc.name)
        if not died:
            assert write >= 3, "there was more to be killed at"
            return
    raise AssertionError("it never lived through")


def _until_complete(hands: Hands, job: str) -> None:
    eventually(
        f"{job} is complete",
        lambda: any(
            each["type"] in ("Complete", "Failed") and each["status"] == "True"
            for each in (hands.get("jobs", job) or {})["status"].get("conditions", ())
        ),
    )


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
async def test_killed_at_any_write_of_a_restore_it_runs_once(life: Life, after: bool) -> None:
    hands = life.hands
    gc = policy()
    hands.create("bucketgcs", gc.name, gc.spec)
    await life.live()
    for write in range(20):
        name = f"undo-{write}"
        hands.create("gcrestores", name, {"bucketGCRef": {"name": gc.name}, "latest": True})
        died = await life.die_at(write, after=after)
        await life.live()
        (job,) = hands.jobs(name)
        job_name = job["metadata"]["name"]
        counts = {"restored_count": 2, "skipped_count": 0, "failed_count": 0, "restored_bytes": 1}
        message = {"operation_id": OPERATION, "dry_run": False, "errors": [], **counts}
        await asyncio.to_thread(hands.end, job_name, message)
        await asyncio.to_thread(_until_complete, hands, job_name)
        died = await life.die_at(write, after=after) or died
        await life.live()
        assert hands.condition(name, "Succeeded", "gcrestores") == ("True", "Restored")
        assert len(hands.jobs(name)) == 1
        if not died:
            return
    raise AssertionError("it never lived through")


async def test_what_did_not_change_is_never_written(life: Life) -> None:
    for _ in range(3):
        gc = policy(schedule="30 2 * * *")
        life.hands.create("bucketgcs", gc.name, gc.spec)
    await life.live()
    life.kube.left = 0  # from now on any write ends it
    await life.live()
    await life.live()


# --- as processes


def test_an_operator_that_is_killed_again_and_again(
    own_namespace: Hands, make_operator: Callable[..., Operator]
) -> None:
    """Requests come while it lives and while it is dead; each gets exactly one Job, and each result is counted once."""
    hands = own_namespace
    drawn = random.Random(7)
    gc = policy(successfulJobsHistoryLimit=20)
    hands.create("bucketgcs", gc.name, gc.spec)
    operator = make_operator(hands.namespace)
    for number in range(1, 6):
        hands.request(gc.name, f"token {number}")
        operator.start()
        if drawn.random() < 0.5:
            operator.until_ready()
        time.sleep(drawn.random() * 2)
        operator.kill()
        operator.start()
        job = hands.job(gc.name, number)
        hands.run(job)
        if drawn.random() < 0.5:
            operator.kill()
        hands.end(job, result_of(deleted_count=number))
        if operator.process is not None and operator.process.poll() is None:
            time.sleep(drawn.random())
            operator.kill()
        operator.start()
        eventually(
            "its result", lambda n=number: hands.status(gc.name).get("lastCycle", {}).get("deletedCount") == n
        )
        operator.kill()
    assert len(hands.jobs(gc.name)) == 5
    assert [each["deletedCount"] for each in hands.status(gc.name)["history"]] == [5, 4, 3, 2, 1]


def test_two_operators_at_once_make_no_job_twice(
    own_namespace: Hands, make_operator: Callable[..., Operator]
) -> None:
    hands = own_namespace
    two = [make_operator(hands.namespace).start() for _ in range(2)]
    for operator in two:
        operator.until_ready()
    vault = {"persistentVolumeClaim": {"claimName": "shared"}}
    gcs = [
        policy(
            schedule="30 2 * * *", vault=vault if n < 2 else {"persistentVolumeClaim": {"claimName": f"v{n}"}}
        )
        for n in range(4)
    ]
    for gc in gcs:
        hands.create("bucketgcs", gc.name, gc.spec, annotations={"s3gc.dev/run-requested-at": "one"})

    def unfinished() -> list[str]:
        return [
            job["metadata"]["ownerReferences"][0]["name"]
            for job in hands.list("jobs")
            if not any(each["status"] == "True" for each in job["status"].get("conditions", ()))
        ]

    done = set()
    while len(done) < 4:
        (owner, *_) = eventually("a Job", unfinished)
        assert len([name for name in unfinished() if name in (gcs[0].name, gcs[1].name)]) <= 1
        hands.finish(owner, deleted_count=1)
        done.add(owner)
    for gc in gcs:
        assert len(hands.jobs(gc.name)) == 1
        assert len(hands.status(gc.name)["history"]) == 1
    # And they do not fight over a status.
    time.sleep(3)
    before = {gc.name: (hands.get("bucketgcs", gc.name) or {})["metadata"]["resourceVersion"] for gc in gcs}
    time.sleep(4)
    after = {gc.name: (hands.get("bucketgcs", gc.name) or {})["metadata"]["resourceVersion"] for gc in gcs}
    assert before == after
    for operator in two:
        operator.stop()


def test_with_the_operator_gone_everything_can_be_deleted(
    own_namespace: Hands, make_operator: Callable[..., Operator]
) -> None:
    hands = own_namespace
    gc = policy(schedule="30 2 * * *")
    hands.create("bucketgcs", gc.name, gc.spec)
    hands.create("gcrestores", "undo", {"bucketGCRef": {"name": gc.name}, "latest": True})
    operator = make_operator(hands.namespace).start()
    job = hands.job("undo")
    began = time.monotonic()
    assert operator.stop() in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 30, "what a pod is given to end in"
    hands.delete("gcrestores", "undo")
    hands.delete("bucketgcs", gc.name)
    eventually("both are gone", lambda: not hands.list("bucketgcs") and not hands.list("gcrestores"))
    eventually("the Job with them", lambda: hands.get("jobs", job) is None)


def test_an_api_server_that_ends_and_comes_back_is_not_the_operators_end(
    plane: Kubernetes, own_namespace: Hands, make_operator: Callable[..., Operator]
) -> None:
    hands = own_namespace
    operator = make_operator(hands.namespace).start().until_ready()
    gc = policy()
    hands.create("bucketgcs", gc.name, gc.spec)
    eventually("it is seen", lambda: hands.condition(gc.name, "Ready"))
    assert plane.cluster is not None
    for number in (1, 2):
        plane.cluster.crash("kube-apiserver")
        time.sleep(2)
        plane.cluster.revive()
        hands.request(gc.name, f"after {number}")
        hands.finish(gc.name, number=number)
    assert operator.process is not None
    assert operator.process.poll() is None, "it was not even started anew"
    assert operator.get("/healthz") == (200, "ok")


async def test_a_watch_that_dies_without_a_word_fails_the_liveness_probe(
    plane: Kubernetes, own_namespace: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf's watches are taken away: all lists work, nothing is ever shown."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    port = free_port()

    async def blind(*, stop_flag: asyncio.Event, **_: Any) -> None:
        await stop_flag.wait()

    monkeypatch.setattr(app.kopf, "operator", blind)
    stop = asyncio.Event()
    settings = OperatorSettings(
        JOBS,
        namespaces=(own_namespace.namespace,),
        host="127.0.0.1",
        port=port,
        resync_seconds=0.5,
        blind_seconds=2,
    )
    running = asyncio.create_task(run_operator(settings, stop=stop))

    def health() -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    look = asyncio.to_thread
    await look(eventually, "it lives", lambda: health() == (200, "ok"))
    gc = policy()
    own_namespace.create("bucketgcs", gc.name, gc.spec)
    code, why = await look(eventually, "it is noticed", lambda: (h := health())[0] == 503 and h, 30)
    assert (code, f"the watches have not shown BucketGC {own_namespace.namespace}/{gc.name}" in why) == (
        503,
        True,
    )
    own_namespace.delete("bucketgcs", gc.name)
    await look(eventually, "it has passed", lambda: health()[0] == 200, 30)
    stop.set()
    await asyncio.wait_for(running, 20)


# --- what a person must change


def test_without_rights_it_ends_and_says_which(
    plane: Kubernetes,
    own_namespace: Hands,
    account: Path,
    make_operator: Callable[..., Operator],
    tmp_path: Path,
) -> None:
    plane.kubectl("-n", own_namespace.namespace, "create", "serviceaccount", "nobody")
    token = plane.kubectl("-n", own_namespace.namespace, "create", "token", "nobody").strip()
    import json

    config = json.loads(account.read_text())
    config["users"][0]["user"] = {"token": token}
    other = tmp_path / "nobody"
    other.write_text(json.dumps(config))
    operator = make_operator(own_namespace.namespace)
    operator.kubeconfig = other
    operator.start()
    assert operator.process is not None
    assert operator.process.wait(60) == 2
    assert "a right is missing" in operator.text()
    assert "bucketgcs.s3gc.dev is forbidden" in operator.text()


async def test_without_the_crds_it_ends_and_says_how_to_install_them() -> None:
    class Bare:
        async def versions(self, kind: str) -> None:
            raise KubeError(404, "NotFound", "the server could not find the requested resource")

    with pytest.raises(ConfigurationError, match=r"s3gc crds \| kubectl apply"):
        await app._check(Bare())  # type: ignore[arg-type]


def test_an_api_server_that_is_away_at_the_start_ends_it(
    account: Path, make_operator: Callable[..., Operator], tmp_path: Path
) -> None:
    import json

    config = json.loads(account.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    away = tmp_path / "away"
    away.write_text(json.dumps(config))
    operator = make_operator("shop")
    operator.kubeconfig = away
    operator.start()
    assert operator.process is not None
    assert operator.process.wait(60) == 2
    assert "does not answer" in operator.text()


def test_handlers_leave_no_trace_by_their_kind() -> None:
    """Nothing but watching: any other kind of handler would write finalizers or annotations."""
    from s3gc.controller.handlers import build_registry, build_settings
    from s3gc.controller.inbox import Inbox

    async def login() -> kopf.ConnectionInfo:
        raise AssertionError

    registry = build_registry(Inbox(Cache(), WorkQueue(time.time)), login)
    assert len([*registry._watching.get_all_handlers()]) == 3
    for other in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert [*other.get_all_handlers()] == []
    settings = build_settings()
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    never("work at import", lambda: [*kopf.get_default_registry()._watching.get_all_handlers()], 0.1)
