"""Kill this process with SIGKILL just before, or just after, the n-th step of a kind: in a test's runner only.

Everything that a cycle leaves behind goes through two doors: a signed request to a store, and a file of a folder vault.
`install` numbers what passes through them, so that a kill can be put exactly between a DELETE and its proof, a journal
and its DELETEs, or a pack and its manifest. Nothing of this is in the product.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from s3gc.store.folder import FolderStorage
from s3gc.store.transport import Transport

__all__ = ["TENDER", "Recorder", "install"]

#: Kinds of steps between which a cycle is only half true: from the plan to the result.
TENDER = (
    "bucket DeleteObject object",
    "bucket (ListObjectVersions|HeadObject) object",
    "bucket GetObject object",
    "bucket PutObject object",
    "vault (write|name|PutObject) .*packs/",
    "vault GetObject .*packs/",
    "vault (write|name|PutObject) .*journal/",
    "vault (write|name|PutObject) .*audit/",
    "vault (write|name|PutObject) .*manifest",
    "vault (write|name|PutObject) .*operation.json",
    "vault (write|name|PutObject) .*(plan|state).parquet",
    "vault (write|name|PutObject) .*(result|report)",
)

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def kind_of(where: str, operation: str, path: str) -> str:
    """What kind of step this is, without names and numbers: ``vault write operations/*/journal/*.jsonl``."""
    if where == "bucket" and not path.startswith(".s3gc/"):
        return f"bucket {operation} {'object' if path else ''}".strip()
    path = re.sub(r"\d{6}", "*", _ULID.sub("*", path))
    path = re.sub(r"^scopes/[^/]+/", "scopes/*/", path)
    path = re.sub(r"^(\.s3gc/(?:claims|probe\w*)|\.probe)/.*", r"\1/*", path)
    return f"{where} {operation} {path}".strip()


@dataclass
class Recorder:
    """`kinds` has every step so far, in order. Kills before (or `after`) the step that `wanted` counts to `nth`.

    `wanted` is a regular expression of kinds, "" for any. `tell` is called with the kind at the very end, before the signal.
    """

    wanted: str | None = None
    nth: int = 1
    after: bool = False
    tell: Callable[[str], None] = lambda _: None
    kinds: list[str] = field(default_factory=list)
    _seen: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, kind: str) -> bool:
        """Note a step; whether to die after it."""
        with self._guard:
            self.kinds.append(kind)
            if self.wanted is None or not re.search(self.wanted, kind):
                return False
            self._seen += 1
            if self._seen != self.nth:
                return False
            if not self.after:
                self.die(kind)
            return True

    def die(self, kind: str) -> None:
        self.tell(kind)
        os.kill(os.getpid(), signal.SIGKILL)


def install(recorder: Recorder, bucket: str) -> None:
    """Let every request and every change of a folder vault pass through `recorder`."""
    send = Transport._send

    async def watched_send(self: Transport, request: Any, attempt: int, *, streaming: bool) -> Any:
        where = "bucket" if self.bucket == bucket else "vault"
        path = (request.key or "") if where == "bucket" else (request.key or "").partition("vault/")[2]
        kind = kind_of(where, request.operation, path)
        dies = recorder.begin(kind)
        answer = await send(self, request, attempt, streaming=streaming)
        if dies:
            recorder.die(kind)
        return answer

    Transport._send = watched_send  # type: ignore[method-assign]  # in the runner's own process

    store, delete = FolderStorage._store, FolderStorage.delete

    def watched_store(self: FolderStorage, path: str, fill: Any, name: Any) -> bool:
        kind = kind_of("vault", "write", path)
        dies = recorder.begin(kind)

        def named(temporary: Any, target: Any) -> bool:
            # Between these two the file is whole and nameless.
            dies_here = recorder.begin(kind_of("vault", "name", path))
            done: bool = name(temporary, target)
            if dies_here:
                recorder.die(kind_of("vault", "name", path))
            return done

        done = store(self, path, fill, named)
        if dies:
            recorder.die(kind)
        return done

    async def watched_delete(self: FolderStorage, path: str) -> None:
        kind = kind_of("vault", "delete", path)
        dies = recorder.begin(kind)
        await delete(self, path)
        if dies:
            recorder.die(kind)

    FolderStorage._store = watched_store  # type: ignore[method-assign]
    FolderStorage.delete = watched_delete  # type: ignore[method-assign]
