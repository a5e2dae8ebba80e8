"""From an S3 answer that is not a success to one clear sentence for a person on call.

Two kinds matter to callers: what a person must change (ConfigurationError, AccessDeniedError: wrong keys,
wrong region, no such bucket, one right missing) and what may pass (StoreError, ThrottledError). `details`
always has `status`, `code`, `bucket` and `action`, and `key` where one is concerned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from s3gc.exceptions import (
    AccessDeniedError,
    ConfigurationError,
    S3GCError,
    StoreError,
    ThrottledError,
)

__all__ = [
    "TRANSIENT_CODES",
    "TRANSIENT_STATUS",
    "ArchivedError",
    "ErrorBody",
    "ObjectChangedError",
    "Target",
    "error_for",
    "parse_error",
]


class ObjectChangedError(StoreError):
    """The object is no longer the one that `if_match` names (412)."""


class ArchivedError(StoreError):
    """The object's bytes are in an archive class and must be restored there first (InvalidObjectState)."""


#: Answers after which the same idempotent request may be sent again.
TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
TRANSIENT_CODES = frozenset(
    {
        "BadDigest", "ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout",
        "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException",
        "TooManyRequests", "XMinioServerNotInitialized",
    }
)  # fmt: skip
_THROTTLE_CODES = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests"}
)
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key id is not known there",
    "SignatureDoesNotMatch": "the secret access key does not belong to the access key id",
    "ExpiredToken": "the session token has expired",
    "TokenRefreshRequired": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "InvalidTokenId": "the session token is not valid",
    "InvalidClientTokenId": "the access key id is not known there",
    "XAdminUserNotFound": "the access key id is not known there",
}
_WRONG_REGION = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)

_CODE = re.compile(rb"<Code>\s*([^<\s]{1,100})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{0,500})</Message>")
_REGION = re.compile(rb"<Region>\s*([a-zA-Z0-9-]{1,40})\s*</Region>")
_ENDPOINT = re.compile(rb"<Endpoint>\s*([^<\s]{1,200})\s*</Endpoint>")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request was about, for messages: the IAM action, the bucket, the endpoint, the key if there is
    one.
    """

    action: str
    bucket: str
    endpoint: str
    region: str
    key: str | None = None

    def where(self) -> str:
        key = "" if self.key is None else f" (key {self.key!r})"
        return f"bucket {self.bucket!r} at {self.endpoint}{key}"


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error document of an answer; `code` is empty when there was none (HEAD, a proxy's HTML page)."""

    code: str = ""
    message: str = ""
    region: str = ""
    endpoint: str = ""


def parse_error(body: bytes) -> ErrorBody:
    """Read S3's error document; anything else gives an empty one, never an exception."""
    if b"<Error" not in body:
        return ErrorBody()

    def text(pattern: re.Pattern[bytes]) -> str:
        found = pattern.search(body)
        return found.group(1).decode(errors="replace").strip() if found else ""

    return ErrorBody(text(_CODE), text(_MESSAGE), text(_REGION), text(_ENDPOINT))


def is_throttle(status: int, error: ErrorBody) -> bool:
    return (
        status == 429
        or error.code in _THROTTLE_CODES
        or (status == 503 and error.code in ("", "ServiceUnavailable"))
    )


def error_for(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> S3GCError:
    """Return the exception for an answer that is not a success; the caller raises it."""
    error = parse_error(body)
    details: dict[str, object] = {
        "status": status, "code": error.code, "bucket": target.bucket, "action": target.action,
    }  # fmt: skip
    if target.key is not None:
        details["key"] = target.key
    said = f"{status} {error.code or 'without an error code'}" + (
        f": {error.message}" if error.message else ""
    )
    where = target.where()

    region = headers.get("x-amz-bucket-region", "") or error.region
    if status in (301, 302, 307, 308) or error.code in _WRONG_REGION:
        if region and region != target.region:
            return ConfigurationError(
                f"Bucket {target.bucket!r} is in region {region!r}, not in {target.region!r}: "
                f"set the region to {region!r}.",
                details={**details, "region": region},
            )
        elsewhere = error.endpoint or headers.get("location", "")
        return ConfigurationError(
            f"{target.endpoint} redirects requests for bucket {target.bucket!r}"
            + (f" to {elsewhere!r}" if elsewhere else "")
            + "; redirects are never followed: set the endpoint or the region to where the bucket is.",
            details=details,
        )
    if error.code in _BAD_CREDENTIALS:
        return ConfigurationError(
            f"{target.endpoint} refused the credentials for bucket {target.bucket!r}: {_BAD_CREDENTIALS[error.code]} "
            f"({error.code}). Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role they come from.",
            details=details,
        )
    if error.code == "NoSuchBucket":
        return ConfigurationError(
            f"Bucket {target.bucket!r} does not exist at {target.endpoint}: check its name and the endpoint.",
            details=details,
        )
    if error.code == "RequestTimeTooSkewed":
        return ConfigurationError(
            f"This machine's clock and that of {target.endpoint} differ too much (RequestTimeTooSkewed), also after "
            "correcting for it: set this machine's clock.",
            details=details,
        )
    if error.code == "InvalidObjectState":
        return ArchivedError(f"The object is archived and cannot be read: {where}.", details=details)
    if status == 412:
        return ObjectChangedError(
            f"The condition of {target.action} does not hold any more: {where}.", details=details
        )
    if status == 400 and b"HTTP request to an HTTPS server" in body:
        return ConfigurationError(
            f"{target.endpoint} speaks https, not http: write https:// in the endpoint.", details=details
        )
    if is_throttle(status, error):
        return ThrottledError(
            f"The store kept answering {said} to {target.action}: {where}. "
            "Lower concurrency or set requests_per_second.",
            details=details,
        )
    if error.code in ("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden") or status in (
        401,
        403,
    ):
        hint = ""
        if target.action in ("s3:GetObject", "s3:GetObjectVersion") and not error.code:
            hint = " (or the object is missing and s3:ListBucket is not allowed, which looks the same)"
        return AccessDeniedError(
            f"{target.action} was denied{hint}: {where}. Allow that action to these credentials."
            + (f" The store said: {error.message}" if error.message else ""),
            details=details,
        )
    return StoreError(f"{target.action} was answered {said}: {where}.", details=details)
