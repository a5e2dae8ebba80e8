"""A stub of S3's listing on 127.0.0.1, as fast as Python gets, that fails exactly as it is told to.

Entries are rendered once; a page is a slice of one buffer. It serves ListObjectsV2 (prefix, start-after, delimiter,
continuation) over keys of any bytes, and small GET, HEAD, PUT and DELETE over a dictionary. It checks no signature.
Real servers are what the tests compare it with (`tests/library/store/test_stub_is_s3.py`).

In a test::

    async with start_stub(["a", "b\\n", b"\\xff"]) as stub:
        stub.fail(Fault.EMPTY)                     # the next request only
        stub.answer(403, body=error("AccessDenied"), method="HEAD")
        bucket = await Bucket.open(stub.bucket, endpoint_url=stub.endpoint)

As a process, for measurements: ``python -m tests.stub.server --keys 1000000`` prints its endpoint on the first line.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import ssl
import subprocess
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

__all__ = ["Fault", "Stub", "error", "million_keys", "serve_stub", "start_stub", "start_stub_process"]

BUCKET = "stub-bucket"


class Fault(Enum):
    """How the next answer is wrong. All are answered 200 unless said otherwise."""

    TRUNCATED = "the body ends in the middle, Content-Length fits"
    TRUNCATED_AFTER_ENTRY = "the body ends after a whole entry, Content-Length fits"
    CUT = "the connection is cut in the middle of the body"
    EMPTY = "an empty body"
    HTML = "a proxy's login page"
    ERROR = "an error document"
    SLOW_DOWN = "503 SlowDown"
    INTERNAL = "500 InternalError"
    NO_TOKEN = "IsTruncated without NextContinuationToken"
    NO_TRUNCATED = "no IsTruncated"
    TOKEN_AT_END = "a token though IsTruncated is false"
    SAME_TOKEN = "the token that was sent comes back"
    WRONG_NAME = "another bucket's name"
    WRONG_COUNT = "KeyCount says one more"
    NO_COUNT = "no KeyCount"
    REPEATED = "one key twice"
    REPEATED_PAGE = "the page starts again with the last key of the one before"
    UNSORTED = "two keys swapped"
    OTHER_PREFIX = "a key outside the prefix"
    HANG = "no answer at all"
    LOST_ANSWER = "it is carried out, and the connection closed without an answer"
    DROP = "the connection is closed without an answer"
    NO_DATE = "no Date header"


def error(code: str, message: str = "", extra: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>'
    ).encode()


@dataclass
class Seen:
    """A request as it came: `target` is the raw path and query, never decoded."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Scripted:
    status: int
    headers: dict[str, str]
    body: bytes
    method: str | None = None


def million_keys(count: int = 1_000_000, seed: int = 1) -> list[bytes]:
    """`count` keys as uploads have them: media/ab/<uuid>.jpg, sorted."""
    draw = random.Random(seed)
    keys = []
    for _ in range(count):
        h = f"{draw.getrandbits(128):032x}"
        keys.append(f"media/{h[:2]}/{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}.jpg".encode())
    keys.sort()
    return keys


def _url(raw: bytes) -> str:
    return quote(raw, safe="/*-._ ").replace(" ", "+")


