"""A vault in a folder: every file whole or not there, durable when the call returns, also after a power cut.

Why a crash never shows half a file: bytes go to a file of their own under `.tmp/`, are fsynced, and get their
name by one rename or link, after which the folder is fsynced; folders that were made are fsynced into their
parents first. Why two processes never both win: the steps that give, take or compare a name run under one
flock on `.tmp/lock`, which the kernel drops with the process; `create` links, which the file system itself
refuses when the name exists. Why a folder that vanishes (a volume that is unmounted) is never taken for an empty
one: `.tmp` is made when the folder is opened and never afterwards, and a file that is not there counts as missing
only while `.tmp` is.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from s3gc.exceptions import VaultError
from s3gc.store.types import StoredFile

__all__ = ["FolderStorage"]

T = TypeVar("T")

_TEMPORARY = ".tmp"
_CHUNK = 1024 * 1024
#: Left-over temporary files of processes that were killed are removed when the folder is opened, at this age.
_STALE_SECONDS = 24 * 3600
#: The lock is held for one rename; longer than this means that the file system's locks hang.
_LOCK_SECONDS = 30

_WAY_ON = {
    errno.ENOSPC: "it is full: free space or enlarge the volume",
    errno.EDQUOT: "its quota is used up: free space or raise the quota",
    errno.EROFS: "it is mounted read-only: mount it for writing",
    errno.EACCES: "this user has no permission: check the owner and mode of the folder (fsGroup in Kubernetes)",
    errno.EPERM: "this user has no permission: check the owner and mode of the folder (fsGroup in Kubernetes)",
    errno.EIO: "the disk reports an input/output error: check the disk",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ESTALE: "the network mount is stale: mount it again",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
}
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderStorage:
    """`store.types.Storage` over a local (or mounted) folder. Make it with :meth:`open`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mark = root  # what must exist for as long as this is in use; `.tmp` once it was made

    @classmethod
    async def open(cls, root: Path, *, create: bool = True) -> FolderStorage:
        """Raises VaultError when the folder is missing (`create` False), is a file, or cannot be written."""
        storage = cls(root.expanduser().absolute())
        await storage._run("", lambda: storage._open(create))
        return storage

    @property
    def location(self) -> str:
        return str(self._root)

    async def close(self) -> None:
        """Nothing is held open between calls."""

    # --- reading

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        def read() -> bytes:
            with self._path(path).open("rb") as file:
                file.seek(offset)
                return file.read() if length is None else file.read(length)

        return await self._run(path, read)

    async def stream(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        file = await self._run(path, lambda: self._path(path).open("rb"))
        try:
            file.seek(offset)
            left = length
            while left is None or left > 0:
                size = _CHUNK if left is None else min(_CHUNK, left)
                chunk = await self._run(path, lambda size=size: file.read(size))  # type: ignore[misc]  # bound by default
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            file.close()

    async def size(self, path: str) -> int:
        return await self._run(path, lambda: self._path(path).stat().st_size)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredFile]:
        if prefix:
            _check(prefix.rstrip("/") or "/", self.location)
        walk = self._walk(self._root, "", prefix)
        while True:
            batch = await self._run(prefix, lambda: [item for item, _ in zip(walk, range(500), strict=False)])
            for item in batch:
                yield item
            if len(batch) < 500:
                await self._run(
                    prefix, self._still_there
                )  # a folder that is gone would look like an empty one
                return

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[StoredFile]:
        try:
            with os.scandir(folder) as entries:
                # "a/" sorts where its files do, so that paths come in the order of the whole path.
                named = sorted(
                    (e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in entries
                )
        except FileNotFoundError:
            return  # removed while we walked
        for name, entry in named:
            path = base + name
            if path == f"{_TEMPORARY}/" or not (path.startswith(prefix) or prefix.startswith(path)):
                continue
            if name.endswith("/"):
                yield from self._walk(Path(entry.path), path, prefix)
            elif path.startswith(prefix) and entry.is_file(follow_symlinks=False):
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield StoredFile(path, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    # --- writing

    async def write(self, path: str, data: bytes) -> None:
        await self._run(path, lambda: self._store(path, lambda file: _write_all(file, data), self._rename))

    async def create(self, path: str, data: bytes) -> bool:
        return await self._run(
            path, lambda: self._store(path, lambda file: _write_all(file, data), self._link)
        )

    async def replace(self, path: str, data: bytes, *, expected: bytes) -> bool:
        def rename_if_expected(temporary: Path, target: Path) -> bool:
            # Under the lock that every writer takes: nobody changes the file between this look and the rename.
            try:
                current = target.read_bytes()
            except FileNotFoundError:
                return False
            return current == expected and self._rename(temporary, target)

        return await self._run(
            path, lambda: self._store(path, lambda file: _write_all(file, data), rename_if_expected)
        )

    async def write_file(self, path: str, source: Path) -> None:
        def copy(file: int) -> None:
            with source.open("rb") as origin, os.fdopen(os.dup(file), "wb") as target:
                shutil.copyfileobj(origin, target, _CHUNK)

        await self._run(path, lambda: self._store(path, copy, self._rename))

    async def delete(self, path: str) -> None:
        def delete() -> None:
            target = self._path(path)
            with self._lock():
                target.unlink(missing_ok=True)
                if target.parent.is_dir():
                    _sync_folder(target.parent)

        await self._run(path, delete)

    # --- how

    def _open(self, create: bool) -> None:
        temporary = self._root / _TEMPORARY
        if create:
            self._make_folder(temporary)
            with self._lock():
                pass  # a file system without locks, or a folder we may not write to, is said now
            self._remove_stale(temporary)
            self._mark = temporary
        elif not self._root.is_dir():
            raise VaultError(
                f"The vault folder {self.location!r} does not exist: check vault_path, or mount the volume there.",
                details={"location": self.location, "is_missing": True},
            )

    def _remove_stale(self, temporary: Path) -> None:
        before = time.time() - _STALE_SECONDS
        for item in temporary.glob("*.part"):
            try:
                if item.stat().st_mtime < before:
                    item.unlink()
            except FileNotFoundError:
                continue

    def _store(self, path: str, fill: Callable[[int], None], name: Callable[[Path, Path], bool]) -> bool:
        """Write a temporary file with `fill`, make it durable, give it its name with `name` under the lock."""
        target = self._path(path)
        self._still_there()
        temporary = self._root / _TEMPORARY / f"{os.getpid()}-{uuid.uuid4().hex}.part"
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                fill(file)
                os.fsync(file)
            finally:
                os.close(file)
            self._make_folder(target.parent)
            with self._lock():
                if not name(temporary, target):
                    return False
                _sync_folder(target.parent)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _rename(self, temporary: Path, target: Path) -> bool:
        temporary.replace(target)
        return True

    def _link(self, temporary: Path, target: Path) -> bool:
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            # A file system without hard links: every writer holds the lock, so looking first is enough.
            if target.exists():
                return False
            temporary.rename(target)
        return True

    @contextmanager
    def _lock(self) -> Iterator[None]:
        file = os.open(self._root / _TEMPORARY / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            until = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        raise VaultError(
                            f"The lock of the vault folder {self.location!r} has been held for {_LOCK_SECONDS} s by "
                            "another process: look for a hanging s3gc, or for a network mount whose locks hang.",
                            details={"location": self.location},
                        ) from error
                    time.sleep(0.01)
            yield
        finally:
            os.close(file)  # drops the lock

    def _still_there(self) -> None:
        """Raise VaultError when the folder itself is gone: its memory is then unknown, and not empty."""
        if not self._mark.is_dir():
            raise VaultError(
                f"The vault folder {self.location!r} is not there any more: it was moved, removed or unmounted "
                "while in use. Bring it back; nothing is read from it or written to it meanwhile.",
                details={"location": self.location},
            )

    def _make_folder(self, folder: Path) -> None:
        """Make `folder` and its parents so that they survive a power cut."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        _sync_folder(folder.parent)

    def _path(self, path: str) -> Path:
        _check(path, self.location)
        target = self._root / path
        # A symbolic link below the vault must not lead a write (or an expiry's delete) out of it.
        if not target.parent.resolve().is_relative_to(self._root.resolve()):
            raise VaultError(
                f"The path {path!r} leads out of the vault folder {self.location!r} through a symbolic link.",
                details={"location": self.location, "path": path},
            )
        return target

    async def _run(self, path: str, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except FileNotFoundError:
            await asyncio.to_thread(self._still_there)
            raise
        except OSError as error:
            way_on = _WAY_ON.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
            if error.errno in _NO_LOCKS:
                way_on = "its file system has no locks (flock): put the vault on one that has, or into S3"
            what = f" (file {path!r})" if path else ""
            raise VaultError(
                f"The vault folder {self.location!r} cannot be used{what}: {way_on}.",
                details={"location": self.location, "path": path, "errno": error.errno},
            ) from error


def _check(path: str, location: str) -> None:
    """Refuse what is not a relative path of ours: nothing from outside may choose where we write."""
    parts = path.split("/")
    is_odd = "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts)
    if is_odd or parts[0] == _TEMPORARY:
        raise VaultError(
            f"{path!r} is not a path inside the vault {location!r}.",
            details={"location": location, "path": path},
        )


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
        # Some network file systems have no fsync for folders; their renames are synchronous.
    finally:
        os.close(file)
