"""``restores/<name>.<hash>.json``: what a named restore did, so that asked again it does nothing more.

A GCRestore is an object that a GitOps tool may delete and make again at any time. What it asked for was done
once; doing it again would bring back what has been deleted since, by people who had a reason. So a restore that
has a name leaves a record, beside the hash of what it selected; the same name with another selection is another
restore.

The record is written before the first object is touched, too: a restore of "the latest operation" that was cut
off goes on with the operation that it began with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from s3gc.results import RestoreResult
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none

__all__ = ["RestoreRecord"]


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """The record of one named restore. `operation_id` and `result` are None until they are known."""

    storage: Storage
    path: str
    operation_id: str | None = None
    result: RestoreResult | None = None

    @classmethod
    async def open(cls, storage: Storage, name: str, selection: Mapping[str, object]) -> RestoreRecord:
        """Read the record of the restore with this name and selection, or begin one.

        A record that cannot be read counts as none: the restore runs, and leaves alone what is there.
        """
        # Without what was not chosen, so that a choice which a later version adds changes no hash.
        chosen = {name: value for name, value in selection.items() if value}
        plain = json.dumps(chosen, sort_keys=True, ensure_ascii=False)
        path = layout.restore_path(name, hashlib.sha256(plain.encode()).hexdigest()[:16])
        data = await read_or_none(storage, path)
        if data is None:
            return cls(storage, path)
        try:
            value = json.loads(data)
            found = value.get("result")
            result = RestoreResult.model_validate(found) if found is not None else None
            return cls(storage, path, str(value["operation_id"]), result)
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(storage, path)

    async def begin(self, operation_id: str) -> None:
        await self._write(operation_id, None)

    async def end(self, result: RestoreResult) -> None:
        """Keep what was done. One that failed in part is to be tried again, and keeps only its operation."""
        failed = bool(result.failed_count or result.errors)
        await self._write(result.operation_id, None if failed else result)

    async def _write(self, operation_id: str, result: RestoreResult | None) -> None:
        value = {
            "version": 1,
            "operation_id": operation_id,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "result": result.model_dump(mode="json") if result is not None else None,
        }
        await self.storage.write(self.path, (json.dumps(value, ensure_ascii=False) + "\n").encode())
