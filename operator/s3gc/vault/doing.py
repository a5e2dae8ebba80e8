"""``doing.json``: how far the scope's holder is, for the other worker processes of the same application.

A page that is answered by one of several workers must show the cycle that another one runs. The file protects nothing
and decides nothing; it is believed while the process that wrote it holds the scope.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from s3gc.results import Progress
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none
from s3gc.vault.holder import Holder, this_process
from s3gc.vault.lock import LockView
from s3gc.vault.scopes import Scope

__all__ = ["Doing", "read_doing", "write_doing"]


@dataclass(frozen=True, slots=True)
class Doing:
    """What a process does in a scope: `kind` is cycle or restore, `mode` that of a cycle, `trigger` who asked."""

    kind: str
    mode: str
    trigger: str
    started_at: datetime
    progress: Progress

    def to_json(self) -> bytes:
        value: dict[str, Any] = {
            "version": 1,
            "kind": self.kind,
            "mode": self.mode,
            "trigger": self.trigger,
            "started_at": self.started_at.isoformat(),
            "progress": asdict(self.progress),
            "holder": this_process().to_json(),
        }
        return (json.dumps(value) + "\n").encode()


async def write_doing(storage: Storage, scope: Scope, doing: Doing) -> None:
    await storage.write(_path(scope), doing.to_json())


async def read_doing(storage: Storage, scope: Scope, lock: LockView) -> Doing | None:
    """What the holder of `lock` does; None where it does not say."""
    data = await read_or_none(storage, _path(scope))
    if data is None:
        return None
    try:
        value = json.loads(data)
        if Holder.from_json(value["holder"]) != lock.holder or value["kind"] != lock.purpose:
            return None
        started_at = datetime.fromisoformat(value["started_at"]).astimezone(UTC)
        return Doing(
            str(value["kind"]),
            str(value["mode"]),
            str(value["trigger"]),
            started_at,
            Progress(**value["progress"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _path(scope: Scope) -> str:
    return layout.scope_path(scope.id, "doing.json")
