"""The plain spellings of references, as SQL over everything at once.

The full rules of `references.extract` cost a hundred microseconds a value; most values are a key, or a URL
that ends in one. These expressions find the keys that such values plainly mean, a few per microsecond, so
that the full rules are needed only where they could concern one of the few objects that are left. They may
find less than the full rules (the second stage makes up for it), and for `format: key` exactly as much.
What they must not do is believe in a key of provably another bucket: then a column of the wrong bucket
would look right to the guards.

Input is a relation with `col`, `row`, `value`; output has `col`, `row`, `key`, `derived`. A derived key
keeps its object, but does not show that the reference itself names one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Formatter

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import quoted, table_of
from s3gc.references.paths import BLANKS
from s3gc.references.reader import ReadColumn
from s3gc.references.types import ReferenceRules
from s3gc.references.urls import Rules, compiled

__all__ = ["cheap_keys", "derived_keys_sql", "hosts_in", "is_declared_host", "settled", "values_of"]

#: Longer values are left to the second stage: they are no keys, and their tokens need memory.
MAX_CHEAP_BYTES = 16_384
#: Folders of a path on an undeclared host that may be none of the key's.
MAX_SUFFIXES = 5
#: More base URLs than this are left to the second stage.
_MAX_BASES = 64

#: Longer tokens are no keys, however they are encoded.
MAX_TOKEN_BYTES = 4_096
#: A character that does not end a token in JSON, HTML, Markdown, lists and plain text.
_WORD = r"""[^\s"'<>()\[\]{}|,;\\`]"""
_URL = r"^(?:([A-Za-z][A-Za-z0-9+.-]*):)?//([^/?#]*)/?(.*)$"
#: A value that is one path with nothing in it to decode, resolve or cut.
_PATH = "[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*"
#: A web address of at most six segments, without dots in its folders, user, query or fragment.
_PLAIN_URL = (
    "https?://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
    "(?:/[A-Za-z0-9_-]+){0,5}/[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
)
#: A folder that asks an image proxy for something: then what follows it may be the key.
_OPTION = "(?i)/(?:cdn-cgi|unsafe|insecure|plain|_?ipx|upload|fetch|fit-in|[0-9]*x[0-9]+|[0-9]+x[0-9]*)/"
#: Hexadecimal digits of text in UTF-8 without control characters, whose last character may be cut off.
_UTF8_HEX = (
    "(0[9AD]|[2-6][0-9A-F]|7[0-9A-E]|(C[2-9A-F]|D[0-9A-F]){T}|E[0-9A-F]{T}{T}|F[0-4]{T}{T}{T})*"
    "((C[2-9A-F]|D[0-9A-F])|E[0-9A-F]({T})?|F[0-4]({T}({T})?)?)?"
).replace("{T}", "[89AB][0-9A-F]")
#: The host part of every URL in a text, protocol-relative ones included.
_HOST = r"""(?:^|[^:/])(?:[hH][tT][tT][pP][sS]?:)?//([^/?#\s"'<>\\]+)"""
_BLANK = quoted(BLANKS)


def cheap_keys(values: str, column_format: ReferenceFormat, rules: ReferenceRules) -> str:
    """Return a query over the relation `values` that yields the plain spellings of each value as keys.

    Every value yields itself. Keys are as long as values are; what is longer than a key may be simply never
    matches.
    """
    if column_format is ReferenceFormat.KEY:
        # A key in a column of keys is written with or without a leading slash, and never encoded.
        tokens = f"SELECT col, row, value AS token, value AS path FROM {values}"
        bare = f"trim(path, {_BLANK})"
        forms = ["path", "regexp_replace(path, '^/', '')", "ltrim(path, '/')", bare, f"ltrim({bare}, '/')"]
    else:
        tokens = f"SELECT col, row, token, unnest({_paths(rules)}) AS path FROM ({_parsed(_tokens(values))})"
        cut = "regexp_extract(path, '^[^?#]*')"
        forms = ["path", cut, _decoded(cut), f"replace({_decoded(cut)}, '+', ' ')", _decoded("path")]
        forms += [f"nfc_normalize({form})" for form in (cut, _decoded(cut))]
        forms = forms + [f"ltrim({form}, '/')" for form in forms]
    plain = f"""
        SELECT col, row, unnest(list_distinct({_prefixed(forms, rules)})) AS key, false AS derived
        FROM ({tokens}) WHERE path IS NOT NULL
        UNION ALL SELECT col, row, value AS key, false AS derived FROM {values}
        WHERE contains(value, '//') AND strlen(value) <= 1024"""  # a key may look like a URL
    if not rules.derivatives:
        return f"SELECT * FROM ({plain}) WHERE key <> ''"
    derived = derived_keys_sql("key", rules.derivatives)
    return f"""
        WITH plain AS ({plain})
        SELECT * FROM plain WHERE key <> ''
        UNION ALL
        SELECT col, row, unnest([{", ".join(derived)}]) AS key, true AS derived FROM plain WHERE key <> ''"""


def _tokens(values: str) -> str:
    """The value itself and, unless it is one plain word, its tokens and quoted strings."""
    text = "replace(value, '\\/', '/')"
    strings = f"""regexp_extract_all({text}, '"([^"\\\\]*)"', 1)"""
    # Words without a dot or a slash are hardly ever keys; those that are, are left to the full rules.
    words = f"regexp_extract_all({text}, {quoted(f'{_WORD}*[./]{_WORD}*')})"
    return f"""
        SELECT * FROM (
            SELECT col, row, unnest(
                CASE WHEN regexp_full_match(value, {quoted(f"{_WORD}*")}) THEN [value]
                     ELSE list_distinct(list_concat([value, trim(value, {_BLANK}), {text}], {words}, {strings})) END
            ) AS token
            FROM {values}
        ) WHERE strlen(token) BETWEEN 1 AND {MAX_TOKEN_BYTES}"""


def _parsed(tokens: str) -> str:
    """Each token with the parts of a URL, empty where it is none; the host without user, port and case."""
    host = "regexp_replace(regexp_replace(lower(url.host), '^.*@', ''), ':[0-9]*$', '')"
    return f"""
        SELECT col, row, token, lower(url.scheme) AS scheme, {host} AS host, url.rest AS rest
        FROM (
            SELECT col, row, token,
                CASE WHEN contains(token, '//')
                     THEN regexp_extract(token, {quoted(_URL)}, ['scheme', 'host', 'rest'], 's')
                     ELSE {{'scheme': '', 'host': '', 'rest': ''}} END AS url
            FROM ({tokens})
        )"""


def _paths(rules: ReferenceRules) -> str:
    """A list of raw paths that a parsed token may mean; NULL elements mean nothing."""
    bucket = quoted(rules.bucket)
    after_bucket = (
        f"CASE WHEN starts_with(rest, {bucket} || '/') THEN substr(rest, {len(rules.bucket) + 2}) END"
    )
    is_aws = r"regexp_matches(host, '(^|[.])s3[.-].*amazonaws[.]com([.]cn)?$')"
    own_aws = f"starts_with(host, {bucket} || '.s3')"
    named = [*rules.endpoint_hosts]
    own_hosts = " OR ".join(["false", *(f"host = {quoted(rules.bucket + '.' + name)}" for name in named)])
    endpoints = " OR ".join(["false", *(f"host = {quoted(name)}" for name in named)])
    foreign = " OR ".join(["false", *(f"host = {quoted(name)}" for name in rules.foreign_hosts)])
    arn = f"regexp_extract(token, {quoted(_arn(rules))}, 1, 's')"
    undeclared = f"host <> '' AND NOT ({is_aws} OR {endpoints} OR {own_hosts} OR {foreign})"
    undeclared = f"{undeclared} AND scheme IN ('', 'http', 'https')"
    suffix = "regexp_extract(rest, '^(?:[^/?#]*/){%d}(.*)$', 1, 's')"
    items = [
        "token",
        f"CASE WHEN scheme IN ('s3', 's3a', 's3n', 'gs') AND host = {bucket} THEN rest END",
        f"CASE WHEN starts_with(token, 'arn:aws') THEN nullif({arn}, '') END",
        f"""CASE WHEN host = '' OR scheme NOT IN ('', 'http', 'https') OR {foreign} THEN NULL
                 WHEN ({is_aws}) AND {own_aws} OR {own_hosts} THEN rest
                 WHEN {is_aws} OR {endpoints} THEN {after_bucket}
                 ELSE rest END""",
        f"CASE WHEN {undeclared} THEN {after_bucket} END",
        *(
            f"CASE WHEN {undeclared} THEN nullif({suffix % depth}, '') END"
            for depth in range(1, MAX_SUFFIXES + 1)
        ),
        *_based(compiled(rules), undeclared),
    ]
    return "list_distinct([" + ", ".join(items) + "])"


def _arn(rules: ReferenceRules) -> str:
    return f"^arn:aws[a-z-]*:s3:::{re.escape(rules.bucket)}/(.*)$"


def _based(rules: Rules, undeclared: str) -> list[str]:
    """Paths below each declared base, with its key prefixes: on its host, an undeclared one, or without any."""
    items: list[str] = []
    for base in rules.bases[:_MAX_BASES]:
        if base.scheme:
            continue  # media://…: left to the full rules
        path = base.path or "/"
        for before, text in (("host <> ''", "rest"), ("host = ''", "ltrim(token, '/')")):
            is_here = before
            if text == "rest" and base.host:
                is_here = f"({before} AND (host = {quoted(base.host)} OR ({undeclared})))"
            below = f"ltrim(substr('/' || {text}, {len(path) + 1}), '/')"
            starts = f"starts_with('/' || {text}, {quoted(path)})"
            items += [
                f"CASE WHEN {is_here} AND {starts} THEN {quoted(prefix)} || {below} END"
                for prefix in base.key_prefixes
            ]
        if base.host:
            # The host without its scheme: cdn.example.com/img/a.jpg
            bare = quoted(base.host + path)
            items += [
                f"CASE WHEN host = '' AND starts_with(lower(token), {bare}) "
                f"THEN {quoted(prefix)} || substr(token, {len(base.host + path) + 1}) END"
                for prefix in base.key_prefixes
            ]
    return items


def _prefixed(forms: Sequence[str], rules: ReferenceRules) -> str:
    """SQL for the list of all `forms`, each as it is and after each key prefix of `rules`."""
    plain = f"[{', '.join(forms)}]"
    prefixes = compiled(rules).key_prefixes
    if len(prefixes) == 1:
        return plain
    starts = ", ".join(quoted(prefix) for prefix in prefixes)
    return f"flatten(list_transform([{starts}], lambda p: list_transform({plain}, lambda f: p || f)))"


def _decoded(text: str) -> str:
    """Percent-decode once; what does not decode to UTF-8 (`url_decode` raises then) stays as it is."""
    return f"CASE WHEN contains({text}, '%') THEN coalesce(try(url_decode({text})), {text}) ELSE {text} END"


def derived_keys_sql(key: str, templates: Sequence[str]) -> list[str]:
    """Return one SQL expression for each template: what it makes of the key in the expression `key`.

    Exactly `references.derivatives.derived_keys`; a test compares the two over random keys.
    """
    name = f"regexp_extract({key}, '[^/]*$')"
    ext = f"regexp_extract({name}, '^[.]*[^.].*?([.][^.]*)$', 1, 's')"
    parts = {
        "key": key,
        "name": name,
        "ext": ext,
        "dir": f"left({key}, length({key}) - length({name}))",
        "stem": f"left({key}, length({key}) - length({ext}))",
    }
    found: list[str] = []
    for template in templates:
        pieces: list[str] = []
        for literal, part, _, _ in Formatter().parse(template):
            pieces += [quoted(literal)] if literal else []
            pieces += [parts[part]] if part else []
        found.append(" || ".join(pieces))
    return found


def values_of(columns: Sequence[ReadColumn], numbers: Sequence[int]) -> str:
    """Return SQL for the values of some columns as one relation of col, row, value; no prefix references."""
    parts = (
        f"SELECT {number}::INTEGER AS col, row, value "
        f"FROM {table_of(columns[number].files)} WHERE NOT is_prefix AND strlen(value) <= {MAX_CHEAP_BYTES}"
        for number in numbers
    )
    return "(" + " UNION ALL ".join(parts) + ")"


def settled(value: str, column_format: ReferenceFormat, rules: ReferenceRules) -> str:
    """Return an SQL condition under which the full rules find nothing in `value` that stage A has not found.

    Every other value is looked at again, so the condition is narrow. It holds for columns of exact keys and
    of prefixes, and for values that are one plain path: nothing in them can be decoded, cut or resolved, so
    that all they mean is the path itself, after key prefixes and below declared bases
    (`reading.Reading._simple`). The fuzz tests hold this against the extractor.
    """
    if any(template.endswith("/") for template in rules.derivatives):
        return "false"  # a derivative that is a folder keeps everything in it
    if column_format is ReferenceFormat.KEY:
        return "true"
    if column_format is ReferenceFormat.PREFIX:
        return "false" if rules.derivatives else "true"
    if any(base.scheme for base in compiled(rules).bases) or len(rules.base_urls) > _MAX_BASES:
        return "false"
    is_domain = f"regexp_matches({value}, '^[^/]*[.][^/]*/')"
    is_uuid = f"regexp_full_match({value}, '[0-9A-Fa-f-]{{32,47}}')"
    is_path = f"regexp_full_match({value}, {quoted(_PATH)}) AND NOT {is_domain} AND NOT {is_uuid}"
    return (
        f"(({is_path}) OR {_is_plain_url(value, rules)}) "
        f"AND strlen({value}) <= {MAX_TOKEN_BYTES} AND NOT {_may_hide_base64(value)}"
    )


def _is_plain_url(value: str, rules: ReferenceRules) -> str:
    """SQL for whether a value is a web address whose host is placed here exactly as `references.urls`
    places it.

    Without a query, escapes, dots in folders, or folders that an image proxy would take for options; hosts
    of AWS only in their two common forms, since access points and endpoints of a VPC are told apart
    elsewhere.
    """
    if any(host.lower().startswith(rules.bucket.lower() + ".") for host in rules.endpoint_hosts):
        return "false"  # an endpoint declared with the bucket in its name: its paths are keys
    bucket = re.escape(rules.bucket.lower())
    aws = rf"^(?:{bucket}[.])?s3(?:[.-](?:[a-z]{{2}}-[a-z]+-[0-9]|dualstack|accelerate))*[.]amazonaws[.]com(?:[.]cn)?$"
    host = f"lower(regexp_extract({value}, '^https?://([^/:]*)', 1))"
    return (
        f"(regexp_full_match({value}, {quoted(_PLAIN_URL)}) "
        f"AND NOT regexp_matches({value}, {quoted(_OPTION)}) "
        f"AND (NOT contains({host}, 'aws') OR regexp_matches({host}, {quoted(aws)})))"
    )


def _may_hide_base64(value: str) -> str:
    """SQL for whether a word of a plain path could be base64 of text; true when in doubt.

    The first six bytes of each long word must be a beginning of UTF-8 without control characters. Words
    that begin with g to v never are: their first byte would be a continuation.
    """
    words = f"regexp_extract_all({value}, '[A-Za-z0-9][A-Za-z0-9+_-]{{6,}}')"
    head = "translate(substr(w, 1, CASE WHEN strlen(w) >= 8 THEN 8 ELSE 4 END), '-_', '+/')"
    is_text = f"regexp_full_match(hex(from_base64({head})), {quoted(_UTF8_HEX)})"
    return f"(len(list_filter({words}, lambda w: NOT regexp_matches(w, '^[g-v]') AND {is_text})) > 0)"


def hosts_in(value: str) -> str:
    """Return SQL for the list of hosts of the URLs in `value`: lower case, without user and port."""
    found = f"regexp_extract_all(replace({value}, '\\/', '/'), {quoted(_HOST)}, 1)"
    bare = "regexp_replace(regexp_replace(lower(h), '^.*@', ''), ':[0-9]*$', '')"
    return f"list_distinct(list_transform({found}, lambda h: {bare}))"


def is_declared_host(host: str, rules: ReferenceRules) -> bool:
    """Tell whether somebody said, or everybody knows, what is served on `host`."""
    if (
        host in rules.foreign_hosts
        or host == rules.bucket
        or re.search(r"(^|\.)s3[.-].*amazonaws\.com(\.cn)?$", host)
    ):
        return True
    if any(host == name or host.endswith("." + name) for name in rules.endpoint_hosts):
        return True
    bases = (
        re.sub(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//", "", url).partition("/")[0] for url, _ in rules.base_urls
    )
    return any(host == re.sub(r":\d*$", "", base.lower()) for base in bases if base)
