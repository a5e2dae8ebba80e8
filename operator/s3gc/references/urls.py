"""Whose URL is this, and which part of it is the path to a key?

Knows the addresses under which S3 serves a bucket, the endpoints and base URLs that were declared, and what is
provably another bucket's. What cannot be placed is *undeclared*: then any end of its path may be the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from s3gc.references.encodings import percent_readings
from s3gc.references.types import ReferenceRules

__all__ = ["Base", "Kind", "Located", "Rules", "compiled", "locate", "path_of_base"]


class Kind(Enum):
    OWN = "own"  # our bucket, for certain, or a declared base URL
    UNDECLARED = "undeclared"  # a host that nobody declared: any suffix of the path may be the key
    OTHER = "other bucket"  # provably another bucket of S3 or of our endpoint
    FOREIGN = "foreign"  # a host declared to serve nothing of ours


@dataclass(frozen=True, slots=True)
class Located:
    """A URL, URI or ARN that was understood.

    `rests` are (raw path to the key without a leading slash, key prefixes to put before it); empty where the
    URL names nothing of ours. `path` is everything after the host, raw, without the leading slash.
    """

    kind: Kind
    host: str
    path: str
    rests: tuple[tuple[str, tuple[str, ...]], ...] = ()
    shows_host: bool = False  # whether `host` is worth reporting as undeclared


@dataclass(frozen=True, slots=True)
class Base:
    """One declared base URL. `host` is "" for a path, `scheme` is set only where it is not HTTP."""

    scheme: str
    host: str
    path: str  # with its leading slash; for a scheme of its own: everything after "scheme://"
    key_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """`ReferenceRules`, prepared. `key_prefixes` always contains ""."""

    bucket: str
    host_bucket: str  # the bucket as it stands in a host name
    endpoint_hosts: frozenset[str]
    foreign_hosts: frozenset[str]
    bases: tuple[Base, ...]  # longest first
    base_hosts: frozenset[str]
    key_prefixes: tuple[str, ...]


_REGION = r"[a-z]{2,5}(?:-[a-z]+){1,3}-\d{1,2}"
_AWS_DOMAIN = (
    r"(?:amazonaws\.(?:com(?:\.cn)?|eu)|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)
#: Host of an S3 endpoint itself, without any bucket in front.
_S3_SERVICE = re.compile(
    rf"(?:s3(?:[.-](?:accelerate|dualstack|fips|website|external-1|{_REGION})){{0,5}}\.{_AWS_DOMAIN}"
    rf"|s3express(?:-fips)?-[a-z0-9-]+(?:\.dualstack)?\.{_REGION}\.{_AWS_DOMAIN}"
    rf"|bucket\.vpce-[a-z0-9-]+\.s3\.{_REGION}\.vpce\.{_AWS_DOMAIN})"
)
#: Access points are named, not bucketed: whose they are cannot be seen.
_S3_UNPLACED = re.compile(r"(?:s3-accesspoint|s3-object-lambda|accesspoint|s3-control|s3-outposts)\b")
_AWS_HOST = re.compile(rf"\.{_AWS_DOMAIN}$")
#: Buckets may not have such names: aliases of access points, which may be ours.
_ALIAS = re.compile(r"(?:-s3alias|--ol-s3|--op-s3|\.mrap)$", re.IGNORECASE)
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}):(/{1,3})(?=[^/])")
_S3_SCHEMES = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "r2", "b2", "oss", "cos", "obs", "minio", "ceph"})
_WEB_SCHEMES = frozenset({"http", "https", "ssl", "ws", "wss", "ftp"})
_ARN = re.compile(
    r"arn:[a-z0-9-]+:(?:s3|s3-outposts|s3-object-lambda|s3express):([^:/]*):([^:/]*):(.*)", re.DOTALL
)
_AUTHORITY_END = re.compile(r"[/?#\\]")


@lru_cache(maxsize=256)
def compiled(rules: ReferenceRules) -> Rules:
    """Prepare `rules`; a pure function of them, remembered because it is asked for with every value."""
    # "bucket/key" is a way to write an address, too: the bucket's name is a base without a host.
    declared = [*rules.base_urls, (f"/{rules.bucket}/", "")]
    bases = sorted((_base(url, prefix) for url, prefix in declared), key=lambda b: -len(b.host + b.path))
    return Rules(
        bucket=rules.bucket,
        host_bucket=rules.bucket.lower(),
        endpoint_hosts=frozenset(_host(host) for host in rules.endpoint_hosts),
        foreign_hosts=frozenset(_host(host) for host in rules.foreign_hosts),
        bases=tuple(bases),
        base_hosts=frozenset(base.host for base in bases if base.host),
        key_prefixes=_prefix_forms(*rules.key_prefixes),
    )


def _prefix_forms(*prefixes: str) -> tuple[str, ...]:
    """Each prefix as written, without a leading slash, and ending in a slash; always with "" first."""
    forms = [""]
    for prefix in prefixes:
        forms += [prefix, prefix.lstrip("/")]
        if prefix.strip("/"):
            forms.append(prefix.strip("/") + "/")
    return tuple(dict.fromkeys(forms))


def _base(url: str, key_prefix: str) -> Base:
    prefixes = _prefix_forms(key_prefix)
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    scheme = match[1].lower() if match else ""
    if scheme and scheme not in _WEB_SCHEMES:
        return Base(scheme, "", url[match.end() if match else 0 :], prefixes)
    rest = url[match.end() :] if match else url.removeprefix("//") if url.startswith("//") else url
    head = rest.partition("/")[0]
    if not match and not url.startswith("//") and (url.startswith("/") or not re.search(r"[.:]", head)):
        return Base("", "", "/" + rest.lstrip("/"), prefixes)
    host, path = _split_authority(rest)
    return Base("", _host(host), "/" + path.lstrip("/") if path else "", prefixes)


def _split_authority(text: str) -> tuple[str, str]:
    """Split after ``scheme://``: the authority, and everything from the first of ``/ ? # \\`` on."""
    match = _AUTHORITY_END.search(text)
    return (text, "") if match is None else (text[: match.start()], text[match.start() :])


