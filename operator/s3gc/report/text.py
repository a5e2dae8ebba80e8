"""Numbers, times and keys as people read them, for the page and the terminal alike.

Keys are written by strangers: `visible` makes every character that could move a cursor, reverse a line or
hide show as what it is, so that what a person approves is what they see.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

__all__ = ["ago", "bytes_text", "count", "duration", "money", "percent", "plural", "visible"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
#: Categories that have no honest glyph of their own: control, format (bidi, zero width), surrogate, private,
#: unassigned, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: From how many seconds on a span is counted in which unit.
_SPANS = (
    (2 * 365 * 86400, 365 * 86400, "y"),
    (90 * 86400, 30 * 86400, "mo"),
    (86400, 86400, "d"),
    (3600, 3600, "h"),
    (60, 60, "min"),
)
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def visible(text: str, limit: int | None = None) -> str:
    """Return `text` with everything invisible as an escape, and all but plain spaces among spaces too.

    With `limit`, a longer text keeps its beginning and its end around ``…``: the end of a key says most.
    """
    if not (text.isascii() and text.isprintable() and "\\" not in text):
        text = "".join(_shown(letter) for letter in text)
    if limit is not None and len(text) > limit:
        head = max(1, (limit - 1) // 2)
        text = f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
    return text


def _shown(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    category = unicodedata.category(letter)
    if category in _HIDDEN or (category == "Zs" and letter != " "):
        return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
    return letter


def bytes_text(size: float) -> str:
    """``0 B``, ``980 B``, ``1.4 KiB``, ``23 GiB``: three digits are enough to compare by."""
    value = float(size)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.1f} {unit}" if abs(value) < 99.95 else f"{value:.0f} {unit}"


def count(number: float) -> str:
    """``12,345``."""
    return f"{number:,.0f}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 object``, ``12,345 objects``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(part: float, whole: float) -> str:
    """``12 %``; never rounds something up to all or down to nothing."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "<0.1 %"
    if 99.9 < value < 100:
        return ">99.9 %"
    return f"{value:.0f} %" if value in (0, 100) or value >= 10 else f"{value:.1f} %"


def money(dollars: float) -> str:
    """``$0.00``, ``<$0.01``, ``$12.34``, ``$1,234``."""
    if 0 < dollars < 0.01:
        return "<$0.01"
    return f"${dollars:,.2f}" if dollars < 1000 else f"${dollars:,.0f}"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """``just now``, ``5 min ago``, ``3 d ago``, ``in 2 h``; ``–`` for no time at all."""
    if moment is None:
        return "–"
    gap = now - moment
    future = gap < timedelta(0)
    seconds = abs(gap.total_seconds())
    if seconds < 60:
        return "in a moment" if future else "just now"
    for least, size, unit in _SPANS:
        if seconds >= least:
            text = f"{int(seconds // size)} {unit}"
            return f"in {text}" if future else f"{text} ago"
    return "just now"
