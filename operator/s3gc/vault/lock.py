"""One cycle or restore a scope at a time, across processes, machines and restarts.

The lock is a file that is created conditionally and renewed by compare-and-swap, so the storage decides who
holds it. Two machines' clocks never have to agree: a lease is over when *this* process has watched the same
content stay unchanged for a whole lease by its own monotonic clock. Only a holder of this machine that is
provably dead is taken over at once (see `holder`). A holder counts its own lease from before its last renewal
was sent, and stops believing in it a margin earlier than anybody else could take it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from s3gc.exceptions import LockedError, VaultError
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none
from s3gc.vault.holder import Holder, this_process
from s3gc.vault.scopes import Scope
from s3gc.vault.stop import StopKeeper, StopRequest, clear_stop, request_stop, stop_requested

if TYPE_CHECKING:
    from s3gc.vault.vault import Vault

__all__ = [
    "LeaseTimes",
    "LockView",
    "ScopeLock",
    "StopRequest",
    "clear_stop",
    "hold_scope",
    "look_at_lock",
    "request_stop",
    "stop_requested",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. `margin` is by how much a holder gives up before others may take over; `poll` how often a
    waiting process looks."""

    lease: float = 60.0
    renew: float = 15.0
    margin: float = 10.0
    poll: float = 1.0


_TIMES = LeaseTimes()


def _own_clock() -> float:
    """Monotonic seconds that go on while the machine sleeps: a lease runs out in a suspended laptop, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class _State:
    """What lock.json says. A released lock stays as a file, as only compare-and-swap may ever change it."""

    token: str
    holder: Holder
    purpose: str
    acquired_at: str
    renewed_at: str
    renewals: int
    released: bool = False

    def to_json(self) -> bytes:
        value = {
            "version": 1,
            "token": self.token,
            "holder": self.holder.to_json(),
            "purpose": self.purpose,
            "acquired_at": self.acquired_at,
            "renewed_at": self.renewed_at,
            "renewals": self.renewals,
            "released": self.released,
        }
        return (json.dumps(value) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> _State:
        """What cannot be read is held by nobody knows whom: it is taken over after a lease unchanged, not
        before."""
        try:
            value: dict[str, Any] = json.loads(data)
            return cls(
                token=str(value["token"]),
                holder=Holder.from_json(value["holder"]),
                purpose=str(value.get("purpose", "")),
                acquired_at=str(value.get("acquired_at", "")),
                renewed_at=str(value.get("renewed_at", "")),
                renewals=int(value.get("renewals", 0)),
                released=value.get("released") is True,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls("", Holder("an unknown host", 0), "", "", "", 0)

    def seems_fresh(self, lease: float) -> bool:
        """Whether its holder's clock says, by ours, that it was renewed within a lease: a hint, never a
        proof."""
        try:
            age = (datetime.now(UTC) - datetime.fromisoformat(self.renewed_at)).total_seconds()
        except ValueError:
            return False
        return abs(age) < lease

    def describe(self) -> str:
        what = f"a {self.purpose}" if self.purpose else "something"
        return f"{what} ({self.holder}, since {self.acquired_at or 'an unknown time'})"


class ScopeLock:
    """A held lock. `check()` before anything that must not happen twice; `hold_scope` makes, renews and
    releases it."""

    def __init__(self, storage: Storage, scope: Scope, purpose: str, times: LeaseTimes = _TIMES) -> None:
        self._storage = storage
        self._scope = scope
        self._path = layout.scope_path(scope.id, "lock.json")
        self._times = times
        self._token = uuid.uuid4().hex
        self._purpose = purpose
        self._data = b""
        self._renewed = 0.0  # by _own_clock, from before the last successful write was sent
        self._lost = ""
        self._busy = asyncio.Lock()

    @property
    def lost(self) -> bool:
        return bool(self._lost)

    @property
    def may_be_taken_over(self) -> bool:
        """Whether it is lost, or so long not renewed that somebody else may hold it by now; asks no storage."""
        return self.lost or _own_clock() - self._renewed > self._times.lease - self._times.margin

    async def try_acquire(self, expected: bytes | None) -> bool:
        """Create the lock (`expected` None) or swap what was seen for ours; False when somebody was
        faster."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        data = _State(self._token, this_process(), self._purpose, now, now, 0).to_json()
        sent = _own_clock()
        if expected is None:
            won = await self._storage.create(self._path, data)
        else:
            won = await self._storage.replace(self._path, data, expected=expected)
        if (
            not won and await read_or_none(self._storage, self._path) != data
        ):  # else: ours, only its answer was lost
            return False
        self._data, self._renewed = data, sent
        return True

    def _recognise(self, current: bytes | None) -> bool:
        """Go on from `current` if it is a renewal of ours whose answer never came: nobody else has our token."""
        if current is None:
            return False
        state = _State.from_json(current)
        if state.token != self._token or state.released:
            return False
        self._data = current  # and not `_renewed`: when it was sent is not known here
        return True

    async def check(self) -> None:
        """Raise LockedError unless this process still holds the scope: by its own clock, and by what the file
        says."""
        async with self._busy:
            if not self._lost and self.may_be_taken_over:
                self._lost = "it could not be renewed in time"
            if not self._lost and not self._recognise(await read_or_none(self._storage, self._path)):
                self._lost = "another process took it over"
        if self._lost:
            raise LockedError(
                f"the lock of scope {self._scope.id!r} in the vault {self._storage.location} was lost "
                f"({self._lost}); nothing "
                "more is deleted or restored by this process. What it did is in the vault, and the next "
                "cycle carries on",
                details={"scope": self._scope.id, "lost": self._lost},
            )

    async def renew(self) -> None:
        """Write the next renewal. A storage error is left to the next attempt; the own clock decides in the
        end."""
        async with self._busy:
            if self._lost:
                return
            before = _State.from_json(self._data)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            data = _State(
                before.token, before.holder, before.purpose, before.acquired_at, now, before.renewals + 1
            ).to_json()
            sent = _own_clock()
            if not await self._storage.replace(self._path, data, expected=self._data):
                current = await read_or_none(self._storage, self._path)
                if current != data:
                    if not self._recognise(current):
                        self._lost = "another process took it over"
                    return  # this one did not arrive, but perhaps one before it: try again later
            self._data, self._renewed = data, sent

    async def keep(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self._times.renew)
            try:
                await self.renew()
            except (VaultError, OSError) as error:
                log.warning(
                    "the lock of scope %s could not be renewed, trying again: %s", self._scope.id, error
                )

    async def release(self) -> None:
        """Mark the lock as free, only if it is still ours. Never raises for the storage: the lease ends by
        itself."""
        async with self._busy:
            if self._lost or not self._data:
                return
            state = _State.from_json(self._data)
            free = _State(
                state.token,
                state.holder,
                state.purpose,
                state.acquired_at,
                state.renewed_at,
                state.renewals,
                released=True,
            )
            try:
                is_free = await self._storage.replace(self._path, free.to_json(), expected=self._data)
                # A renewal that was cut off at the end may have been written all the same.
                if not is_free and self._recognise(await read_or_none(self._storage, self._path)):
                    await self._storage.replace(self._path, free.to_json(), expected=self._data)
            except (VaultError, OSError) as error:
                log.warning(
                    "the lock of scope %s could not be released (it ends by itself): %s",
                    self._scope.id,
                    error,
                )
            self._lost = "it was released"