def _host(authority: str) -> str:
    """The host alone: no user, no port, no final dot, lower case, internationalised names in their ASCII form."""
    host = authority.rpartition("@")[2]
    host = re.sub(r":\d*$", "", host).rstrip(".").lower()
    if not host.isascii():
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            return host
    return host


def locate(text: str, rules: Rules) -> Located | None:
    """Return what `text` is as a URL, URI or ARN from its first character to its last; None for anything else.

    `text` has no blanks around it. A host without a scheme is understood only if it is declared, the bucket's
    own, or of S3: ``example.com/a.jpg`` may just as well be a key.
    """
    if text[:4].lower() == "arn:":
        return _locate_arn(text, rules)
    if text.startswith(("//", "\\\\")) and len(text) > 2:
        rest = text.lstrip("/\\")
        return _locate_host(rest, rules, has_scheme=True) if rest else None
    match = _SCHEME.match(text)
    if match is None:
        return _locate_bare(text, rules)
    scheme, slashes = match[1].lower(), match[2]
    rest = text[match.end() :]
    declared = _own_scheme(scheme, rest, rules)
    if declared:
        return Located(Kind.OWN, "", rest, declared)
    if scheme in _S3_SCHEMES:
        return _locate_uri(rest, rules)
    if scheme in _WEB_SCHEMES:
        return _locate_host(rest, rules, has_scheme=True)
    if len(slashes) < 2:
        return None  # C:/uploads/a.jpg, or a storage's number before a path
    # public://2024/a.jpg, file:///srv/a.jpg, local:///a.jpg: what is before the key is not known.
    return Located(Kind.UNDECLARED, "", rest, ((rest, ("",)),))


def _own_scheme(scheme: str, rest: str, rules: Rules) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = [
        (below, base.key_prefixes)
        for base in rules.bases
        if base.scheme == scheme and rest.startswith(base.path)
        for below in _slashed(rest[len(base.path) :])
    ]
    return tuple(found)


