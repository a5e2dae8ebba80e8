"""Database URLs taken apart here, so that no driver ever prints one with its password.

The user name and the password go to a driver as arguments of their own; what an error shows is
`Address.location`. Parameters that other tools put into the same variable (Prisma, SQLAlchemy, libpq) are known
and left out where a driver would send them to the server as settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from s3gc.exceptions import ConfigurationError, is_misread, redact

__all__ = ["Address", "parse_url"]


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed database URL. `hosts` keeps the order of a multi-host URL; port 0 means the default."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str = field(repr=False)
    database: str
    parameters: Mapping[str, str] = field(repr=False)

    @property
    def shown(self) -> str:
        """Host, port and database, for messages."""
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in self.hosts) or "local socket"
        return f"{hosts}/{self.database}"

    def without_secrets(self, text: object) -> str:
        """Return `text` on one line, with the password and any URL's user information taken out."""
        line = " ".join(str(text).split())
        if len(self.password) >= 3:
            line = line.replace(self.password, "***")
        return redact(line)[:400]


def parse_url(url: str, source: str) -> Address:
    """Return the parts of `url`, percent-decoded.

    Raises ConfigurationError without showing the URL. An ``@`` or ``/`` in a password must be percent-encoded,
    as in every URL; a bare ``@`` is understood.
    """
    try:
        if is_misread(url):
            raise ValueError("its parts are not what they seem")
        # A "[" or a non-numeric port raises; "@" in a password is taken care of by splitting at the last one.
        parts = urlsplit(url)
        userinfo, _, hostspec = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        hosts = tuple(_host(item) for item in hostspec.split(",") if item)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise ConfigurationError(
            f"source {source!r}: the database URL cannot be read; write scheme://host:port/database with "
            "user:password@ before the host, and reserved characters of the password percent-encoded"
        ) from None
    return Address(
        scheme=parts.scheme.lower(),
        hosts=hosts,
        user=unquote(user),
        password=unquote(password),
        database=unquote(parts.path.removeprefix("/")),
        parameters=parameters,
    )


def _host(text: str) -> tuple[str, int]:
    if text.startswith("["):  # IPv6
        host, _, rest = text[1:].partition("]")
        return unquote(host), int(rest.removeprefix(":") or 0)
    host, _, port = text.partition(":")
    return unquote(host), int(port or 0)
