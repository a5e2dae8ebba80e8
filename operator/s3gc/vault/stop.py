"""``stop.json``: how a restore asks a running cycle to end after its group.

It is a request between friends and protects nothing, so its age may be judged by the clock: a request that
nobody renews lapses after some minutes, and one whose writer is known to be dead at once.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from s3gc.exceptions import VaultError
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none
from s3gc.vault.holder import Holder, this_process
from s3gc.vault.scopes import Scope

if TYPE_CHECKING:
    from s3gc.vault.vault import Vault

__all__ = ["StopKeeper", "StopRequest", "clear_stop", "request_stop", "stop_requested"]

log = logging.getLogger(__name__)

_LAPSES_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody asks the running cycle to end after its group."""

    by: str
    requested_at: datetime
    holder: Holder | None = None

    def to_json(self) -> bytes:
        holder = self.holder.to_json() if self.holder is not None else None
        value = {"by": self.by, "requested_at": self.requested_at.isoformat(), "holder": holder}
        return (json.dumps(value, ensure_ascii=False) + "\n").encode()


async def request_stop(vault: Vault, scope: Scope, by: str) -> None:
    """Ask the cycle that runs in `scope` to end after its group. The request lapses after some minutes."""
    request = StopRequest(by, datetime.now(UTC))
    await vault.storage.write(layout.scope_path(scope.id, "stop.json"), request.to_json())


async def stop_requested(vault: Vault, scope: Scope) -> StopRequest | None:
    """The request to stop that counts now, or None."""
    data = await read_or_none(vault.storage, layout.scope_path(scope.id, "stop.json"))
    if data is None:
        return None
    try:
        value = json.loads(data)
        holder = Holder.from_json(value["holder"]) if value.get("holder") else None
        request = StopRequest(str(value["by"]), datetime.fromisoformat(value["requested_at"]), holder)
        age = abs((datetime.now(UTC) - request.requested_at).total_seconds())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # it protects nothing; unreadable is as good as absent
    is_dead = holder is not None and holder.state() == "dead"
    return None if age > _LAPSES_SECONDS or is_dead else request


async def clear_stop(vault: Vault, scope: Scope) -> None:
    """Take the request back; none is fine."""
    await vault.storage.delete(layout.scope_path(scope.id, "stop.json"))


class StopKeeper:
    """Writes stop.json while a restore waits, again and again, and takes it back when its turn has come."""

    def __init__(self, storage: Storage, scope: Scope, every_seconds: float) -> None:
        self._storage = storage
        self._path = layout.scope_path(scope.id, "stop.json")
        self._every_seconds = every_seconds
        self._asked: float | None = None

    async def ask(self) -> None:
        if self._asked is not None and time.monotonic() - self._asked < self._every_seconds:
            return
        me = this_process()
        await self._storage.write(
            self._path, StopRequest(f"a restore by {me}", datetime.now(UTC), me).to_json()
        )
        self._asked = time.monotonic()

    async def withdraw(self) -> None:
        if self._asked is None:
            return
        try:
            await self._storage.delete(self._path)
        except (VaultError, OSError) as error:
            log.warning("stop.json could not be removed (it lapses by itself): %s", error)