def _locate_uri(rest: str, rules: Rules) -> Located:
    bucket, path = _split_authority(rest)
    bucket = bucket.rpartition("@")[2]
    path = path[1:]
    if bucket == rules.bucket or bucket.lower() == rules.host_bucket:
        return Located(Kind.OWN, bucket, path, ((path, ("",)),))
    host = _host(bucket)
    if host in rules.endpoint_hosts or host in rules.base_hosts or _AWS_HOST.search("." + host):
        return _locate_host(rest, rules, has_scheme=True)  # s3://endpoint/bucket/key, as some tools write it
    if _ALIAS.search(bucket):
        return Located(Kind.UNDECLARED, "", path, ((path, ("",)),))
    if _BUCKET_NAME.fullmatch(bucket):
        return Located(Kind.OTHER, bucket, path)
    return Located(
        Kind.UNDECLARED, "", rest, ((rest, ("",)),)
    )  # no bucket has such a name: a stream wrapper's path


def _locate_arn(text: str, rules: Rules) -> Located | None:
    match = _ARN.match(text)
    if match is None:
        return None
    resource = match[3]
    if match[1] or match[2]:
        kind, _, rest = resource.partition("/")
        if kind.startswith("bucket:") or kind == "bucket":
            return None
        # An access point: arn:aws:s3:region:account:accesspoint/name/object/key. Whose bucket is not to be seen.
        path = rest.partition("/object/")[2] or rest.partition("/")[2]
        return Located(Kind.UNDECLARED, "", path, ((path, ("",)),)) if path else None
    bucket, _, path = resource.partition("/")
    if bucket == rules.bucket:
        return Located(Kind.OWN, bucket, path, ((path, ("",)),))
    if _ALIAS.search(bucket):
        return Located(Kind.UNDECLARED, "", path, ((path, ("",)),))
    return Located(Kind.OTHER, bucket, path)


def _locate_bare(text: str, rules: Rules) -> Located | None:
    """``cdn.example.com/a.jpg``, ``localhost:9000/bucket/a.jpg``: only hosts that are known for certain."""
    head, path = _split_authority(text)
    if not path or not re.search(r"[.:]", head) or len(head) > 300:
        return None
    host = _host(head)
    if host in rules.base_hosts or host in rules.endpoint_hosts or _own_virtual_host(host, rules):
        return _locate_host(text, rules, has_scheme=False)
    if _S3_SERVICE.fullmatch(host):
        located = _locate_host(text, rules, has_scheme=False)
        return located if located.kind is Kind.OWN else None
    return None


def _own_virtual_host(host: str, rules: Rules) -> bool:
    start = rules.host_bucket + "."
    if not host.startswith(start):
        return False
    service = host[len(start) :]
    return service in rules.endpoint_hosts or _S3_SERVICE.fullmatch(service[:300]) is not None


def _locate_host(rest: str, rules: Rules, *, has_scheme: bool) -> Located:
    authority, tail = _split_authority(rest)
    host = _host(authority)[:300]
    path = tail[1:] if tail[:1] in ("/", "\\") else tail
    found = [*_below_bases(host, tail, rules)]
    kind = _kind_of(host, path, rules)
    if kind is Kind.OWN:
        below = path if _own_virtual_host(host, rules) else _after_bucket(path, rules)
        if below is None:  # declared endpoint whose name begins with the bucket: its paths are keys
            below = path
        found.append((below, ("",)))
    if found:
        return Located(Kind.OWN, host, path, tuple(found))
    if kind is not Kind.UNDECLARED:
        return Located(kind, host, path)
    is_known = host in rules.base_hosts or host in rules.endpoint_hosts
    is_reported = has_scheme and not is_known and ("." in host or ":" in authority)
    return Located(Kind.UNDECLARED, host, path, ((path, ("",)),), shows_host=is_reported)


