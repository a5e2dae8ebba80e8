"""Daily runs inside an application: woken by the schedule, decided in the vault.

Every worker process has a scheduler, and each wakes for the same slot. The first that gets the scope's lock takes the
slot (`vault.slots`) and runs; the others see that it is gone. A slot that passed while no process lived is caught up
once, and one that somebody else's cycle holds back is tried until the next is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from s3gc.exceptions import S3GCError, SlotTakenError
from s3gc.integrations.admin.models import GCSchedule
from s3gc.integrations.admin.problems import ProblemError
from s3gc.integrations.admin.runs import Runs
from s3gc.integrations.admin.runtime import Runtime
from s3gc.schedule import Timetable, Verdict, judge
from s3gc.vault.ownership import claimed_scope
from s3gc.vault.slots import Slot, SlotsRun, begin_slots, read_slots

__all__ = ["Scheduler", "due"]

log = logging.getLogger(__name__)

#: A machine that slept, or whose clock was set, is noticed within this time.
_LOOK_SECONDS = 30.0
#: After an attempt that found the scope held or the vault away.
_AGAIN_SECONDS = 15.0


def due(now: datetime, timetable: Timetable, run: SlotsRun) -> Verdict:
    """Judge the schedule: promised is the first slot after the last that was run, or after it began to count."""
    return judge(now, timetable, promised=timetable.after(run.last or run.since))


class Scheduler:
    """`look_seconds` and `again_seconds` are for tests."""

    def __init__(
        self,
        runtime: Runtime,
        runs: Runs,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._runtime, self._runs = runtime, runs
        self._now, self._sleep = now, sleep
        self.trouble = ""  # why the last look failed, for `health`
        self._task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        if self._runtime.timetable is not None and self._task is None:
            self._task = asyncio.create_task(self._forever(self._runtime.timetable), name="s3gc schedule")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def view(self) -> GCSchedule | None:
        """The schedule as the vault knows it; None where there is none."""
        timetable = self._runtime.timetable
        if timetable is None:
            return None
        vault = (await self._runtime.state())["vault"]
        scope = await claimed_scope(vault.storage, self._runtime.config)
        run = await read_slots(vault.storage, scope, timetable.expression, self._runtime.config.time_zone)
        return GCSchedule(
            cron=timetable.expression,
            time_zone=self._runtime.config.time_zone,
            next_run_at=timetable.after(self._now()),
            last_slot=run.last if run is not None else None,
        )

    async def _forever(self, timetable: Timetable) -> None:
        while True:
            try:
                seconds = await self._look(timetable)
                self.trouble = ""
            except (S3GCError, ProblemError, OSError) as error:
                self.trouble = str(error)
                log.warning("the schedule could not be looked at, and is again soon: %s", error)
                seconds = _AGAIN_SECONDS
            except Exception as error:
                self.trouble = f"unexpected {type(error).__name__}"
                log.exception("the schedule could not be looked at")
                seconds = _AGAIN_SECONDS
            await self._sleep(seconds)

    async def _look(self, timetable: Timetable) -> float:
        """Run what is due, if nobody else has; return how long to sleep."""
        zone = self._runtime.config.time_zone
        vault = (await self._runtime.state())["vault"]
        scope = await claimed_scope(vault.storage, self._runtime.config)
        run = await begin_slots(vault.storage, scope, timetable.expression, zone, self._now())
        verdict = due(self._now(), timetable, run)
        if verdict.due is None:
            return min(_LOOK_SECONDS, max(0.05, (verdict.promised - self._now()).total_seconds()))
        if verdict.missed:
            log.warning("%d scheduled cycles were missed; one makes up for them", verdict.missed + 1)
        slot = Slot(verdict.due, timetable.expression, zone)
        try:
            work = await self._runs.start_cycle(trigger="schedule", slot=slot)
            await self._runs.wait(work)
        except SlotTakenError:
            return 0.05  # another worker has it: see when the next one is
        except ProblemError as error:
            if error.problem.status != 409:
                raise
            log.info("the scheduled cycle waits: %s", error.problem.detail)
            return _AGAIN_SECONDS
        except Exception as error:  # noqa: BLE001  said by whoever ran it
            # The slot is gone with its cycle; what failed before it was taken is tried again.
            log.info("the scheduled cycle failed: %s", error)
            return _AGAIN_SECONDS
        return 0.05
