"""URLs inside URLs: image proxies, optimisers and redirects carry the address of the real object in theirs.

imgproxy (plain, encoded, base64), thumbor, Next.js, Nuxt IPX, Netlify, Cloudflare, AWS's serverless image handler,
imgix, ImageKit, Cloudinary, weserv. Their grammars differ and change, so none is parsed: whatever part of a path
or query could be an address is read as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from s3gc.references.encodings import percent_readings

__all__ = ["after_options", "inner_addresses", "parameters"]

_ADDRESS = re.compile(
    r"(?:https?|s3[an]?|gs|local|ssl|file):/{0,3}(?=[^/\s])|arn:aws|(?<![:/])//(?=[^/])", re.IGNORECASE
)
_ONE_SLASH = re.compile(r"^(https?|s3[an]?|gs|local|file):/{0,1}(?=[^/])", re.IGNORECASE)
_PROXY_EXTENSION = re.compile(r"[@.][A-Za-z0-9]{2,5}$")
#: A path segment that asks for a transformation, unmistakably.
_MARKERS = re.compile(
    r"cdn-cgi|unsafe|insecure|plain|_ipx|ipx|upload|fetch|fit-in|tr:[^/]*|[^/]*[:=,][^/]*|\d*x\d+|\d+x\d*"
    r"|[A-Za-z0-9_-]{27}=",
    re.IGNORECASE,
)
_MAX_INNER = 32


def inner_addresses(path: str) -> Iterator[str]:
    """Yield what could be whole addresses inside `path`, the raw path and query of a URL.

    Each to its end, and without a proxy's ``@png`` or ``.webp``.
    """
    layers = {path, *percent_readings(path)}
    layers |= {reading for item in tuple(layers) for reading in percent_readings(item)}
    for layer in layers:
        for place, match in enumerate(_ADDRESS.finditer(layer)):
            if place >= _MAX_INNER:
                break
            inner = _ONE_SLASH.sub(r"\1://", layer[match.start() :])
            inner = re.sub(r"^ssl:/*", "https://", inner, flags=re.IGNORECASE)
            for cut in dict.fromkeys((inner, inner.partition("&")[0], re.split(r"[?&]", inner)[0])):
                yield cut
                bare = _PROXY_EXTENSION.sub("", cut)
                if bare != cut:
                    yield bare


def parameters(query: str) -> Iterator[str]:
    """Yield the values (and bare names) of a query string or a fragment, decoded as often as a proxy might."""
    for place, part in enumerate(re.split(r"[&;?#]", query)):
        if place >= 1024:
            return
        name, equals, value = part.partition("=")
        for raw in (value if equals else name, part if equals else ""):
            if not raw:
                continue
            yield raw
            for once in percent_readings(raw):
                yield once
                yield from percent_readings(once)


def after_options(path: str) -> Iterator[str]:
    """Yield the rests of `path` after segments that look like a transformation: ``w_300/``, ``300x200/``, ``plain/``.

    Of a path on our own host. Other segments than those may be options, too, so every rest counts; nothing when no
    segment is unmistakably one: a folder is then only a folder.
    """
    head = path.partition("?")[0]
    segments = head.split("/")
    if len(segments) > 64 or not any(_MARKERS.fullmatch(segment) for segment in segments[:-1]):
        return
    for place in range(1, len(segments)):
        rest = "/".join(segments[place:])
        if rest:
            yield rest
            bare = re.sub(r"@[A-Za-z0-9]{2,5}$", "", rest)
            if bare != rest:
                yield bare
