"""Whose is this URL? Tell our bucket's addresses from other buckets', foreign hosts, and hosts that nobody declared.

Host forms are those of the Amazon S3 user guide ("Methods for accessing a bucket", dual-stack, transfer acceleration,
FIPS and website endpoints). Only what is *provably* not ours is dropped: access points and unknown hosts are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from s3gc.references.types import ReferenceRules

__all__ = ["Address", "locate", "split_url"]

_AWS = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?:accelerate|dualstack|fips|website|[a-z]{2}(?:-[a-z]+)+-\d))*"
    r"\.amazonaws\.com(?:\.cn)?"
)
_URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?//(?P<authority>[^/?#\\]*)(?P<rest>.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL's host says. `kind`: own (path is the key), other (another bucket), foreign, undeclared."""

    kind: str
    path: str  # raw, still encoded; without its first slash; with query and fragment
    host: str


def split_url(text: str) -> tuple[str, str, str] | None:
    """Return scheme (lower case, may be empty), host (lower case, no port, no user) and the rest; None if no URL."""
    match = _URL.match(text)
    if match is None:
        return None
    host = match["authority"].rpartition("@")[2].lower()
    host = host.split("]")[0].lstrip("[") if host.startswith("[") else host.split(":")[0]
    return (match["scheme"] or "").lower(), host.rstrip("."), match["rest"]


def locate(host: str, rest: str, rules: ReferenceRules) -> Address:
    """Judge a URL's host; `rest` is everything after it."""
    path = rest.removeprefix("/")
    match = _AWS.fullmatch(host)
    if match is not None:
        bucket = match["bucket"]
        if bucket is not None:
            if bucket == rules.bucket.lower():
                return Address("own", path, host)
            return Address("undeclared" if "s3-accesspoint" in host else "other", path, host)
        first, _, key = path.partition("/")
        return Address("own", key, host) if unquote(first) == rules.bucket else Address("other", path, host)
    for endpoint in rules.endpoint_hosts:
        if host == f"{rules.bucket.lower()}.{endpoint}":
            return Address("own", path, host)
        if host == endpoint:
            first, _, key = path.partition("/")
            if unquote(first) == rules.bucket:
                return Address("own", key, host)
    if host in rules.foreign_hosts:
        return Address("foreign", path, host)
    return Address("undeclared", path, host)
