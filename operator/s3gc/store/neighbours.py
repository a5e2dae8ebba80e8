"""The versions of many keys in few requests, where the keys lie close together.

Asking for one key's versions costs some stores as much as reading its whole folder, while a page of a thousand entries
costs hardly more. So keys are asked for in runs of neighbours, each page beginning at the first one that is still open.
How dense a plan is nobody knows before: pages that show few of the keys stop being asked for, and are tried again
later, ever more seldom; and a store whose pages show nothing of use is asked for single keys only.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3gc.exceptions import S3GCError
from s3gc.store.bucket import Bucket
from s3gc.store.types import ObjectVersion

__all__ = ["VersionsOfMany"]

_PAGE = 1000
#: A page pays from so many keys on: measured with MinIO, where a page costs as much as ten single keys.
_WORTH = 8
#: So many pages in a row without a single key, and no more are asked for.
_USELESS = 3
#: At most so many calls are left out between two tries in a sparse plan.
_LONGEST_PAUSE = 64


class VersionsOfMany:
    """Asks one bucket; remembers what was worth it, so keep one for a whole run. For one event loop."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._entries_per_key = 0.0  # 0: not known yet
        self._useless = 0
        self._sparse = 0
        self._pause = 0

    async def of(self, keys: Sequence[str]) -> dict[str, list[ObjectVersion]]:
        """Whole lists, newest first, of those of `keys` (in key order) that pages show cheaply.

        The others are missing in the answer, whatever the reason: ask `Bucket.versions` for each. Raises nothing that
        the store may answer: then they are all missing.
        """
        found: dict[str, list[ObjectVersion]] = {}
        if self._useless >= _USELESS or len(keys) < _WORTH:
            return found
        if self._pause:
            self._pause -= 1
            return found
        left = keys
        while len(left) >= _WORTH or (left and found):
            try:
                page = await self._bucket.versions_page(left, limit=self._limit(len(left)))
            except S3GCError:  # a right for single keys only, a store that stumbles: asking for each decides
                self._useless += 1
                return found
            found.update(page.versions)
            self._useless = 0 if page.versions else self._useless + 1
            if page.covered:
                self._entries_per_key = page.entries / page.covered
            asked, left = len(left), left[page.covered :]
            if left and page.covered < _WORTH:
                if asked >= 2 * _WORTH:
                    self._sparse += 1
                    self._pause = min(2**self._sparse, _LONGEST_PAUSE)
                return found
        self._sparse = 0
        return found

    def _limit(self, keys: int) -> int:
        """A little more than these keys had the last time: a store works for every entry of a page."""
        if not self._entries_per_key:
            return _PAGE
        return min(_PAGE, int(self._entries_per_key * keys * 1.25) + 10)
