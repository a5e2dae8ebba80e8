"""The commonest spellings of references that are not plain, as SQL over everything at once.

The full rules of `references.extract` cost a hundred microseconds a value. What is one plain path or address is done
with in `plan.plain`; of the rest most is a key or an address with something around it or in it. These expressions
find the keys that such values commonly mean, so that the full rules are needed only where they could concern one of
the few objects that are left. They may find less than the full rules (the second stage makes up for it), and for
`format: key` exactly as much. What they must not do is believe in a key of provably another bucket: then a column of
the wrong bucket would look right to the guards.

Relations are those of `plan.plain`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from s3gc.plan.derived import with_derived
from s3gc.plan.duck import quoted
from s3gc.references.paths import BLANKS
from s3gc.references.shapes import Shape
from s3gc.references.types import ReferenceRules
from s3gc.references.urls import Rules, compiled

__all__ = ["MAX_BYTES", "common_keys", "exact_keys", "hosts_in", "is_declared_host"]

#: Longer values are to be left to the second stage: they are no keys, and their tokens need memory.
MAX_BYTES = 16_384
#: Folders of a path on an undeclared host that may be none of the key's.
MAX_SUFFIXES = 5
#: More base URLs than this are left to the second stage.
_MAX_BASES = 64

#: Longer tokens are no keys, however they are encoded.
MAX_TOKEN_BYTES = 4_096
#: A character that does not end a token in JSON, HTML, Markdown, lists and plain text.
_WORD = r"""[^\s"'<>()\[\]{}|,;\\`]"""
_URL = r"^(?:([A-Za-z][A-Za-z0-9+.-]*):)?//([^/?#]*)/?(.*)$"
#: Access points and their aliases: whose bucket they serve cannot be seen.
_UNPLACED = "accesspoint|-s3alias([.]|$)|--o[lp]-s3([.]|$)|[.]mrap$"
#: The host part of every URL in a text, protocol-relative ones included.
_HOST = r"""(?:^|[^:/])(?:[hH][tT][tT][pP][sS]?:)?//([^/?#\s"'<>\\]+)"""
_BLANK = quoted(BLANKS)


def exact_keys(values: str, rules: ReferenceRules) -> str:
    """Return a query for all keys of `values` of a column of exact keys.

    A key is written there with or without a leading slash, perhaps with blanks around it, and never encoded.
    """
    bare = f"trim(value, {_BLANK})"
    forms = ["value", "regexp_replace(value, '^/', '')", "ltrim(value, '/')", bare, f"ltrim({bare}, '/')"]
    listed = f"""
        SELECT col, row, CASE WHEN shape <> {Shape.ODD.value} THEN {_prefixed(["value"], rules)}
                              ELSE list_distinct({_prefixed(forms, rules)}) END AS keys
        FROM {values}"""
    return with_derived(f"SELECT col, row, unnest(keys) AS key, false AS derived FROM ({listed})", rules)


def common_keys(values: str, rules: ReferenceRules) -> str:
    """Return a query for the commonest keys of `values`, each value among them.

    Keys are as long as values are; what is longer than a key may be simply never matches.
    """
    tokens = f"SELECT col, row, unnest({_paths(rules)}) AS path FROM ({_parsed(_tokens(values))})"
    cut = "regexp_extract(path, '^[^?#]*')"
    forms = ["path", cut, _decoded(cut), f"replace({_decoded(cut)}, '+', ' ')", _decoded("path")]
    forms += [f"nfc_normalize({form})" for form in (cut, _decoded(cut))]
    forms = forms + [f"ltrim({form}, '/')" for form in forms]
    return with_derived(
        f"""
        SELECT col, row, unnest(list_distinct({_prefixed(forms, rules)})) AS key, false AS derived
        FROM ({tokens}) WHERE path IS NOT NULL
        UNION ALL SELECT col, row, value AS key, false AS derived FROM {values}
        WHERE contains(value, '//') AND strlen(value) <= 1024""",  # a key may look like a URL
        rules,
    )


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
    # Our bucket further on: local/bucket/key, or behind a proxy on the endpoint's host.
    inside = quoted(f"/{rules.bucket}/")
    further = "nullif(substr({0}, strpos({0}, " + inside + f") + {len(rules.bucket) + 2}), '')"
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
        f"CASE WHEN host = '' AND contains(token, {inside}) THEN {further.format('token')} END",
        f"CASE WHEN ({endpoints}) AND contains(rest, {inside}) THEN {further.format('rest')} END",
        f"CASE WHEN regexp_matches(host, {quoted(_UNPLACED)}) THEN rest END",
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
            if text == "rest":
                is_here = (
                    f"(host = {quoted(base.host)} OR ({undeclared}))" if base.host else f"({undeclared})"
                )
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