@dataclass
class Stub:
    """A running stub. `requests` is all it saw; `connections` how many were opened; the rest may be changed."""

    keys: list[bytes]
    bucket: str = BUCKET
    endpoint: str = ""
    page_size: int = 1000
    echo_encoding: bool = True
    honours_start_after: bool = True
    honours_if_match_every: int = 1  # of that many conditional deletes one is honoured; 0: none
    refuses_conditional_delete: bool = False
    conditional_deletes: int = 0
    ignored_put_conditions: set[str] = field(default_factory=set)
    clock_offset: timedelta = timedelta()
    keep_requests: bool = True
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    objects: dict[str, tuple[bytes, dict[str, str]]] = field(
        default_factory=dict
    )  # by the raw path of the key
    _faults: list[tuple[Fault, int]] = field(default_factory=list)
    _scripted: list[Scripted] = field(default_factory=list)
    _buffer: bytes = b""
    _offsets: array[int] = field(default_factory=lambda: array("Q"))

    def fail(self, fault: Fault, times: int = 1, *, after: int = 0) -> None:
        """Make the next `times` answers wrong, after `after` right ones."""
        self._faults += [(fault, after if number == 0 else 0) for number in range(times)]

    def answer(
        self, status: int, *, headers: dict[str, str] | None = None, body: bytes = b"", method: str | None = None,
        times: int = 1,
    ) -> None:  # fmt: skip
        """Answer the next `times` requests (of `method`) with this."""
        self._scripted += [Scripted(status, headers or {}, body, method)] * times

    def render(self) -> None:
        """Render all entries; call it again after changing `keys`."""
        parts = []
        self._offsets = array("Q", [0])
        position = 0
        for number, raw in enumerate(self.keys):
            key = _url(raw) if self.echo_encoding else escape(raw.decode(errors="replace"), {"\r": "&#13;"})
            part = (
                f"<Contents><Key>{key}</Key><LastModified>2026-{1 + number % 12:02d}-{1 + number % 28:02d}T"
                f"{number % 24:02d}:{number % 60:02d}:{number * 7 % 60:02d}.{number % 1000:03d}Z</LastModified>"
                f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{number * 7919 % 1048576}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            ).encode()
            parts.append(part)
            position += len(part)
            self._offsets.append(position)
        self._buffer = b"".join(parts)

    # --- answers

    def respond(self, seen: Seen) -> tuple[int, dict[str, str], bytes] | Fault:
        path, _, query_text = seen.target.partition("?")
        query = dict(
            parse_qsl(query_text, keep_blank_values=True, encoding="utf-8", errors="surrogateescape")
        )
        for script in self._scripted:
            if script.method in (None, seen.method):
                self._scripted.remove(script)
                return script.status, script.headers, script.body
        fault = None
        if self._faults:
            first, wait = self._faults[0]
            if wait:
                self._faults[0] = (first, wait - 1)
            else:
                self._faults.pop(0)
                fault = first
        if fault in (Fault.HANG, Fault.DROP):
            return fault
        if fault is Fault.SLOW_DOWN:
            return 503, {"Retry-After": "0"}, error("SlowDown", "Please reduce your request rate.")
        if fault is Fault.INTERNAL:
            return 500, {}, error("InternalError")
        bucket, _, key = path.removeprefix("/").partition("/")
        if bucket != self.bucket:
            return 404, {}, error("NoSuchBucket")
        if fault is Fault.LOST_ANSWER:
            self._object(seen, key)
            return Fault.DROP
        if seen.method == "GET" and not key and "list-type" in query:
            return 200, {}, self._list(query, fault)
        if seen.method == "GET" and not key and "versioning" in query:
            return 200, {}, b"<VersioningConfiguration/>"
        if seen.method == "GET" and not key and "object-lock" in query:
            return 404, {}, error("ObjectLockConfigurationNotFoundError")
        if seen.method == "POST" or "uploadId" in query:
            return 501, {}, error("NotImplemented")
        return self._object(seen, key)

    def _object(self, seen: Seen, key: str) -> tuple[int, dict[str, str], bytes]:
        if seen.method == "PUT":
            conditions = {k: v for k, v in seen.headers.items() if k not in self.ignored_put_conditions}
            if conditions.get("if-none-match") == "*" and key in self.objects:
                return 412, {}, error("PreconditionFailed")
            if (wanted := conditions.get("if-match")) is not None:
                if key not in self.objects:
                    return 404, {}, error("NoSuchKey")
                if wanted != f'"{hashlib.md5(self.objects[key][0]).hexdigest()}"':
                    return 412, {}, error("PreconditionFailed")
            kept = {
                k: v for k, v in seen.headers.items() if k.startswith("x-amz-meta-") or k == "content-type"
            }
            self.objects[key] = (seen.body, kept)
            return 200, {"ETag": f'"{hashlib.md5(seen.body).hexdigest()}"'}, b""
        found = self.objects.get(key)
        if seen.method == "DELETE":
            condition = seen.headers.get("if-match")
            if condition is not None and found is not None:
                self.conditional_deletes += 1
                is_honest = (
                    self.honours_if_match_every
                    and self.conditional_deletes % self.honours_if_match_every == 0
                )
                is_wrong = condition != f'"{hashlib.md5(found[0]).hexdigest()}"'
                if self.refuses_conditional_delete or (is_honest and is_wrong):
                    return 412, {}, error("PreconditionFailed")
            self.objects.pop(key, None)
            return 204, {}, b""
        if found is None:
            return 404, {}, error("NoSuchKey")
        body, headers = found
        about = {
            "ETag": f'"{hashlib.md5(body).hexdigest()}"',
            "Last-Modified": "Wed, 01 Jul 2026 00:00:00 GMT",
            **headers,
        }
        return 200, about, body

    def _list(self, query: dict[str, str], fault: Fault | None) -> bytes:
        def raw(name: str) -> bytes:
            return query.get(name, "").encode(errors="surrogateescape")

        prefix, delimiter, size = (
            raw("prefix"),
            raw("delimiter"),
            min(int(query.get("max-keys", "1000")), self.page_size),
        )
        low = bisect_left(self.keys, prefix)
        high = bisect_left(self.keys, prefix + b"\xff" * 8) if prefix else len(self.keys)
        token = query.get("continuation-token")
        if token:
            low = int(token.removeprefix("t"))
        elif raw("start-after") and self.honours_start_after:
            low = max(low, bisect_right(self.keys, raw("start-after")))
        prefixes: list[bytes] = []
        if delimiter:
            entries, end, prefixes = self._grouped(low, high, prefix, delimiter, size)
        else:
            end = min(low + size, high)
            first = low - 1 if fault is Fault.REPEATED_PAGE and low else low
            entries = [self._entry(first, end)] if end > first else []
        is_truncated = end < high
        count = sum(part.count(b"<Contents>") for part in entries) + len(prefixes)
        body = b"".join(entries)
        if fault in (Fault.REPEATED, Fault.UNSORTED) and count >= 2:
            head, tail = self._entry(low, low + 1), self._entry(low + 1, low + 2)
            rest = self._entry(low + 2, end)
            body = head + head + rest if fault is Fault.REPEATED else tail + head + rest
        if fault is Fault.OTHER_PREFIX:
            body += body[body.rindex(b"<Contents>") :].replace(b"<Key>", b"<Key>\x7f", 1)
            count += 1
        return self._document(query, body, prefixes, count, end if is_truncated else None, token, fault)

    def _document(
        self, query: dict[str, str], body: bytes, prefixes: list[bytes], count: int, following: int | None,
        token: str | None, fault: Fault | None,
    ) -> bytes:  # fmt: skip
        name = "another-bucket" if fault is Fault.WRONG_NAME else self.bucket
        parts = [
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{name}</Name><Prefix>{_url(query.get('prefix', '').encode(errors='surrogateescape'))}</Prefix>"
        ]
        if fault is not Fault.NO_COUNT:
            parts.append(f"<KeyCount>{count + (fault is Fault.WRONG_COUNT)}</KeyCount>")
        parts.append("<MaxKeys>1000</MaxKeys>")
        if self.echo_encoding and query.get("encoding-type") == "url":
            parts.append("<EncodingType>url</EncodingType>")
        if fault is not Fault.NO_TRUNCATED:
            parts.append(f"<IsTruncated>{str(following is not None).lower()}</IsTruncated>")
        if following is not None and fault is not Fault.NO_TOKEN:
            shown = token if fault is Fault.SAME_TOKEN and token else f"t{following}"
            parts.append(f"<NextContinuationToken>{shown}</NextContinuationToken>")
        if fault is Fault.TOKEN_AT_END and following is None:
            parts.append("<NextContinuationToken>t0</NextContinuationToken>")
        groups = "".join(f"<CommonPrefixes><Prefix>{_url(p)}</Prefix></CommonPrefixes>" for p in prefixes)
        whole = "".join(parts).encode() + body + groups.encode() + b"</ListBucketResult>"
        match fault:
            case Fault.EMPTY:
                return b""
            case Fault.HTML:
                return b"<!DOCTYPE html><html><head><title>Login</title></head><body>Please log in.</body></html>"
            case Fault.ERROR:
                return error("InternalError", "We encountered an internal error. Please try again.")
            case Fault.TRUNCATED | Fault.CUT:
                return whole[: len(whole) // 2]
            case Fault.TRUNCATED_AFTER_ENTRY:
                return whole[: whole.index(b"</Contents>") + 11]
        return whole

    def _entry(self, first: int, end: int) -> bytes:
        return self._buffer[self._offsets[first] : self._offsets[end]]

    def _grouped(
        self, low: int, high: int, prefix: bytes, delimiter: bytes, size: int
    ) -> tuple[list[bytes], int, list[bytes]]:
        entries: list[bytes] = []
        prefixes: list[bytes] = []
        position = low
        while position < high and len(entries) + len(prefixes) < size:
            cut = self.keys[position].find(delimiter, len(prefix))
            if cut < 0:
                entries.append(self._entry(position, position + 1))
                position += 1
            else:
                group = self.keys[position][: cut + len(delimiter)]
                prefixes.append(group)
                position = bisect_left(self.keys, group + b"\xff" * 8, position, high)
        return entries, position, prefixes

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock_offset


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._data = b""
        self._number = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._stub.connections += 1
        self._stub.open_connections += 1
        self._number = self._stub.connections

    def connection_lost(self, _: Exception | None) -> None:
        self._stub.open_connections -= 1

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"\x16") and not self._data:  # TLS where none is spoken: what Go's servers answer
            assert self._transport is not None
            self._transport.write(
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server."
            )
            self._transport.close()
            return
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            lines = self._data[:end].decode("utf-8", "surrogateescape").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            total = end + 4 + int(headers.get("content-length", 0))
            if len(self._data) < total:
                return
            method, target, _ = lines[0].split(" ", 2)
            seen = Seen(method, target, headers, self._data[end + 4 : total], self._number)
            self._data = self._data[total:]
            self._answer(seen)

    def _answer(self, seen: Seen) -> None:
        assert self._transport is not None
        stub = self._stub
        if stub.keep_requests:
            stub.requests.append(seen)
        is_cut = bool(stub._faults) and stub._faults[0] == (Fault.CUT, 0)
        has_date = not (stub._faults and stub._faults[0] == (Fault.NO_DATE, 0))
        answer = stub.respond(seen)
        if isinstance(answer, Fault):
            if answer is Fault.DROP:
                self._transport.close()
            return
        status, headers, body = answer
        length = len(body) * 2 if is_cut else len(body)
        about = {"Content-Type": "application/xml", "Content-Length": str(length), "x-amz-request-id": "stub"}
        if has_date:
            about["Date"] = format_datetime(stub.now(), usegmt=True)
        about.update(headers)
        head = f"HTTP/1.1 {status} Stub\r\n" + "".join(f"{k}: {v}\r\n" for k, v in about.items()) + "\r\n"
        has_body = seen.method != "HEAD" and status not in (204, 304)
        self._transport.write(head.encode("utf-8", "surrogateescape") + (body if has_body else b""))
        if is_cut:
            self._transport.close()


