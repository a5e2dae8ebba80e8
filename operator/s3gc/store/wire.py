"""What goes over the wire, as values: a request with what may be done with it, its body, its answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, Literal

from s3gc.exceptions import StoreError
from s3gc.store.signing import UNSIGNED_PAYLOAD

__all__ = ["Answer", "Body", "Request", "RetryPolicy", "http_date", "spooled"]

#: Bodies above this are hashed in a thread and sent in pieces, so that the event loop keeps turning.
_PIECE = 256 * 1024
#: A body taken in advance is kept in memory up to this size.
_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts at an idempotent request, and the exponential back-off between them (full jitter), in seconds."""

    attempts: int = 8
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 20.0


class Body:
    """What a request sends. Never more of it is in memory than the caller gave at once.

    * bytes: signed with their SHA-256, so that the store verifies them; may be sent again.
    * a file (see :func:`spooled`): the same, from disk.
    * an iterator of known size, sent once: with its SHA-256 if the caller knows it, else UNSIGNED-PAYLOAD. Its MD5
      is kept for comparison with the ETag.
    """

    __slots__ = ("_known_md5", "_sha256", "data", "failure", "file", "md5", "sent", "size", "stream")

    def __init__(
        self,
        data: bytes | BinaryIO | AsyncIterator[bytes],
        size: int,
        *,
        sha256: str | None = None,
        md5: bytes | None = None,
    ) -> None:
        self.data = data if isinstance(data, bytes) else None
        self.stream = data if isinstance(data, AsyncIterator) else None
        self.file: Any = None if isinstance(data, bytes | AsyncIterator) else data
        self.size = size
        self.sent = 0
        self.failure: Exception | None = None
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = sha256
        self._known_md5 = md5

    @property
    def rewinds(self) -> bool:
        """Whether it can be sent again."""
        return self.stream is None

    async def sha256(self) -> str:
        if self._sha256 is None:
            if self.data is None:
                self._sha256 = UNSIGNED_PAYLOAD
            else:
                await self._digest(self.data)
        return self._sha256 or UNSIGNED_PAYLOAD

    async def proof(self) -> dict[str, str]:
        """The header by which a store that keeps objects under a lock has the bytes proven; it refuses a PUT without.

        The MD5 where it is known before the first byte leaves: unlike a checksum it leaves nothing behind on the
        object. Nothing for a body whose bytes are not known yet.
        """
        if self.data is not None and self._known_md5 is None:
            await self._digest(self.data)
        if self._known_md5 is not None:
            return {"content-md5": base64.b64encode(self._known_md5).decode()}
        digest = await self.sha256()
        if digest == UNSIGNED_PAYLOAD:
            return {}
        return {"x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(digest)).decode()}

    async def _digest(self, data: bytes) -> None:
        def both() -> tuple[str, bytes]:
            return hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).digest()

        sha256, self._known_md5 = both() if len(data) <= _PIECE else await asyncio.to_thread(both)
        self._sha256 = self._sha256 or sha256

    def payload(self) -> bytes | AsyncIterator[bytes]:
        if self.stream is not None:
            return self._once(self.stream)
        if self.file is not None:
            return self._file_pieces()
        data = self.data or b""
        return data if len(data) <= _PIECE else _pieces(data)

    async def _file_pieces(self) -> AsyncIterator[bytes]:
        await asyncio.to_thread(self.file.seek, 0)
        while piece := await asyncio.to_thread(self.file.read, _PIECE):
            yield piece

    async def _once(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            # One chunk is held back: a producer that proves its bytes at the end (a checksum) raises before the last
            # chunk has left, so the store never has a whole body of bytes that turned out to be wrong.
            held = b""
            async for chunk in _exactly(stream, self.size):
                if held:
                    yield held
                self.md5.update(chunk)
                held = chunk
            if held:
                yield held
        except Exception as error:
            self.failure = error  # aiohttp reports a broken connection in its place
            raise


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


async def _exactly(stream: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The chunks that are not empty; StoreError unless they are `size` bytes together."""
    sent = 0
    async for chunk in stream:
        sent += len(chunk)
        if sent > size:
            raise StoreError(f"A body of {size} bytes was announced and more came; it was not stored.")
        if chunk:
            yield chunk
    if sent != size:
        raise StoreError(f"A body of {size} bytes was announced and only {sent} came; it was not stored.")


@asynccontextmanager
async def spooled(stream: AsyncIterator[bytes], size: int) -> AsyncIterator[Body]:
    """Take all of `stream` first (on disk above 1 MiB), so that it is sent with its SHA-256 and can be sent again.

    Why not straight on: where a store does not compare what arrived with Content-Length (measured with versitygw), a
    connection that breaks leaves a short object under the key, and a create-only repeat then finds "something there".
    """
    digest, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  (closed below)
    try:
        try:
            async for chunk in _exactly(stream, size):
                digest.update(chunk)
                md5.update(chunk)
                if file.tell() + len(chunk) > _IN_MEMORY:
                    await asyncio.to_thread(file.write, chunk)
                else:
                    file.write(chunk)
        except OSError as error:
            raise StoreError(
                f"{size} bytes could not be kept in {tempfile.gettempdir()!r} on their way to the store: "
                f"{error.strerror or error}. Free space there or set TMPDIR."
            ) from error
        # mypy: a SpooledTemporaryFile reads and seeks as a BinaryIO does.
        yield Body(file, size, sha256=digest.hexdigest(), md5=md5.digest())  # type: ignore[arg-type]
    finally:
        file.close()


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `operation` is S3's name of it (counted), `action` the IAM action that allows it (named in
    errors).

    `path` is the encoded key or ""; `accept` are the answers that are not errors; `timeout_seconds` replaces
    the default for calls that the store may work on for long. `repeat`: "always" when sending it twice is as
    good as once, "refused" when only an answer that it was not carried out allows another attempt, "never"
    for a bare DELETE.
    """

    operation: str
    action: str
    method: str
    path: str = ""
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] | None = None
    body: Body | None = None
    key: str | None = None
    repeat: Literal["always", "refused", "never"] = "always"
    accept: frozenset[int] = frozenset({200})
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes
    attempts: int = 1

    @property
    def date(self) -> datetime | None:
        return http_date(self.headers.get("date", ""))


def http_date(text: str) -> datetime | None:
    """Parse an HTTP date (RFC 9110) as UTC, None when it is not one."""
    try:
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
