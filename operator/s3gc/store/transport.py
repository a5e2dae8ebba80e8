"""The one way a request leaves: signed, within the limits, timed, never redirected, repeated only where that
is safe.

Three habits of HTTP libraries are switched off here because they destroy data or hide it:

* aiohttp silently sends a DELETE again when a kept-alive connection was closed under it. The first one may
  have been carried out, and a repeat may remove what was uploaded since; `_no_silent_repeat` makes such a
  loss an error.
* redirects: a redirected DELETE or PUT would act on a bucket nobody signed for.
* decompression and URL normalisation: bytes and keys pass exactly as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import tenacity
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from s3gc.exceptions import ConfigurationError, S3GCError, StoreError
from s3gc.store.connection import CredentialsSource, Endpoint
from s3gc.store.errors import (
    TRANSIENT_CODES,
    TRANSIENT_STATUS,
    ErrorBody,
    Target,
    error_for,
    is_throttle,
    parse_error,
)
from s3gc.store.limiter import Limiter
from s3gc.store.signing import EMPTY_SHA256, Signer, canonical_query
from s3gc.store.wire import Answer, Request, RetryPolicy

__all__ = ["Transport"]

#: An error document longer than this is not S3's.
_MAX_ERROR_BYTES = 64 * 1024
#: The slowest transfer that is still waited for, in bytes a second.
_SLOWEST = 64 * 1024
#: From this difference on, an unexplained 403 is taken for a clock problem (AWS refuses beyond 15 minutes).
_SKEW_SECONDS = 300


class _TransientError(Exception):
    """An attempt failed in a way that may pass; `final` is what the caller gets if it does not.
    `was_refused`: the store said that it did not carry the request out (or was never reached).
    `is_first_contact`: nothing has ever answered at that address.
    """

    def __init__(
        self,
        final: S3GCError,
        retry_after_seconds: float = 0.0,
        *,
        was_refused: bool = False,
        is_first_contact: bool = False,
    ) -> None:
        super().__init__(str(final))
        self.final = final
        self.retry_after_seconds = retry_after_seconds
        self.was_refused = was_refused
        self.is_first_contact = is_first_contact


def _transient(state: tenacity.RetryCallState) -> _TransientError:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, _TransientError) else _TransientError(StoreError("unknown"))


class _ConnectionLostError(aiohttp.ClientError):
    """The connection broke after something may have been sent."""


async def _no_silent_repeat(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise  # nothing was sent; aiohttp does not repeat these
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError(str(error) or type(error).__name__) from error


class Transport:
    """All requests for one bucket. Safe for concurrent use in one event loop; `close()` it."""

    def __init__(
        self,
        bucket: str,
        endpoint: Endpoint,
        credentials: CredentialsSource,
        limiter: Limiter,
        *,
        timeout_seconds: float = 60.0,
        retry: RetryPolicy | None = None,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.bucket = bucket
        self.endpoint = endpoint
        self.limiter = limiter
        self.requests: Counter[str] = Counter()
        self.has_answered = False
        self.is_bucket_proven = False  # an answer was seen that only an existing bucket gives
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        self._retry = retry or RetryPolicy()
        self._utc_now = utc_now
        self._skew = timedelta()
        self._signer = Signer(endpoint.region)
        # limit=0: the limiter bounds what starts. A bound here too would let a caller that reads one object
        # while it writes another wait for itself.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=endpoint.tls or True, keepalive_timeout=20, ttl_dns_cache=60
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Content-Type", "Accept", "User-Agent", "Accept-Encoding"),
            middlewares=(_no_silent_repeat,),
        )

    async def close(self) -> None:
        await self._session.close()

    def target(self, request: Request) -> Target:
        return Target(request.action, self.bucket, self.endpoint.name, self.endpoint.region, request.key)

    async def call(self, request: Request) -> Answer:
        """Send `request`, read the whole answer. Raises what `errors.error_for` says for any status not
        accepted.
        """
        return (await self._repeat(request, streaming=False))[1]

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[tuple[ClientResponse, Answer]]:
        """Send `request` and hand over the open response once its head is accepted; only that part is
        repeated.

        Where the status is not 200 or 206 the body has been read into the Answer.
        """
        response, answer = await self._repeat(request, streaming=True)
        try:
            yield response, answer
        finally:
            response.close()  # an unread rest cannot be kept alive; a response read to its end is released already

    async def _repeat(self, request: Request, *, streaming: bool) -> tuple[ClientResponse, Answer]:
        policy = self._retry
        backoff = tenacity.wait_random_exponential(policy.first_wait_seconds, policy.longest_wait_seconds)
        rewinds = request.body is None or request.body.rewinds
        attempts = 0

        def stop(state: tenacity.RetryCallState) -> bool:
            # An endpoint that never answered is more likely misspelt than down: said after seconds, not
            # minutes.
            error = _transient(state)
            if (
                not rewinds
                or request.repeat == "never"
                or (request.repeat == "refused" and not error.was_refused)
            ):
                return True
            return attempts >= (min(3, policy.attempts) if error.is_first_contact else policy.attempts)

        def wait(state: tenacity.RetryCallState) -> float:
            asked = min(_transient(state).retry_after_seconds, policy.longest_wait_seconds)
            return max(backoff(state), asked)

        async def once() -> tuple[ClientResponse, Answer]:
            nonlocal attempts
            attempts += 1
            return await self._head(request, attempts, streaming=streaming)

        failed: _TransientError | None
        try:
            return await once()
        except _TransientError as error:
            failed = error

        # tenacity comes in only now: its machinery costs a fifth of a whole small request.
        async def first_failure_then_again() -> tuple[ClientResponse, Answer]:
            nonlocal failed
            if failed is not None:
                error, failed = failed, None
                raise error
            return await once()

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_TransientError), stop=stop, wait=wait, reraise=True
        )
        try:
            return await retrying(first_failure_then_again)
        except _TransientError as error:
            raise error.final from error.__cause__

    async def _head(
        self, request: Request, attempt: int, *, streaming: bool
    ) -> tuple[ClientResponse, Answer]:
        """One attempt, and one more within it when only the clock was wrong."""
        for correcting in (False, True):
            response, answer = await self._send(request, attempt, streaming=streaming)
            error = parse_error(answer.body) if answer.status >= 400 else ErrorBody()
            rewinds = request.body is None or request.body.rewinds
            if self._is_skew(answer, error.code) and not correcting and rewinds and request.repeat != "never":
                response.close()
                continue  # refused unexecuted: signed again with the store's own time
            if answer.status in request.accept:
                self.limiter.succeeded()
                return response, answer
            response.close()
            final = error_for(answer.status, answer.headers, answer.body, self.target(request))
            if answer.status in TRANSIENT_STATUS or error.code in TRANSIENT_CODES:
                throttled = is_throttle(answer.status, error)
                if throttled:
                    self.limiter.slow_down()
                was_refused = throttled or error.code == "ConditionalRequestConflict"
                raise _TransientError(final, _retry_after(answer.headers), was_refused=was_refused)
            raise final
        raise StoreError("unreachable: the second attempt returns or raises")

    async def _send(
        self, request: Request, attempt: int, *, streaming: bool
    ) -> tuple[ClientResponse, Answer]:
        credentials = await self._credentials()
        query = canonical_query(request.query)
        path = f"{self.endpoint.path}{'/' + request.path if request.path else ''}" or "/"
        headers = dict(request.headers or {})
        payload_hash = EMPTY_SHA256 if request.body is None else await request.body.sha256()
        await self.limiter.acquire()
        try:
            # Signed after the wait for a place, or a long queue would send signatures that are too old.
            signed = self._signer.sign(
                credentials, request.method, self.endpoint.host, path, query, headers, payload_hash,
                self._utc_now() + self._skew,
            )  # fmt: skip
            signed["host"] = self.endpoint.host
            signed["accept-encoding"] = "identity"
            signed["user-agent"] = "s3gc"
            if request.body is not None:
                signed["content-length"] = str(request.body.size)
            self.requests[request.operation] += 1
            url = URL(f"{self.endpoint.base}{path}{'?' + query if query else ''}", encoded=True)
            return await self._exchange(request, url, signed, attempt, streaming=streaming)
        except StoreError:
            raise
        except aiohttp.ClientConnectorDNSError as error:
            raise self._unreachable(request, "its host name cannot be resolved") from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise ConfigurationError(
                f"No trusted TLS connection to {self.endpoint.name} for bucket {self.bucket!r}: {_tls_reason(error)}. "
                "Check the endpoint's scheme and port, or name its authority in AWS_CA_BUNDLE.",
                details={"bucket": self.bucket, "action": request.action},
            ) from error
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
            raise self._unreachable(
                request, "the proxy named in HTTP(S)_PROXY does not let us through"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = (
                error.strerror
                if isinstance(error, aiohttp.ClientConnectorError)
                else "the connection timed out"
            )
            raise self._unreachable(request, reason or "no connection") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if request.body is not None and request.body.failure is not None:
                raise request.body.failure from None
            raise _TransientError(self._lost(request, _plainly(error))) from error
        except ValueError as error:
            # aiohttp refuses header values with control characters: never sent, so never half done.
            raise StoreError(
                f"{request.action} cannot be sent exactly: {error}: {self.target(request).where()}.",
                details={"bucket": self.bucket, "action": request.action, "key": request.key},
            ) from error
        finally:
            self.limiter.release()

    async def _exchange(
        self, request: Request, url: URL, headers: dict[str, str], attempt: int, *, streaming: bool
    ) -> tuple[ClientResponse, Answer]:
        patience = request.timeout_seconds or self._timeout_seconds
        size = request.body.size if request.body is not None else 0
        # A caller may read a stream as slowly as it likes: there only silence between two chunks is timed.
        total = None if streaming else patience * 2 + size / _SLOWEST
        response = await self._session.request(
            request.method,
            url,
            headers=headers,
            data=request.body.payload() if request.body is not None else None,
            allow_redirects=False,
            proxy=self.endpoint.proxy,
            read_bufsize=256 * 1024,
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=min(10.0, patience), sock_read=patience),
        )
        try:
            self.has_answered = True
            answered = {name.lower(): value for name, value in response.headers.items()}
            if streaming and response.status in (200, 206):
                return response, Answer(response.status, answered, b"", attempt)
            if response.status in request.accept:
                body = await response.read()
            else:
                body = await _start_of(response)
            return response, Answer(response.status, answered, body, attempt)
        except BaseException:
            response.close()
            raise

    def _is_skew(self, answer: Answer, code: str) -> bool:
        """Whether the store refused our time; if so, sign with its time from now on."""
        if answer.status not in (400, 403) or (code and code != "RequestTimeTooSkewed"):
            return False
        theirs = answer.date
        if theirs is None:
            return False
        difference = theirs - self._utc_now()
        if code or abs(difference - self._skew) > timedelta(seconds=_SKEW_SECONDS):
            self._skew = difference
            return True
        return False

    def _unreachable(self, request: Request, reason: str) -> _TransientError:
        text = f"{self.endpoint.name} cannot be reached for bucket {self.bucket!r}: {reason}."
        details = {"bucket": self.bucket, "action": request.action}
        if self.has_answered:
            down = StoreError(
                f"{text} It answered before; the store or the network is down.", details=details
            )
            return _TransientError(down, was_refused=True)
        # A wrong address or a store that is down: nobody can tell, and only for the second one another try is of use.
        never = StoreError(f"{text} Check the endpoint, the network and the proxy settings.", details=details)
        return _TransientError(never, was_refused=True, is_first_contact=True)

    def _lost(self, request: Request, reason: str) -> StoreError:
        again = "" if request.repeat == "never" else ", also when it was asked again"
        return StoreError(
            f"{request.action} got no whole answer{again} ({reason}): "
            f"{self.target(request).where()}. Look at the store and at what is between it and here.",
            details={"bucket": self.bucket, "action": request.action, "key": request.key},
        )


def _plainly(error: Exception) -> str:
    """What broke the connection, without the words of the HTTP library, which calls a short body "400"."""
    if isinstance(error, aiohttp.ClientPayloadError):
        counted = re.search(r"received (\d+) of (\d+) bytes", str(error))
        return (
            f"it ended after {counted[1]} of {counted[2]} bytes"
            if counted
            else "its body ended before its end"
        )
    return str(error) or type(error).__name__


async def _start_of(response: ClientResponse) -> bytes:
    parts: list[bytes] = []
    left = _MAX_ERROR_BYTES
    async for chunk in response.content.iter_chunked(left):
        parts.append(chunk[:left])
        left -= len(parts[-1])
        if left <= 0:
            response.close()
            break
    return b"".join(parts)


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _tls_reason(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or str(cause)