@asynccontextmanager
async def start_stub(
    keys: Iterable[str | bytes] = (), *, bucket: str = BUCKET, page_size: int = 1000, echo_encoding: bool = True,
    port: int = 0, keep_requests: bool = True, tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Stub]:  # fmt: skip
    """Serve `keys` (text, or bytes of any kind) on 127.0.0.1 in this event loop."""
    ordered = sorted({key.encode() if isinstance(key, str) else key for key in keys})
    stub = Stub(
        ordered, bucket, page_size=page_size, echo_encoding=echo_encoding, keep_requests=keep_requests
    )
    stub.render()
    async with serve_stub(stub, port, tls):
        yield stub


@asynccontextmanager
async def serve_stub(stub: Stub, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Stub]:
    """Serve a stub that is already rendered."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(stub), "127.0.0.1", port, ssl=tls)
    stub.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()


@contextmanager
def start_stub_process(keys: int) -> Iterator[str]:
    """Serve `keys` generated keys from a process of its own, so that its cost is not ours; gives the endpoint."""
    command = [sys.executable, "-m", "tests.stub.server", "--keys", str(keys)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError("the stub did not start")
        yield endpoint
    finally:
        process.terminate()
        process.wait(timeout=10)
        for pipe in (process.stdout, process.stdin):
            if pipe is not None:
                pipe.close()


async def _serve(count: int, port: int) -> None:
    loop = asyncio.get_running_loop()
    async with start_stub(million_keys(count), port=port, keep_requests=False) as stub:
        print(stub.endpoint, flush=True)
        if port == 0:
            await loop.run_in_executor(None, sys.stdin.read)  # ends with whoever started it
        else:
            await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--port", type=int, default=0, help="0: a free one, until stdin is closed")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.keys, arguments.port))
