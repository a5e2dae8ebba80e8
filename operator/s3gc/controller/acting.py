"""What both kinds' reconciliation does to the cluster: make or adopt a Job, write a status, tell what happened.

Jobs of one vault must never run side by side, whichever policy or restore they are of. So the decision to start one,
the look at who uses the vault, and the creation happen under one lock a vault; the look asks the API server for pods,
because a Job that was deleted leaves pods that may still write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from s3gc.controller.cache import BUCKETGC, Cache
from s3gc.controller.conditions import Trouble
from s3gc.controller.events import Event
from s3gc.controller.kube import Kube, KubeError
from s3gc.controller.observe import JobView, PodView, last_pod, read_job
from s3gc.controller.readings import pod_trouble
from s3gc.controller.resources import GCObject, RestoreObject
from s3gc.controller.statuses import BucketGCStatus, GCRestoreStatus, cut
from s3gc.manifest import API_VERSION

__all__ = ["Actor", "JobRefused"]

log = logging.getLogger(__name__)


class JobRefused(Exception):  # noqa: N818  a fact for a condition, not a failure of ours
    """A Job cannot be made; `trouble` says why and whether a person has to act."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


class Actor:
    """Acts on the cluster, and remembers in the cache what it did."""

    def __init__(self, kube: Kube, cache: Cache, now: Callable[[], datetime], *, host: str) -> None:
        self.kube = kube
        self.cache = cache
        self.now = now
        self._host = host
        self._vaults: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def vault_lock(self, vault: str) -> asyncio.Lock:
        """The lock under which a Job of this vault is decided upon and made."""
        lock = self._vaults.get(vault)
        if lock is None:
            lock = self._vaults[vault] = asyncio.Lock()
        return lock

    # --- Jobs

    def vault_taken_by(self, vault: str, *, besides: str) -> str | None:
        """A Job that uses the vault, other than those of the owner with the UID `besides`; from the cache."""
        for job in self.cache.jobs_of_vault(vault):
            if job.holds_its_vault and (job.owner is None or job.owner.uid != besides):
                return f"Job {job.namespace}/{job.name}"
        return None

    async def pods_at_work(self, vault: str) -> str | None:
        """Pods that still use the vault, of Jobs that may be gone; asked of the API server."""
        pods = await self.kube.pods_at_work(vault)
        return f"pod {pods[0]}, which has not ended yet" if pods else None

    async def ensure_job(self, body: Mapping[str, Any]) -> JobView:
        """Create a Job, or adopt the one with its name if it has our owner.

        Raises JobRefused where it cannot be made, KubeError where that is not known.
        """
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        uid = body["metadata"]["ownerReferences"][0]["uid"]
        try:
            job = read_job(await self.kube.create_job(body))
        except KubeError as error:
            if not error.exists_already:
                raise _refused(error, name) from None
            found = await self.kube.job(namespace, name)
            if found is None:
                raise  # it went away between the two calls: the next look makes it
            job = read_job(found)
            if job.owner is None or job.owner.uid != uid:
                raise JobRefused(
                    Trouble(
                        "JobNameTaken", f"a Job {name} is there and is not ours; delete it", is_final=False
                    )
                ) from None
            if job.is_deleting:
                raise JobRefused(
                    Trouble("JobEnding", f"a Job {name} is being deleted and not gone yet", is_final=False)
                ) from None
            log.info("adopted %s/%s", namespace, name)
        self.cache.put_job(job)
        return job

    async def is_gone(self, namespace: str, name: str, uid: str) -> bool:
        """Whether a Job that the cache does not have is truly not there: a watch may be behind."""
        found = await self.kube.job(namespace, name)
        if found is None or read_job(found).uid != uid:
            return True
        self.cache.put_job(read_job(found))
        return False

    async def pods(self, job: JobView) -> tuple[list[PodView], str | None]:
        """A Job's pods, and why the newest does not run."""
        pods = await self.kube.pods_of_job(job)
        return pods, pod_trouble(pods)

    async def log_of(self, job: JobView, pods: Iterable[PodView]) -> str:
        """The end of the log of a Job's newest pod; "" where there is none."""
        pod = last_pod(pods)
        if pod is None or (pod.started_at is None and pod.exit_code is None):
            return ""
        return await self.kube.log(job.namespace, pod.name)

    # --- what is said

    async def save(self, seen: GCObject | RestoreObject, status: BucketGCStatus | GCRestoreStatus) -> None:
        """Write a status, whole, and let the cache have it. An object that is gone needs none."""
        kind = BUCKETGC if isinstance(seen, GCObject) else "GCRestore"
        meta = seen.meta
        try:
            answer = await self.kube.write_status(kind, meta.namespace, meta.name, meta.uid, status.to_json())
        except KubeError as error:
            if error.is_not_found or (error.is_invalid and "uid" in error.message.lower()):
                return  # it, or the one that had its name, was deleted meanwhile
            raise
        self.cache.put(kind, answer)

    async def tell(self, seen: GCObject | RestoreObject, events: Iterable[Event]) -> None:
        """Post events. One that cannot be posted is a line in our log, and no reason to look again."""
        kind = BUCKETGC if isinstance(seen, GCObject) else "GCRestore"
        involved = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "namespace": seen.meta.namespace,
            "name": seen.meta.name,
            "uid": seen.meta.uid,
            "resourceVersion": seen.meta.resource_version,
        }
        for event in events:
            where = f"{kind} {seen.meta.namespace}/{seen.meta.name}"
            level = logging.WARNING if event.type == "Warning" else logging.INFO
            log.log(level, "%s: %s: %s", where, event.reason, event.message)
            try:
                await self.kube.create_event(
                    involved=involved,
                    kind=event.type,
                    reason=event.reason,
                    message=event.message,
                    at=self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                    host=self._host,
                )
            except KubeError as error:
                log.warning("%s: the event %s was not posted: %s", where, event.reason, error.message)


def _refused(error: KubeError, name: str) -> Exception:
    if error.is_invalid:
        text = f"the API server does not take the Job {name}; look at spec.job: {error.message}"
        return JobRefused(Trouble("JobRejected", cut(text)))
    if error.status == 403:
        text = f"the Job {name} may not be made: {error.message}"
        return JobRefused(Trouble("JobForbidden", cut(text), is_final=False))
    return error