@dataclass(frozen=True, slots=True)
class LockView:
    """Who holds a scope, as far as a look can tell. `shown` is for people; `token` names this one holding of it."""

    token: str
    holder: Holder
    purpose: str
    shown: str


async def look_at_lock(storage: Storage, scope: Scope, *, times: LeaseTimes = _TIMES) -> LockView | None:
    """Who holds the scope now; None when nobody seems to. For people: only `hold_scope` decides anything."""
    data = await read_or_none(storage, layout.scope_path(scope.id, "lock.json"))
    if data is None:
        return None
    state = _State.from_json(data)
    if state.released or state.holder.state() == "dead" or not state.seems_fresh(times.lease):
        return None
    return LockView(state.token, state.holder, state.purpose, state.describe())


@contextlib.asynccontextmanager
async def hold_scope(
    vault: Vault,
    scope: Scope,
    purpose: Literal["cycle", "restore"] = "cycle",
    wait_seconds: float = 0,
    *,
    times: LeaseTimes = _TIMES,
) -> AsyncIterator[ScopeLock]:
    """Hold `scope` for a cycle or a restore; renewed in the background until the block ends.

    Waits at most `wait_seconds` for a live holder. A lock whose holder seems gone is watched for one lease
    even with 0, and taken over when nothing renewed it. A restore writes ``stop.json`` while it waits, so
    that a running cycle ends after its group; a cycle does not start while a restore waits. Raises
    LockedError naming the holder.
    """
    storage = vault.storage
    lock = ScopeLock(storage, scope, purpose, times)
    stop = StopKeeper(storage, scope, times.renew) if purpose == "restore" else None
    try:
        await _acquire(lock, storage, scope, wait_seconds, times, stop)
    except BaseException:
        if stop is not None:
            await stop.withdraw()
        raise
    if stop is not None:
        await stop.withdraw()
    elif (request := await stop_requested(vault, scope)) is not None:
        await lock.release()
        raise LockedError(
            f"a restore of scope {scope.id!r} waits for its turn ({request.by}); no cycle starts before it "
            "is done",
            details={"scope": scope.id, "holder": request.by},
        )
    keeper = asyncio.create_task(lock.keep(), name=f"lock of {scope.id}")
    try:
        yield lock
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        await lock.release()


async def _acquire(
    lock: ScopeLock,
    storage: Storage,
    scope: Scope,
    wait_seconds: float,
    times: LeaseTimes,
    stop: StopKeeper | None,
) -> None:
    path = layout.scope_path(scope.id, "lock.json")
    deadline = time.monotonic() + wait_seconds
    watched: bytes | None = None
    since = 0.0
    while True:
        data = await read_or_none(storage, path)
        now = time.monotonic()
        if data is None:
            if await lock.try_acquire(None):
                return
            continue
        state = _State.from_json(data)
        if data != watched:
            changed, watched, since = watched is not None, data, now
        else:
            changed = False
        if state.released or state.holder.state() == "dead":
            if await lock.try_acquire(data):
                if not state.released:
                    log.warning(
                        "took over the lock of scope %s from %s, which is dead", scope.id, state.describe()
                    )
                return
            watched = None  # somebody was faster: look again at once
            continue
        if now - since >= times.lease:
            # The same bytes for a whole lease, watched here: its holder gave up on it a margin ago.
            if await lock.try_acquire(data):
                log.warning(
                    "took over the lock of scope %s, which %s did not renew", scope.id, state.describe()
                )
                return
            watched = None
            continue
        if (changed or state.seems_fresh(times.lease)) and now >= deadline:
            raise LockedError(
                f"scope {scope.id!r} in the vault {storage.location} is held by {state.describe()}. Wait "
                "until it has ended; "
                f"a holder that died is taken over by itself after {times.lease:.0f} seconds",
                details={"scope": scope.id, "holder": state.describe(), "purpose": state.purpose},
            )
        if stop is not None:
            await stop.ask()
        await asyncio.sleep(times.poll)
