"""Who may come in: whoever has the token of `S3GC_ADMIN_API_KEY`, and nobody where there is none.

The token is compared in constant time, over its digest, so that neither its letters nor its length can be measured.
Each address has so many wrong tokens; beyond them it is not even compared, or guessing would not be limited at all.
The memory of addresses is bounded: who is forgotten has been quiet longest.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import Request

from s3gc.integrations.admin import problems

__all__ = ["VARIABLE", "Gate", "WrongTokens"]

#: The variable of the server's environment that has the token.
VARIABLE = "S3GC_ADMIN_API_KEY"


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class WrongTokens:
    """A token bucket an address: `burst` wrong tokens at once, then one each `every_seconds`."""

    def __init__(
        self,
        *,
        burst: int = 10,
        every_seconds: float = 6.0,
        addresses: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst, self._every_seconds, self._addresses = burst, every_seconds, addresses
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, address: str) -> int:
        """How long this address must wait before another token is looked at; 0 when it need not."""
        bucket = self._buckets.get(address)
        if bucket is None:
            return 0
        self._refill(bucket)
        if bucket.left >= self._burst:
            del self._buckets[address]
        return 0 if bucket.left >= 1 else max(1, math.ceil((1 - bucket.left) * self._every_seconds))

    def note(self, address: str) -> None:
        """A wrong token came from this address."""
        bucket = self._buckets.setdefault(address, _Bucket(self._burst, self._clock()))
        self._refill(bucket)
        bucket.left = max(0.0, bucket.left - 1)
        self._buckets.move_to_end(address)
        while len(self._buckets) > self._addresses:
            self._buckets.popitem(last=False)

    def _refill(self, bucket: _Bucket) -> None:
        now = self._clock()
        bucket.left = min(float(self._burst), bucket.left + (now - bucket.at) / self._every_seconds)
        bucket.at = now


class Gate:
    """Admits a request, or raises the problem to answer with. Reads the variable each time, as it may be rotated."""

    def __init__(
        self, environ: Mapping[str, str] | None = None, wrong_tokens: WrongTokens | None = None
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._wrong = wrong_tokens or WrongTokens()

    def admit(self, request: Request) -> None:
        """Raise ProblemError (503, 401, 429 or 403) unless the request carries the token."""
        expected = self.key()
        given = _token(request)
        if given is None:
            raise problems.made(
                "unauthenticated",
                401,
                f"send the header Authorization: Bearer …, with the value that {VARIABLE} has on the server",
                headers={"WWW-Authenticate": 'Bearer realm="s3gc"'},
            )
        address = _address(request)
        if seconds := self._wrong.wait_seconds(address):
            raise problems.made(
                "too-many",
                429,
                f"too many wrong tokens came from this address; wait {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        if not hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest()):
            self._wrong.note(address)
            raise problems.made("forbidden", 403, f"this is not the token that {VARIABLE} has on the server")

    def key(self) -> bytes:
        """The server's token; raises the problem that says what to set where there is none."""
        expected = self._environ.get(VARIABLE, "").strip()
        if not expected:
            raise problems.made(
                "no-key",
                503,
                f"{VARIABLE} is not set on the server, so nobody may come in. Set it to a long random text, for "
                "example from `openssl rand -hex 32`, and start the application again",
                title="No token is set on the server",
            )
        return os.fsencode(expected)


def _token(request: Request) -> bytes | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return None
    return token.encode("latin-1", "replace")  # headers are latin-1 (ASGI): these are the bytes that came


def _address(request: Request) -> str:
    """The client's address; of an IPv6 one its network, as one machine has all of a /64."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]  # a socket, or a test's client
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
