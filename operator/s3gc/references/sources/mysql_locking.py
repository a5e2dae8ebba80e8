"""Asking for keys under a share lock, without ever standing in an application's way.

A locking read waits for writes in flight, which is what makes its answer complete. Waiting while it holds the locks of
the keys before, it could close a circle with an application's transaction, and the server might end that one. So it
never waits inside the server: a key that somebody is writing is refused at once (NOWAIT), the locks are given back,
and that key is asked for again until its writer is done. Who holds nothing while it waits is in no circle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncmy.errors

from s3gc.references.sources.mysql_session import IDLE_SECONDS, LOCK_SECONDS, Session

__all__ = ["WAYS_TO_LOCK", "locked_rows"]

#: From the best on: MariaDB's and MySQL 8's, and what older servers know, where the server itself waits.
WAYS_TO_LOCK = ("LOCK IN SHARE MODE NOWAIT", "FOR SHARE NOWAIT", "LOCK IN SHARE MODE")

#: Lock wait timeout (MariaDB's NOWAIT too), deadlock, MySQL's NOWAIT.
_BUSY = frozenset({1205, 1213, 3572})
_AGAIN_SECONDS = 0.02


async def locked_rows(
    session: Session, values: Sequence[Any], statement: Callable[[Sequence[Any]], str]
) -> list[Sequence[Any]]:
    """Run `statement` of all `values` under its share lock and return the rows; `session` is in a transaction.

    Raises the server's own error for a value whose writer is not done within LOCK_SECONDS.
    """
    found: list[Sequence[Any]] = []
    waiting = [list(values)]
    since: dict[Any, float] = {}  # value -> when it was first found busy
    while waiting:
        some = waiting.pop()
        try:
            found += await session.rows(statement(some), timeout=IDLE_SECONDS)
        except asyncmy.errors.MySQLError as error:
            if error.args[0] not in _BUSY:
                raise
            if len(some) > 1:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]
            elif time.monotonic() - since.setdefault(some[0], time.monotonic()) > LOCK_SECONDS:
                raise
            else:
                waiting.insert(0, some)  # the others first
                if len(waiting) == 1 or all(len(rest) == 1 and rest[0] in since for rest in waiting):
                    await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            await session.rows("ROLLBACK")  # gives the locks back at once
            await session.rows("START TRANSACTION READ ONLY")
    return found
