"""When a scheduled cycle is due: a function of the time, the schedule and what was promised, and of nothing else.

The promise is `status.nextScheduleTime`. A time that was promised and has passed is caught up, once, whether the
operator slept, was killed or waited for a vault; a time that nobody promised is not, so that an edited schedule
or a resumed policy never starts a cycle at once for an hour that lies in the past. cron's rules for daylight
saving are Debian's, by cronsim: a fixed time in the hour that is skipped runs once, right after it; one in the
hour that comes twice runs once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from s3gc.policy import as_cron

__all__ = ["ScheduleError", "Timetable", "Verdict", "judge"]

#: More missed times than this are not counted one by one: the last ones are looked for from a day ago.
_COUNTED = 500


class ScheduleError(ValueError):
    """The schedule or the time zone means nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do now.

    `due` is the scheduled time of the cycle to start, `too_late` that of one that is left out because it could
    not start within its deadline, `missed` how many times before that one passed as well. `upcoming` is the
    next time once `due` or `too_late` is dealt with; `promised` is what to promise until then.
    """

    promised: datetime
    upcoming: datetime
    due: datetime | None = None
    too_late: datetime | None = None
    missed: int = 0


class Timetable:
    """A schedule in its time zone. All times in and out are UTC."""

    def __init__(self, expression: str, zone: str) -> None:
        """Raises ScheduleError for what is no schedule, no zone, or never comes."""
        try:
            self.expression = as_cron(expression)
        except ValueError:
            raise ScheduleError(f"{expression!r} is not a schedule") from None
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ScheduleError(f"{zone!r} is not a time zone of the IANA database") from None
        if len(self.expression.split()) != 5:
            raise ScheduleError(f"{expression!r} does not have five fields")
        try:
            next(CronSim(self.expression, datetime(2024, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ScheduleError(f"{expression!r} is not a schedule: {error}") from None
        except StopIteration:
            raise ScheduleError(f"{expression!r} never comes") from None

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`."""
        return next(CronSim(self.expression, moment.astimezone(self._zone))).astimezone(UTC)

    def has(self, moment: datetime) -> bool:
        return self.after(moment - timedelta(seconds=1)) == moment

    def last_until(self, now: datetime, first: datetime) -> tuple[datetime, int]:
        """The last time not after `now`, and how many there were before it, from `first`, one of its times, on."""
        last, count = first, 0
        while (following := self.after(last)) <= now:
            last, count = following, count + 1
            if count == _COUNTED and last < now - timedelta(days=1):
                last = self.after(now - timedelta(days=1))
        return last, count


def judge(
    now: datetime,
    timetable: Timetable,
    *,
    promised: datetime | None,
    created: datetime | None = None,
    deadline_seconds: int | None = None,
    suspended: bool = False,
) -> Verdict:
    """Judge the schedule at `now`.

    `promised` is the last promise; one that is no time of this schedule was made for another and does not
    count. `created` is when the object was made, given only before its first promise: what came due since then
    was meant. Whatever has passed in a suspension is not caught up.
    """
    upcoming = timetable.after(now)
    if suspended:
        return Verdict(promised=upcoming, upcoming=upcoming)
    if promised is not None and not timetable.has(promised):
        promised = None
    elif promised is None and created is not None:
        promised = timetable.after(created)
    if promised is None or promised > now:
        # A promise beyond the schedule's next time was made by a clock that was wrong.
        return Verdict(promised=upcoming, upcoming=upcoming)
    last, missed = timetable.last_until(now, promised)
    if deadline_seconds is not None and now - last > timedelta(seconds=deadline_seconds):
        return Verdict(promised=upcoming, upcoming=upcoming, too_late=last, missed=missed)
    return Verdict(promised=promised, upcoming=upcoming, due=last, missed=missed)
