"""Every error that s3gc raises on purpose, and the exit code that a shell sees for each.

The tree (all of it; `tests/unit/test_exceptions.py` compares)::

    S3GCError                       1   base; raised itself only for what has no better name
    ├── ConfigurationError          2   a setting is missing, malformed, or names what does not exist
    │   └── AccessDeniedError       2   the store or a database refused one action; the message names it
    ├── RefusedError                3   a guard said no; carries the guard, its number and its limit
    ├── LockedError                 5   another cycle or restore holds the scope
    │   └── SlotTakenError          5   a scheduled time was run already, by another process
    ├── BackupError                 6   an object could not be backed up and proven
    ├── RestoreError                7   a restore could not be done
    ├── CDCError                    8   change capture was asked for and cannot be had
    ├── VaultError                  9   the vault is missing, full, read-only or corrupted
    │   └── VaultCorruptedError     9   bytes in the vault are not what was written
    ├── StoreError                  1   an S3 request failed in a way that may pass
    │   ├── ListingError            1   a listing is not provably complete
    │   └── ThrottledError          1   the store asked to slow down for longer than the back-off lasts
    └── SourceError                 1   a database failed or could not be read to its end

A message is one or more sentences for a person on call: what happened, to which bucket, key, table or column,
and what to do. It never contains a credential: URLs are shown through :func:`redact`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = [
    "EXIT_STOPPED",
    "AccessDeniedError",
    "BackupError",
    "CDCError",
    "ConfigurationError",
    "ListingError",
    "LockedError",
    "RefusedError",
    "RestoreError",
    "S3GCError",
    "SlotTakenError",
    "SourceError",
    "StoreError",
    "ThrottledError",
    "VaultCorruptedError",
    "VaultError",
    "exit_code",
    "redact",
]

#: Exit code of a process that was asked to stop (SIGTERM) and did so in good order: 128 + 15.
EXIT_STOPPED = 143

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_PARAMETER = re.compile(r"(?i)\b(password|passwd|pwd|secret|token|sslpassword)=[^&\s]+")


def redact(text: str) -> str:
    """Return `text` with user names and passwords of URLs, and secret query parameters, replaced by ``***``."""
    return _SECRET_PARAMETER.sub(r"\1=***", _USERINFO.sub("***@", text))


class S3GCError(Exception):
    """Base of all errors of s3gc.

    `message` is for people; `details` holds the same facts for programs (never a credential).
    """

    exit_code: int = 1

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(redact(message))
        self.message = redact(message)
        self.details: dict[str, object] = dict(details or {})


class ConfigurationError(S3GCError):
    """The configuration cannot be used. `details["errors"]` lists every problem found, not only the first."""

    exit_code = 2


class AccessDeniedError(ConfigurationError):
    """The store or a database refused an action. `details["action"]` names it, for example ``s3:ListBucket``."""


class RefusedError(S3GCError):
    """A guard refused. `details` has `guard`, `value`, `limit` and, once there is a plan, `plan_digest`."""

    exit_code = 3


class LockedError(S3GCError):
    """Another cycle or restore holds the scope. `details["holder"]` says who, where and since when."""

    exit_code = 5


class SlotTakenError(LockedError):
    """A scheduled time was run already, by another process of the same policy: there is nothing to do."""


class BackupError(S3GCError):
    """An object could not be backed up and read back; it was not deleted."""

    exit_code = 6


class RestoreError(S3GCError):
    """A restore could not be done, or not for every object."""

    exit_code = 7


class CDCError(S3GCError):
    """Change capture is configured and cannot be had; the message names what is missing."""

    exit_code = 8


class VaultError(S3GCError):
    """The vault cannot be used: missing, full, read-only, of a newer version, or corrupted."""

    exit_code = 9


class VaultCorruptedError(VaultError):
    """Bytes in the vault are not the bytes that were written. `details["path"]` names the file."""


class StoreError(S3GCError):
    """An S3 request failed. `details` may have `status`, `code`, `bucket`, `key` and `action`."""


class ListingError(StoreError):
    """A listing is not provably complete; nothing may be concluded from it."""


class ThrottledError(StoreError):
    """The store kept answering SlowDown for longer than the back-off lasts."""


class SourceError(S3GCError):
    """A database could not be read to its end; nothing may be concluded from what was read."""


def exit_code(error: BaseException) -> int:
    """Return the exit code for `error`: its class's own, 130 for an interrupt, 1 for anything unexpected."""
    if isinstance(error, S3GCError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def host_of(url: str) -> str:
    """Return ``scheme://host:port`` of a connection URL, for messages; never its user name, password or query."""
    if is_misread(url):
        return f"{url.partition('://')[0]}://(a character of the password is not percent-encoded)"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_misread(url: str) -> bool:
    """Whether a bare ``/``, ``?``, ``#`` or ``[`` in the password makes parts of it look like host, path or query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    if not parts.netloc or "@" in parts.netloc:
        return "@" in parts.netloc and any(map(_has_odd_port, parts.netloc.rpartition("@")[2].split(",")))
    behind = "@" in parts.path or "@" in parts.fragment or "@" in parts.query.partition("=")[0]
    return behind or any(map(_has_odd_port, parts.netloc.split(",")))


def _has_odd_port(host: str) -> bool:
    port = host.rpartition("]")[2].partition(":")[2]
    return bool(port) and not port.isdigit()
