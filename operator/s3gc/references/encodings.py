"""Undoing the encodings that applications wrap around a key: percent, HTML, backslashes, hex, mail, base64, bytes.

The lowest room of the extractor. Every function here is *local*: what it makes of a piece of text depends on
that piece alone, never on what stands around it. The matcher's pre-filter rests on that (`anchors`): decoding
a whole value and then looking for a key's words finds whatever the extractor finds by cutting first.

One encoding can have several readings (``%E9`` is not UTF-8, so it is Latin-1, or was never an escape). All
are returned: a key too many keeps an object longer, a key too few loses it.
"""

from __future__ import annotations

import binascii
import codecs
import html
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from html.entities import html5

__all__ = [
    "LEGACY_ENTITIES",
    "base64_texts",
    "closure",
    "decodings",
    "has_base64_lines",
    "has_controls",
    "has_slashed_base64",
    "is_encoded",
    "is_wrapped",
    "normal_forms",
    "percent_readings",
    "record_strings",
    "starts_like_text",
    "texts_of",
    "uuid_spellings",
]

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_JS_ESCAPES = re.compile(r"(?:%u[0-9A-Fa-f]{4})+")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:\\{1,4}x|0[xX]|[xX]')((?:[0-9A-Fa-f]{2}){2,})(?![0-9A-Za-z])")
_BACKSLASHES = re.compile(
    r"(?P<u>(?:\\u[0-9A-Fa-f]{4})+)|\\u\{(?P<b>[0-9A-Fa-f]{1,6})\}|\\U(?P<U>[0-9A-Fa-f]{8})"
    r"|(?P<x>(?:\\x[0-9A-Fa-f]{2})+)|(?P<o>(?:\\[0-3][0-7]{2})+)|\\(?P<c>.)",
    re.DOTALL,
)
_ANY_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)
_CONTROL_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

#: Text between control characters and bytes that are no UTF-8 (which stand as surrogates here).
_RUN = re.compile("[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]+")

#: Entities that HTML reads without their semicolon, such as ``&copy``.
LEGACY_ENTITIES = "|".join(
    sorted((name for name in html5 if not name.endswith(";")), key=lambda name: -len(name))
)
_ENTITY = re.compile(rf"&(?:#|[A-Za-z][A-Za-z0-9]*;|{LEGACY_ENTITIES})")

#: Mail's quoted-printable, told from other uses of ``=`` by an encoded ``=`` or a line that goes on.
_SOFT_BREAK = re.compile(r"=\r?\n")
_QUOTED_PRINTABLE = re.compile(r"(?:=[0-9A-F]{2})+")

#: What Windows-1252 makes of the bytes 0x80 to 0xBF. With a letter before it that stands for the first byte of a
#: UTF-8 sequence, it is UTF-8 that was stored through a connection with the wrong character set.
_HIGH_BYTES = bytes(range(0x80, 0xC0)).decode("latin-1") + bytes(
    byte for byte in range(0x80, 0xA0) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
).decode("cp1252")
_MISREAD = re.compile(
    f"[\xc2-\xdf][{_HIGH_BYTES}]|[\xe0-\xef][{_HIGH_BYTES}]{{2}}|[\xf0-\xf4][{_HIGH_BYTES}]{{3}}"
)

_BASE64 = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9][A-Za-z0-9+_-]{6,}")
#: Standard base64 with a slash near its front, told from a path by its padding or by being the whole text.
_BASE64_PADDED = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{5,}={1,2}(?![A-Za-z0-9=])")
_PADDING = re.compile(r"=(?![A-Za-z0-9=])")
_BASE64_WORD = re.compile(r"=?[A-Za-z0-9+/]{5,40}")
_BASE64_WHOLE = re.compile(r"\s*([A-Za-z0-9+/]{8,})\s*")
#: Base64 in lines, as mail, Ruby's ``encode64`` and Python's ``encodebytes`` write it.
_BASE64_LINES = re.compile(
    r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9][A-Za-z0-9+/_-]{15,}+(?:\r?\n[ \t]*+[A-Za-z0-9+/_-]++={0,2})++"
)
_BASE64_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_LINE_BREAK = re.compile(r"\r?\n[ \t]*")
_BASE64_TAIL = re.compile(r"[A-Za-z0-9+/_=-]{7,16384}")
_URL_SAFE = str.maketrans("-_", "+/")
#: First characters whose first byte would be 0x80 to 0xBF, which starts no UTF-8 text.
_NEVER_FIRST = frozenset("ghijklmnopqrstuv")
_MAX_BASE64 = 4 * 1024 * 1024
_MAX_TAILS = 64

