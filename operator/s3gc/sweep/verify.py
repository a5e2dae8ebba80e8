"""Ask the databases about a bounded set of keys, now: before a group is deleted, and again after.

A source whose columns are all exact keys is asked for just these keys (`query`); every other source is read again
whole, through the full matcher (`rescan`). Both answer from committed rows at the time of the question, so an answer
is only as fresh as its question: `sweep.check` is what closes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from s3gc.exceptions import RefusedError, SourceError
from s3gc.references.derivatives import is_invertible, parents
from s3gc.references.reader import rescan
from s3gc.references.types import BarrierResult, Source, SourcePreflight
from s3gc.results import VerificationLevel

__all__ = ["Verifier"]


@dataclass(frozen=True, slots=True)
class _Watched:
    source: Source
    preflight: SourcePreflight
    fingerprint: str


def _askable(preflight: SourcePreflight) -> SourcePreflight:
    """A source can be asked for exact keys only if each key's possible parents can be named as well."""
    if not preflight.can_query:
        return preflight
    for column in preflight.columns:
        for template in column.rules.derivatives:
            if not is_invertible(template):
                reason = f"derivative {template!r} does not say what its parent is called"
                return replace(preflight, can_query=False, query_reason=reason)
    return preflight


class Verifier:
    """Verification over all sources of one cycle. Make it with `begin`, which takes the first fingerprints."""

    def __init__(self, watched: Sequence[_Watched]) -> None:
        self._watched = tuple(watched)
        rescanned = [w for w in self._watched if not w.preflight.can_query]
        if not self._watched:
            self.level, self.reason = VerificationLevel.NONE, "no source is configured"
        elif rescanned:
            self.level = VerificationLevel.RESCAN
            self.reason = "; ".join(f"{w.source.name}: {w.preflight.query_reason}" for w in rescanned)
        else:
            self.level, self.reason = VerificationLevel.QUERY, "every column is declared as an exact key"

    @classmethod
    async def begin(cls, sources: Sequence[tuple[Source, SourcePreflight]]) -> Verifier:
        """Remember the catalog as it is now; every later `fence` compares with it."""
        return cls(
            [
                _Watched(source, _askable(preflight), await source.fingerprint())
                for source, preflight in sources
            ]
        )

    async def fence(self) -> None:
        """Raise RefusedError when the catalog of a watched table is not what it was when the cycle began.

        A dropped column, a swapped table or an attached partition changes what "all references" means without
        changing a single row that was read: nothing read before may be believed any longer.
        """
        for watched in self._watched:
            if await watched.source.fingerprint() != watched.fingerprint:
                raise RefusedError(
                    f"the catalog of source {watched.source.name!r} ({watched.source.location}) changed while the "
                    "cycle ran (a column, table or partition was added, dropped, renamed or swapped); deletions of "
                    "this cycle have stopped, and the next cycle reads everything anew",
                    details={"guard": "schema_changed", "source": watched.source.name},
                )

    async def referenced(
        self, keys: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> dict[str, str]:
        """Return those of `keys` that a source names now, each with the column that names it. Errors are raised:
        a source that cannot answer has not said "unreferenced".

        Raises SourceError when a catalog changed meanwhile. A table that is swapped into the place of another (as tools
        for online migrations do) is read under a snapshot from before, which shows none of the rows that were copied
        since: it reads as shorter than it ever was, without any error.
        """
        before = [await watched.source.fingerprint() for watched in self._watched]
        found: dict[str, str] = {}
        rescanned = [w for w in self._watched if not w.preflight.can_query]
        for watched in self._watched:
            if watched.preflight.can_query:
                found.update(await self._query(watched, [key for key in keys if key not in found]))
        left = [key for key in keys if key not in found]
        if rescanned and left:
            hits = await rescan(
                [w.source for w in rescanned], [w.preflight for w in rescanned], left, progress=progress
            )
            found.update({key: hit.column.label for key, hit in hits.items()})
        for watched, fingerprint in zip(self._watched, before, strict=True):
            if await watched.source.fingerprint() != fingerprint:
                raise SourceError(
                    f"the catalog of source {watched.source.name!r} ({watched.source.location}) changed while it was "
                    "asked which keys it references (a migration?), so its answer cannot be believed"
                )
        return found

    @staticmethod
    async def _query(watched: _Watched, keys: Sequence[str]) -> dict[str, str]:
        # A derivative lives with its parent, so the parents are asked for as well.
        templates = {
            template for column in watched.preflight.columns for template in column.rules.derivatives
        }
        if not keys:
            return {}
        origins: dict[str, list[str]] = {}
        for key in keys:
            for asked in {key, *(parents(key, tuple(templates)) if templates else ())}:
                origins.setdefault(asked, []).append(key)
        answered = await watched.source.referenced(list(origins))
        return {key: label for asked, label in answered.items() for key in origins.get(asked, ())}

    async def barrier(self, timeout_seconds: float) -> list[tuple[str, BarrierResult]]:
        """Wait, source by source, until the transactions that were writing the watched tables are over."""
        results: list[tuple[str, BarrierResult]] = []
        for watched in self._watched:
            try:
                result = await watched.source.barrier(timeout_seconds)
            except SourceError as error:
                result = BarrierResult(passed=False, waited_seconds=0.0, detail=error.message)
            results.append((watched.source.name, result))
        return results
