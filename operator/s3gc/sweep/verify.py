"""Ask the databases about a bounded set of keys, now: before a group is deleted, and again after.

A source that is followed by change capture (`cdc`) has told everything that was written since the scan; a source
whose columns are all exact keys is asked for just these keys (`query`); every other source is read again whole,
through the full matcher (`rescan`), and so are those columns of a followed source that its log does not show. All
answer from committed rows at the time of the question, so an answer is only as fresh as its question: `sweep.check`
closes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from s3gc.exceptions import CDCError, RefusedError, SourceError
from s3gc.references.cdc.following import Following
from s3gc.references.derivatives import is_invertible, parents
from s3gc.references.reader import rescan
from s3gc.references.types import BarrierResult, Source, SourcePreflight
from s3gc.results import SourceVerification, VerificationLevel

__all__ = ["Verifier"]


@dataclass(slots=True)
class _Watched:
    source: Source
    preflight: SourcePreflight
    fingerprint: str
    following: Following | None = None
    lost: str = ""  # why it is followed no longer
    lag_bytes: int | None = None  # the most that the server kept of its log while it was followed

    @property
    def level(self) -> VerificationLevel:
        if self.following is not None:
            return VerificationLevel.RESCAN if self.following.left_over else VerificationLevel.CDC
        return VerificationLevel.QUERY if self.preflight.can_query else VerificationLevel.RESCAN

    @property
    def reason(self) -> str:
        """Why not a stronger level, or what makes this one possible."""
        if self.following is not None:
            return self.following.reason or "every column is followed in the database's own log"
        if self.preflight.can_query:
            return self.lost or "every column is declared as an exact key"
        return "; ".join(filter(None, (self.lost, self.preflight.query_reason)))

    def lose(self, why: str) -> None:
        """It is followed no longer."""
        if self.following is not None:
            self.lag_bytes = self.following.largest_lag
        self.following, self.lost = None, why

    def shown(self) -> SourceVerification:
        lag = self.lag_bytes if self.following is None else self.following.largest_lag
        return SourceVerification(name=self.source.name, level=self.level, reason=self.reason, lag_bytes=lag)


#: Weakest first: a cycle is verified as well as its weakest source.
_STRENGTH = (VerificationLevel.RESCAN, VerificationLevel.QUERY, VerificationLevel.CDC)


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

    @property
    def level(self) -> VerificationLevel:
        """That of the weakest source."""
        levels = {watched.level for watched in self._watched}
        return next((level for level in _STRENGTH if level in levels), VerificationLevel.NONE)

    @property
    def reason(self) -> str:
        """Why it is no stronger level."""
        if not self._watched:
            return "no source is configured"
        weakest = [w for w in self._watched if w.level is self.level]
        if self.level is VerificationLevel.QUERY and not any(w.lost for w in weakest):
            return "every column is declared as an exact key"
        return "; ".join(f"{w.source.name}: {w.reason}" for w in weakest)

    @property
    def sources(self) -> list[SourceVerification]:
        """Each source by itself."""
        return [watched.shown() for watched in self._watched]

    @classmethod
    async def begin(cls, sources: Sequence[tuple[Source, SourcePreflight]]) -> Verifier:
        """Remember the catalog as it is now; every later `fence` compares with it."""
        return cls(
            [
                _Watched(source, _askable(preflight), await source.fingerprint())
                for source, preflight in sources
            ]
        )

    def follow(self, followings: Mapping[str, Following]) -> None:
        """From now on use what these have seen. Only for keys that were judged by a scan which began after them."""
        for watched in self._watched:
            watched.following = followings.get(watched.source.name)

    async def fence(self) -> None:
        """Raise RefusedError when the catalog of a watched table is not what it was when the cycle began.

        A dropped column, a swapped table or an attached partition changes what "all references" means without
        changing a single row that was read: nothing read before may be believed any longer.
        """
        for watched in self._watched:
            await self._same_catalog(watched)

    @staticmethod
    async def _same_catalog(watched: _Watched) -> None:
        if await watched.source.fingerprint() != watched.fingerprint:
            raise RefusedError(
                f"the catalog of source {watched.source.name!r} ({watched.source.location}) changed while the "
                "cycle ran (a column, table or partition was added, dropped, renamed or swapped); deletions of "
                "this cycle have stopped, and the next cycle reads everything anew",
                details={"guard": "schema_changed", "source": watched.source.name},
            )

    async def referenced(
        self,
        keys: Sequence[str],
        *,
        is_check: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, str]:
        """Return those of `keys` that a source names now, each with the column that names it. Errors are raised:
        a source that cannot answer has not said "unreferenced".

        A stream of changes that ends is an error too, and no deletion follows it; in the check after the deletions
        (`is_check`) the source is read again instead, which says the same.

        So is a catalog that changed while a source was asked or read again. A table that is swapped into the place of
        another (as tools for online migrations do) is read under a snapshot from before, which shows none of the rows
        that were copied since: it reads as shorter than it ever was, without any error.
        """
        before: list[tuple[_Watched, str]] = []  # what is asked otherwise than by the stream, and its catalog
        found: dict[str, str] = {}
        again: list[tuple[_Watched, SourcePreflight]] = []

        def left() -> list[str]:
            return [key for key in keys if key not in found]

        for watched in self._watched:
            if watched.following is not None:
                try:
                    found.update(await self._followed(watched, watched.following, left()))
                except (CDCError, RefusedError) as error:
                    if not is_check:
                        raise
                    watched.lose(error.message)
                else:
                    if rest := watched.following.left_over:
                        before.append((watched, watched.fingerprint))
                        again.append((watched, replace(watched.preflight, columns=tuple(rest))))
                    continue
            before.append((watched, await watched.source.fingerprint()))
            if watched.preflight.can_query:
                found.update(await self._query(watched, left()))
            else:
                again.append((watched, watched.preflight))
        if again and (wanted := left()):
            hits = await rescan(
                [w.source for w, _ in again], [p for _, p in again], wanted, progress=progress
            )
            found.update({key: hit.column.label for key, hit in hits.items()})
        for watched, fingerprint in before:
            if await watched.source.fingerprint() != fingerprint:
                raise SourceError(
                    f"the catalog of source {watched.source.name!r} ({watched.source.location}) changed while it was "
                    "asked which keys it references (a migration?), so its answer cannot be believed"
                )
        return found

    async def _followed(self, watched: _Watched, following: Following, keys: Sequence[str]) -> dict[str, str]:
        """Ask the stream. The catalog is compared after it was read: an attached partition or a rewrite brings rows
        into a table that no stream shows, and looking before would not see it."""
        await following.catch_up()
        await self._same_catalog(watched)
        return {key: hit.column.label for key, hit in (await following.named(keys)).items()}

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
