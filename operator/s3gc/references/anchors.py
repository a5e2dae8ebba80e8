"""The pre-filter of the matcher: could this value concern one of the wanted keys at all?

The full rules cost a hundred microseconds a value and more; this costs two to four. It rests on one property of
the extractor, held by tests: *whatever it cuts, decodes or joins, it cuts beside characters that are no letters
or digits, and decodes locally*. So the words of a key (maximal runs of ``[A-Za-z0-9_-]`` without ``_`` and ``-``
at their ends, over NFD text; and runs of letters beyond ASCII) stand in the value itself or in one of its
decodings. A value that lacks one of a key's words cannot name it.

Each key is filed under its *anchor*, the word of it that fewest wanted keys share. A value is read in full only
if it holds an anchor and then every other word of that key. What a rule adds by itself (key prefixes, a
derivative's literals) need not stand in the value, so words are taken from what is left without it.

Why this loses nothing: where a step could make words that the raw text lacks (escapes, base64, hex, UUIDs, a base
URL that ends inside a word), the filter decodes as the extractor does, or gives up and says yes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence

from s3gc.references.derivatives import splits
from s3gc.references.encodings import (
    LEGACY_ENTITIES,
    base64_texts,
    closure,
    has_base64_lines,
    has_slashed_base64,
    is_encoded,
    is_wrapped,
    starts_like_text,
    uuid_spellings,
)
from s3gc.references.paths import BLANKS
from s3gc.references.tokens import words as cut_words
from s3gc.references.urls import Rules

__all__ = ["Anchors", "words_of"]

_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_SCHEME = re.compile(r"(?:https?|s3[an]?|gs|local|ssl|file|arn)(?=:)", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\x00-\x7f]+")
#: Entities that decode to something which is no part of a word, nor of another escape.
_HARMLESS = (
    "lt|gt|quot|apos|nbsp|mdash|ndash|hellip|[lr][sd]quo|[lr]aquo|copy|reg|trade|bull|middot|times|euro|deg"
    "|#0*3[49]|#[xX]0*2[27]|#0*160"
)
_ESCAPE = re.compile(
    r"%[0-9A-Fa-f]{2}|%u|\\[A-Za-z0-9_\x80-\U0010ffff-]|0[xX][0-9A-Fa-f]{4}|[xX](?:'|&(?:amp;)*(?:#0*39|#[xX]0*27|apos);)[0-9A-Fa-f]"
    rf"|&(?:amp;)*(?!(?:{_HARMLESS}|amp);)(?:#|[A-Za-z][A-Za-z0-9]*;"
    r"|(?:[AEIOUYaeiouy](?:acute|grave|circ|uml|tilde|ring)|[NnAOao]tilde|[Cc]cedil|[Oo]slash|AElig|aelig|szlig|eth|ETH"
    r"|thorn|THORN|yuml|ord[fm]|micro|shy|sup[123]|frac[13][24])"
    rf"|(?:{LEGACY_ENTITIES})(?=[A-Za-z0-9_-]))"
)
#: A slash at the end of a string: the value may mean everything under it.
_FOLDER_END = re.compile(r"[/\\](?:[\s\"'\\,{}\]?#&\x00-\x1f\x80-\U0010ffff]|\Z)")
_NEVER_FIRST = frozenset("ghijklmnopqrstuv")
#: UUIDs with and without dashes; in the second at every place, for texts whose words may be glued to something.
_UUID = r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}"
_UUIDS = re.compile(rf"(?<![A-Za-z0-9])({_UUID})")
_ALL_UUIDS = re.compile(rf"(?=({_UUID}))")

_ROUNDS = 8
_MAX_VARIANTS = 48
_MAX_NESTED = 6
_MAX_UNWRAPPED = 256
#: Characters that `named` looks at before it gives up and names every key.
_FREE_WORK, _WORK_A_CHARACTER = 4_000_000, 256
_FINER = re.compile(r"[/&?=:#]+")
#: Backslashes before quotes that are looked at in one value.
_MAX_DOUBTS = 5_000
_MAX_DULL = 20_000
#: Entries that share an anchor are compared one by one up to so many; beyond, they are filed by a second word.
_MAX_ENTRIES = 32

#: A wanted key, and the part of it that must stand in a value.
_Entry = tuple[str, str]


def words_of(text: str) -> list[str]:
    """Return the words of `text`, with repetitions; the unit in which values and keys are compared."""
    if text.isascii():
        return _WORD.findall(text)
    apart = unicodedata.normalize("NFD", text)
    return _WORD.findall(apart) + _LETTERS.findall(apart)


def _required(part: str) -> list[str]:
    """The words of a wanted key that must stand in a value: not a scheme, which may be glued to the word before it."""
    words = words_of(part)
    if ":" in part:
        schemes = {match[0].lower() for match in _SCHEME.finditer(part)}
        return [word for word in words if word.lower() not in schemes] or words
    return words


def _words_in(text: str) -> list[str]:
    """`words_of` a value: also those that end where a composed letter begins, since URLs are cut there as well."""
    return words_of(text) if text.isascii() else words_of(text) + _WORD.findall(text)


class Anchors:
    """Answers `concern(text)`. `settled` holds the keys that need no more looking for; it grows while this is used.

    Memory is linear in the number of keys.
    """

    def __init__(
        self,
        keys: Sequence[str],
        rules: Iterable[Rules],
        templates: Iterable[str],
        settled: Container[str],
    ) -> None:
        self._settled = settled
        all_rules = list(dict.fromkeys(rules))
        self._templates = tuple(dict.fromkeys(templates))
        self._starts = _starts(all_rules)
        self._tails = _tails(all_rules)
        self._index: dict[str, list[_Entry]] = {}
        self._shared: dict[str, dict[str, list[_Entry]]] = {}  # anchors of many keys: by a second word
        self._folders: set[str] = set()
        self._any_folder = False
        self._uuids: dict[str, list[str]] = {}
        self._odd: dict[str, list[str]] = {}  # a character, for keys without any word
        self._odd_pattern: re.Pattern[str] | None = None
        self._anchors: set[str] = set()
        self._has_rare_names = False
        self._dull: set[str] = set()  # words seen before that are no base64 of text
        self._always: list[str] = []  # keys without anything to look for
        self._keys = keys
        self._file(keys)

    # --- filing

    def _file(self, keys: Sequence[str]) -> None:
        counts: Counter[str] = Counter()
        for key in keys:
            for part in self._parts(key):
                counts.update(set(_required(part)))
        filed: dict[str, list[_Entry]] = {}
        for key in keys:
            for part in self._parts(key):
                self._file_folders(part)
                for spelled in uuid_spellings(part)[:1]:
                    self._uuids.setdefault(spelled.replace("-", "").lower(), []).append(key)
                words = _required(part)
                if words:
                    anchor = min(words, key=lambda word: (counts[word], -len(word), word))
                    filed.setdefault(anchor, []).append((key, part))
                    continue
                odd = max(
                    (c for c in unicodedata.normalize("NFD", part) if c not in "/." and not c.isspace()),
                    default="",
                )
                if odd:
                    self._odd.setdefault(odd, []).append(key)
                else:
                    self._always.append(key)
        for anchor, entries in filed.items():
            if len(entries) <= _MAX_ENTRIES:
                self._index[anchor] = entries
            else:
                self._shared[anchor] = _by_second_word(anchor, entries, counts)
        self._anchors = {*self._index, *self._shared}
        self._has_rare_names = bool(self._odd or self._uuids or self._always)
        if self._odd:
            self._odd_pattern = re.compile("[" + re.escape("".join(self._odd)) + "]")

    def _file_folders(self, part: str) -> None:
        place = part.find("/")
        while place >= 0:
            self._folders.add(_last_word(part[:place]))
            place = part.find("/", place + 1)

    def _parts(self, key: str) -> set[str]:
        """Every text one of which must stand in a value that names `key`; "" where nothing needs to."""
        parts = set(self._rests(key))
        for template in self._templates:
            made = [key]
            if template.endswith("/"):
                # A derivative that is a folder keeps everything in it.
                made += [key[: place + 1] for place, character in enumerate(key) if character == "/"]
            for derived in made:
                found = splits(derived, template)
                if found is None:
                    parts.add("")
                    continue
                for fields in found:
                    parts |= self._parents(fields)
        return parts

    def _rests(self, key: str) -> Iterator[str]:
        for form in (key,) if key.isascii() else (key, unicodedata.normalize("NFC", key)):
            for start in self._starts:
                if form.startswith(start) and len(form) > len(start):
                    yield form[len(start) :]

    def _parents(self, fields: dict[str, str]) -> set[str]:
        """What must stand in a value that names a parent of which only `fields` are known."""
        if "key" in fields:
            return set(self._rests(fields["key"]))
        if "stem" in fields:
            if "ext" in fields:
                return set(self._rests(fields["stem"] + fields["ext"]))
            return {*self._rests(fields["stem"]), *self._eaten(fields["stem"])}
        if "dir" in fields and "name" in fields:
            return set(self._rests(fields["dir"] + fields["name"]))
        if "name" in fields:
            self._any_folder = True  # whatever folder is referenced may hold the parent
            name = fields["name"]
            ends = {start.rpartition("/")[2] for start in self._starts}
            return {name, *(name[len(end) :] for end in ends if end and name.startswith(end))}
        if fields.get("dir"):
            return {*self._rests(fields["dir"]), *self._eaten(fields["dir"])}
        return {""}

    def _eaten(self, text: str) -> set[str]:
        """{""} where a rule could add all of `text` by itself, so that nothing of it needs to stand in a value."""
        return {""} if any(start.startswith(text) for start in self._starts if start) else set()

    # --- asking

    def concern(self, text: str) -> bool:
        """Whether the full rules could find an unsettled wanted key in `text`; true when in doubt."""
        words = _WORD.findall(text) if text.isascii() else _words_in(text)
        if not self._anchors.isdisjoint(words) and self._names_all(words):
            return True
        if (
            self._tails
            or (
                ("%" in text or "\\" in text or "&" in text or "'" in text or "0x" in text or "0X" in text)
                and _ESCAPE.search(text)
            )
            or is_wrapped(text)
            or (self._odd and "&" in text)
        ):
            return self._deeply(text)
        # Long words with a possible first character; those of everyday values are soon known.
        dull = self._dull
        for word in words:
            if len(word) > 6 and word[0] not in _NEVER_FIRST and word not in dull:
                if starts_like_text(word):
                    if base64_texts(text):
                        return self._deeply(text)
                    break
                if len(dull) < _MAX_DULL and len(word) < 24:
                    dull.add(word)
        if ("+" in text or has_slashed_base64(text) or has_base64_lines(text)) and base64_texts(text):
            return self._deeply(text)
        if _FOLDER_END.search(text) and self._may_be_folder(text):
            return True
        return self._has_rare_names and self._otherwise(text)

    def _otherwise(self, text: str) -> bool:
        """Keys without words, and UUIDs written in another way."""
        if self._odd_pattern is not None and self._has_odd(text):
            return True
        if self._uuids and len(text) >= 32:
            for match in (_ALL_UUIDS if self._tails else _UUIDS).finditer(text):
                bare = match[1].replace("-", "").lower()
                if bare in self._uuids and self._open(self._uuids, bare):
                    return True
        if self._always:
            self._always = [key for key in self._always if key not in self._settled]
            return bool(self._always)
        return False

    def named(self, text: str, *, folders: bool) -> set[str]:
        """Every unsettled key all of whose words stand in `text` or its decodings: what `text` could name at all.

        With `folders`, also every key that lies in a folder all of whose words stand there. For values too large to
        be read to their end: whatever they hold, it cannot be more than this.
        """
        present: set[str] = set()
        found: set[str] = set(self._always)
        left = _FREE_WORK + len(text) * _WORK_A_CHARACTER
        for variant in _thoroughly(text):
            left -= len(variant) + 64
            if left < 0 or (folders and self._any_folder):
                return {key for key in self._keys if key not in self._settled}
            words = _words_in(variant)
            present.update(words, self._without_tails(words))
            if self._odd_pattern is not None:
                odd = set(self._odd_pattern.findall(unicodedata.normalize("NFD", variant)))
                found.update(key for name in odd for key in self._odd.get(name, ()))
            for match in _ALL_UUIDS.finditer(variant) if self._uuids else ():
                found.update(self._uuids.get(match[1].replace("-", "").lower(), ()))
        shared = (self._shared[word] for word in self._shared.keys() & present)
        for index in (self._index, *shared):
            for word in index.keys() & present:
                found.update(key for key, part in index[word] if present.issuperset(_required(part)))
        if folders:
            found.update(self._in_folders(present))
        return {key for key in found if key not in self._settled}

    def _in_folders(self, present: set[str]) -> Iterator[str]:
        is_named: dict[str, bool] = {"": False}
        for key in self._keys:
            for folder in (folder for part in self._parts(key) for folder in _folders_of(part)):
                if folder not in is_named:
                    is_named[folder] = present.issuperset(_required(folder))
                if is_named[folder]:
                    yield key
                    break

    def _deeply(self, text: str) -> bool:
        """Look at `text` in all of its decodings."""
        found: set[str] = set()
        for variant in _unwrapped(text):
            if variant is None:
                return True
            words = _words_in(variant)
            found.update(words)
            if self._tails:
                found.update(self._without_tails(words))
            if _FOLDER_END.search(variant) and self._may_be_folder(variant):
                return True
            if self._has_rare_names and self._otherwise(variant):
                return True
        return self._names_all(found)

    def _names_all(self, words: Iterable[str]) -> bool:
        """Whether some unsettled key has its anchor and all of its other words among `words`."""
        present = words if isinstance(words, set) else set(words)
        if any(self._any_named(self._index, word, present) for word in self._index.keys() & present):
            return True
        return any(
            self._any_named(self._shared[word], second, present)
            for word in self._shared.keys() & present
            for second in self._shared[word].keys() & present
        )

    def _any_named(self, index: dict[str, list[_Entry]], word: str, present: set[str]) -> bool:
        entries = index[word]
        stale = 0
        for key, part in entries:
            if key in self._settled:
                stale += 1
            elif present.issuperset(_required(part)):
                return True
        if stale == len(entries):
            del index[word]
            if index is self._index:
                self._anchors.discard(word)
        elif stale:
            index[word] = [entry for entry in entries if entry[0] not in self._settled]
        return False

    def _without_tails(self, words: Iterable[str]) -> Iterator[str]:
        """Words from which the end of a base URL, glued to their front, was taken."""
        for word in words:
            for tail in self._tails:
                if word.startswith(tail) and len(word) > len(tail):
                    yield word[len(tail) :].lstrip("_-")

    def _may_be_folder(self, text: str) -> bool:
        if self._any_folder or "" in self._folders:
            return True
        if not self._folders:
            return False
        seen: set[str] = set()
        for match in _FOLDER_END.finditer(text):
            start = max(0, match.start() - 512)
            head = text[start : match.start()].rstrip("/\\")
            if not head:
                if start:
                    return True
                continue
            segment = re.split(r"[/\\]", head)[-1]
            if segment.strip(BLANKS + "\"'") in (".", "..") or (start and len(segment) == len(head)):
                return True
            lasts = {_last_word(segment)}
            if match[0][0] == "\\" and (below := head.rpartition("/")[2]) not in seen:
                if len(seen) > _MAX_DOUBTS:
                    return True
                seen.add(below)
                lasts.update(self._before_backslash(below))
            if not self._folders.isdisjoint(lasts | set(self._without_tails(lasts))):
                return True
        return False

    @staticmethod
    def _before_backslash(below: str) -> Iterator[str]:
        """What may be the last word before a backslash that may be a slash, in all readings of `below`.

        It may begin an escape as well, or be one too many, and so may those before it: decoding the whole text would
        take this one away.
        """
        plain = below.replace('\\"', '"')
        yield _last_word(plain)
        if is_encoded(plain):
            yield from (_last_word(reading) for reading in closure(plain, rounds=4, limit=24)[0])

    def _has_odd(self, text: str) -> bool:
        pattern = self._odd_pattern
        plain = text if text.isascii() else unicodedata.normalize("NFD", text)
        if pattern is None:
            return False
        return any(self._open(self._odd, odd) for odd in set(pattern.findall(plain)))

    def _open(self, keys: dict[str, list[str]], name: str) -> bool:
        """Whether some key filed under `name` is not settled yet."""
        return any(key not in self._settled for key in keys.get(name, ()))


def _unwrapped(text: str) -> Iterator[str | None]:
    """Yield `text` in all of its decodings, base64 in base64 included; None for those that were too many to make."""
    layer = [text]
    seen = {text}
    for _ in range(_MAX_NESTED):
        below: list[str] = []
        for item in layer:
            variants, complete = closure(item, rounds=_ROUNDS, limit=_MAX_VARIANTS)
            if not complete:
                yield None
            for variant in variants:
                yield variant
                below += base64_texts(variant)
        layer = [item for item in dict.fromkeys(below) if item not in seen]
        seen.update(layer)
        if not layer:
            return
        if len(seen) > _MAX_UNWRAPPED:
            break
    yield None


def _thoroughly(text: str) -> Iterator[str]:
    """Yield `text` in all of its decodings, piece by piece where the decodings of the whole are too many to make.

    Never more than the rules make: they cut first, and then decode at most as often. May go on for long.
    """
    stack, seen = [text], {text}
    while stack:
        item = stack.pop()
        variants, complete = closure(item, rounds=_ROUNDS, limit=_MAX_VARIANTS)
        below: list[str] = []
        for variant in variants:
            yield variant
            below += base64_texts(variant)
        if not complete:
            parts = list(cut_words(item))
            below += parts if len(parts) > 1 else _FINER.split(item)
        for part in below:
            if part and part not in seen:
                seen.add(part)
                stack.append(part)


def _folders_of(path: str) -> Iterator[str]:
    place = path.find("/")
    while place >= 0:
        yield path[:place]
        place = path.find("/", place + 1)


def _by_second_word(anchor: str, entries: list[_Entry], counts: Counter[str]) -> dict[str, list[_Entry]]:
    filed: dict[str, list[_Entry]] = {}
    for key, part in entries:
        others = [word for word in _required(part) if word != anchor]
        second = min(others, key=lambda word: (counts[word], -len(word), word)) if others else anchor
        filed.setdefault(second, []).append((key, part))
    return filed


def _last_word(path: str) -> str:
    """The last word of a path's last segment; "" when it has none."""
    segment = path.rpartition("/")[2]
    if segment.isascii():
        words = _WORD.findall(segment)
        return words[-1] if words else ""
    apart = unicodedata.normalize("NFD", segment)
    found = [match for pattern in (_WORD, _LETTERS) for match in pattern.finditer(apart)]
    return max(found, key=lambda match: match.end())[0] if found else ""


def _starts(rules: Sequence[Rules]) -> tuple[str, ...]:
    """Every text that a rule may put before what it found in a value; always with ""."""
    starts: dict[str, None] = {"": None}
    for rule in rules:
        inner = {prefix for base in rule.bases for prefix in base.key_prefixes} | {""}
        for outer in rule.key_prefixes:
            for prefix in inner:
                starts[outer + prefix] = None
                starts[unicodedata.normalize("NFC", outer + prefix)] = None
    return tuple(starts)


def _tails(rules: Sequence[Rules]) -> tuple[str, ...]:
    """Last words of bases that end inside a word: what follows them in a value is glued to it."""
    tails: dict[str, None] = {}
    for rule in rules:
        for base in rule.bases:
            for form in closure(base.path, rounds=2, limit=16)[0]:
                words = words_of(form)
                if words and form.rstrip("_-").endswith(words[-1]):
                    tails[words[-1]] = None
    return tuple(tails)
