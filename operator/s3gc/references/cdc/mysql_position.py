"""Where the binary log stands: exactly at a snapshot, and now, on the server that the application writes to.

The trap: a commit is in the log before it is visible, for as long as it waits for a semi-synchronous replica. Who
reads the log's end first and takes a snapshot then misses it in both. MariaDB tells a snapshot's own exact position.
MySQL does not, but what `gtid_executed` names is visible; so a stream from there overlaps, which is harmless, and
misses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import asyncmy.errors

from s3gc.exceptions import CDCError
from s3gc.references.sources.mysql_catalog import literal
from s3gc.references.sources.mysql_session import Session

__all__ = [
    "Position",
    "behind",
    "gtids",
    "gtids_at",
    "snapshot_position",
    "written_gtids",
    "written_position",
]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the binary log. Files are numbered; a server that starts anew under another name is another log."""

    file: str
    offset: int

    @property
    def _order(self) -> tuple[str, int, int]:
        base, _, number = self.file.rpartition(".")
        return (base, int(number) if number.isdigit() else -1, self.offset)

    def reaches(self, other: Position) -> bool:
        """Whether a stream that came to here has seen everything before `other`."""
        (base, number, offset), (wanted, *rest) = self._order, other._order
        return base == wanted and [number, offset] >= rest

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


async def snapshot_position(session: Session) -> tuple[Position | None, str]:
    """Return (where the snapshot just opened in `session` stands, or None; MySQL's GTID set to start from, or "").

    Exactly one is there. For MySQL call it *before* the snapshot.
    """
    if not session.is_mariadb:
        ((mode, executed),) = await session.rows("SELECT @@global.gtid_mode, @@global.gtid_executed")
        if str(mode).upper() != "ON":
            raise CDCError(
                "gtid_mode is not ON, so no exact position of a snapshot can be had; switch GTIDs on, or remove cdc"
            )
        if not (text := re.sub(r"\s", "", str(executed))):
            # The reader takes an empty set for "from now on".
            raise CDCError(
                "gtid_executed is empty, so nothing says where a snapshot stands; commit something first"
            )
        return None, text
    status = {
        str(name).lower(): str(value)
        for name, value in await session.rows("SHOW STATUS LIKE 'binlog_snapshot_%'")
    }
    file, offset = status.get("binlog_snapshot_file", ""), status.get("binlog_snapshot_position", "")
    if not file or not offset.isdigit():
        raise CDCError("the server does not tell the binary log's position of a snapshot; is log_bin on?")
    return Position(file, int(offset)), ""


async def written_position(session: Session) -> Position | None:
    """Return the end of the log now; None when this account may not ask. A commit that is visible is before it."""
    for statement in ("SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"):
        try:
            rows = await session.rows(statement)
        except asyncmy.errors.MySQLError as error:
            if error.args[0] == 1064:
                continue  # MySQL from 8.4 on knows only the second
            if error.args[0] in (1227, 1142, 1044):
                return None
            raise
        if not rows:
            raise CDCError("the server writes no binary log (any more)")
        return Position(str(rows[0][0]), int(rows[0][1]))
    return None


async def written_gtids(session: Session) -> dict[int, tuple[int, int]]:
    """Return MariaDB's last GTID of each domain in the log, now: domain -> (server, number)."""
    ((text,),) = await session.rows("SELECT @@global.gtid_binlog_pos")
    return gtids(str(text))


async def gtids_at(session: Session, at: Position) -> dict[int, tuple[int, int]] | None:
    """The same at a position; None where the server cannot tell: it reads that file from its beginning, and gives up at
    an event that is larger than max_allowed_packet, such as an UPDATE of a large value."""
    ((text,),) = await session.rows(f"SELECT BINLOG_GTID_POS({literal(at.file)}, {at.offset})")
    return None if text is None else gtids(str(text))


def gtids(text: str) -> dict[int, tuple[int, int]]:
    """Parse ``0-1-8,5-2-77``."""
    found: dict[int, tuple[int, int]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        domain, server, number = (int(item) for item in part.split("-"))
        found[domain] = (server, number)
    return found


def behind(seen: Mapping[int, tuple[int, int]], wanted: Mapping[int, tuple[int, int]]) -> str:
    """Return what of `wanted` a stream that saw `seen` has not come to, or ""."""
    for domain in seen:
        if domain not in wanted:
            return f"domain {domain} is gone from the server's log"
    for domain, (server, number) in wanted.items():
        if domain not in seen or seen[domain][1] < number:
            return f"{domain}-{server}-{number}"
    return ""
