"""Whether the operator lives: its loop turns, no look hangs, and every watch shows what there is.

A process can be up and blind: a watch that died without a word leaves everything as it was last seen. So now and then
the API server is asked what there is, versions only, and compared with what the watches have shown; what stays behind
for longer than a watch may need makes `/healthz` fail, and the kubelet starts us anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB, Cache, version
from s3gc.controller.kube import Kube
from s3gc.controller.queue import Key

__all__ = ["KINDS", "Health", "Sync"]

KINDS = (BUCKETGC, GCRESTORE, JOB)
_Name = tuple[str, str]


class Health:
    """What is known of our own state. `now` is a monotonic clock, in seconds."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        *,
        turn_seconds: float = 120,
        look_seconds: float = 600,
    ) -> None:
        self._now = now
        self._turn_seconds = turn_seconds
        self._look_seconds = look_seconds
        self._turned = now()
        self._busy: dict[Key, float] = {}
        self.is_ready = False
        #: Why a watch is thought dead, while it is.
        self.blind: str | None = None

    def turn(self) -> None:
        """The loop has turned; something must call this more often than every `turn_seconds`."""
        self._turned = self._now()

    @contextmanager
    def busy(self, key: Key) -> Iterator[None]:
        """A look at `key` is under way."""
        self._busy[key] = self._now()
        try:
            yield
        finally:
            self._busy.pop(key, None)

    def trouble(self) -> str | None:
        """Why this process should be started anew; None while it lives."""
        now = self._now()
        if now - self._turned > self._turn_seconds:
            return f"the loop has not turned for {now - self._turned:.0f} s"
        for key, since in self._busy.items():
            if now - since > self._look_seconds:
                return f"looking at {key} takes {now - since:.0f} s"
        return self.blind


class Sync:
    """Compares what the watches have shown with what there is."""

    def __init__(self, kube: Kube, cache: Cache) -> None:
        self._kube = kube
        self._cache = cache
        self._missed: dict[tuple[str, _Name], tuple[str, str]] = {}

    async def compare(self) -> list[str]:
        """Ask what there is; return what the watches have not shown, each in a few words.

        An object that is gone, and whose going was not shown, is forgotten here: the watch was away while it went.
        """
        missed: dict[tuple[str, _Name], tuple[str, str]] = {}
        for kind in KINDS:
            list_version, there = await self._kube.versions(kind)
            for name, seen in there.items():
                if self._is_behind(kind, name, seen):
                    missed[kind, name] = seen
            for name, (uid, known) in self._cache.versions(kind).items():
                if name not in there and version(known) < list_version:
                    self._cache.remove(kind, name, uid)
        self._missed = missed
        return [f"{kind} {name[0]}/{name[1]}" for kind, name in missed]

    def still_missed(self) -> list[str]:
        """Of what the last comparison found, what the watches have not shown to this day."""
        return [
            f"{kind} {name[0]}/{name[1]}"
            for (kind, name), seen in self._missed.items()
            if self._is_behind(kind, name, seen)
        ]

    def _is_behind(self, kind: str, name: _Name, seen: tuple[str, str]) -> bool:
        known = self._cache.versions_of(kind, name)
        if known is None:
            return True
        return known[0] != seen[0] or version(known[1]) < version(seen[1])
