"""What a capture of changes promises, whichever database it is: the words that `following` and the captures share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

__all__ = ["Capture", "Change"]

#: The index of a column among the source's columns, and a value that was written to it, as a scan would have given it.
Change = tuple[int, object]


class Capture(Protocol):
    """The changes of one source's columns. Every error is a CDCError, and after one nothing may be concluded."""

    @property
    def left_over(self) -> Mapping[int, str]:
        """Columns that it cannot follow, by index, and why: they are read again instead. Known after `preflight`."""
        ...

    @property
    def largest_lag(self) -> int | None:
        """The most bytes of its log that the server kept for this capture, as the drains saw it. None: see `lag`."""
        ...

    async def preflight(self) -> None:
        """Find out whether changes can be captured. Raises CDCError with all that is missing, and what to grant."""
        ...

    async def open(self) -> None:
        """Begin. A scan that begins after this returns misses nothing that is not in a later drain."""
        ...

    def drain(self) -> AsyncIterator[Sequence[Change]]:
        """Yield all that was committed since the last drain, proven up to the call, in bounded batches."""
        ...

    async def lag(self) -> int | None:
        """How many bytes of its log the server keeps for captures of s3gc now, whichever process has them: 0 between
        cycles. None where a server keeps nothing for whoever reads its log."""
        ...

    async def close(self) -> None:
        """End it; nothing of it is left on the server."""
        ...