def _kind_of(host: str, path: str, rules: Rules) -> Kind:
    if _own_virtual_host(host, rules):
        return Kind.OWN
    if host in rules.endpoint_hosts:
        # Path style, unless the endpoint was declared with the bucket in its name.
        if host.startswith(rules.host_bucket + ".") or _after_bucket(path, rules) is not None:
            return Kind.OWN
        if host in rules.foreign_hosts:
            return Kind.FOREIGN
        if _S3_SERVICE.fullmatch(host) or _names_other_bucket(path, rules):
            return Kind.OTHER
        return Kind.UNDECLARED
    if _S3_SERVICE.fullmatch(host):
        return Kind.OWN if _after_bucket(path, rules) is not None else Kind.OTHER
    if host in rules.foreign_hosts:
        return Kind.FOREIGN
    if _AWS_HOST.search(host) and not _S3_UNPLACED.search(host) and _names_a_bucket(host):
        return Kind.OTHER
    return Kind.UNDECLARED


def _names_other_bucket(path: str, rules: Rules) -> bool:
    """Whether `path`, on a declared endpoint, is surely another bucket's.

    An endpoint may be behind a proxy that serves more than S3's own paths (Supabase, a gateway of one bucket), so
    what begins with no name of a bucket, or names ours further on, is not.
    """
    first, _, rest = re.split(r"[?#]", path.lstrip("/"), maxsplit=1)[0].partition("/")
    if not rest or not _BUCKET_NAME.fullmatch(first):
        return False
    return not any(f"/{rules.bucket}/" in f"/{form}/" for form in (rest, *percent_readings(rest)))


def _names_a_bucket(host: str) -> bool:
    """Whether `host` is some bucket's name, not an alias, in front of an S3 endpoint."""
    labels = host.split(".")
    return any(
        _S3_SERVICE.fullmatch(".".join(labels[place:])) and not _ALIAS.search(".".join(labels[:place]))
        for place in range(1, min(len(labels), 12))
    )


def _after_bucket(path: str, rules: Rules) -> str | None:
    """The path after its first segment if that is our bucket, plain or percent-encoded; else None."""
    bucket, slash, rest = path.lstrip("/").partition("/")
    if not slash:
        bucket = re.split(r"[?#]", bucket, maxsplit=1)[0]
    return rest if bucket == rules.bucket or rules.bucket in percent_readings(bucket) else None


def _below_bases(host: str, tail: str, rules: Rules) -> list[tuple[str, tuple[str, ...]]]:
    """What follows each declared base of this host, and each base that is a path and holds for any host."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for base in rules.bases:
        if base.scheme or (base.host and base.host != host):
            continue
        if not base.host:
            continue  # a path of any host: `path_of_base`, beside the suffixes
        found += [(rest, base.key_prefixes) for rest in _rests(tail, base.path)]
    return found


def _rests(path: str, start: str) -> list[str]:
    """What follows `start` in `path`, compared raw, decoded, and with doubled slashes collapsed.

    With the slashes that a key may begin with, and without them.
    """
    if start in ("", "/"):
        return _slashed(path.removeprefix("/")) if start or path[:1] in ("/", "") else [path]
    for form in (path, *percent_readings(path), re.sub(r"/{2,}", "/", path)):
        for wanted in (start, *percent_readings(start)):
            if form.startswith(wanted):
                rest = form[len(wanted) :]
                return _slashed(rest if wanted.endswith("/") else rest.removeprefix("/"))
    return []


def _slashed(rest: str) -> list[str]:
    return [rest, rest.lstrip("/")] if rest.startswith("/") else [rest]


def path_of_base(path: str, rules: Rules) -> list[tuple[str, tuple[str, ...]]]:
    """Return what follows the path of a declared base in `path`, a path without a host, with its key prefixes.

    ``/img/a.jpg`` and ``img/a.jpg`` may be relative to ``https://cdn.example.com/img/`` or to the base ``/img/``.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for base in rules.bases:
        if base.scheme:
            continue
        slashed = path if path.startswith("/") else "/" + path
        found += [(rest, base.key_prefixes) for rest in _rests(slashed, base.path or "/") if rest]
    return found
