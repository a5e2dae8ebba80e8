"""Which texts are one plain path or one plain web address, with nothing in them to decode, cut or resolve?

Most values of most databases are. All that the full rules (`reading`) make of them is the text itself, its path, and
what follows a host, a bucket or a declared base in it: SQL can say that exactly (`plan.plain`), a million times a
second, where the full rules take a hundred microseconds a value. So a text is looked at once, when it is read, column
by column in Arrow, and its shape is kept beside it.

Why this is safe: a shape is a narrow claim about the text alone, whatever the rules are, and every other text is ODD
and read in full. The claim is a list of what each step of `reading.Reading._text` would need in order to do anything
else, and must be revised with it; tests hold it against the full rules over hostile texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from s3gc.references.encodings import base64_texts
from s3gc.references.paths import MAX_KEY_BYTES

__all__ = ["MAX_SEGMENTS", "SHAPE_TYPE", "Shape", "shapes_of"]


class Shape(IntEnum):
    """What a text is, as far as that can be told without knowing any rules."""

    ODD = 0  # anything: only the full rules can tell
    PATH = 1  # one path: uploads/2024/a.jpg
    ADDRESS = 2  # one web address without user, query, fragment and escapes: https://host/uploads/a.jpg
    OPTIONS = (
        3  # an ADDRESS with a folder that an image proxy would take for options: https://host/300x200/a.jpg
    )


SHAPE_TYPE = pa.uint8()

#: Segments of the path of an ADDRESS, at most.
MAX_SEGMENTS = 8
#: Longer texts are ODD: they are no keys as a whole.
_MAX_BYTES = MAX_KEY_BYTES

# RE2. Anchors are those of the text, whatever line ends are in it; no letter here is beyond ASCII.
_PATH = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$"
_ADDRESS = (
    r"^https?://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
    rf"(?:/[A-Za-z0-9_-]+){{0,{MAX_SEGMENTS - 1}}}/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*)?[A-Za-z0-9]$"
)
#: What an address may hold that is read otherwise: hexadecimal digits of a database (`encodings._HEX`).
_ODD_ADDRESS = r"[^A-Za-z0-9]0[xX]"
#: The same of a path: such digits; a folder with a dot, which may be a host (`reading._DOTTED_FOLDER`), so that any end
#: of it may be the key; a UUID (`encodings.uuid_spellings`), which is also meant without its dashes and in capitals.
_ODD_PATH = r"^0[xX]|^[^:]*[.][^/:]*/|^[0-9A-Fa-f-]{32,47}$"
#: See `proxies.after_options`: every segment that it takes for a sign of options.
_OPTION = r"/(?i:cdn-cgi|unsafe|insecure|plain|_?ipx|upload|fetch|fit-in|[0-9]*x[0-9]+|[0-9]+x[0-9]*)/"
#: Base64 with a slash near its front: then the whole text is one word (`encodings._BASE64_WHOLE`).
_SLASHED = r"^[A-Za-z0-9]{0,7}/[A-Za-z0-9/]*$"


def shapes_of(texts: pa.StringArray) -> pa.UInt8Array:
    """Return the `Shape` of each text, as numbers (SHAPE_TYPE). Nulls are ODD."""
    is_short = pc.less_equal(pc.binary_length(texts), _MAX_BYTES)
    is_address = _all(is_short, pc.match_substring(texts, "://"))
    is_path = _all(is_short, pc.invert(is_address))
    if is_address.true_count:
        is_address = _all(is_address, pc.match_substring_regex(texts, _ADDRESS))
    if is_path.true_count:
        is_path = _all(is_path, pc.match_substring_regex(texts, _PATH))
    shapes = pc.if_else(
        is_address,
        pa.scalar(Shape.ADDRESS.value, SHAPE_TYPE),
        pc.if_else(is_path, pa.scalar(Shape.PATH.value, SHAPE_TYPE), pa.scalar(Shape.ODD.value, SHAPE_TYPE)),
    )
    # One pass finds the few in a hundred that need a second look; what it lets through has none of the above.
    suspects = _all(pc.or_(is_address, is_path), pc.match_substring_regex(texts, _suspicious()))
    if not suspects.true_count:
        return shapes
    looked = _second_look(texts.filter(suspects), shapes.filter(suspects))
    return pc.replace_with_mask(shapes, suspects, looked)


def _all(*conditions: pa.BooleanArray) -> pa.BooleanArray:
    """All are true; null is false."""
    first, *more = conditions
    for condition in more:
        first = pc.and_(first, condition)
    return pc.fill_null(first, False)


def _second_look(texts: pa.StringArray, shapes: pa.UInt8Array) -> pa.UInt8Array:
    """The shapes of texts that look like an ADDRESS or a PATH, as `shapes` says, at first sight."""
    is_address = pc.equal(shapes, Shape.ADDRESS.value)
    is_odd = pc.if_else(
        is_address,
        pc.match_substring_regex(texts, _ODD_ADDRESS),
        pc.match_substring_regex(texts, _ODD_PATH),
    )
    # The full rules' own function decides whether a word is base64 of text.
    hides = pa.array([bool(base64_texts(text)) for text in texts.to_pylist()], pa.bool_())
    is_odd = pc.or_(is_odd, hides)
    has_options = pc.and_(is_address, pc.match_substring_regex(texts, _OPTION))
    shapes = pc.if_else(has_options, pa.scalar(Shape.OPTIONS.value, SHAPE_TYPE), shapes)
    return pc.if_else(is_odd, pa.scalar(Shape.ODD.value, SHAPE_TYPE), shapes)


@lru_cache(maxsize=1)
def _suspicious() -> str:
    """RE2: what a text may match that is no plain path or address after all, or one with options."""
    return f"{_ODD_ADDRESS}|{_ODD_PATH}|{_OPTION}|{_SLASHED}|{_possible_base64()}"


# --- base64 of text, as a regular expression over its characters

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_Bytes = frozenset[int]


def _between(first: int, last: int) -> _Bytes:
    return frozenset(range(first, last + 1))


_NEXT = _between(0x80, 0xBF)
#: The first byte of a character of UTF-8, by how many more it has.
_FIRST = (_between(0, 0x7F), _between(0xC2, 0xDF), _between(0xE0, 0xEF), _between(0xF0, 0xF4))
_CONTROLS = _between(0, 0x1F) - frozenset(b"\t\n\r") | {0x7F}


def _bytes_after(open_bytes: int, size: int) -> list[tuple[tuple[_Bytes, ...], int]]:
    """Every form of `size` bytes of UTF-8 when `open_bytes` of a character are still to come, and how many are then."""
    if size == 0:
        return [((), open_bytes)]
    heads = [(_NEXT, open_bytes - 1)] if open_bytes else list(zip(_FIRST, range(4), strict=True))
    return [((head, *form), left) for head, still in heads for form, left in _bytes_after(still, size - 1)]


def _letters(form: Sequence[_Bytes]) -> str:
    """A pattern for the base64 of three bytes of this `form`: a class for each of its four letters, by itself.

    Two bytes share a letter; each half is compared alone, so it lets a little too much through and loses nothing.
    """
    first, second, third = form
    allowed = (
        {value >> 2 for value in first},
        {
            low | high
            for low in {value << 4 & 0x30 for value in first}
            for high in {value >> 4 for value in second}
        },
        {
            low | high
            for low in {value << 2 & 0x3C for value in second}
            for high in {value >> 6 for value in third}
        },
        {value & 0x3F for value in third},
    )
    # "+" and "/" of the standard alphabet are in no word of a plain text; "-" and "_" are those of the URL-safe one.
    classes = ["".join(_ALPHABET[number] for number in sorted(numbers - {62, 63})) for numbers in allowed]
    dashes = [r"\-" * (62 in numbers) + "_" * (63 in numbers) for numbers in allowed]
    return "".join(f"[{letters}{more}]" for letters, more in zip(classes, dashes, strict=True))


def _groups(count: int, open_bytes: int = 0, number: int = 0) -> str:
    """A pattern for `count` groups of four letters that decode to text: its first six bytes without control characters,
    of a third group only two bytes."""
    if count == number:
        return ""
    by_end: dict[int, list[str]] = {}
    for form, left in _bytes_after(open_bytes, 3 if number < 2 else 2):
        plain = [part - _CONTROLS for part in form] if number < 2 else [*form, _between(0, 255)]
        by_end.setdefault(left, []).append(_letters(plain))
    ways = (f"(?:{'|'.join(ways)}){_groups(count, left, number + 1)}" for left, ways in by_end.items())
    return f"(?:{'|'.join(ways)})"


def _possible_base64() -> str:
    """RE2: some word of seven letters or more could be base64 of text for `encodings.base64_texts`.

    Which looks at the first six bytes (three, of a word of seven letters), and then wants the whole word to be UTF-8,
    or its first eight characters. What follows two dashes may be a signature, and counts for nothing.
    """
    more = "[A-Za-z0-9_-]"
    end = "(?:[^A-Za-z0-9_-]|$)"
    return (
        f"(?:^|[^A-Za-z0-9])(?:{_groups(3)}|{_groups(2)}(?:{more}{{0,3}}{end}|{more}*--)"
        f"|{_groups(1)}{more}{{3}}{end}|[A-Za-z0-9]{more}{{0,7}}--)"
    )
