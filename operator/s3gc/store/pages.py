"""Listings over many pages: what is under a prefix, between two keys, to an end that is proven.

Each page proves itself (`listing`); here the pages prove each other: keys go on strictly increasing, a token never
comes twice, everything is under the prefix that was asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

import pyarrow.compute as pc

from s3gc.exceptions import ListingError, StoreError
from s3gc.store.errors import error_for, parse_error
from s3gc.store.keys import key_bytes, key_text
from s3gc.store.listing import ListingPage, Page, check_order, has_mark, parse_page, to_rows
from s3gc.store.transport import Transport
from s3gc.store.wire import Answer, Request

__all__ = ["common_prefixes", "list_pages", "server_time"]

#: A page that does not prove itself is asked for again so often: proxies and nodes that restart cut answers short.
_ATTEMPTS = 3


async def server_time(transport: Transport) -> datetime:
    request = Request(
        "ListObjectsV2", "s3:ListBucket", "GET", query=_query("", limit=1), accept=frozenset({200, 403})
    )
    answer = await transport.call(request)
    if answer.status == 200:
        parse_page(answer.body, transport.bucket)
        transport.is_bucket_proven = True
    elif parse_error(answer.body).code != "AccessDenied":
        # A role that may list some prefixes only is denied here, and still told the time.
        raise error_for(answer.status, answer.headers, answer.body, transport.target(request))
    return _date(transport, answer)


async def list_pages(
    transport: Transport, prefix: str, start_after: str, end_at: str | None
) -> AsyncGenerator[ListingPage, None]:
    previous = key_bytes(start_after)
    end = None if end_at is None else key_bytes(end_at)
    async with aclosing(_pages(transport, prefix, start_after=start_after)) as proven:
        async for page, answer in proven:
            previous = check_order(page.keys, previous, is_exact=page.is_exact)
            count, is_past_end = _within(page, end)
            last_key = key_text(page.keys[count - 1].as_py()) if count else ""
            yield ListingPage(to_rows(page, count), _date(transport, answer), last_key, page.is_exact)
            if is_past_end:
                return


async def common_prefixes(transport: Transport, prefix: str, max_pages: int | None) -> list[str]:
    found: list[str] = []
    previous = b""
    number = 0
    async with aclosing(_pages(transport, prefix, delimiter="/")) as proven:
        async for page, _ in proven:
            previous = check_order(page.prefixes, previous, is_exact=page.is_exact)
            found += [key_text(raw) for raw in page.prefixes.to_pylist()]
            number += 1
            if number == max_pages:
                break
    return found


async def _pages(
    transport: Transport, prefix: str, *, start_after: str = "", delimiter: str = ""
) -> AsyncGenerator[tuple[Page, Answer], None]:
    token: str | None = None
    while True:
        query = _query(prefix, start_after=start_after, delimiter=delimiter, token=token)
        page, answer = await _page(
            transport, Request("ListObjectsV2", "s3:ListBucket", "GET", query=query), prefix, token
        )
        transport.is_bucket_proven = True
        yield page, answer
        token = page.token
        if token is None:
            return


async def _page(
    transport: Transport, request: Request, prefix: str, token: str | None
) -> tuple[Page, Answer]:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await _proven_page(transport, request, prefix, token)
        except ListingError:
            continue
    return await _proven_page(transport, request, prefix, token)


async def _proven_page(
    transport: Transport, request: Request, prefix: str, token: str | None
) -> tuple[Page, Answer]:
    answer = await transport.call(request)
    page = parse_page(answer.body, transport.bucket)
    if page.token is not None and page.token == token:
        raise ListingError(
            f"The listing of bucket {transport.bucket!r} does not get on: the same token came twice; "
            "it is not provably complete."
        )
    start = prefix.encode()
    ends = [ends for column in (page.keys, page.prefixes) if len(column) for ends in (column[0], column[-1])]
    for key in (end.as_py() for end in ends):
        if not key.startswith(start) and (page.is_exact or not has_mark(key)):
            raise ListingError(
                f"The listing of bucket {transport.bucket!r} was asked for prefix {prefix!r} and has "
                f"{key_text(key)!r}; nothing is concluded."
            )
    return page, answer


def _query(
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
        if not len(page.keys) or page.keys[-1].as_py() < end:
            return len(page.keys), False
        return pc.less_equal(page.keys, end).true_count, True
    # A key with U+FFFD stands for another one and says nothing about where it is: only the others tell that the end
    # has been passed, or a range would stop too early.
    for count, key in enumerate(page.keys.to_pylist()):
        if key > end and not has_mark(key):
            return count, True
    return len(page.keys), False


def _date(transport: Transport, answer: Answer) -> datetime:
    date = answer.date
    if date is None:
        raise StoreError(
            f"{transport.endpoint.name} sends no Date header, so the store's own time is not known and no age can be "
            "told.",
            details={"bucket": transport.bucket},
        )
    return date