_UUID = re.compile(
    r"(?:urn:uuid:)?\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?",
    re.IGNORECASE,
)


def normal_forms(text: str) -> tuple[str, ...]:
    """Return `text` as it is, in NFC and in NFD, each once."""
    if text.isascii():
        return (text,)
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))
    return tuple(dict.fromkeys(forms))


def has_controls(text: str) -> bool:
    """Whether `text` has control characters other than tab, line feed and carriage return."""
    return _CONTROLS.search(text) is not None


def percent_readings(text: str) -> tuple[str, ...]:
    """Return what one layer of percent-decoding can make of `text`; empty when it changes nothing.

    More than one reading where the bytes are not UTF-8, where ``+`` may be a space, and where only ``%20`` was
    ever escaped (``name.replace(" ", "%20")`` beside a literal percent sign). Like everything in this module
    it ignores the text around an escape.
    """
    if "%" not in text:
        return ()
    readings: list[str] = []
    plain = _JS_ESCAPES.sub(_js_bytes, text) if "%u" in text else text
    doubtful = False

    def utf8(match: re.Match[str]) -> str:
        nonlocal doubtful
        data = bytes.fromhex(match[0].replace("%", ""))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            doubtful = True
            return data.decode("utf-8", "replace")

    decoded = _ESCAPES.sub(utf8, plain)
    readings.append(decoded)
    if doubtful:
        readings += [_ESCAPES.sub(_decoder(codec), plain) for codec in ("latin-1", "cp1252")]
    if "%20" in text:
        readings.append(text.replace("%20", " "))
    if "+" in text:
        readings.append(_ESCAPES.sub(utf8, plain.replace("+", " ")))
    return tuple(reading for reading in dict.fromkeys(readings) if reading != text)


def _decoder(codec: str) -> Callable[[re.Match[str]], str]:
    return lambda match: bytes.fromhex(match[0].replace("%", "")).decode(codec, "replace")


def _js_bytes(match: re.Match[str]) -> str:
    return _utf16(match[0].replace("%u", ""))


def _utf16(digits: str) -> str:
    """Read hex digits as UTF-16, joining surrogate pairs."""
    return bytes.fromhex(digits).decode("utf-16-be", "replace")


def _html_readings(text: str) -> tuple[str, ...]:
    if "&" not in text or not _ENTITY.search(text):
        return ()
    decoded = html.unescape(text)
    return (decoded,) if decoded != text else ()


def _backslash_readings(text: str) -> tuple[str, ...]:
    """Escapes as JSON, JavaScript, C and PostgreSQL's bytea write them; and backslashes simply dropped."""
    if "\\" not in text:
        return ()
    readings = [_BACKSLASHES.sub(_unescape, text), _ANY_BACKSLASH.sub(r"\1", text)]
    readings += [_HEX.sub(_unhex, text)] if "x" in text else []
    return tuple(reading for reading in dict.fromkeys(readings) if reading != text)


