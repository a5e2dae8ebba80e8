"""One value, read generously: the walk through everything it could hide, down to keys and prefixes.

A text is looked at in each of its decodings (`encodings`); each decoding as an address (`urls`), as a path
(`paths`), as a document (`tokens.json_strings`), and cut into pieces, which are looked at in the same way. Image
proxies carry addresses in addresses (`proxies`). What is found goes to a sink, so that the matcher can ask for a
few wanted keys without holding all that a large document could mean.

Work is bounded by the length of the value. When the bound is reached every word is still read as a path or
address; only if even that is too much does the value count as unparsed. No key is lost by that: where keys are
asked for (`matcher`), a value that was cut short names all whose words stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import unquote

from s3gc.config import ReferenceFormat
from s3gc.references.encodings import (
    base64_texts,
    closure,
    normal_forms,
    percent_readings,
    texts_of,
    uuid_spellings,
)
from s3gc.references.paths import (
    BLANKS,
    MAX_KEY_BYTES,
    MAX_WHOLE_PATH,
    is_key,
    spellings,
    suffixes,
    without_dots,
)
from s3gc.references.proxies import after_options, inner_addresses, parameters
from s3gc.references.tokens import (
    compositions,
    embedded_urls,
    json_strings,
    literal_strings,
    pieces,
    strings_in,
    words,
)
from s3gc.references.types import PrefixReference
from s3gc.references.urls import Kind, Located, Rules, locate, path_of_base

__all__ = ["Reading"]

#: How deep texts may lie in texts (JSON in an attribute of HTML in JSON …), and decodings in one text.
_MAX_DEPTH: Final = 10
_ROUNDS: Final = 3
_MAX_VARIANTS: Final = 32
#: Characters that may be looked at: so many at least, and so many for each character of the value. A page of 64 KiB
#: takes 10 million. Then pieces are read simply for a fourth of that, and at the end the words by themselves.
_FREE_WORK: Final = 8_000_000
_WORK_A_CHARACTER: Final = 32
_SIMPLE_SHARE: Final = 4
#: What reading one more decoding of a piece costs beside its length, in characters.
_VARIANT_WORK: Final = 256
_MAX_EMITTED: Final = 100_000

#: One word or path with nothing to decode, resolve or cut.
_SIMPLE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?")
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[^,;]{0,200}){0,8}),(.*)", re.IGNORECASE | re.DOTALL)
_IGNORED = re.compile(
    r"data:(?:[\w.+-]+/[\w.+-]+)?(?:;[^,]{0,200})?,|blob:(?:https?:|null|file:|[0-9a-f-]{36}$)|mailto:[^/]|javascript:"
    r"|tel:\+?[\d().\s;=*#-]*$|sms:|about:(?:blank|srcdoc)",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(r"[/\\]|~[/\\]|\.\.[/\\]|[A-Za-z0-9_.-]{1,32}:[/\\]")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,8}[a-z]{2,24}(?::\d{1,5})?/", re.IGNORECASE)
_DOTTED_FOLDER = re.compile(r"\.[^/]*/.")
_SLASH_AT_END = re.compile(r"[/\\](?:[?#][^\r\n]*)?$")
_SLASH_BEFORE_END = re.compile(r"[/\\](?:[\s\"'\\,{}\]?#&\x00-\x1f\x80-\U0010ffff]|$)")
_QUOTED = re.compile(r"[\"']([^\"']{1,1024})[\"']")
_SPACED = re.compile(r"[\s\"<>]")
_COMPOUND = re.compile(r"[<>\"\r\n]")
_MARKUP = re.compile(r"</?[A-Za-z!][^<>]{0,512}>|=[\"']")
_URI = re.compile(r"(?:s3[an]?|gs)://|arn:", re.IGNORECASE)
_LINES = re.compile(r"[\r\n]")
_BLANK = re.compile(r"\s")
_MANIFEST = re.compile(
    r"\.(?:m3u8?|mpd|ismc?)(?:/manifest)?$|/\.?(?:z(?:arr\.json|group|array|attrs|metadata))$", re.IGNORECASE
)


class Reading:
    """Reads one value. `key` and `prefix` are called with what it could mean, perhaps more than once.

    Afterwards: `undeclared_hosts`; `other_bucket` and `foreign`, different addresses of each kind; `ignored`;
    `is_empty`; `is_cut`, when the work was cut short; `misses_folders`, when so cut that a folder in it may not have
    been read; `is_doubtful`, when bytes were no text, or not even every word was read.
    """

    def __init__(
        self,
        column_format: ReferenceFormat,
        rules: Rules,
        key: Callable[[str], None],
        prefix: Callable[[str], None],
    ) -> None:
        self.format, self.rules = column_format, rules
        self._key, self._prefix = key, prefix
        self._plain_prefixes = ("",)
        self._seen: dict[str, int] = {}
        self._emitted: set[str] = set()  # paths that are keys already, with every key prefix of the column
        self._ends: tuple[set[str], set[str]] = (set(), set())  # of paths, looked at by `_below_ours`
        self._work = self._budget = _FREE_WORK
        self.undeclared_hosts: set[str] = set()
        self.other_bucket: set[str] = set()
        self.foreign: set[str] = set()
        self.ignored = False
        self.is_empty = True
        self.is_doubtful = False
        self.is_cut = False
        self.misses_folders = False

    def value(self, value: object) -> None:
        """Read `value`: text, bytes, a number, a UUID, a PrefixReference, or nested containers of them."""
        if value is None:
            return
        if isinstance(value, PrefixReference):
            self._prefix_text(str(value), 0)
        elif isinstance(value, Mapping | list | tuple | set | frozenset):
            strings = strings_in(dict(value) if isinstance(value, Mapping) else value)
            for text in strings:
                self._start(text, trusted=True)
            self._compose(strings)
        else:
            doubtful = True
            for text, trusted in texts_of(value):
                self._start(text, trusted=trusted)
                doubtful = doubtful and not trusted
            if isinstance(value, bytes | bytearray | memoryview) and len(value) <= 512:
                # Content-addressed objects are named by the hex of a digest that is stored as bytes.
                for text in {bytes(value).hex(), bytes(value).hex().upper()} - {""}:
                    self._emit(text)
            self.is_doubtful = self.is_doubtful or (doubtful and not self.is_empty)

    def _start(self, text: str, *, trusted: bool) -> None:
        if not text.strip(BLANKS):
            return
        self.is_empty = False
        self._work += len(text) * _WORK_A_CHARACTER
        self._budget += len(text) * _WORK_A_CHARACTER
        if self.format is ReferenceFormat.KEY:
            bare = text.strip(BLANKS)
            for exact in {
                text,
                text[1:] if text[0] == "/" else text,
                text.lstrip("/"),
                bare,
                bare.lstrip("/"),
            }:
                self._emit(exact, exactly=True)
        elif self.format is ReferenceFormat.PREFIX:
            self._prefix_text(text, 0)
        else:
            whole = trusted and self.format is not ReferenceFormat.TEXT
            self._text(text, 0, whole=whole, cut=self.format is not ReferenceFormat.URL, scan=True)
            if self._work <= 0:
                self._coarsely(text)
                self._work = self._budget = _FREE_WORK

    # --- what was found

    def _emit(self, path: str, key_prefixes: Iterable[str] = ("",), *, exactly: bool = False) -> None:
        if not path or len(path) > MAX_KEY_BYTES:
            return
        if key_prefixes == ("",) and not exactly:
            if path in self._emitted:
                return
            if len(self._emitted) < _MAX_EMITTED:
                self._emitted.add(path)
        for form in (path,) if exactly else normal_forms(path):
            for start in key_prefixes:
                for outer in self.rules.key_prefixes:
                    if is_key(key := outer + start + form):
                        self._key(key)
        if not exactly and "!" in path:
            # photo.jpg!thumb, photo.jpg@!thumb, photo.jpg!/fw/300: a style that an image service puts behind the key.
            self._emit(path.partition("!")[0].removesuffix("@"), key_prefixes)

    def _emit_prefix(self, path: str, key_prefixes: Iterable[str] = ("",)) -> None:
        if not path.strip("./" + BLANKS):
            return  # everything: nobody means that
        for form in normal_forms(path):
            for start in key_prefixes:
                for outer in self.rules.key_prefixes:
                    if is_key(prefix := outer + start + form):
                        self._prefix(prefix)

    # --- texts

    def _text(self, text: str, depth: int, *, whole: bool, cut: bool, scan: bool = False) -> None:
        """`whole`: a value or a string of a document, which may be a folder.

        `cut`: look for pieces in it, too; `scan`: only for embedded URLs.
        """
        mode = 1 | whole << 1 | cut << 2 | scan << 3
        done = self._seen.get(text, 0)
        if done | mode == done:
            return
        self._seen[text] = done | mode
        stripped = text.strip(BLANKS)
        if not stripped:
            return
        self._work -= len(text) + 64
        if self._work <= 0:
            self.is_cut = True
            self.misses_folders = self.misses_folders or (whole and _could_be_folder(stripped))
            if not self._is_spent:
                self._simply(stripped, whole=whole)
            return
        if _SIMPLE.fullmatch(text) and not _DOTTED_FOLDER.search(text) and text[:2] not in ("0x", "0X"):
            self._simple(text, depth, whole=whole)
            return
        if depth and not (whole or cut or scan) and _COMPOUND.search(stripped):
            self._compound(text, stripped)
            return
        if _IGNORED.match(stripped):
            self._ignored(stripped, depth)
            return
        strings = json_strings(stripped)
        if strings is not None and depth < _MAX_DEPTH:
            self._emit(text)
            self._emit(stripped)
            self._strings(strings, depth, whole=whole)
            return
        large = len(text) > 1_000_000
        # In a text of many words each word is percent-decoded by itself; a value that is all one word, as a whole.
        spaced = _SPACED.search(stripped) is not None
        variants, _ = closure(
            text,
            rounds=1 if large else _ROUNDS,
            limit=6 if large else _MAX_VARIANTS,
            percent=not (spaced and cut),
            mail=whole or cut or scan,
        )
        self._work -= (len(variants) - 1) * (len(text) + _VARIANT_WORK)
        places = [locate(variant.strip(BLANKS), self.rules) for variant in variants]
        opaque = any(
            place is not None
            and place.kind in (Kind.FOREIGN, Kind.OTHER)
            and not _BLANK.search(variant.strip(BLANKS))
            for variant, place in zip(variants, places, strict=True)
        )
        for variant, place in zip(variants, places, strict=True):
            # A word that turns out to be a text is cut like one.
            found = not cut and not spaced and variant is not text and self._is_text(variant)
            self._variant(variant, place, depth, whole=whole, cut=cut or found, scan=scan, opaque=opaque)

    def _is_text(self, variant: str) -> bool:
        return self.format is not ReferenceFormat.URL and re.search(r"[<>\"]|\s\S+\s", variant) is not None

    def _compound(self, text: str, stripped: str) -> None:
        """A piece with markup or a quote in it: more than one reference, unless a key itself has such characters.

        Finer cuts of the same text are looked at anyway, so here only the piece as a whole counts.
        """
        if len(stripped) > 4 * MAX_KEY_BYTES:
            return
        for form in dict.fromkeys((text, stripped, stripped.lstrip("/"))):
            self._emit(form)
        is_markup = _MARKUP.search(stripped) is not None
        if is_markup and _LINES.search(stripped):
            return
        place = locate(text.lstrip(BLANKS), self.rules)
        if is_markup:
            # Hardly ever one reference, so only what a key with a tag or an attribute in it would be written as.
            rests = place.rests if place is not None and place.kind is Kind.OWN else ((stripped, ("",)),)
            for rest, key_prefixes in rests:
                for form in (rest, *percent_readings(rest), rest.replace("\\", "/")):
                    self._emit(form, key_prefixes)
        elif place is not None:
            self._address(place, _MAX_DEPTH, whole=False)
        elif len(stripped) <= MAX_KEY_BYTES or "%" in stripped:
            for form in spellings(text):
                self._emit(form)

    def _simple(self, text: str, depth: int, *, whole: bool) -> None:
        self._emit(text)
        if text.endswith("/"):
            self._emit(text.rstrip("/"))
            if whole:
                self._emit_prefix(text)
        self._based(text, whole=whole)
        if f"/{self.rules.bucket}/" in text:
            self._below_ours(text, depth)
        if len(text) >= 7:
            for other in uuid_spellings(text):
                self._emit(other)
            self._decoded(text, depth)

    def _variant(
        self,
        text: str,
        place: Located | None,
        depth: int,
        *,
        whole: bool,
        cut: bool,
        scan: bool,
        opaque: bool,
    ) -> None:
        stripped = text.strip(BLANKS)
        if not stripped:
            return
        if place is not None:
            self._address(place, depth, whole=whole)
            if not text.endswith(stripped):
                # A key may end in what looks like a blank at the end of a value.
                longer = locate(text.lstrip(BLANKS), self.rules)
                if longer is not None:
                    self._address(longer, _MAX_DEPTH, whole=False)
        if not opaque:
            if place is None or (place.kind is Kind.UNDECLARED and stripped.startswith("//")):
                # Slashes in front are a host nobody declared, or a key that was joined carelessly.
                self._path(text, depth, whole=whole)
            elif depth == 0 or whole:
                for form in {text, stripped}:
                    self._emit(form)
            for other in uuid_spellings(stripped):
                self._emit(other)
        if depth >= _MAX_DEPTH:
            return
        self._document(stripped, depth, whole=whole)
        self._decoded(stripped, depth)
        # A piece is part of a text that was scanned already, in all of its decodings.
        if (cut or scan) and (":" in stripped or "//" in stripped):
            self._each((url for url in embedded_urls(stripped) if url != stripped), depth, cut=False)
        if cut and not opaque:
            self._each(pieces(text), depth, cut=False)
            self._each(literal_strings(text), depth, cut=True)

    def _each(self, texts: Iterable[str], depth: int, *, cut: bool) -> None:
        for text in texts:
            self._text(text, depth + 1, whole=False, cut=cut)
            if self._is_spent:
                return

    @property
    def _is_spent(self) -> bool:
        return self._work <= -self._budget // _SIMPLE_SHARE

    def _document(self, text: str, depth: int, *, whole: bool) -> None:
        strings = json_strings(text)
        if strings is None:
            if whole and text[0] == "{" and text[-1] == "}":  # a PostgreSQL array, or braces that are none
                strings = [part.strip(BLANKS) for part in re.split(r"[{},\"]+", text)]
                strings += literal_strings(text)
            elif text[:2] in ("a:", "O:", "s:", "i:"):  # PHP
                strings = list(literal_strings(text))
            else:
                return
        self._strings(strings, depth, whole=whole)

    def _strings(self, strings: list[str], depth: int, *, whole: bool) -> None:
        for item in strings:
            self._text(item, depth + 1, whole=whole, cut=self.format is not ReferenceFormat.URL, scan=True)
        self._compose(strings)

    def _compose(self, strings: list[str]) -> None:
        if len(strings) > 1:
            for key in compositions(strings):
                if "://" in key:
                    self._text(key, _MAX_DEPTH, whole=False, cut=False)
                    continue
                self._emit(key)
                if key[0] == "/":
                    self._emit(key.lstrip("/"))

    def _decoded(self, text: str, depth: int) -> None:
        if depth < _MAX_DEPTH:
            for decoded in base64_texts(text, is_value=depth == 0):
                self._text(decoded, depth + 1, whole=False, cut=True)

    def _ignored(self, text: str, depth: int) -> None:
        """A ``data:`` URL and the like names nothing; what it carries may still quote one of our addresses."""
        self.ignored = True
        if text[:5].lower() == "blob:" or depth >= _MAX_DEPTH:
            return
        if text[:11].lower() == "javascript:":
            for quoted in _QUOTED.findall(text):
                self._text(quoted, depth + 1, whole=False, cut=False)
        carried = [text]
        match = _DATA.match(text)
        if match is not None and (match[1] or "text/plain").lower().startswith(
            ("text/", "image/svg", "application/")
        ):
            carried = base64_texts(match[3]) if "base64" in match[2].lower() else [match[3]]
        elif match is not None:
            return  # a picture
        for body in carried:
            for variant in closure(body, rounds=2, limit=8)[0]:
                for url in embedded_urls(variant):
                    if not _IGNORED.match(url):
                        self._text(url, depth + 1, whole=False, cut=False)

    # --- paths and addresses

    def _path(self, text: str, depth: int, *, whole: bool) -> None:
        stripped = text.strip(BLANKS)
        found = spellings(text)
        for path in found:
            self._emit(path)
        if _ABSOLUTE.match(stripped) or "/../" in stripped or "\\..\\" in stripped or _DOMAIN.match(stripped):
            # A path from some root: the root may be the application's own, so any end of it may be the key.
            for path in found:
                for end in suffixes(path):
                    self._emit(end)
        if len(stripped) <= MAX_WHOLE_PATH:
            self._based(stripped, whole=whole)
            self._below_ours(stripped, depth)
        if whole and len(stripped) <= MAX_WHOLE_PATH:
            for path in _folder_forms(stripped):
                self._emit_prefix(path)
        is_word = depth == 0 or whole or not _SPACED.search(stripped)
        if is_word and depth < _MAX_DEPTH and ("?" in stripped or ("=" in stripped and "&" in stripped)):
            query = stripped.partition("?")[2] or stripped
            for parameter in parameters(query[: 4 * MAX_WHOLE_PATH]):
                self._text(parameter, depth + 1, whole=False, cut=False)
            for inner in inner_addresses(stripped[: 4 * MAX_WHOLE_PATH]):
                if inner != stripped:
                    self._text(inner, depth + 1, whole=False, cut=False)

    def _below_ours(self, path: str, depth: int, *, hosts_only: bool = False) -> None:
        """What follows our bucket or one of our hosts further on: ``local/bucket/key``, ``/mnt/bucket/key``."""
        seen = self._ends[hosts_only]
        for end in suffixes(path):
            if end in seen:
                return  # so are those after it; and without this, hosts in hosts in hosts would never end
            seen.add(end)
            head, _, rest = end.partition("/")
            if head == self.rules.bucket and not hosts_only:
                self._rest(rest, ("",), whole=False)
            elif rest and ("." in head or ":" in head) and depth < _MAX_DEPTH:
                place = locate(end, self.rules)
                if place is not None and place.kind is Kind.OWN:
                    self._address(place, depth + 1, whole=False)

    def _based(self, path: str, *, whole: bool) -> None:
        slashed = path.replace("\\", "/") if "\\" in path else path
        for rest, key_prefixes in path_of_base(slashed, self.rules):
            self._rest(rest, key_prefixes, whole=whole)

    def _rest(self, rest: str, key_prefixes: tuple[str, ...], *, whole: bool, ends: bool = False) -> None:
        found = spellings(rest) if rest else set()
        for path in found:
            self._emit(path, key_prefixes)
            if ends:
                for end in suffixes(path):
                    self._emit(end, key_prefixes)
        if whole and not ends and rest:
            for path in _folder_forms(rest.partition("?")[0]):
                self._emit_prefix(path, key_prefixes)

    def _address(self, place: Located, depth: int, *, whole: bool) -> None:
        if place.kind is Kind.OTHER:
            self.other_bucket.add(_address_of(place))
        elif place.kind is Kind.FOREIGN:
            self.foreign.add(_address_of(place))
        is_undeclared = place.kind is Kind.UNDECLARED
        if is_undeclared and place.shows_host:
            self.undeclared_hosts.add(place.host)
        for rest, key_prefixes in place.rests:
            self._rest(rest, key_prefixes, whole=whole and not is_undeclared, ends=is_undeclared)
        if is_undeclared:
            for rest, key_prefixes in path_of_base("/" + place.path, self.rules):
                self._rest(rest, key_prefixes, whole=False)
        if place.kind is Kind.OWN:
            for rest in after_options(place.path[:MAX_WHOLE_PATH]):
                self._rest(rest, ("",), whole=False)
                for below, key_prefixes in path_of_base("/" + rest, self.rules):
                    self._rest(below, key_prefixes, whole=False)
        if depth < _MAX_DEPTH:
            self._inside(place, depth)

    def _inside(self, place: Located, depth: int) -> None:
        """Addresses inside an address; a proxy's own host says nothing about what it serves."""
        path = place.path[: 4 * MAX_WHOLE_PATH]
        for inner in inner_addresses(path):
            self._text(inner, depth + 1, whole=False, cut=False)
        # thumbor and weserv drop the scheme: what looks like one of our hosts is one.
        self._below_ours(path.partition("?")[0], depth, hosts_only=True)
        cut = re.search(r"[?#]", path)
        if cut is None:
            return
        for parameter in parameters(path[cut.end() :]):
            is_ours = place.kind is Kind.UNDECLARED or (
                place.kind is Kind.OWN and re.search(r"[/.]", parameter)
            )
            if is_ours or locate(parameter.strip(BLANKS), self.rules) is not None:
                self._text(parameter, depth + 1, whole=False, cut=False)
            elif parameter.startswith("/"):
                for base in path_of_base(parameter, self.rules):
                    if base[0] != parameter.lstrip("/"):
                        self._rest(base[0], base[1], whole=False)

    # --- prefixes

    def _prefix_text(self, text: str, depth: int) -> None:
        """A value that is declared to be a prefix, whatever it ends in."""
        if not text.strip(BLANKS):
            return
        self.is_empty = False
        for variant in closure(text, rounds=_ROUNDS, limit=_MAX_VARIANTS)[0]:
            stripped = variant.strip(BLANKS)
            strings = json_strings(stripped) if depth < _MAX_DEPTH else None
            if strings is None and stripped[:1] == "{" and stripped[-1:] == "}" and depth < _MAX_DEPTH:
                strings = [part.strip(BLANKS) for part in re.split(r"[{},\"]+", stripped)]
            for item in strings or ():
                self._prefix_text(item, depth + 1)
            place = locate(stripped, self.rules)
            if place is None:
                for path in {variant, *_plain_forms(stripped)}:
                    self._emit_prefix(path)
                    self._of_manifest(path, ("",))
                for rest, key_prefixes in path_of_base(stripped, self.rules):
                    self._prefix_rest(rest, key_prefixes)
                continue
            if place.kind is Kind.OTHER:
                self.other_bucket.add(_address_of(place))
            elif place.kind is Kind.FOREIGN:
                self.foreign.add(_address_of(place))
            elif place.kind is Kind.UNDECLARED and place.shows_host:
                self.undeclared_hosts.add(place.host)
            # Of an undeclared host the whole path counts, never an end of it: that could be any folder.
            for rest, key_prefixes in place.rests:
                self._prefix_rest(rest, key_prefixes)

    def _prefix_rest(self, rest: str, key_prefixes: tuple[str, ...]) -> None:
        for path in {*_plain_forms(rest), *_plain_forms(rest.partition("?")[0])}:
            self._emit_prefix(path, key_prefixes)
            self._of_manifest(path, key_prefixes)

    def _of_manifest(self, path: str, key_prefixes: tuple[str, ...]) -> None:
        """An HLS, DASH or Zarr manifest stands for the folder that it describes."""
        if _MANIFEST.search(path) and "/" in path:
            folder = path.rpartition("/")[0]
            folder = folder.rpartition("/")[0] if path.lower().endswith("/manifest") else folder
            self._emit_prefix(folder + "/", key_prefixes)

    # --- too much

    def _simply(self, text: str, *, whole: bool) -> None:
        """Read `text` as an address or a path and nothing more."""
        if len(text) > MAX_WHOLE_PATH:
            return
        place = locate(text, self.rules)
        if place is None:
            for path in spellings(text):
                self._emit(path)
            for path in _folder_forms(text) if whole else ():
                self._emit_prefix(path)
            return
        is_undeclared = place.kind is Kind.UNDECLARED
        for rest, key_prefixes in place.rests:
            self._rest(rest, key_prefixes, whole=whole and not is_undeclared, ends=is_undeclared)

    def _coarsely(self, text: str) -> None:
        """The bound is reached: every word of the text and of its decodings, simply and once."""
        done: set[str] = set()
        left = self._budget // _SIMPLE_SHARE
        for variant in closure(text, rounds=2, limit=6)[0]:
            for word in words(variant):
                if word in done:
                    continue
                left -= len(word) + 64
                if left < 0:
                    self.is_doubtful = True
                    return
                done.add(word)
                self._simply(word.strip(BLANKS), whole=False)


