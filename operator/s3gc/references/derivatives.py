"""Keys that live with another key: thumbnails, resized copies, renditions.

A template over a referenced key (``{stem}_thumb{ext}``) names what was made from it. The forward direction is exact and
is what keeps objects. The backward direction is used only to *ask* about a key's possible parents; not every template
can be turned round (``thumbs/{name}`` forgets the folder), and `is_invertible` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter

__all__ = ["derived_keys", "is_invertible", "parents", "splits"]

#: Ways to cut a key along a template's literals that are looked at; a key with more is treated as unknown.
MAX_SPLITS = 64


def parts_of(key: str) -> dict[str, str]:
    """The parts that a template may name: key, dir (with its slash), name, stem (key without ext), ext (with its dot).

    A leading dot makes a hidden file, not an extension: ``.env`` has none.
    """
    directory, slash, name = key.rpartition("/")
    bare = name.lstrip(".")
    dot = bare.rfind(".")
    ext = bare[dot:] if dot > 0 else ""
    return {
        "key": key,
        "dir": directory + slash,
        "name": name,
        "stem": key[: len(key) - len(ext)] if ext else key,
        "ext": ext,
    }


def _pieces(template: str) -> list[tuple[str, str | None]]:
    return [(literal, part) for literal, part, _, _ in Formatter().parse(template)]


def derived_keys(key: str, templates: Sequence[str]) -> set[str]:
    """Return every key that `templates` make of `key`."""
    parts = parts_of(key)
    return {
        "".join(literal + (parts[part] if part else "") for literal, part in _pieces(template))
        for template in templates
    }


def is_invertible(template: str) -> bool:
    """Whether a derived key determines its parents."""
    named = {part for _, part in _pieces(template)}
    return "key" in named or {"stem", "ext"} <= named or {"dir", "name"} <= named


def splits(key: str, template: str) -> list[dict[str, str]] | None:
    """Every way to read `key` as made by `template`: part -> text. None when there are more than `MAX_SPLITS`."""
    pieces = _pieces(template)
    found: list[dict[str, str]] = []

    def read(index: int, at: int, parts: dict[str, str]) -> bool:
        if len(found) > MAX_SPLITS:
            return False
        if index == len(pieces):
            if at == len(key):
                found.append(parts)
            return True
        literal, part = pieces[index]
        if not key.startswith(literal, at):
            return True
        at += len(literal)
        if part is None:
            return read(index + 1, at, parts)
        if part in parts:
            known = parts[part]
            return not key.startswith(known, at) or read(index + 1, at + len(known), parts)
        following = next((text for text, _ in pieces[index + 1 :] if text), "")
        last = all(not text and name is None for text, name in pieces[index + 1 :])
        ends = [len(key)] if last else range(at, len(key) + 1)
        for end in ends:
            text = key[at:end]
            if (part == "ext" and text and (text[0] != "." or "/" in text)) or (
                part == "name" and "/" in text
            ):
                continue
            if following and pieces[index + 1][0] and not key.startswith(following, end):
                continue
            if not read(index + 1, end, {**parts, part: text}):
                return False
        return True

    return found if read(0, 0, {}) and len(found) <= MAX_SPLITS else None


def parents(key: str, templates: Sequence[str]) -> set[str]:
    """Return the keys that `key` may have been made from.

    For a template that forgets the extension the parent's stem stands for it (enough to ask about prefixes); one that
    forgets the folder gives nothing: see `is_invertible`.
    """
    found: set[str] = set()
    for template in templates:
        for parts in splits(key, template) or ():
            if "key" in parts:
                found.add(parts["key"])
            elif "stem" in parts:
                found.add(parts["stem"] + parts.get("ext", ""))
            elif "dir" in parts and "name" in parts:
                found.add(parts["dir"] + parts["name"])
    return found - {key, ""}