def _unescape(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "u":
        return _utf16(match["u"].replace("\\u", ""))
    if kind in ("b", "U"):
        number = int(match[kind], 16)
        return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\ufffd"
    if kind == "x":
        return _bytes_as_text(bytes.fromhex(match["x"].replace("\\x", "")))
    if kind == "o":
        return _bytes_as_text(bytes(int(part, 8) for part in match["o"].split("\\")[1:]))
    return _CONTROL_LETTERS.get(match["c"], match["c"])


def _hex_readings(text: str) -> tuple[str, ...]:
    """Hex as databases print bytes: ``\\x6b2f61`` (bytea), ``0x6b2f61`` and ``X'6b2f61'`` (MySQL)."""
    if "x" not in text and "X" not in text:
        return ()
    decoded = _HEX.sub(_unhex, text)
    return (decoded,) if decoded != text else ()


def _unhex(match: re.Match[str]) -> str:
    return _bytes_as_text(bytes.fromhex(match[1]))


def _bytes_as_text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _mail_readings(text: str) -> tuple[str, ...]:
    """Quoted-printable, as in the source of an e-mail: ``src=3D"https://…`` with lines that end in ``=``."""
    if not _is_mail(text):
        return ()
    return (_QUOTED_PRINTABLE.sub(_of_mail, _SOFT_BREAK.sub("", text)),)


def _is_mail(text: str) -> bool:
    return "=" in text and ("=3D" in text or "=\n" in text or "=\r\n" in text)


def _of_mail(match: re.Match[str]) -> str:
    return _bytes_as_text(bytes.fromhex(match[0].replace("=", "")))


def _misread(text: str) -> bool:
    return not text.isascii() and _MISREAD.search(text) is not None


def _misread_readings(text: str) -> tuple[str, ...]:
    """UTF-8 that was taken for Latin-1 on its way into the database: ``cafÃ©`` is ``café``.

    The application, which reads with the same mistake, gets its own bytes back and finds its object.
    """
    if not _misread(text):
        return ()
    repaired = _MISREAD.sub(_repaired, text)
    return (repaired,) if repaired != text else ()


def _repaired(match: re.Match[str]) -> str:
    try:
        return b"".join(
            bytes([ord(letter)]) if ord(letter) < 0x100 else letter.encode("cp1252") for letter in match[0]
        ).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]


def decodings(text: str, *, percent: bool = True, mail: bool = True) -> list[str]:
    """Return every reading of `text` with one layer of one encoding undone; empty when there is none.

    Without `percent`, percent-encoding is left alone; without `mail`, quoted-printable, whose sequences would be
    torn in a piece of a text.
    """
    found = [*_html_readings(text), *_backslash_readings(text), *_hex_readings(text)]
    found += [*(_mail_readings(text) if mail else ()), *_misread_readings(text)]
    return [*percent_readings(text), *found] if percent else found


def is_encoded(text: str) -> bool:
    """Whether `decodings` could find anything; cheap, and true when in doubt."""
    return (
        "%" in text
        or "\\" in text
        or "&" in text
        or "0x" in text
        or "0X" in text
        or "'" in text
        or is_wrapped(text)
    )


def is_wrapped(text: str) -> bool:
    """Whether `text` was wrapped by mail, or read with the wrong character set."""
    return _is_mail(text) or _misread(text)


def has_base64_lines(text: str) -> bool:
    """Whether `text` could hold base64 that was broken into lines."""
    place = text.find("\n")
    while place >= 0:
        end = place - 1 if text[place - 1 : place] == "\r" else place
        if (
            end >= 16
            and text[end - 1] in _BASE64_LETTERS
            and _BASE64_LETTERS.issuperset(text[end - 16 : end])
        ):
            return True
        place = text.find("\n", place + 1)
    return False


def closure(
    text: str, *, rounds: int, limit: int, percent: bool = True, mail: bool = True
) -> tuple[list[str], bool]:
    """Return `text` and its decodings, and theirs, in `rounds` layers, at most `limit`; and whether that is all.

    Incomplete only where something is wrapped deeper or more variously than `rounds` and `limit` allow.
    """
    seen = {text: None}
    if not is_encoded(text):
        return [text], True
    layer = [text]
    for _ in range(rounds):
        below: list[str] = []
        for item in layer:
            for reading in decodings(item, percent=percent, mail=mail):
                if reading in seen:
                    continue
                if len(seen) >= limit:
                    return list(seen), False
                seen[reading] = None
                below.append(reading)
        if not below:
            return list(seen), True
        layer = below
    return list(seen), all(
        reading in seen for item in layer for reading in decodings(item, percent=percent, mail=mail)
    )


def starts_like_text(word: str) -> bool:
    """Whether base64 that begins with `word` (7 characters or more) could be text; cheap, true when in doubt.

    Looks at the first six bytes only: hex and random names hardly ever pass, so ordinary values cost nothing.
    """
    if word[0] in _NEVER_FIRST:
        return False
    head = word[:8] if len(word) >= 8 else word[:4]
    try:
        data = binascii.a2b_base64(head.translate(_URL_SAFE) if "-" in head or "_" in head else head)
    except (binascii.Error, ValueError):
        return False
    text, _ = codecs.utf_8_decode(data, "replace", False)  # an unfinished last character is not an error
    return "\ufffd" not in text and (text.isprintable() or not _CONTROLS.search(text))


