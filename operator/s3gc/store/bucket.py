"""One customers' bucket through one endpoint: every call that s3gc makes on objects it does not own.

What each call promises is written at the call. Three things hold for all: keys are sent exactly as they are;
an answer that is not proven (cut short, of another bucket, a proxy's page) is an error and never a fact; and
what could harm if it were done twice is never done twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import aiohttp

from s3gc.exceptions import StoreError
from s3gc.store import multipart, pages, settings
from s3gc.store.connection import resolve_credentials, resolve_endpoint
from s3gc.store.errors import error_for, parse_error
from s3gc.store.headers import condition, describe
from s3gc.store.keys import quote_key
from s3gc.store.limiter import Limiter
from s3gc.store.listing import ListingPage
from s3gc.store.multipart import check_md5
from s3gc.store.settings import LockConfiguration, VersioningState, VersioningStatus
from s3gc.store.transport import Transport
from s3gc.store.types import DeleteAnswer, ObjectHead, ObjectVersion, PutAnswer
from s3gc.store.versions import VersionsPage, list_versions, versions_page
from s3gc.store.wire import Answer, Body, Request, RetryPolicy, spooled

__all__ = ["Bucket", "Download", "LockConfiguration", "RetryPolicy", "VersioningState", "VersioningStatus"]

_CHUNK = 256 * 1024
#: A page that does not prove itself is asked for again so often: proxies and nodes that restart cut answers
#: short.
_LISTING_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Download:
    """An open GET. `chunks` gives the (range's) bytes once, at most 256 KiB each; StoreError when they end
    early.
    """

    head: ObjectHead
    chunks: AsyncIterator[bytes]


class Bucket:
    """A bucket; safe for concurrent use in one event loop. Make it with :meth:`open`, end it with
    :meth:`close`.

    `requests` counts what was sent, by S3's name of the operation, repeats included.
    """

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self.endpoint = transport.endpoint.name
        self.region = transport.endpoint.region
        self.requests: Counter[str] = transport.requests
        self.has_acls = True  # as the last answer to `acl` said
        self._transport = transport

    @classmethod
    async def open(
        cls,
        name: str,
        *,
        region: str | None = "us-east-1",
        endpoint_url: str | None = None,
        path_style: bool | None = None,
        credentials_prefix: str = "S3GC_BUCKET_",
        concurrency: int = 32,
        requests_per_second: float | None = None,
        timeout_seconds: float = 60.0,
        retry: RetryPolicy | None = None,
    ) -> Self:
        """Resolve endpoint and credentials; no request is sent yet. Raises ConfigurationError when there are
        none.
        """
        endpoint = await resolve_endpoint(
            name, region=region, endpoint_url=endpoint_url, path_style=path_style
        )
        credentials = await resolve_credentials(credentials_prefix, name)
        limiter = Limiter(concurrency, requests_per_second)
        return cls(
            name,
            Transport(name, endpoint, credentials, limiter, timeout_seconds=timeout_seconds, retry=retry),
        )

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def server_time(self) -> datetime:
        """The store's own time, whole seconds, UTC. Also the first proof that endpoint, bucket and keys are right."""
        return await pages.server_time(self._transport)

    # --- listing

    def list_pages(
        self, prefix: str = "", *, start_after: str = "", end_at: str | None = None
    ) -> AsyncGenerator[ListingPage, None]:
        """Yield the objects under `prefix` with start_after < key <= end_at, in UTF-8 order of their keys.

        Ends only when the end is proven; else ListingError. Neither bound needs to exist. Whoever may leave it early
        wraps it in `contextlib.aclosing`.
        """
        return pages.list_pages(self._transport, prefix, start_after, end_at)

    async def common_prefixes(self, prefix: str = "", *, max_pages: int | None = None) -> list[str]:
        """The "folders" directly under `prefix`, each ending in '/', sorted. `max_pages` bounds the requests; then the
        list may be short. ListingError when the listing does not prove itself."""
        return await pages.common_prefixes(self._transport, prefix, max_pages)

    # --- one object

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectHead | None:
        """What is there now; None for 404 (a delete marker too). 403 is AccessDeniedError, never "missing"."""
        request = Request(
            "HeadObject", _versioned("s3:GetObject", version_id), "HEAD", quote_key(key), _version(version_id),
            key=key, accept=_OK_OR_MISSING,
        )  # fmt: skip
        answer = await self._transport.call(request)
        if answer.status == 200:
            self._transport.is_bucket_proven = True
            return describe(key, answer.headers)
        if answer.status == 404 and not self._transport.is_bucket_proven:
            # A HEAD has no error document: in a bucket that does not exist every object looks deleted.
            await self.server_time()
            self._transport.is_bucket_proven = True
        return None

    @asynccontextmanager
    async def _get(
        self, key: str, version_id: str | None, if_match: str | None, offset: int, length: int | None
    ) -> AsyncIterator[Download | None]:
        headers = {"x-amz-checksum-mode": "ENABLED", **condition(if_match)}
        is_range = offset > 0 or length is not None
        if is_range:
            headers["range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        request = Request(
            "GetObject", _versioned("s3:GetObject", version_id), "GET", quote_key(key), _version(version_id), headers,
            key=key, accept=frozenset({206, 404, 405} if is_range else {200, 404, 405}),
        )  # fmt: skip
        async with self._transport.open(request) as (response, answer):
            if answer.status in (404, 405):
                if not _is_missing(answer):
                    raise error_for(
                        answer.status, answer.headers, answer.body, self._transport.target(request)
                    )
                yield None
                return
            self._transport.is_bucket_proven = True
            yield Download(describe(key, answer.headers), self._chunks(key, response, answer))

    def get(
        self,
        key: str,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> AbstractAsyncContextManager[Download | None]:
        """Read an object, or `length` bytes of it. None: 404. ObjectChangedError: `if_match` (an ETag) is not
        its ETag.

        `Download.head.size` is the whole object's. ArchivedError where the bytes are in an archive.
        """
        return self._get(key, version_id, if_match, offset, length)

    async def _chunks(
        self, key: str, response: aiohttp.ClientResponse, answer: Answer
    ) -> AsyncIterator[bytes]:
        expected = int(answer.headers.get("content-length", -1))
        received = 0
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                received += len(chunk)
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._cut(key, received, expected, str(error) or type(error).__name__) from error
        if expected >= 0 and received != expected:
            raise self._cut(key, received, expected, "the connection ended")

    def _cut(self, key: str, received: int, expected: int, reason: str) -> StoreError:
        return StoreError(
            f"Reading key {key!r} of bucket {self.name!r} at {self.endpoint} ended after {received} of {expected} "
            f"bytes: {reason}.",
            details={"bucket": self.name, "key": key, "action": "s3:GetObject"},
        )

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterator[bytes],
        *,
        size: int,
        headers: Mapping[str, str] | None = None,
        create_only: bool = False,
        if_match: str | None = None,
        sha256: str | None = None,
    ) -> PutAnswer | None:
        """Store `size` bytes. None: `create_only` and something is there, or `if_match` is not its ETag (412).

        The store verifies the bytes by their SHA-256. Of an iterator pass `sha256` (hex) where it is known: it then
        streams straight on, once; without it it is taken in first, on disk above 1 MiB (see `wire.spooled`). After a
        lost answer the repeat of a create may be answered 412 for our own write: HEAD tells.
        """
        if isinstance(body, bytes) or sha256 is not None:
            return await self._put(key, Body(body, size, sha256=sha256), headers, create_only, if_match)
        async with spooled(body, size) as taken:
            return await self._put(key, taken, headers, create_only, if_match)

    async def _put(
        self, key: str, body: Body, headers: Mapping[str, str] | None, create_only: bool, if_match: str | None
    ) -> PutAnswer | None:
        conditions = {"if-none-match": "*"} if create_only else condition(if_match)
        sent = {**(headers or {}), **conditions}
        if not any(
            name.startswith("x-amz-checksum-") for name in sent
        ):  # AWS takes no more than one of these
            sent.update(await body.proof())
        request = Request(
            "PutObject", "s3:PutObject", "PUT", quote_key(key), (), sent, body, key,
            accept=frozenset({200, 412} if conditions else {200}),
        )  # fmt: skip
        answer = await self._transport.call(request)
        if answer.status == 412:
            return None
        check_md5(self._transport, body, answer, key)
        return _put_answer(answer)

    # --- uploads in parts

    async def create_multipart(self, key: str, *, headers: Mapping[str, str] | None = None) -> str:
        """Begin an upload; all headers of the object go here. Returns its id; abort an upload that is not completed."""
        return await multipart.create(self._transport, key, headers)

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | AsyncIterator[bytes], *, size: int
    ) -> str:
        """Upload part `number` (1 to 10,000; 5 MiB at least but the last) and return its ETag.

        The store verifies the bytes. An iterator is taken in first, on disk above 1 MiB (see `wire.spooled`).
        """
        if isinstance(body, bytes):
            return await multipart.upload_part(self._transport, key, upload_id, number, Body(body, size))
        async with spooled(body, size) as taken:
            return await multipart.upload_part(self._transport, key, upload_id, number, taken)

    async def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[tuple[int, str]], *, create_only: bool = False
    ) -> PutAnswer | None:
        """Make the object of its parts (number, ETag). None: `create_only` and something is there; abort then."""
        return await multipart.complete(self._transport, key, upload_id, parts, create_only=create_only)

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """End an upload and free its parts; one that is gone is fine."""
        await multipart.abort(self._transport, key, upload_id)

    async def delete(
        self, key: str, *, if_match: str | None = None, version_id: str | None = None
    ) -> DeleteAnswer:
        """Delete the current object (a marker, where versioned) if its ETag is `if_match`, or exactly
        `version_id`.

        Without either it is sent once and never again, whatever happens: the first may have been carried out,
        and a repeat could remove what was uploaded since. With one it may be repeated; 404 and 412 are
        answers ("unknown": what is left decides). They are never combined: stores disagree about which
        version the ETag is compared with.
        """
        if if_match is not None and version_id is not None:
            raise ValueError(
                "if_match and version_id must not be combined: stores disagree about their meaning"
            )
        is_bare = if_match is None and version_id is None
        request = Request(
            "DeleteObject" if version_id is None else "DeleteObjectVersion",
            "s3:DeleteObject" if version_id is None else "s3:DeleteObjectVersion",
            "DELETE", quote_key(key), _version(version_id), condition(if_match), key=key,
            repeat="never" if is_bare else "always", accept=frozenset({200, 204, 404, 412}),
        )  # fmt: skip
        answer = await self._transport.call(request)
        if answer.status == 404 and parse_error(answer.body).code not in ("", "NoSuchKey", "NoSuchVersion"):
            # No such bucket, no such user: nothing was said about the object.
            raise error_for(404, answer.headers, answer.body, self._transport.target(request))
        return DeleteAnswer(
            answer.status,
            answer.headers.get("x-amz-delete-marker", "").lower() == "true",
            answer.headers.get("x-amz-version-id") or None,
            answer.attempts > 1,
        )

    # --- what belongs to an object or to the bucket

    async def versions(self, key: str) -> list[ObjectVersion]:
        """All versions and delete markers of exactly this key, newest first, each once. Empty: there never
        was one.
        """
        return await list_versions(self._transport, key)

    async def versions_page(self, keys: Sequence[str], *, limit: int = 1000) -> VersionsPage:
        """As many of `keys` (in key order) as one page of versions, from the first of them on, shows whole.

        An offer for neighbouring keys, of which nothing may be concluded about a key that is not in it; see
        `neighbours.VersionsOfMany`. Raises ListingError, StoreError.
        """
        return await versions_page(self._transport, keys, limit)

    async def tags(self, key: str, *, version_id: str | None = None) -> tuple[tuple[str, str], ...] | None:
        """The tags, in the store's order; () for none; None where the store has no tags at all."""
        return await settings.read_tags(self._transport, key, version_id)

    async def set_tags(self, key: str, tags: Sequence[tuple[str, str]]) -> None:
        """Give the current object these tags, and no others."""
        await settings.write_tags(self._transport, key, tags)

    async def acl(self, key: str, *, version_id: str | None = None) -> str | None:
        """The ACL's XML; None where it grants nobody but the owner, or where the store has no ACLs."""
        acl, self.has_acls = await settings.read_acl(self._transport, key, version_id)
        return acl

    async def versioning(self) -> VersioningState:
        return await settings.read_versioning(self._transport)

    async def lock_configuration(self) -> LockConfiguration:
        return await settings.read_lock_configuration(self._transport)


_OK_OR_MISSING = frozenset({200, 404, 405})


def _version(version_id: str | None) -> list[tuple[str, str]]:
    return [] if version_id is None else [("versionId", version_id)]


def _versioned(action: str, version_id: str | None) -> str:
    return action if version_id is None else f"{action}Version"


def _is_missing(answer: Answer) -> bool:
    """Whether a 404 or 405 is S3 saying that there is no such object, and not a proxy that knows no such
    page.
    """
    if answer.headers.get("x-amz-delete-marker", "").lower() == "true":
        return True
    return parse_error(answer.body).code in ("NoSuchKey", "NoSuchVersion", "MethodNotAllowed")


def _put_answer(answer: Answer) -> PutAnswer:
    return PutAnswer(
        answer.headers.get("etag", "").strip('"'),
        answer.headers.get("x-amz-version-id") or None,
        answer.headers,
    )
