"""The store's time as the only clock of what is compared later.

Ages, holds, expiry and the age of a plan are all measured against the store's time. A record that this machine's clock
had written would be judged by another one: with a clock that is months behind, a restored key's hold would be over
before it began, and yesterday's backups would look old enough to expire. So the store is asked once, and the answer is
carried on by a monotonic clock, which no administrator sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from s3gc.store.bucket import Bucket

__all__ = ["StoreClock"]


@dataclass(frozen=True, slots=True)
class StoreClock:
    """`at` was the time when `monotonic` read `since`."""

    at: datetime
    since: float
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    async def of(cls, bucket: Bucket) -> StoreClock:
        """Ask the store. Raises what `Bucket.server_time` raises."""
        since = time.monotonic()  # before the answer, so that now() is never earlier than what the store says
        return cls(await bucket.server_time(), since)

    @classmethod
    def local(cls) -> StoreClock:
        """This machine's own clock, where the store has not been asked yet."""
        return cls(datetime.now(UTC), time.monotonic())

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.monotonic() - self.since)