def has_slashed_base64(text: str) -> bool:
    """Whether `text` could hold base64 whose first word is too short to be seen as one; true when in doubt."""
    if "=" in text:
        for match in _PADDING.finditer(text):
            before = text[max(0, match.start() - 40) : match.start()][::-1]
            word = _BASE64_WORD.match(before)
            if word is not None and (len(word[0]) >= 39 or "/" in word[0] or "+" in word[0]):
                return True
    whole = _BASE64_WHOLE.fullmatch(text)
    return whole is not None and "/" in whole[1][:8] and len(whole[1]) % 4 == 0


def _slashed_base64(text: str, *, is_value: bool) -> list[str]:
    """Standard base64 with a slash near its front: told from a path by its padding, or by being all of a value.

    Such base64 is of a text with a question mark or a letter beyond ASCII among its first six bytes. To look for it
    anywhere, in a path or in a JSON string, would cost every value a third more.
    """
    words = [match[0] for match in _BASE64_PADDED.finditer(text)] if "=" in text else []
    whole = _BASE64_WHOLE.fullmatch(text) if is_value else None
    if whole is not None and len(whole[1]) % 4 == 0:
        words.append(whole[1])
    return [word for word in words if ("/" in word[:8] or "+" in word[:8]) and word[0] not in _NEVER_FIRST]


def base64_texts(text: str, *, is_value: bool = True) -> list[str]:
    """Return the texts that base64 words in `text`, perhaps all of a value, decode to, standard and URL-safe.

    A word also counts up to ``--`` (Rails signs so), and together with the path segments after it, joined with
    and without the slash (imgproxy splits long words, standard base64 has slashes), and with the lines after it.
    A word that turns into garbage counts up to there.
    """
    found: dict[str, None] = {}
    tails = 0
    for match in _BASE64_LINES.finditer(text) if "\n" in text else ():
        word = _LINE_BREAK.sub("", match[0])[:_MAX_BASE64]
        if starts_like_text(word) and (decoded := _base64(word)):
            found[decoded] = None
    for word in _slashed_base64(text, is_value=is_value) if "/" in text or "+" in text else ():
        if decoded := _base64(word):
            found[decoded] = None
    for match in _BASE64.finditer(text):
        word = match[0]
        if len(word.rstrip("-_+")) < 7 or not starts_like_text(word):
            continue
        candidates = [word[:_MAX_BASE64]]
        if "--" in word:
            candidates.append(word.partition("--")[0])
        if match.end() < len(text) and text[match.end()] in "/=" and tails < _MAX_TAILS:
            tail = _BASE64_TAIL.match(text, match.start())
            if tail is not None and "/" in tail[0]:
                tails += 1
                candidates += [tail[0], tail[0].replace("/", "")]
        for candidate in candidates:
            decoded = _base64(candidate)
            if decoded:
                found[decoded] = None
    return list(found)


def _base64(word: str) -> str | None:
    word = word.rstrip("=").translate(_URL_SAFE)
    word = word[: len(word) - (len(word) % 4 == 1)]
    try:
        data = binascii.a2b_base64(word + "=" * (-len(word) % 4))
    except (binascii.Error, ValueError):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        text = data[: error.start].decode("utf-8")
    if len(text.encode()) == len(data):
        return text
    broken = _CONTROLS.search(text)
    if broken is not None:
        text = text[: broken.start()]
    # Garbage follows. A long enough beginning that looks like a reference is still worth reading.
    return text if len(text) >= 8 and re.search(r"[/.:{]", text) else None


def uuid_spellings(text: str) -> tuple[str, ...]:
    """Return a UUID's spellings, with and without dashes, lower and upper case; empty when `text` is none."""
    if not 32 <= len(text) <= 47:
        return ()
    match = _UUID.fullmatch(text)
    if match is None:
        return ()
    dashed = "-".join(match.groups())
    bare = "".join(match.groups())
    forms = (dashed, bare, dashed.lower(), bare.lower(), dashed.upper(), bare.upper())
    return tuple(dict.fromkeys(forms))


