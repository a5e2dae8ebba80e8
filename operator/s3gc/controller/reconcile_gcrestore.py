"""One look at a GCRestore: it waits for its policy and the vault, it runs once, and what it did is said for good."""

from __future__ import annotations

from datetime import datetime, timedelta

from s3gc.controller import restores
from s3gc.controller.acting import Actor, JobRefused
from s3gc.controller.conditions import Trouble
from s3gc.controller.events import restore_events
from s3gc.controller.jobs import MAX_POLICY_BYTES, JobSettings, policy_json, restore_job
from s3gc.controller.metrics import Meters
from s3gc.controller.observe import JobView
from s3gc.controller.readings import read_restore
from s3gc.controller.resources import GCObject, RestoreObject
from s3gc.controller.statuses import GCRestoreStatus, cut
from s3gc.controller.vaults import vault_id

__all__ = ["GCRestoreReconciler"]

_WAIT_SECONDS = 15
_TROUBLE_SECONDS = 60


class GCRestoreReconciler:
    def __init__(
        self, actor: Actor, settings: JobSettings, meters: Meters, *, progress_seconds: float = 30
    ) -> None:
        self._actor = actor
        self._cache = actor.cache
        self._settings = settings
        self._meters = meters
        self._progress_seconds = progress_seconds

    async def look(self, restore: RestoreObject) -> datetime | None:
        """Reconcile `restore` and return when to look again, None for whenever something changes."""
        if restores.has_ended(restore.status) or restore.meta.is_deleting:
            return None
        now = self._actor.now()
        status, again = await self._look(restore, now)
        if status != restore.status:
            await self._actor.save(restore, status)
        if restores.has_ended(status):
            self._meters.restore_ended(restore, status)
        await self._actor.tell(restore, restore_events(restore.status, status))
        return again

    async def _look(self, restore: RestoreObject, now: datetime) -> tuple[GCRestoreStatus, datetime | None]:
        status, generation = restore.status, restore.meta.generation
        jobs = self._cache.jobs_of(restore.meta.uid)
        if jobs:
            return await self._look_at(jobs[0], status, generation, now)
        if status.job_uid and status.job_name:
            if await self._actor.is_gone(restore.meta.namespace, status.job_name, status.job_uid):
                return restores.gone(status, generation=generation, now=now), None
            return status, now
        found = self._policy(restore)
        if isinstance(found, Trouble):
            return (
                restores.in_trouble(status, found, generation=generation, now=now),
                now + timedelta(seconds=_TROUBLE_SECONDS),
            )
        return await self._start(restore, found, now)

    async def _look_at(
        self, job: JobView, status: GCRestoreStatus, generation: int, now: datetime
    ) -> tuple[GCRestoreStatus, datetime | None]:
        pods, trouble = await self._actor.pods(job)
        if job.is_finished:
            reading = read_restore(job, pods)
            return restores.taken_in(status, job, reading, generation=generation, now=now), None
        running = restores.running(status, job, trouble, generation=generation, now=now)
        return running, now + timedelta(seconds=self._progress_seconds)

    def _policy(self, restore: RestoreObject) -> GCObject | Trouble:
        """The policy to restore by, or what is wrong."""
        if restore.spec is None:
            return Trouble("InvalidSpec", cut("; ".join(restore.problems)))
        name = restore.spec.bucket_gc_ref.name
        gc = self._cache.bucketgc(restore.meta.namespace, name)
        if gc is None:
            return Trouble(
                "BucketGCNotFound", f"there is no BucketGC {name} in this namespace", is_final=False
            )
        if gc.spec is None:
            why = "; ".join(gc.problems)
            return Trouble("BucketGCInvalid", cut(f"BucketGC {name} cannot be used: {why}"), is_final=False)
        if len(policy_json(gc).encode()) > MAX_POLICY_BYTES:
            return Trouble("BucketGCInvalid", f"the policy of BucketGC {name} is too large", is_final=False)
        return gc

    async def _start(
        self, restore: RestoreObject, gc: GCObject, now: datetime
    ) -> tuple[GCRestoreStatus, datetime | None]:
        status, generation = restore.status, restore.meta.generation
        assert gc.spec is not None  # noqa: S101  _policy has looked
        vault = vault_id(gc.spec, gc.meta.namespace)
        async with self._actor.vault_lock(vault):
            taken = self._actor.vault_taken_by(vault, besides=restore.meta.uid)
            taken = taken or await self._actor.pods_at_work(vault)
            if taken is not None:
                message = f"the vault is used by {taken}; this restore goes next"
                waits = restores.waiting(status, "WaitingForVault", message, generation=generation, now=now)
                return waits, now + timedelta(seconds=_WAIT_SECONDS)
            try:
                job = await self._actor.ensure_job(restore_job(restore, gc, self._settings, now=now))
            except JobRefused as refused:
                return (
                    restores.in_trouble(status, refused.trouble, generation=generation, now=now),
                    now + timedelta(seconds=_TROUBLE_SECONDS),
                )
        if job.is_finished:
            return await self._look_at(job, status, generation, now)
        running = restores.running(status, job, None, generation=generation, now=now)
        return running, now + timedelta(seconds=self._progress_seconds)
