"""``last_slot.json``: which scheduled time was run last, so that several processes run each of them once.

Every process that has the policy's schedule wakes at the same moment. Which of them runs is decided under the scope's
lock: the slot is taken there, before its cycle begins, and whoever comes later sees that it is gone. A cycle that fails
or is killed has had its slot; a process that crashes in it must not start it again at each restart.

A slot counts only for the schedule it is of: an edited schedule begins anew, and never runs at once for an hour that
nobody had promised.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from s3gc.exceptions import SlotTakenError
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none
from s3gc.vault.lock import ScopeLock
from s3gc.vault.scopes import Scope

__all__ = ["Slot", "SlotsRun", "begin_slots", "read_slots", "take_slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One scheduled time (`at`, UTC) of a schedule in its zone, both as they are compared."""

    at: datetime
    schedule: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class SlotsRun:
    """What of a schedule was run: `last` is the last slot that was, None so far; `since` is when it began to count."""

    schedule: str
    time_zone: str
    since: datetime
    last: datetime | None = None

    def to_json(self) -> bytes:
        value = {
            "version": 1,
            "schedule": self.schedule,
            "time_zone": self.time_zone,
            "since": self.since.isoformat(),
            "last": self.last.isoformat() if self.last is not None else None,
        }
        return (json.dumps(value) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> SlotsRun | None:
        """None for what cannot be read: it protects nothing but a second run, and the schedule begins anew."""
        try:
            value = json.loads(data)
            last = value["last"]
            return cls(
                str(value["schedule"]),
                str(value["time_zone"]),
                datetime.fromisoformat(value["since"]).astimezone(UTC),
                datetime.fromisoformat(last).astimezone(UTC) if last is not None else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


async def read_slots(storage: Storage, scope: Scope, schedule: str, time_zone: str) -> SlotsRun | None:
    """What was run of this schedule; None where nothing is remembered of it."""
    found = await _read(storage, scope)
    return found if found is not None and (found.schedule, found.time_zone) == (schedule, time_zone) else None


async def begin_slots(
    storage: Storage, scope: Scope, schedule: str, time_zone: str, now: datetime
) -> SlotsRun:
    """Remember that this schedule counts from `now`, unless it counts already; return what is remembered.

    Needs no lock: of several that begin it at once one wins, and a slot that is taken meanwhile stays taken.
    """
    path = layout.scope_path(scope.id, "last_slot.json")
    before = await read_or_none(storage, path)
    found = SlotsRun.from_json(before) if before is not None else None
    if found is not None and (found.schedule, found.time_zone) == (schedule, time_zone):
        return found
    # What the schedule before this one ran is kept as the time to count from, if this machine's clock is behind it.
    last = found.last if found is not None and found.last is not None else now
    begun = SlotsRun(schedule, time_zone, max(now, last))
    if before is None:
        await storage.create(path, begun.to_json())
    else:
        await storage.replace(path, begun.to_json(), expected=before)
    return await read_slots(storage, scope, schedule, time_zone) or begun


async def take_slot(storage: Storage, scope: Scope, slot: Slot, lock: ScopeLock) -> None:
    """Mark `slot` as run, under the scope's lock. Raises SlotTakenError when it, or a later one, was run already."""
    await lock.check()
    found = await read_slots(storage, scope, slot.schedule, slot.time_zone)
    if found is not None and found.last is not None and found.last >= slot.at:
        raise SlotTakenError(
            f"the scheduled time {slot.at:%Y-%m-%d %H:%M} UTC of scope {scope.id!r} was run already",
            details={"scope": scope.id, "slot": slot.at.isoformat()},
        )
    since = found.since if found is not None else slot.at
    taken = SlotsRun(slot.schedule, slot.time_zone, since, slot.at)
    await storage.write(layout.scope_path(scope.id, "last_slot.json"), taken.to_json())


async def _read(storage: Storage, scope: Scope) -> SlotsRun | None:
    data = await read_or_none(storage, layout.scope_path(scope.id, "last_slot.json"))
    return None if data is None else SlotsRun.from_json(data)
