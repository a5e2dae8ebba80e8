"""What the watches have shown: the objects as they were seen last, and what we wrote since.

A watch is a moment behind. After the operator has created a Job or written a status, it would for that moment see the
world before, and do or count things twice; so its own writes stand in until the watch shows something at least as new.
Versions of one resource are compared as numbers, as the API server's own clients do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from s3gc.controller.observe import JobView, read_job
from s3gc.controller.resources import GCObject, RestoreObject, read_bucketgc, read_gcrestore
from s3gc.controller.vaults import bucket_key, vault_id

__all__ = ["BUCKETGC", "GCRESTORE", "JOB", "Cache", "version"]

BUCKETGC, GCRESTORE, JOB = "BucketGC", "GCRestore", "Job"
_Name = tuple[str, str]
_Seen = GCObject | RestoreObject | JobView


def version(text: str) -> int:
    """A resource version as a number; 0 for one that is none."""
    return int(text) if text.isdigit() else 0


class Cache:
    """The objects by kind and name. Nothing in it is ever changed, only replaced."""

    def __init__(self) -> None:
        self._gcs: dict[_Name, GCObject] = {}
        self._restores: dict[_Name, RestoreObject] = {}
        self._jobs: dict[_Name, JobView] = {}
        self._jobs_of: defaultdict[str, dict[_Name, JobView]] = defaultdict(dict)
        self._by_bucket: defaultdict[str, set[_Name]] = defaultdict(set)
        self._by_vault: defaultdict[str, set[_Name]] = defaultdict(set)

    # --- what the watches show

    def put(self, kind: str, body: Mapping[str, Any]) -> bool:
        """Take an object as it was seen; False where something newer is known already."""
        seen: _Seen
        if kind == BUCKETGC:
            seen = read_bucketgc(body)
        elif kind == GCRESTORE:
            seen = read_gcrestore(body)
        else:
            seen = read_job(body)
        return self._put(seen)

    def put_job(self, job: JobView) -> None:
        """A Job that we made or found ourselves."""
        self._put(job)

    def _put(self, seen: _Seen) -> bool:
        name, uid, resource_version = _identity(seen)
        known = self._of_kind(_kind(seen)).get(name)
        if known is not None:
            _, known_uid, known_version = _identity(known)
            if known_uid == uid and version(known_version) > version(resource_version) > 0:
                return False
            self._drop(known, name)
        if isinstance(seen, GCObject):
            self._gcs[name] = seen
            if seen.config is not None and seen.spec is not None:
                self._by_bucket[bucket_key(seen.config)].add(name)
                self._by_vault[vault_id(seen.spec, seen.meta.namespace)].add(name)
        elif isinstance(seen, RestoreObject):
            self._restores[name] = seen
        else:
            self._jobs[name] = seen
            if seen.owner is not None:
                self._jobs_of[seen.owner.uid][name] = seen
            if seen.vault:
                self._jobs_of[f"vault {seen.vault}"][name] = seen
        return True

    def remove(self, kind: str, name: _Name, uid: str | None = None) -> _Seen | None:
        """Forget an object (the one with `uid`, where it is given) and return what was known of it."""
        table = self._of_kind(kind)
        known: _Seen | None = table.get(name)
        if known is None or (uid is not None and _identity(known)[1] != uid):
            return None
        del table[name]
        self._drop(known, name)
        return known

    def _drop(self, known: _Seen, name: _Name) -> None:
        if isinstance(known, GCObject):
            if known.config is not None and known.spec is not None:
                _discard(self._by_bucket, bucket_key(known.config), name)
                _discard(self._by_vault, vault_id(known.spec, known.meta.namespace), name)
        elif isinstance(known, JobView):
            owners = [known.owner.uid] if known.owner is not None else []
            for index in (*owners, f"vault {known.vault}"):
                self._jobs_of[index].pop(name, None)
                if not self._jobs_of[index]:
                    del self._jobs_of[index]

    def _of_kind(self, kind: str) -> dict[_Name, Any]:
        tables: dict[str, dict[_Name, Any]] = {
            BUCKETGC: self._gcs,
            GCRESTORE: self._restores,
            JOB: self._jobs,
        }
        return tables[kind]

    # --- what is asked

    def bucketgc(self, namespace: str, name: str) -> GCObject | None:
        return self._gcs.get((namespace, name))

    def gcrestore(self, namespace: str, name: str) -> RestoreObject | None:
        return self._restores.get((namespace, name))

    def job(self, namespace: str, name: str) -> JobView | None:
        return self._jobs.get((namespace, name))

    def bucketgcs(self) -> Iterable[GCObject]:
        return self._gcs.values()

    def gcrestores(self) -> Iterable[RestoreObject]:
        return self._restores.values()

    def jobs_of(self, uid: str) -> list[JobView]:
        """The Jobs that the object with `uid` owns, the oldest first."""
        return sorted(self._jobs_of.get(uid, {}).values(), key=lambda job: job.order)

    def jobs_of_vault(self, vault: str) -> list[JobView]:
        return sorted(self._jobs_of.get(f"vault {vault}", {}).values(), key=lambda job: job.order)

    def same_bucket(self, gc: GCObject) -> list[GCObject]:
        """The policies whose bucket is that of `gc`, itself included."""
        if gc.config is None:
            return []
        return [self._gcs[name] for name in sorted(self._by_bucket.get(bucket_key(gc.config), ()))]

    def policies_of_vault(self, vault: str) -> list[GCObject]:
        return [self._gcs[name] for name in sorted(self._by_vault.get(vault, ()))]

    def restores_of(self, gcs: Iterable[GCObject]) -> list[RestoreObject]:
        """The GCRestores that refer to one of `gcs`."""
        wanted = {gc.meta.key for gc in gcs}
        return [
            restore
            for restore in self._restores.values()
            if restore.spec is not None
            and (restore.meta.namespace, restore.spec.bucket_gc_ref.name) in wanted
        ]

    def versions_of(self, kind: str, name: _Name) -> tuple[str, str] | None:
        """UID and resource version of one object."""
        seen = self._of_kind(kind).get(name)
        return _identity(seen)[1:] if seen is not None else None

    def versions(self, kind: str) -> dict[_Name, tuple[str, str]]:
        """UID and resource version of every object of a kind."""
        return {name: _identity(seen)[1:] for name, seen in self._of_kind(kind).items()}


def _kind(seen: _Seen) -> str:
    if isinstance(seen, GCObject):
        return BUCKETGC
    return GCRESTORE if isinstance(seen, RestoreObject) else JOB


def _identity(seen: _Seen) -> tuple[_Name, str, str]:
    if isinstance(seen, JobView):
        return (seen.namespace, seen.name), seen.uid, seen.resource_version
    return seen.meta.key, seen.meta.uid, seen.meta.resource_version


def _discard(index: defaultdict[str, set[_Name]], key: str, name: _Name) -> None:
    index[key].discard(name)
    if not index[key]:
        del index[key]
