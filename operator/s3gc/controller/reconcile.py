"""From a key to a look: the one place where the queue meets the two kinds, and where a look that failed is noted."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime

from s3gc.controller.acting import Actor
from s3gc.controller.cache import BUCKETGC, GCRESTORE
from s3gc.controller.health import Health
from s3gc.controller.jobs import JobSettings
from s3gc.controller.kube import KubeError
from s3gc.controller.metrics import Meters
from s3gc.controller.queue import Key, WorkQueue
from s3gc.controller.reconcile_bucketgc import BucketGCReconciler
from s3gc.controller.reconcile_gcrestore import GCRestoreReconciler

__all__ = ["LOOK_SECONDS", "Reconciler"]

log = logging.getLogger(__name__)

#: A look makes a dozen calls at most, each with a time limit; one that takes longer hangs.
LOOK_SECONDS = 300.0


class Reconciler:
    """Looks at the objects whose keys come out of the queue."""

    def __init__(
        self,
        actor: Actor,
        queue: WorkQueue,
        settings: JobSettings,
        meters: Meters,
        health: Health,
        *,
        progress_seconds: float = 30,
    ) -> None:
        self._cache = actor.cache
        self._queue = queue
        self._meters = meters
        self._health = health
        self._policies = BucketGCReconciler(actor, settings, meters, progress_seconds=progress_seconds)
        self._restores = GCRestoreReconciler(actor, settings, meters, progress_seconds=progress_seconds)

    async def work(self) -> None:
        """Take keys and look at their objects, for ever. Several of these run side by side."""
        while True:
            key = await self._queue.get()
            began = time.monotonic()
            with self._health.busy(key):
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        again = await self.look(key)
                except Exception as error:  # noqa: BLE001  one object's trouble must not end the loop over the others
                    self._report(key, error, self._queue.failed(key))
                    self._meters.looked(key.kind, "error", time.monotonic() - began)
                else:
                    self._queue.done(key, again.timestamp() if again is not None else None)
                    self._meters.looked(key.kind, "ok", time.monotonic() - began)

    async def look(self, key: Key) -> datetime | None:
        """Look at one object; one that is gone is forgotten."""
        if key.kind == BUCKETGC:
            gc = self._cache.bucketgc(key.namespace, key.name)
            if gc is not None:
                return await self._policies.look(gc)
            self._meters.forget(key.namespace, key.name)
        elif key.kind == GCRESTORE:
            restore = self._cache.gcrestore(key.namespace, key.name)
            if restore is not None:
                return await self._restores.look(restore)
        self._queue.forget(key)
        return None

    def _report(self, key: Key, error: Exception, pause: float) -> None:
        if isinstance(error, KubeError):
            log.warning("%s: %s; again in %.0f s", key, error.message, pause)
        else:
            log.error("%s: looking at it failed; again in %.0f s", key, pause, exc_info=error)
