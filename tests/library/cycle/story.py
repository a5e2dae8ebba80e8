"""An application and s3gc beside it, told step by step, with the truth kept apart from what s3gc says.

`Story` changes rows and objects as an application would, runs cycles and restores in processes that may be killed, and
after each of them looks at the bucket itself:

* no object that was there changed, and none went that a row named when the cycle began;
* what went was in the plan and in the scope; what came back is what had gone, byte for byte, with its metadata;
* after a cycle that ended: every object that a committed row names is there, the lock is free, and s3gc's own count
  of deletions (results, audit) is the number of objects that were seen to go.

The dice that each step gets decide everything random in it, so a story is repeated by its seed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.library.cycle.rows import Late
from tests.library.cycle.runner import Order, Report, Runner
from tests.library.cycle.world import World

from s3gc import get_metrics, initialize_gc_state, shutdown_gc_state
from s3gc.backup.retention import verify
from s3gc.plan.planfile import read_plan, summarise

__all__ = ["Story", "Version"]

#: What the policy may touch, and what it must not.
SCOPE, EXCLUDED, FOREIGN = "s/", "s/legal/", "foreign/"
_ODD = ["", " a+b", "%2F", "ü", "u\u0308", "\U0001f980", "/x.jpg", "#?&=", "'\""]


@dataclass(frozen=True, slots=True)
class Version:
    """Bytes and what belongs to them. `repr` is short, for messages."""

    body: bytes = field(repr=False)
    about: tuple[tuple[str, str], ...]
    digest: str = ""

    @classmethod
    def of(cls, body: bytes, about: dict[str, str]) -> Version:
        return cls(body, tuple(sorted(about.items())), f"{len(body)}:{hashlib.sha256(body).hexdigest()[:8]}")


@dataclass
class Story:
    world: World
    runner: Runner
    settings: dict[str, Any]
    environment: dict[str, str]
    told: list[str] = field(default_factory=list)
    view: dict[str, Version] = field(default_factory=dict)  # what the application has
    past: dict[str, list[Version]] = field(default_factory=dict)  # whatever a key ever was
    gone: dict[str, Version] = field(default_factory=dict)  # what s3gc took and has not brought back
    taken: dict[str, dict[str, Version]] = field(default_factory=dict)  # the same by operation, for ever
    lates: list[Late] = field(default_factory=list)
    awaiting: tuple[str, str] | None = None  # operation and digest of a plan that waits for approval
    approved: str | None = None
    uploads: int = 0
    cycles: int = 0
    kills: int = 0
    killed_at: list[str] = field(default_factory=list)
    deleted: int = 0
    restored: int = 0
    #: What the application did to objects of a killed run before the next one looked: the bucket cannot tell any more
    #: who removed what. Each is a deletion more or less.
    unsure: int = 0
    is_cut_off: bool = False
    steps: int = 200  # of the last cycle that ended, as `killpoints` counts them
    _seen: dict[str, tuple[str, Version]] = field(default_factory=dict)
    _state: Any = None

    async def begin(self) -> None:
        self._state = await initialize_gc_state(self.world.config(**self.settings))
        fixed = {f"{EXCLUDED}{n}": b"kept %d" % n for n in range(2)}
        fixed |= {f"{FOREIGN}{n}": b"theirs %d" % n for n in range(3)}
        await self._upload({key: Version.of(body, {"type": "text/plain"}) for key, body in fixed.items()})
        await self.put(random.Random(1), 8)
        await self.refer(random.Random(2))

    async def end(self) -> None:
        for late in self.lates:
            await late.rollback()
        if self._state is not None:
            await shutdown_gc_state(self._state)

    # --- the application

    async def put(self, chance: random.Random, count: int = 4) -> None:
        fresh: dict[str, Version] = {}
        for _ in range(count):
            key = f"{SCOPE}{self.uploads:04d}{chance.choice(_ODD)}"
            self.uploads += 1
            fresh[key] = _content(chance)
        self.told.append(f"put {sorted(fresh)}")
        await self._upload(fresh)
        if chance.random() < 0.5 and self._may_write:
            await self.world.rows.insert(chance.sample(sorted(fresh), count // 2))

    async def overwrite(self, chance: random.Random, *, same_bytes: bool) -> None:
        """Other bytes at the same key, or the same bytes again: a new object with an old ETag."""
        keys = [key for key in self.view if key.startswith(SCOPE) and not key.startswith(EXCLUDED)]
        if keys:
            key = chance.choice(sorted(keys))
            fresh = _content(chance)
            if same_bytes:
                fresh = Version.of(self.view[key].body, dict(fresh.about))
            self.told.append(f"overwrite {key!r} {'with the same bytes' if same_bytes else ''}")
            await self._upload({key: fresh})

    async def remove(self, chance: random.Random) -> None:
        """The application removes an object that no row names."""
        named = set(await self.world.rows.keys()) | {late.key for late in self.lates}
        keys = sorted(k for k in self.view if _in_scope(k) and k not in named and k not in self.gone)
        if keys:
            key = chance.choice(keys)
            self.told.append(f"remove {key!r}")
            await asyncio.to_thread(self.world.client.delete_object, Bucket=self.world.bucket, Key=key)
            del self.view[key]
            self.unsure += self.is_cut_off

    async def refer(self, chance: random.Random) -> None:
        """Rows for objects that are there; the row first, then the look, as an application must."""
        keys = sorted(key for key in self.view if _in_scope(key) and key not in self.gone)
        if keys and self._may_write:
            chosen = chance.sample(keys, min(len(keys), 4))
            self.told.append(f"refer {chosen}")
            await self.world.rows.insert(chosen)

    async def refer_to_gone(self, chance: random.Random) -> None:
        """Rows for objects that s3gc took: it has to bring them back."""
        if self.gone and self._may_write:
            chosen = chance.sample(sorted(self.gone), min(len(self.gone), 2))
            self.told.append(f"refer to gone {chosen}")
            await self.world.rows.insert(chosen)

    async def forget(self, chance: random.Random) -> None:
        keys = sorted(set(await self.world.rows.keys()) - self._locked)
        if len(keys) > 2 and self._may_write:
            chosen = chance.sample(keys, min(len(keys) - 1, 3))
            self.told.append(f"forget {chosen}")
            await self.world.rows.delete(chosen)

    async def move(self, chance: random.Random) -> None:
        old = sorted(set(await self.world.rows.keys()) - self._locked)
        new = sorted(key for key in self.view if _in_scope(key) and key not in self.gone)
        if old and new and self._may_write:
            pair = chance.choice(old), chance.choice(new)
            self.told.append(f"move {pair}")
            await self.world.rows.change(*pair)

    async def open_late(self, chance: random.Random) -> None:
        """A transaction that inserts a row, sees that the object is there, and stays open."""
        keys = sorted(key for key in self.view if _in_scope(key) and key not in self.gone)
        if keys and self._may_write and len(self.lates) < 2:
            late = await self.world.rows.late(chance.choice(keys))
            self.told.append(f"open late {late.key!r}")
            self.lates.append(late)

    async def end_late(self, chance: random.Random) -> None:
        if self.lates:
            late = self.lates.pop(chance.randrange(len(self.lates)))
            commits = chance.random() < 0.7
            self.told.append(f"{'commit' if commits else 'roll back'} late {late.key!r}")
            await (late.commit() if commits else late.rollback())

    @property
    def _may_write(self) -> bool:
        return not (self.lates and self.world.rows.dialect == "sqlite")  # which has one writer

    @property
    def _locked(self) -> set[str]:
        return {late.key for late in self.lates}

    # --- s3gc

    async def cycle(
        self,
        mode: str = "execute",
        *,
        kill_after: float | None = None,
        kill_kind: str | None = None,
        kill_nth: int = 1,
        kill_is_after: bool = False,
        commit_after: float | None = None,
        **settings: Any,
    ) -> Report:
        """One cycle in a process of its own. With `commit_after` an open transaction commits beside it."""
        before, named = await self._look(), set(await self.world.rows.keys())
        known = set(await self._state["vault"].operation_ids())
        order = Order(
            self.world.keywords(**{**self.settings, "mode": mode, **settings}),
            self.environment,
            kill_after=kill_after, kill_kind=kill_kind, kill_nth=kill_nth, kill_is_after=kill_is_after,
        )  # fmt: skip
        report, _ = await asyncio.gather(self.runner.start(order), self._commit(commit_after))
        self._tell(report, mode, settings)
        after = await self._look()
        fresh = sorted(set(await self._state["vault"].operation_ids()) - known)
        vanished = await self._compare(before, after, named, mode, fresh[0] if fresh else self.approved)
        if report.killed:
            self.kills += 1
            self.killed_at.append(report.killed_at)
            self.is_cut_off = self.is_cut_off or mode == "execute"
            return report
        self.cycles += 1
        self.steps = len(report.kinds)
        result = report.result
        assert result is not None, f"{report.error}: {report.message}\n{report.log}"
        await self._judge(result, named, after, vanished)
        return report

    async def _judge(
        self, result: dict[str, Any], named: set[str], after: dict[str, Version], came: set[str]
    ) -> None:
        """What must hold after a cycle that ended."""
        await self._lock_is_free()
        if result["outcome"] == "AwaitingApproval":
            self.awaiting = result["operation_id"], result["plan_digest"]
        if self.approved is not None and result["mode"] == "execute":
            assert result["operation_id"] == self.approved, "an approved plan was not resumed"
            if result["outcome"] != "Refused":
                self.approved = None
        if result["mode"] != "execute":
            assert result["deleted_count"] == result["backed_up_count"] == 0
            return
        # A transaction that was open all the time is why a check says that it is not finished: what it names is then
        # owed by the next cycle. Whatever was committed before this one began is owed now.
        owed = set(await self.world.rows.keys()) if result["verified"] else named
        missing = {key for key in owed if key in self.view and key not in after}
        assert not missing, f"referenced and not there: {sorted(missing)}"
        # What was deleted and brought back within one cycle was never seen to go.
        unseen = len(set(result["late_reference_keys"]) - came)
        self.deleted += unseen
        self.restored += unseen
        if result["outcome"] == "Succeeded":
            opened = [r.id for r in await self._state["vault"].operations() if r.journal == "open"]
            assert not opened, f"a clean cycle left journals open: {opened}"
        await self._counts_are_true()

    async def approve(self) -> None:
        if self.awaiting is not None:
            operation_id, digest = self.awaiting
            self.told.append(f"approve {operation_id}")
            await self._state["vault"].operation(operation_id).approve(digest, by="test")
            self.approved, self.awaiting = operation_id, None

    async def restore(self, chance: random.Random, *, kill_nth: int | None = None) -> Report | None:
        """Restore an operation, whichever: what it took and is not there comes back as it was."""
        records = [r for r in await self._state["vault"].operations() if r.journal != "none"]
        if not records:
            return None
        return await self._restore(chance.choice(records).id, kill_nth)

    async def _restore(self, operation_id: str, kill_nth: int | None = None) -> Report:
        before = await self._look()
        order = Order(
            self.world.keywords(**self.settings), self.environment, restore=operation_id,
            options={"dry_run": False, "wait_seconds": 10},
            kill_kind=None if kill_nth is None else "", kill_nth=kill_nth or 1,
        )  # fmt: skip
        report = await self.runner.start(order)
        self.told.append(f"restore {operation_id}: {report.killed_at or report.result}")
        after = await self._look()
        for key, version in before.items():
            assert after.get(key) == version, f"a restore changed {key!r}"
        theirs = self.taken.get(operation_id, {})
        for key in after.keys() - before.keys():
            expected = [theirs[key]] if key in theirs else self.past.get(key, [])
            assert after[key] in expected, f"{key!r} came back as {after[key]}, not {expected}"
            self.view[key] = after[key]
            self.gone.pop(key, None)
            self.restored += 1
        if report.killed:
            self.kills += 1
            self.killed_at.append(f"restore: {report.killed_at}")
            return report
        assert report.result is not None, f"{report.error}: {report.message}\n{report.log}"
        assert not report.result["failed_keys"], report.result
        missing = theirs.keys() - after.keys()
        assert not missing, f"{operation_id} took {sorted(missing)} and did not bring them back"
        await self._lock_is_free()
        return report

    async def finish(self) -> None:
        """The end: exactly what nothing names goes, and then every byte that ever went comes back."""
        while self.lates:
            await self.lates.pop().rollback()
        if await self._look_at_rows() == 0:
            await self.refer(random.Random(3))
        await self.world.age()
        # A restore holds a key before it brings it back: one that was killed in between holds what is still away.
        away = set(self.gone)
        for _ in range(2):  # the first may have an approved plan to finish
            report = await self.cycle()
        assert report.result is not None
        assert report.result["outcome"] == "Succeeded", report.result["errors"]
        named, after = set(await self.world.rows.keys()), await self._look()
        held = set(await self._holds()) - away
        owed = {key for key in self.view if not _in_scope(key) or key in named or key in held}
        assert after.keys() == owed, f"left over: {after.keys() - owed}, missing: {owed - after.keys()}"
        for record in await self._state["vault"].operations():  # newest first: the last version of each key
            if record.journal != "none":
                await self._restore(record.id)
        after = await self._look()
        extra = {key: after[key] for key in after.keys() - self.view.keys()}
        assert {key: after.get(key) for key in self.view} == self.view
        assert not extra
        found = await verify(self._state["vault"])
        assert found.problems == []

    # --- looking

    async def _compare(
        self,
        before: dict[str, Version],
        after: dict[str, Version],
        named: set[str],
        mode: str,
        operation_id: str | None,
    ) -> set[str]:
        """What must hold whenever a process ends, killed or not; returns what came back."""
        for key in before.keys() & after.keys():
            assert after[key] == before[key], f"{key!r} was {before[key]} and is {after[key]}"
        went, came = before.keys() - after.keys(), after.keys() - before.keys()
        assert not went & named, f"a row named them when the cycle began, and they went: {went & named}"
        assert not [key for key in went if not _in_scope(key)], f"outside of the scope: {went}"
        if went:
            assert mode == "execute", f"{mode} deleted {went}"
            assert operation_id is not None, f"no operation, and these went: {went}"
            planned = await self._planned(operation_id)
            assert went <= planned, f"not in the plan of {operation_id}: {went - planned}"
        for key in came:
            self.restored += 1
            known = [self.gone[key]] if key in self.gone else self.past.get(key, [])
            assert after[key] in known, f"{key!r} came back as {after[key]}, not {known}"
            self.gone.pop(key, None)
            self.view[key] = after[key]
        for key in went:
            self.gone[key] = self.taken.setdefault(str(operation_id), {})[key] = before[key]
        self.deleted += len(went)
        return set(came)

    async def _planned(self, operation_id: str) -> set[str]:
        operation = self._state["vault"].operation(operation_id)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.parquet"
            await operation.fetch_plan(path)
            assert summarise(path).digest == (await operation.record()).extra["plan_digest"]
            return {item.key for batch in read_plan(path) for item in batch}

    async def _counts_are_true(self) -> None:
        """Every deletion is in an audit once, and in the metrics once, whoever was killed meanwhile."""
        audited = 0
        for operation_id in await self._state["vault"].operation_ids():
            async for record in self._state["vault"].operation(operation_id).read_audit():
                audited += record.action == "deleted"
        metrics = await get_metrics(self._state["config"], self._state)
        assert audited == metrics.total_deleted
        assert abs(audited - self.deleted) <= self.unsure, f"{audited} are on record, {self.deleted} went"
        # A restore that is killed has brought back what nobody noted; nothing is ever noted twice.
        assert metrics.total_restored <= self.restored, f"{self.restored} came back"
        self.is_cut_off = False

    async def _lock_is_free(self) -> None:
        path = f"scopes/{self._state['scope'].id}/lock.json"
        assert json.loads(await self._state["vault"].storage.read(path))["released"] is True

    async def _holds(self) -> Sequence[str]:
        from s3gc.vault.state import ScopeState

        table = await ScopeState(self._state["vault"], self._state["scope"]).holds()
        keys: list[str] = table["key"].to_pylist()
        return keys

    async def _look_at_rows(self) -> int:
        return len(await self.world.rows.keys())

    async def _look(self) -> dict[str, Version]:
        """Every visible object but ours; what was there unchanged at the last look is not read again."""

        def look() -> dict[str, Version]:
            client, bucket = self.world.client, self.world.bucket
            listed: dict[str, str] = {}
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for item in page.get("Contents", []):
                    if not item["Key"].startswith(".s3gc/"):
                        listed[item["Key"]] = f"{item['ETag']} {item['LastModified'].isoformat()}"

            def read(key: str) -> tuple[str, Version]:
                known = self._seen.get(key)
                if known is not None and known[0] == listed[key]:
                    return known
                answer = client.get_object(Bucket=bucket, Key=key)
                about = {"type": answer["ContentType"], "cache": answer.get("CacheControl", "")}
                about |= {f"meta-{name}": value for name, value in answer["Metadata"].items()}
                about = {name: value for name, value in about.items() if value}
                return listed[key], Version.of(answer["Body"].read(), about)

            with ThreadPoolExecutor(8) as pool:
                self._seen = dict(zip(listed, pool.map(read, listed), strict=True))
            return {key: version for key, (_, version) in self._seen.items()}

        return await asyncio.to_thread(look)

    async def _upload(self, fresh: dict[str, Version]) -> None:
        def put() -> None:
            for key, version in fresh.items():
                about = dict(version.about)
                self.world.client.put_object(
                    Bucket=self.world.bucket,
                    Key=key,
                    Body=version.body,
                    ContentType=about["type"],
                    Metadata={n.removeprefix("meta-"): v for n, v in about.items() if n.startswith("meta-")},
                    **({"CacheControl": about["cache"]} if "cache" in about else {}),
                )

        await asyncio.to_thread(put)
        for key, version in fresh.items():
            self.unsure += self.is_cut_off and not self.world.versioning and key in self.gone
            self.view[key] = version
            self.past.setdefault(key, []).append(version)
            self._seen.pop(key, None)  # the same bytes in the same second look like what was there
            self.gone.pop(key, None)

    async def _commit(self, after: float | None) -> None:
        if after is not None and self.lates:
            late = self.lates.pop()
            await asyncio.sleep(after)
            await late.commit()
            self.told.append(f"committed late {late.key!r} meanwhile")

    def _tell(self, report: Report, mode: str, settings: dict[str, Any]) -> None:
        if report.killed:
            how = f"killed at {report.killed_at or f'{report.seconds:.2f} s'}"
        elif report.result is not None:
            wanted = (
                "operation_id",
                "outcome",
                "deleted_count",
                "late_references",
                "healed_count",
                "verified",
            )
            how = str({name: report.result[name] for name in wanted})
        else:
            how = f"{report.error}: {report.message}"
        self.told.append(f"{mode} {settings or ''}: {how}")


def _in_scope(key: str) -> bool:
    return key.startswith(SCOPE) and not key.startswith(EXCLUDED)


def _content(chance: random.Random) -> Version:
    size = chance.choice([0, 1, 40, 3000, 70_000])
    body = chance.randbytes(size) if chance.random() < 0.5 else b"abc" * (size // 3) + b"x" * (size % 3)
    about = {"type": chance.choice(["image/png", "text/plain", "application/octet-stream"])}
    if chance.random() < 0.5:
        about |= {"cache": "max-age=60", "meta-owner": str(chance.randrange(1000))}
    return Version.of(body, about)


def environment_of(world: World, folder: Path) -> dict[str, str]:
    """What a child needs to reach the store, and where its catalog of an S3 vault goes."""
    return {
        **world.server.environment,
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(folder / "cache")),
    }
