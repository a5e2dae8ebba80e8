"""The store's time as the only clock of what is compared later.

Ages, holds, expiry and the age of a plan are all measured against the store's time. A record that this machine's clock
had written would be judged by another one: with a clock that is months behind, a restored key's hold would be over
before it began, and yesterday's backups would look old enough to expire. So the store is asked once, and the answer is
carried on by a monotonic clock, which no administrator sets.

A store's clock can be wrong as well. One that jumped a year ahead makes every new object look old and every backup
expired; neither clock can say which of the two is wrong, so where they are days apart nothing may be deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from s3gc.store.bucket import Bucket

__all__ = ["StoreClock"]

#: From this difference on one of the two clocks is wrong by more than a time zone could be.
DOUBTFUL = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StoreClock:
    """`at` was the time when `monotonic` read `since`."""

    at: datetime
    since: float
    monotonic: Callable[[], float] = time.monotonic
    ahead: timedelta = timedelta()  # of this machine's clock, when it was asked

    @classmethod
    async def of(cls, bucket: Bucket) -> StoreClock:
        """Ask the store. Raises what `Bucket.server_time` raises."""
        since = time.monotonic()  # before the answer, so that now() is never earlier than what the store says
        at = await bucket.server_time()
        return cls(at, since, ahead=at - datetime.now(UTC).replace(microsecond=0))

    @classmethod
    def local(cls) -> StoreClock:
        """This machine's own clock, where the store has not been asked yet."""
        return cls(datetime.now(UTC), time.monotonic())

    @property
    def doubt(self) -> str:
        """Why nothing may be judged by its age, or ""."""
        if abs(self.ahead) < DOUBTFUL:
            return ""
        days, side = abs(self.ahead).days, "after" if self.ahead > timedelta() else "before"
        return (
            f"the store's clock shows {self.at:%Y-%m-%d}, {days} days {side} this machine's: one of them is wrong, so "
            "no age can be believed, of an object or of a backup. Set the clock"
        )

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.monotonic() - self.since)
