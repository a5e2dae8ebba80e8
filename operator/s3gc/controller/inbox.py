"""Where the watches deliver: an event becomes a change of the cache and keys in the queue, and nothing else.

Which keys, is generous: an object that changed, and whatever may have waited for it. Looking once too often costs a
millisecond; not looking leaves a restore waiting until the next resync.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB, Cache
from s3gc.controller.observe import JobView
from s3gc.controller.queue import Key, WorkQueue
from s3gc.controller.resources import GCObject
from s3gc.controller.restores import has_ended
from s3gc.controller.vaults import vault_id

__all__ = ["Inbox"]


class Inbox:
    """Takes what the watches show."""

    def __init__(self, cache: Cache, queue: WorkQueue) -> None:
        self._cache = cache
        self._queue = queue

    def seen(self, kind: str, body: Mapping[str, Any], *, deleted: bool = False) -> None:
        """An object was seen, or seen to be gone."""
        meta = body.get("metadata") or {}
        name = (str(meta.get("namespace", "")), str(meta.get("name", "")))
        before = self._known(kind, name)
        if deleted:
            if self._cache.remove(kind, name, str(meta.get("uid", ""))) is None:
                return
        elif not self._cache.put(kind, body):
            return
        for key in self._affected(kind, name, before):
            self._queue.add(key)

    def everything(self) -> None:
        """Look at everything again."""
        for gc in self._cache.bucketgcs():
            self._queue.add(Key(BUCKETGC, *gc.meta.key))
        for restore in self._cache.gcrestores():
            self._queue.add(Key(GCRESTORE, *restore.meta.key))

    def _known(self, kind: str, name: tuple[str, str]) -> GCObject | JobView | None:
        if kind == BUCKETGC:
            return self._cache.bucketgc(*name)
        return self._cache.job(*name) if kind == JOB else None

    def _affected(self, kind: str, name: tuple[str, str], before: GCObject | JobView | None) -> Iterator[Key]:
        if kind == JOB:
            after = self._cache.job(*name)
            job = after or before
            if not isinstance(job, JobView):
                return
            if job.owner is not None and job.owner.kind in (BUCKETGC, GCRESTORE):
                yield Key(job.owner.kind, job.namespace, job.owner.name)
            if after is None or not after.holds_its_vault:
                yield from self._waiting_for(job.vault)
            return
        yield Key(kind, *name)
        if kind == BUCKETGC:
            # Two policies that overlap must both see it, and both see when it has passed.
            for gc in (self._cache.bucketgc(*name), before):
                if isinstance(gc, GCObject):
                    yield from (Key(BUCKETGC, *other.meta.key) for other in self._cache.same_bucket(gc))
                    yield from (Key(GCRESTORE, *each.meta.key) for each in self._cache.restores_of([gc]))
        elif kind == GCRESTORE:
            restore = self._cache.gcrestore(*name)
            if restore is None or has_ended(restore.status):
                for vault in self._vaults_of(name):
                    yield from self._waiting_for(vault)

    def _vaults_of(self, restore: tuple[str, str]) -> set[str]:
        """The vaults whose cycles may have waited for a restore; of its whole namespace, as it may be gone."""
        return {
            vault_id(gc.spec, gc.meta.namespace)
            for gc in self._cache.bucketgcs()
            if gc.spec is not None and gc.meta.namespace == restore[0]
        }

    def _waiting_for(self, vault: str) -> Iterator[Key]:
        policies = self._cache.policies_of_vault(vault)
        for restore in self._cache.restores_of(policies):
            if not has_ended(restore.status):
                yield Key(GCRESTORE, *restore.meta.key)
        yield from (Key(BUCKETGC, *gc.meta.key) for gc in policies)