def texts_of(value: object) -> Iterator[tuple[str, bool]]:
    """Yield every text that a value which is not a container could stand for, and whether it can be trusted.

    Bytes that are plainly text in UTF-8, Latin-1 or UTF-16 are trusted. Of others only what may be a string
    inside a serialised record (after its length byte, between control characters) is yielded, as not trusted.
    16 bytes may be a UUID, in the byte orders of PostgreSQL, of MySQL's swapped ``UUID_TO_BIN`` and of .NET.
    """
    if isinstance(value, str):
        yield str(value), True
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        yield from _texts_of_bytes(bytes(value))
        return
    text = str(value)
    yield text, True
    if isinstance(value, float) and value.is_integer():
        yield str(int(value)), True


def _texts_of_bytes(data: bytes) -> Iterator[tuple[str, bool]]:
    if len(data) == 16:
        # MySQL's UUID_TO_BIN(x, 1) stores time-high and time-mid before time-low.
        swapped = data[4:8] + data[2:4] + data[0:2] + data[8:]
        for number in (uuid.UUID(bytes=data), uuid.UUID(bytes=swapped), uuid.UUID(bytes_le=data)):
            yield str(number), True
    try:
        text = data.decode("utf-8")
        controls = sum(map(len, _CONTROLS.findall(text)))
        yield text, controls * 10 <= len(text)
        strings = record_strings(data)
        yield from ((part.decode("utf-8", "ignore"), False) for part in strings)
        if not controls and not strings:
            return
    except UnicodeDecodeError:
        latin = data.decode("latin-1")
        if not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", latin):
            looks_like_words = sum(byte < 0x80 for byte in data) * 2 >= len(data)
            yield latin, looks_like_words
            yield data.decode("cp1252", "replace"), looks_like_words
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield data.decode("utf-16", "replace"), True
    elif len(data) >= 4 and data.count(0) * 3 >= len(data):
        for codec in ("utf-16-le", "utf-16-be"):
            wide = data.decode(codec, "replace")
            if "\ufffd" not in wide and not _CONTROLS.search(wide):
                yield wide, True
    yield from ((text, False) for text in _strings_in(data))


def record_strings(data: bytes) -> list[bytes]:
    """Return the strings of bytes that are a record of Protocol Buffers from end to end; nothing when they are none.

    Where every length is from 32 to 126 all of it looks like text, each string glued to its length and the next tag.
    """
    place, found = 0, []
    while place < len(data):
        kind = data[place] & 7
        if kind == 0:  # a number: bytes with the highest bit set go on
            place += 1
            while place < len(data) and data[place] & 0x80:
                place += 1
            place += 1
        elif kind == 2 and place + 1 < len(data):
            start = place + 2
            place = start + data[place + 1]
            found.append(data[start:place])
        elif kind in (1, 5):
            place += 9 if kind == 1 else 5
        else:
            return []
    return found if place == len(data) else []


def _strings_in(data: bytes) -> Iterator[str]:
    """Yield what may be strings in a binary record: runs of UTF-8 text, as they are and by what may be their lengths.

    A length of 32 to 126 is a printable character glued to the front of its string, and the tag of the next
    field may be glued to the end.
    """
    text = data.decode("utf-8", "surrogateescape")
    for match in _RUN.finditer(text):
        run = match[0]
        if len(run) < 4 or not re.search(r"[/.]", run) or not re.search(r"[^\W_]{2}", run):
            continue
        yield run
        raw = run.encode()
        before = ord(text[match.start() - 1]) & 0xFF if match.start() else 0
        for start in range(min(5, len(raw) - 3)):
            mark = raw[start - 1] if start else before
            # Protocol Buffers and most others; Avro's zigzag; MessagePack and CBOR; Ruby's Marshal.
            for length in {mark, mark >> 1, mark & 0x1F, mark - 5}:
                if 4 <= length <= len(raw) - start and (start or length < len(raw)):
                    yield raw[start : start + length].decode("utf-8", "ignore")
        yield from _chained(raw)


def _chained(raw: bytes) -> Iterator[str]:
    """Yield the strings of a run that is nothing but short strings of CBOR, each after its length."""
    found: list[bytes] = []
    place = 0
    while place < len(raw):
        length = raw[place] - 0x60
        found.append(raw[place + 1 : place + 1 + length])
        place += 1 + length
        if not 0 <= length <= 0x17 or place > len(raw):
            return
    yield from (part.decode("utf-8", "ignore") for part in found if len(part) >= 4)
