"""One customers' bucket through one endpoint: every call that s3gc makes on objects it does not own.

What each call promises is written at the call. Three things hold for all: keys are sent exactly as they are;
an answer that is not proven (cut short, of another bucket, a proxy's page) is an error and never a fact; and
what could harm if it were done twice is never done twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import aiohttp

from s3gc.exceptions import ListingError, StoreError
from s3gc.store import settings
from s3gc.store.connection import resolve_credentials, resolve_endpoint
from s3gc.store.errors import error_for, parse_error
from s3gc.store.headers import condition, describe
from s3gc.store.keys import key_bytes, key_text, quote_key
from s3gc.store.limiter import Limiter
from s3gc.store.listing import ListingPage, Page, check_order, has_mark, parse_page, to_rows
from s3gc.store.settings import LockConfiguration, VersioningState
from s3gc.store.transport import Answer, Body, Request, RetryPolicy, Transport
from s3gc.store.types import DeleteAnswer, ObjectHead, ObjectVersion, PutAnswer
from s3gc.store.versions import list_versions
from s3gc.store.xml import Element, escape, parse_xml

__all__ = ["Bucket", "Download", "LockConfiguration", "RetryPolicy", "VersioningState"]

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
        self._transport = transport
        self._is_proven = False

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
        """The store's own time, whole seconds, UTC. Also the first proof that endpoint, bucket and keys are
        right.
        """
        request = Request(
            "ListObjectsV2", "s3:ListBucket", "GET", query=_list_query("", limit=1), accept=_OK_OR_403
        )
        answer = await self._transport.call(request)
        if answer.status == 200:
            parse_page(answer.body, self.name)
            self._is_proven = True
        elif parse_error(answer.body).code != "AccessDenied":
            # A role that may list some prefixes only is denied here, and still told the time.
            raise error_for(answer.status, answer.headers, answer.body, self._transport.target(request))
        return self._date(answer)

    # --- listing

    async def list_pages(
        self, prefix: str = "", *, start_after: str = "", end_at: str | None = None
    ) -> AsyncIterator[ListingPage]:
        """Yield the objects under `prefix` with start_after < key <= end_at, in UTF-8 order of their keys.

        Ends only when the end is proven; else ListingError. Neither bound needs to exist.
        """
        previous = key_bytes(start_after)
        end = None if end_at is None else key_bytes(end_at)
        async for page, answer in self._pages(prefix, start_after=start_after):
            previous = check_order(page.keys, previous, is_exact=page.is_exact)
            count, is_past_end = _within(page, end)
            yield ListingPage(
                to_rows(page, count),
                self._date(answer),
                key_text(page.keys[count - 1]) if count else "",
                page.is_exact,
            )
            if is_past_end:
                return

    async def common_prefixes(self, prefix: str = "", *, max_pages: int | None = None) -> list[str]:
        """The "folders" directly under `prefix`, each ending in '/', sorted. `max_pages` bounds the requests;
        then the list may be short. ListingError when the listing does not prove itself.
        """
        found: list[str] = []
        previous = b""
        pages = 0
        async for page, _ in self._pages(prefix, delimiter="/"):
            previous = check_order(page.prefixes, previous, is_exact=page.is_exact)
            found += [key_text(raw) for raw in page.prefixes]
            pages += 1
            if pages == max_pages:
                break
        return found

    async def _pages(
        self, prefix: str, *, start_after: str = "", delimiter: str = ""
    ) -> AsyncIterator[tuple[Page, Answer]]:
        token: str | None = None
        while True:
            query = _list_query(prefix, start_after=start_after, delimiter=delimiter, token=token)
            request = Request("ListObjectsV2", "s3:ListBucket", "GET", query=query)
            for attempt in range(1, _LISTING_ATTEMPTS + 1):
                answer = await self._transport.call(request)
                try:
                    page = parse_page(answer.body, self.name)
                    self._prove_page(page, prefix.encode(), token)
                    break
                except ListingError:
                    if attempt == _LISTING_ATTEMPTS:
                        raise
            self._is_proven = True
            yield page, answer
            token = page.token
            if token is None:
                return

    def _prove_page(self, page: Page, prefix: bytes, token: str | None) -> None:
        if page.token is not None and page.token == token:
            raise ListingError(
                f"The listing of bucket {self.name!r} does not get on: the same token came twice; "
                "it is not provably complete."
            )
        for key in (*page.keys[:1], *page.keys[-1:], *page.prefixes[:1], *page.prefixes[-1:]):
            if not key.startswith(prefix) and (page.is_exact or not has_mark(key)):
                raise ListingError(
                    f"The listing of bucket {self.name!r} was asked for prefix {key_text(prefix)!r} and has "
                    f"{key_text(key)!r}; nothing is concluded."
                )

    def _date(self, answer: Answer) -> datetime:
        date = answer.date
        if date is None:
            raise StoreError(
                f"{self.endpoint} sends no Date header, so the store's own time is not known and no age can be told.",
                details={"bucket": self.name},
            )
        return date

    # --- one object

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectHead | None:
        """What is there now; None for 404 (a delete marker too). 403 is AccessDeniedError, never "missing"."""
        request = Request(
            "HeadObject", _versioned("s3:GetObject", version_id), "HEAD", quote_key(key), _version(version_id),
            key=key, accept=_OK_OR_MISSING,
        )  # fmt: skip
        answer = await self._transport.call(request)
        if answer.status == 200:
            self._is_proven = True
            return describe(key, answer.headers)
        if answer.status == 404 and not self._is_proven:
            # A HEAD has no error document: in a bucket that does not exist every object looks deleted.
            await self.server_time()
            self._is_proven = True
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
            self._is_proven = True
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
    ) -> PutAnswer | None:
        """Store `size` bytes. None: `create_only` and something is there, or `if_match` is not its ETag
        (412).

        After a lost answer the repeat of a create may be answered 412 for our own write: HEAD tells. Bytes
        are proven by the store (SHA-256 in the signature); of an iterator, which is sent once, the MD5 is
        compared with the ETag where that is one.
        """
        sent = Body(body, size)
        conditions = {"if-none-match": "*"} if create_only else condition(if_match)
        request = Request(
            "PutObject", "s3:PutObject", "PUT", quote_key(key), (), {**(headers or {}), **conditions}, sent, key,
            accept=frozenset({200, 412} if conditions else {200}),
        )  # fmt: skip
        answer = await self._transport.call(request)
        if answer.status == 412:
            return None
        self._check_md5(sent, answer, key)
        return _put_answer(answer)

    async def create_multipart(self, key: str, *, headers: Mapping[str, str] | None = None) -> str:
        """Begin an upload; all headers of the object go here. Returns the upload id; abort it when it is not
        completed.
        """
        request = Request(
            "CreateMultipartUpload", "s3:PutObject", "POST", quote_key(key), [("uploads", "")], headers,
            Body(b"", 0), key, repeat="refused",
        )  # fmt: skip
        upload_id = self._xml(await self._transport.call(request), "InitiateMultipartUploadResult").get(
            "UploadId"
        )
        if not upload_id:
            raise self._unusable("CreateMultipartUpload", "it has no UploadId")
        return upload_id

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | AsyncIterator[bytes], *, size: int
    ) -> str:
        """Upload part `number` (1 to 10,000; 5 MiB at least but the last) and return its ETag. Proven as in
        `put`.
        """
        sent = Body(body, size)
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        request = Request("UploadPart", "s3:PutObject", "PUT", quote_key(key), query, None, sent, key)
        answer = await self._transport.call(request)
        self._check_md5(sent, answer, key)
        return answer.headers.get("etag", "").strip('"')

    async def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[tuple[int, str]], *, create_only: bool = False
    ) -> PutAnswer | None:
        """Make the object of its parts (number, ETag). None: `create_only` and something is there; abort
        then.
        """
        items = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{escape(etag)}"</ETag></Part>'
            for number, etag in parts
        )
        document = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
        request = Request(
            "CompleteMultipartUpload", "s3:PutObject", "POST", quote_key(key), [("uploadId", upload_id)],
            {"content-type": "application/xml", **({"if-none-match": "*"} if create_only else {})},
            Body(document, len(document)), key, repeat="refused",
            accept=frozenset({200, 412} if create_only else {200}),
            timeout_seconds=600,  # stores assemble the object before they answer
        )  # fmt: skip
        answer = await self._transport.call(request)
        error = parse_error(answer.body)
        if create_only and (answer.status == 412 or error.code == "PreconditionFailed"):
            return None
        if error.code:  # a 200 that turned into an error while the store assembled the parts
            raise error_for(500, answer.headers, answer.body, self._transport.target(request))
        result = self._xml(answer, "CompleteMultipartUploadResult")
        return PutAnswer(
            result.get("ETag").strip('"'), answer.headers.get("x-amz-version-id"), answer.headers
        )

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """End an upload and free its parts; one that is gone is fine."""
        request = Request(
            "AbortMultipartUpload", "s3:AbortMultipartUpload", "DELETE", quote_key(key), [("uploadId", upload_id)],
            key=key, accept=frozenset({200, 204, 404}),
        )  # fmt: skip
        await self._transport.call(request)

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
        if answer.status == 404 and parse_error(answer.body).code == "NoSuchBucket":
            raise error_for(404, answer.headers, answer.body, self._transport.target(request))
        return DeleteAnswer(
            answer.status,
            answer.headers.get("x-amz-delete-marker", "").lower() == "true",
            answer.headers.get("x-amz-version-id") or None,
        )

    # --- what belongs to an object or to the bucket

    async def versions(self, key: str) -> list[ObjectVersion]:
        """All versions and delete markers of exactly this key, newest first, each once. Empty: there never
        was one.
        """
        return await list_versions(self._transport, key)

    async def tags(self, key: str, *, version_id: str | None = None) -> tuple[tuple[str, str], ...] | None:
        """The tags, in the store's order; () for none; None where the store has no tags at all."""
        return await settings.read_tags(self._transport, key, version_id)

    async def acl(self, key: str, *, version_id: str | None = None) -> str | None:
        """The ACL's XML; None where it grants nobody but the owner, or where the store has no ACLs."""
        return await settings.read_acl(self._transport, key, version_id)

    async def versioning(self) -> VersioningState:
        return await settings.read_versioning(self._transport)

    async def lock_configuration(self) -> LockConfiguration:
        return await settings.read_lock_configuration(self._transport)

    # --- helpers

    def _check_md5(self, body: Body, answer: Answer, key: str) -> None:
        """Compare what was streamed with the ETag, where the ETag is an MD5 (it is not under SSE-KMS or
        SSE-C).
        """
        etag = answer.headers.get("etag", "").strip('"').lower()
        encryption = [name for name in answer.headers if name.startswith("x-amz-server-side-encryption")]
        if body.stream is None or encryption or len(etag) != 32:
            return
        if etag != body.md5.hexdigest():
            raise StoreError(
                f"The bytes that arrived for key {key!r} of bucket {self.name!r} are not those that were sent "
                f"(ETag {etag}).",
                details={"bucket": self.name, "key": key, "action": "s3:PutObject"},
            )

    def _xml(self, answer: Answer, root: str) -> Element:
        try:
            element = parse_xml(answer.body)
        except ValueError as error:
            raise self._unusable(root, str(error)) from error
        if element.name != root:
            raise self._unusable(root, f"it is a <{element.name}>")
        return element

    def _unusable(self, what: str, why: str) -> StoreError:
        return StoreError(
            f"{self.endpoint} gave an unusable answer to {what} for bucket {self.name!r}: {why}.",
            details={"bucket": self.name},
        )


_OK_OR_403 = frozenset({200, 403})
_OK_OR_MISSING = frozenset({200, 404, 405})


def _list_query(
    prefix: str, *, start_after: str = "", delimiter: str = "", token: str | None = None, limit: int = 1000
) -> list[tuple[str, str]]:
    query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(limit))]
    if prefix:
        query.append(("prefix", prefix))
    if delimiter:
        query.append(("delimiter", delimiter))
    if token is not None:
        query.append(("continuation-token", token))
    elif start_after:
        query.append(("start-after", start_after))
    return query


def _within(page: Page, end: bytes | None) -> tuple[int, bool]:
    """How many objects of `page` are at or before `end`, and whether the listing has passed it."""
    if end is None:
        return len(page.keys), False
    if page.is_exact:
        count = bisect_right(page.keys, end)
        return count, bool(page.keys) and page.keys[-1] >= end
    # A key with U+FFFD stands for another one and says nothing about where it is: only the others tell that
    # the end has been passed, or a range would stop too early.
    for count, key in enumerate(page.keys):
        if key > end and not has_mark(key):
            return count, True
    return len(page.keys), False


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
