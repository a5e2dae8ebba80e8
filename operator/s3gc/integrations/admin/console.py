"""The console's files: a page, its script, its style. They hold no data, so they need no token; what they ask for does.

The folder is read once and served from memory by exact names: no path of a request is ever a path of the disk. The
policy forbids everything but the page's own files, so that a key from the bucket, which is hostile text, has nothing
that it could load, run or send to; and no text becomes HTML, whatever a module gets wrong (trusted types without any).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fastapi import Request
from starlette.responses import Response

from s3gc.integrations.admin import problems
from s3gc.integrations.admin.models import S3GCProblem

__all__ = ["Console"]

_FOLDER = Path(__file__).with_name("static")
_PAGE = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CLOSED = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>s3gc console</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{detail}</p>
</main>
</body>
</html>
"""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str


class Console:
    def __init__(self, folder: Path = _FOLDER) -> None:
        self._files: dict[str, _File] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if (media_type := _TYPES.get(path.suffix)) is not None:
                content = path.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                self._files[path.name] = _File(content, media_type, tag)

    def page(self, request: Request) -> Response:
        return self.file(_PAGE, request)

    def closed(self, problem: S3GCProblem) -> Response:
        """What a browser gets instead of the page: the problem, for a person to read."""
        page = _CLOSED.format(title=escape(problem.title), detail=escape(problem.detail))
        return Response(
            page, problem.status, headers=_HEADERS | {"Cache-Control": "no-store"}, media_type=_TYPES[".html"]
        )

    def file(self, name: str, request: Request) -> Response:
        """One file, or 304. Raises ProblemError (404) for a name that is none of the console's."""
        found = self._files.get(name)
        if found is None:
            raise problems.made("not-found", 404, "the console has no such file")
        headers = {**_HEADERS, "ETag": found.tag}
        known = request.headers.get("If-None-Match", "")
        if found.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)