def _address_of(place: Located) -> str:
    """One name for an address, however it was encoded, so that it is counted once."""
    return f"{place.host}/{unquote(unquote(re.split(r'[?#]', place.path)[0]))}".rstrip("/.,;:!?)")


def _plain_forms(text: str) -> set[str]:
    """Spellings of a path that is taken as it stands: decoded and resolved, but never cut."""
    forms = {text, *percent_readings(text)}
    forms |= {reading for form in tuple(forms) for reading in percent_readings(form)}
    forms |= {form.replace("+", " ") for form in tuple(forms) if "+" in form}
    forms |= {form.replace("\\", "/") for form in tuple(forms) if "\\" in form}
    found = set(forms)
    for form in forms:
        bare = form.lstrip("/")
        found |= {bare, re.sub(r"/{2,}", "/", bare), re.sub(r"^(?:\.?/)+", "", form)}
        if re.search(r"(?:^|/)\.{1,2}(?:/|$)", bare):
            found |= {without_dots(form), without_dots(re.sub(r"/{2,}", "/", form))}
    found.discard("")
    return found


def _could_be_folder(text: str) -> bool:
    """Whether a whole value or string could be a folder, or a document that names one; true when in doubt."""
    for variant in closure(text, rounds=2, limit=8)[0]:
        bare = variant.strip(BLANKS)
        if bare[:1] in ("{", "[", '"') or bare[:2] in ("a:", "O:", "s:", "i:"):
            if _SLASH_BEFORE_END.search(bare):
                return True
        elif _SLASH_AT_END.search(bare):
            return True
    return False


def _folder_forms(text: str) -> set[str]:
    """Of a whole value that ends in a slash, its spellings as a folder; nothing of any other value."""
    tail = text[-12:]
    if not re.search(r"[/\\]$|%(?:25)*2[fF]$", tail):
        return set()
    return {form for form in _plain_forms(text) if form.endswith("/")}
