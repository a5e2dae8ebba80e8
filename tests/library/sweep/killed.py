"""One cycle in a process of its own that kills itself (a real SIGKILL) at a named point of a purge.

``python -m tests.library.sweep.killed CONFIG POINT``: CONFIG is JSON, the keywords of `create_config`; POINT is one of
`POINTS`, reached in the second batch of two versions each, so that one batch is always whole before it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
from s3gc.store.bucket import Bucket
from s3gc.sweep import purge
from s3gc.vault.operations import Operation
from s3gc.vault.purges import PurgeJournal

#: In the order in which a purge comes to them.
POINTS = (
    "before the intent",
    "after the intent",
    "after one removal",
    "after all removals",
    "after the record",
    "after the audit",
    "after the markers",
    "before the result",
)
WHICH_BATCH = 2


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    batch, removals = 0, 0
    begin, end, delete = PurgeJournal.begin, PurgeJournal.end, Bucket.delete
    record, tidy, result = purge.record_outcomes, purge.tidy_markers, Operation.write_result

    def at(name: str) -> None:
        if name == point and batch == WHICH_BATCH:
            kill()

    async def begun(self: PurgeJournal, *arguments: Any) -> None:
        nonlocal batch, removals
        batch, removals = batch + 1, 0
        at("before the intent")
        await begin(self, *arguments)
        at("after the intent")

    async def removed(self: Bucket, key: str, **how: Any) -> Any:
        nonlocal removals
        answer = await delete(self, key, **how)
        if batch and how.get("version_id") and not answer.is_marker:
            removals += 1
            at("after one removal")
        return answer

    async def ended(self: PurgeJournal, *arguments: Any) -> None:
        at("after all removals")
        await end(self, *arguments)
        at("after the record")

    def then(name: str, call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def wrapped(*arguments: Any) -> None:
            await call(*arguments)
            at(name)

        return wrapped

    async def told(self: Operation, outcome: Any) -> None:
        if batch and point == "before the result":
            kill()
        await result(self, outcome)

    PurgeJournal.begin, PurgeJournal.end = begun, ended  # type: ignore[method-assign]
    Bucket.delete, Operation.write_result = removed, told  # type: ignore[method-assign]
    purge.record_outcomes = then("after the audit", record)
    purge.tidy_markers = then("after the markers", tidy)


async def main(text: str, point: str) -> None:
    purge.BATCH = 2
    config = create_config(**json.loads(text))
    if point:
        arm(point)
    state = await initialize_gc_state(config)
    try:
        print((await run_gc_cycle(config, state)).model_dump_json())
    finally:
        await shutdown_gc_state(state)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
