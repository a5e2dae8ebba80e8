"""Cutting texts into what could be references: words, quoted strings, lines, attributes, embedded URLs, elements.

HTML, Markdown, YAML, CSV, PHP, PostgreSQL arrays and hstore are not parsed by their grammars, which real values
break. Every cut that any of them would make is made instead, at every granularity, because a key may itself
contain a space, a comma or a bracket. Only JSON is parsed first, since there a string is exactly known.

All cuts are made beside characters that are no letters or digits (a rule that `anchors` relies on), and every
function here is linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["compositions", "embedded_urls", "json_strings", "literal_strings", "pieces", "words"]

#: Cuts of different strength. A key with spaces survives the later ones, a glued list only the earlier.
_SPLITS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\s+",
        r"[\s\"'`<>“”„‟‘’‚‛«»‹›]+",
        r"[\s\x00-\x1f\"'`<>“”„‟‘’‚‛«»‹›,;|()\[\]{}\\^]+",
        r"[,;|\x00-\x1f\x85\u2028\u2029]+",
        r"[\x00-\x1f\x85\u2028\u2029]+",
        r"[\r\n]+",
        r"[<>]+",
        r"\"",
        r"'",
        r"`",
        r"[“”„‟«»‹›]",
        r"[()]",
        r"[\[\]]",
        r"[{}]",
        r"[&?\s]+",
        r"[\[\]|]+",
        r"[{},]+",
        r"[\s\"'`<>,]+",
    )
)
#: Those that are made only in texts beyond ASCII: punctuation that needs no space, and letters beside a key.
_WIDE_SPLITS = tuple(
    re.compile(pattern)
    for pattern in (
        "[、，；：。！？…・،؛؟।]+",
        "[「」『』【】《》〈〉（）［］｛｝〔〕]+",
        r"[^\x00-\x7f]+",
    )
)
#: Of the first, those that are made in texts longer than this: each costs time in proportion to the length.
_COARSE_SPLITS = tuple(_SPLITS[place] for place in (1, 2, 3, 6, 7, 8))
_COARSE_FROM = 65_536
_WORDS = re.compile(r"[\s\x00-\x1f\"'`<>“”„‟‘’‚‛«»‹›,;|()\[\]{}\\^]+")
_EDGES = " \t\r\n\"'`<>()[]{}.,;:!?*_~-–—|=#“”„‘’«»‹›…。、，；：！？（）「」『』【】\u200b\u200e\u200f\ufeff"
_ENDS = " \t\r\n\"'`<>)]}.,;:!?*~…。、，；：！？）」』】”’»›\u200b\u200e\u200f\ufeff"
_BULLET = re.compile(r"\s*(?:[-*+•–]|\d{1,9}[.)])\s+")
_INNER = re.compile(r"[:=!]+\s*|\s[-–—→]+>?\s")
_TITLE = re.compile(r"(?<=[\s>])[\"']")
_MEANINGFUL = re.compile(r"[^\s!-/:-@\[-`{-~]")
#: Inner separators of one piece that are tried, from its front and from its end.
_MAX_INNER = 6

#: Strings in double and in single quotes with backslash escapes; an unfinished one counts to the end.
_DOUBLE = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:"|$|\\$)', re.DOTALL)
_SINGLE = re.compile(r"'((?:[^'\\]++|\\.)*+)(?:'|$|\\$)", re.DOTALL)
#: Strings in which a doubled quote stands for one: CSV, SQL, PostgreSQL's rows.
_DOUBLED = re.compile(r'"((?:[^"]++|"")*+)(?:"|$)', re.DOTALL)
_DOUBLED_SINGLE = re.compile(r"'((?:[^']++|'')*+)(?:'|$)", re.DOTALL)
_PHP = re.compile(r's:(\d{1,5}):\\?"')

_URL = re.compile(
    r"(?:(?:(?<![A-Za-z0-9+._-])[A-Za-z][A-Za-z0-9+.-]{0,31}|https?|s3[an]?|gs):(?:\\?/){1,3}"
    r"|(?<![:/\w.\\])(?:\\?/){2}(?=[A-Za-z0-9\[])|arn:[a-z0-9-]{1,20}:s3[a-z-]{0,20}:)"
    r"[^\s\"'`<>“”«»]{1,8192}"
)
_KNOWN_SCHEME = re.compile(r"(?:https?|s3[an]?|gs)$", re.IGNORECASE)
_URL_CUTS = (
    re.compile(r"[)\]}|\\^]"),
    re.compile(r"\)"),
    re.compile(r"[,;|]"),
    re.compile(r"[,;]"),
    re.compile(r"[\]}]"),
    re.compile(r"!/"),
    re.compile(r"[^\x00-\x7f]"),
)

#: More different strings in one document are not composed with each other.
_MAX_COMPOSED = 128
_MAX_FOLDERS = 64
_MAX_NAMES = 1024
#: More combinations of folder, name and extension are not tried.
_MAX_TRIPLES = 8192
_EXTENSION = re.compile(r"\.?[A-Za-z0-9]{1,5}")
#: Extensions that are known for such when they stand alone, without their dot.
_WELL_KNOWN = re.compile(
    r"\.[A-Za-z0-9]{1,5}|jpe?g|jfif|png|gif|webp|avif|hei[cf]|svg|bmp|tiff?|ico|psd|raw|dng|mp4|m4[av]|mov|webm|mkv|avi|ts"
    r"|m3u8|mpd|mp3|og[agv]|opus|wav|flac|aac|pdf|docx?|xlsx?|pptx?|od[tsp]|rtf|csv|tsv|txt|md|jsonl?|xml|ya?ml|html?"
    r"|css|js|epub|zip|gz|tgz|tar|7z|rar|bz2|xz|zst|bin|dat|db|bak|sql|log|parquet|avro|orc|glb|gltf|stl|obj|ics|eml|vtt|srt",
    re.IGNORECASE,
)
_NAMED = re.compile(r"[^/]\.[A-Za-z0-9]{1,8}$")
_NAME = re.compile(r"[^/\\\r\n]{1,255}\.[A-Za-z0-9]{1,8}")


def words(text: str) -> Iterator[str]:
    """Yield the words of a text at the strongest cut only: what is left to do for texts that are too large."""
    start = 0
    for match in _WORDS.finditer(text):
        if match.start() > start:
            yield text[start : match.start()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def pieces(text: str) -> Iterator[str]:
    """Yield every piece of `text` that could be a reference, with repetitions.

    Whole words, list elements, lines, text between quotes, tags and brackets; each also without punctuation at
    its ends, without a bullet, and after each inner ``:``, ``=`` and ``!`` (``src=a.jpg``, ``file: a b.jpg``).
    """
    seen: set[str] = set()
    if len(text) <= _COARSE_FROM:
        yield from _trimmed(text)
    splits = _SPLITS if len(text) <= _COARSE_FROM else _COARSE_SPLITS
    for split in splits if text.isascii() else splits + _WIDE_SPLITS:
        parts = split.split(text)
        if len(parts) == 1 and split is not _SPLITS[0]:
            continue
        for part in parts:
            if part and part not in seen:
                seen.add(part)
                if _MEANINGFUL.search(part):
                    yield from _trimmed(part)
    yield from _bracketed(text)


def _trimmed(part: str) -> Iterator[str]:
    yield part
    bare = part.strip()
    if bare != part:
        yield bare
    bullet = _BULLET.match(bare)
    if bullet is not None:
        bare = bare[bullet.end() :]
        yield bare
    yield from _without_punctuation(bare)
    head, mark, _ = bare[:40].partition("://")
    if mark and "/" not in head:
        return  # a URL: `embedded_urls` cuts it better than at its colons
    inner = list(_INNER.finditer(bare)) if len(bare) <= 65_536 else []
    for match in dict.fromkeys(inner[:_MAX_INNER] + inner[-_MAX_INNER:]):
        rest = bare[match.end() :]
        if rest and _MEANINGFUL.search(rest):
            yield rest
            yield from _without_punctuation(rest)
        front = bare[: match.start()].rstrip()
        if front:
            yield front  # "k/a b.jpg: a caption"


def _without_punctuation(part: str) -> Iterator[str]:
    """Yield `part` without the punctuation at its ends, step by step: a key may end in a bracket or a full stop."""
    end = part.rstrip(_ENDS)
    if end and end != part:
        yield end
        for size in range(len(end) + 1, min(len(part), len(end) + 5)):
            yield part[:size]
    both = part.strip(_EDGES)
    if both and both not in (part, end):
        yield both
        yield part.lstrip(_EDGES)


def _bracketed(text: str) -> Iterator[str]:
    """Yield what stands in balanced parentheses: ``url(a(1).jpg)``, ``](k/a (2).jpg "title")``."""
    if "(" not in text:
        return
    opened: list[int] = []
    emitted = 0
    for match in re.finditer(r"[()\n]", text):
        mark = match[0]
        if mark == "(":
            opened.append(match.end())
        elif mark == "\n":
            opened.clear()  # they do not go over lines, and this keeps the work linear
        elif opened:
            start = opened.pop()
            if match.start() - start <= 4096 and emitted < len(text) * 4 + 65_536:
                inner = text[start : match.start()]
                emitted += len(inner)
                if _MEANINGFUL.search(inner):
                    yield from _trimmed(inner)
                    quoted = _TITLE.search(inner)
                    if quoted is not None:
                        yield inner[: quoted.start()].strip().strip("<>")


def literal_strings(text: str) -> Iterator[str]:
    """Yield string literals with their escapes undone, where undoing changes anything, and PHP's counted ones.

    In both alignments, because one stray quote must not turn every string inside out.
    """
    for quote, escaped, doubled in (('"', _DOUBLE, _DOUBLED), ("'", _SINGLE, _DOUBLED_SINGLE)):
        first = text.find(quote)
        if first < 0:
            continue
        if "\\" in text:
            for start in (first, first + 1):
                for match in escaped.finditer(text, start):
                    body = match[1]
                    if "\\" in body:
                        yield re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL)
                        yield body
        if quote * 2 in text:
            for start in (first, first + 1):
                for match in doubled.finditer(text, start):
                    if quote * 2 in match[1]:
                        yield match[1].replace(quote * 2, quote)
    budget = len(text) * 8 + 65_536
    for match in _PHP.finditer(text):
        size = int(match[1])
        budget -= size
        if budget < 0:
            return
        data = text[match.end() : match.end() + size].encode("utf-8", "surrogatepass")[:size]
        body = data.decode("utf-8", "ignore")
        end = match.end() + len(body)
        if text[end : end + 1] in ('"', "\\"):  # else the count is of another encoding
            yield body


def embedded_urls(text: str) -> Iterator[str]:
    """Yield every URL, URI and ARN inside `text`, to each of its possible ends; escaped slashes are undone."""
    for match in _URL.finditer(text):
        found = match[0].replace("\\/", "/")
        scheme = _KNOWN_SCHEME.search(found.partition(":")[0])
        starts = [found]
        if scheme is not None and scheme.start():
            starts.append(found[scheme.start() :])  # glued to the word before it
        later = re.search(r"(?<=.)(?:https?|s3[an]?|gs):/", found, re.IGNORECASE | re.DOTALL)
        while later is not None and len(starts) < 8:
            starts.append(found[later.start() :])
            later = re.compile(r"(?:https?|s3[an]?|gs):/", re.IGNORECASE).search(found, later.start() + 1)
        for url in starts:
            yield url
            yield from _without_punctuation(url)
            for cut in _URL_CUTS:
                end = cut.search(url, 8)
                if end is not None:
                    yield url[: end.start()]
                    yield from _without_punctuation(url[: end.start()])


def json_strings(text: str) -> list[str] | None:
    """Return every string, object key and number (as written) of a JSON document; None if it is no JSON.

    No recursion here, and a document nested too deeply for the parser is none.
    """
    if text[:1] not in ("{", "[", '"'):
        return None
    try:
        # Pairs, not dictionaries: of two equal keys both values count.
        document = json.loads(
            text, strict=False, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=list
        )
    except (ValueError, RecursionError):
        return None
    return strings_in(document)


def strings_in(document: Any) -> list[str]:
    """Return every string in nested dictionaries and sequences, keys included, in order; other leaves as text."""
    found: dict[str, None] = {}
    stack = [document]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
            stack.extend(item.keys())
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack.extend(item)
        elif item is not None and not isinstance(item, bool):
            found[item if isinstance(item, str) else str(item)] = None
    return list(found)


def compositions(strings: list[str]) -> Iterator[str]:
    """Yield keys (and addresses) whose folder, name and extension are stored apart in one document.

    WordPress lists its sizes by file name beside the full path of the original; Strapi keeps ``path``, ``hash`` and
    ``ext``; others ``path`` and ``name``. In large documents only folders are joined with file names.
    """
    unique = [item for item in dict.fromkeys(strings) if 0 < len(item) <= 1024]
    bases = [item for item in unique if "://" in item and item.endswith("/")]
    unique = [item for item in unique if "://" not in item]
    folders = list(dict.fromkeys(item.rpartition("/")[0] for item in unique if "/" in item.strip("/")))
    folders += [item.rstrip("/") for item in unique if "/" in item.strip("/") and not _NAMED.search(item)]
    folders += [base.rstrip("/") for base in bases]
    names = [item for item in unique if _NAME.fullmatch(item)]
    for folder in folders[:_MAX_FOLDERS]:
        for name in names[:_MAX_NAMES]:
            yield f"{folder}/{name}"
    if len(unique) > _MAX_COMPOSED:
        return
    short = [item for item in unique if not re.search(r"[\s<>{}\"]", item)]
    extensions = [item for item in short if _WELL_KNOWN.fullmatch(item)]
    if len(short) * len(short) * len(extensions) > _MAX_TRIPLES:
        extensions = []
    for first in short:
        base = first.rstrip("/")
        if not base:
            continue
        for second in short:
            if second is first:
                continue
            if second in names or "/" in first or first in folders:
                yield f"{base}/{second.lstrip('/')}"
            for extension in extensions:
                if extension is not first and extension is not second:
                    yield f"{base}/{second.strip('/')}.{extension.lstrip('.')}"
        for extension in short:
            if extension is not first and _EXTENSION.fullmatch(extension):
                yield first + extension if extension.startswith(".") else f"{first}.{extension}"
