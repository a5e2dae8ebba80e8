"""Objects whose deletion the store denies: each is kept, until it is plain that asking further is useless.

A bucket policy may deny single keys or whole folders, so one denial says nothing about the next key. But every key is
backed up before its deletion is tried, and a right that is missing altogether must be one clear sentence and not a
million. So: twenty denials in one folder without a success in between give up that folder, the innermost one that has
so many (its other objects are kept without a backup); three folders given up give up the folder around them; and where
nothing could be deleted in the whole scope the sweep ends, naming the action that is missing.

Giving up is only ever about *not* deleting, so a wrong guess in here keeps an object until a later cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3gc.exceptions import AccessDeniedError

__all__ = ["Denials"]

#: So many denials without a success in between, and a folder is taken to be denied.
GIVE_UP_AFTER = 20
#: So many folders given up without a success in between, and so is the one around them.
_FOLDERS = 3
#: Folders that are counted at once; beyond it new ones are not, which only means that more requests are made.
_MAX_FOLDERS = 10_000


class Denials:
    """What was denied in one sweep. `prefixes` are the scope's: giving up all of them ends the sweep. `doing` says in
    its error what was tried."""

    def __init__(
        self, prefixes: Sequence[str], *, give_up_after: int = GIVE_UP_AFTER, doing: str = "deleted"
    ) -> None:
        self._doing = doing
        self._prefixes = tuple(prefixes) or ("",)
        self._give_up_after = give_up_after
        # Both by folder ("" is the bucket), since the last success in it: denials outside of given up folders in it,
        # and given up folders in it.
        self._in_a_row: dict[str, int] = {}
        self._folders: dict[str, int] = {}
        self._given_up: dict[str, None] = {}  # in the order in which they were
        self._deleted = self._denied = 0
        self._last: AccessDeniedError | None = None

    def deleted(self, key: str) -> None:
        self._deleted += 1
        if self._denied:
            for folder in _folders(key):
                self._in_a_row.pop(folder, None)
                self._folders.pop(folder, None)

    def denied(self, key: str, error: AccessDeniedError) -> None:
        self._denied += 1
        self._last = error
        around = _folders(key)
        if any(folder in self._given_up for folder in around):
            return
        for folder in around:
            if folder in self._in_a_row or len(self._in_a_row) < _MAX_FOLDERS:
                self._in_a_row[folder] = self._in_a_row.get(folder, 0) + 1
        full = [folder for folder in around if self._in_a_row.get(folder, 0) >= self._give_up_after]
        if full:
            self._give_up(full[-1])

    def _give_up(self, folder: str) -> None:
        self._given_up[folder] = None
        denied, folders = self._in_a_row.pop(folder, 0), self._folders.pop(folder, 0)
        around = _folders(folder)[:-1]
        for outer in around:
            self._in_a_row[outer] = self._in_a_row.get(outer, 0) - denied
            self._folders[outer] = self._folders.get(outer, 0) + 1 - folders
        full = [outer for outer in around if self._folders[outer] >= _FOLDERS]
        if full:
            self._give_up(full[-1])

    def folder_given_up(self, key: str) -> str | None:
        """The folder of `key` in which nothing is tried any more ("" is the bucket); None where there is none."""
        if not self._given_up:
            return None
        return next((folder for folder in _folders(key) if folder in self._given_up), None)

    def hopeless(self, *, at_end: bool = False) -> AccessDeniedError | None:
        """The error that ends the sweep once nothing could be deleted wherever it was tried. `at_end`: nothing is
        left to try."""
        if self._deleted or self._last is None:
            return None
        if not at_end and not all(
            any(prefix.startswith(folder) for folder in self._given_up) for prefix in self._prefixes
        ):
            return None
        action = self._last.details.get("action", "s3:DeleteObject")
        where = ", ".join(repr(folder) for folder in list(self._given_up)[:_FOLDERS] if folder)
        return AccessDeniedError(
            f"{action} was denied for every object that was tried ({self._denied}"
            + (f", in {where}" if where else "")
            + f"), so nothing was {self._doing}. Allow {action} to these credentials, or leave these objects out with "
            f"excludePrefixes. The last answer: {self._last.message}",
            details={**self._last.details, "denied": self._denied},
        )


def _folders(key: str) -> list[str]:
    """``a/b/c.jpg`` -> ``""``, ``a/``, ``a/b/``: the outermost first; a folder is the last of its own."""
    found = [""]
    end = key.find("/")
    while end >= 0:
        found.append(key[: end + 1])
        end = key.find("/", end + 1)
    return found
