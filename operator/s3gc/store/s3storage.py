"""A vault under a prefix of a bucket: the same promises as a folder's, from conditional requests.

`create` and `replace` stand on `If-None-Match: *` and `If-Match` of PUT. A store that ignores either would
let two cycles hold one lock, so both are proven when the vault is opened for writing, and a store that fails
is refused. Every write carries a random token as metadata: when an answer is lost and the repeat is told 412,
the token says whether what lies there is our own write.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path

from s3gc.exceptions import AccessDeniedError, ConfigurationError, StoreError, VaultCorruptedError, VaultError
from s3gc.store.bucket import Bucket
from s3gc.store.types import ObjectHead, StoredFile

__all__ = ["S3Storage"]

_TOKEN = "x-amz-meta-s3gc-write"  # noqa: S105  (the name of a header)
#: Where the proof of conditional writes lies for a moment; never part of a list.
_PROBE = ".probe/"
_CHUNK = 1024 * 1024
#: Up to this size a file goes in one PUT, whose signature covers its bytes; above, in parts that are each so covered.
_SINGLE_PUT_BYTES = 16 * 1024 * 1024
_PART_BYTES = 16 * 1024 * 1024
_MAX_PARTS = 10_000
_PARTS_AT_ONCE = 3


class S3Storage:
    """`store.types.Storage` over `bucket`, below `prefix` ("" or ending in '/'). Owns the bucket: closes it."""

    def __init__(self, bucket: Bucket, prefix: str, headers: Mapping[str, str] | None = None) -> None:
        self.bucket = bucket
        self._prefix = prefix
        self._headers = dict(headers or {})

    @property
    def location(self) -> str:
        return f"s3://{self.bucket.name}/{self._prefix}".rstrip("/")

    async def close(self) -> None:
        await self.bucket.close()

    # --- reading

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        return b"".join([chunk async for chunk in self.stream(path, offset, length)])

    async def stream(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if length == 0:
            await self.size(path)
            return
        with self._told(path):
            key = self._key(path)
            try:
                async with self.bucket.get(key, offset=offset, length=length) as download:
                    if download is None:
                        raise self._missing(path)
                    async for chunk in download.chunks:
                        for start in range(0, len(chunk), _CHUNK):
                            yield chunk[start : start + _CHUNK]
            except StoreError as error:
                if (
                    error.details.get("status") != 416
                ):  # the offset is at or past the end: there is nothing to give
                    raise

    async def size(self, path: str) -> int:
        with self._told(path):
            return (await self._head(path)).size

    async def list(self, prefix: str = "") -> AsyncIterator[StoredFile]:
        with self._told(prefix):
            async with aclosing(self.bucket.list_pages(self._prefix + prefix)) as pages:
                async for page in pages:
                    for row in page.rows.to_pylist():
                        path = row["key"].removeprefix(self._prefix)
                        if not path.startswith(_PROBE):
                            yield StoredFile(path, row["size"], row["last_modified"])

    # --- writing

    async def write(self, path: str, data: bytes) -> None:
        with self._told(path):
            await self.bucket.put(self._key(path), data, size=len(data), headers=self._with_token())

    async def create(self, path: str, data: bytes) -> bool:
        with self._told(path):
            headers = self._with_token()
            answer = await self.bucket.put(
                self._key(path), data, size=len(data), headers=headers, create_only=True
            )
            return answer is not None or await self._is_ours(path, headers)

    async def replace(self, path: str, data: bytes, *, expected: bytes) -> bool:
        with self._told(path):
            key = self._key(path)
            async with self.bucket.get(key) as download:
                if download is None or download.head.size != len(expected):
                    return False
                current = b"".join([chunk async for chunk in download.chunks])
                etag = download.head.etag
            if current != expected:
                return False
            headers = self._with_token()
            try:
                answer = await self.bucket.put(key, data, size=len(data), headers=headers, if_match=etag)
            except StoreError as error:
                if error.details.get("status") == 404:  # deleted since: no longer what was expected
                    return False
                raise
            return answer is not None or await self._is_ours(path, headers)

    async def write_file(self, path: str, source: Path) -> None:
        with self._told(path):
            size = (await asyncio.to_thread(source.stat)).st_size
            if size <= _SINGLE_PUT_BYTES:
                data = await asyncio.to_thread(source.read_bytes)
                await self.bucket.put(self._key(path), data, size=len(data), headers=self._with_token())
            else:
                await self._write_parts(path, source, size)
            stored = await self._head(path)
            if stored.size != size:
                raise VaultCorruptedError(
                    f"{self.location}/{path} has {stored.size} bytes after {size} were written.",
                    details={"location": self.location, "path": path},
                )

    async def _write_parts(self, path: str, source: Path, size: int) -> None:
        key = self._key(path)
        part_size = max(_PART_BYTES, -(-size // _MAX_PARTS))
        count = -(-size // part_size)
        upload = await self.bucket.create_multipart(key, headers=self._with_token())
        at_once = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def send(number: int) -> tuple[int, str]:
            async with at_once:
                data = await asyncio.to_thread(_read_part, source, (number - 1) * part_size, part_size)
                return number, await self.bucket.upload_part(key, upload, number, data, size=len(data))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(number)) for number in range(1, count + 1)]
            await self.bucket.complete_multipart(key, upload, [task.result() for task in tasks])
        except BaseException as error:
            # Parts of an upload that is not completed cost money for ever, so this runs on cancellation too.
            await asyncio.shield(self._abort(key, upload))
            if isinstance(error, BaseExceptionGroup) and error.exceptions:
                raise error.exceptions[0] from error
            raise

    async def _abort(self, key: str, upload: str) -> None:
        try:
            await self.bucket.abort_multipart(key, upload)
        except (StoreError, ConfigurationError):
            return  # the error that led here is the one to tell

    async def delete(self, path: str) -> None:
        with self._told(path):
            key = self._key(path)
            try:
                await self.bucket.delete(key)
            except StoreError:
                # Never sent twice: a lock that somebody took over since would be removed. What is left decides.
                if await self.bucket.head(key) is not None:
                    raise

    # --- proving the store

    async def probe(self) -> None:
        """Prove that conditional writes are honoured here. Raises VaultError, with the way on, when they are not."""
        path = f"{_PROBE}{uuid.uuid4().hex}"
        try:
            if not await self.create(path, b"first"):
                raise self._dishonest("refuses to create a new object with If-None-Match: *")
            second = await self.create(path, b"second!")
            if second or await self.read(path) != b"first":
                raise self._dishonest("ignores If-None-Match: * on PUT")
            with self._told(path):
                wrong = await self._refused(
                    self.bucket.put(
                        self._key(path), b"third", size=5, headers=self._with_token(), if_match="0" * 31 + "1"
                    )
                )
            if not wrong or await self.read(path) != b"first":
                raise self._dishonest("ignores If-Match on PUT")
            if (
                not await self.replace(path, b"fourth", expected=b"first")
                or await self.read(path) != b"fourth"
            ):
                raise self._dishonest("refuses a PUT with the right If-Match")
        finally:
            try:
                await self.delete(path)
            except VaultError:
                pass  # a role that may not delete leaves these few bytes; the probe's answer stands

    async def _refused(self, put: Awaitable[object]) -> bool:
        try:
            return await put is None
        except AccessDeniedError:
            raise
        except StoreError:
            return True

    def _dishonest(self, what: str) -> VaultError:
        return VaultError(
            f"{self.bucket.endpoint} cannot hold a vault: it {what}, so two cycles could hold one lock. "
            "Use a store with conditional writes (AWS S3, MinIO, Ceph, R2, versitygw), or a folder.",
            details={"location": self.location},
        )

    # --- helpers

    def _key(self, path: str) -> str:
        parts = path.split("/")
        if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise VaultError(
                f"{path!r} is not a path inside the vault {self.location!r}.",
                details={"location": self.location, "path": path},
            )
        return self._prefix + path

    def _with_token(self) -> dict[str, str]:
        return {**self._headers, "content-type": "application/octet-stream", _TOKEN: uuid.uuid4().hex}

    async def _is_ours(self, path: str, headers: Mapping[str, str]) -> bool:
        head = await self.bucket.head(self._key(path))
        return head is not None and head.headers.get(_TOKEN) == headers[_TOKEN]

    async def _head(self, path: str) -> ObjectHead:
        head = await self.bucket.head(self._key(path))
        if head is None:
            raise self._missing(path)
        return head

    def _missing(self, path: str) -> FileNotFoundError:
        return FileNotFoundError(2, "no such file in the vault", f"{self.location}/{path}")

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Any failure of the store becomes a VaultError that says where and what to do."""
        try:
            yield
        except (StoreError, ConfigurationError) as error:
            raise VaultError(
                f"The vault {self.location!r} cannot be used (file {path!r}): {error.message}",
                details={**error.details, "location": self.location, "path": path},
            ) from error


def _read_part(source: Path, offset: int, length: int) -> bytes:
    with source.open("rb") as file:
        file.seek(offset)
        return file.read(length)
