"""Keys of awkward characters, and the ways in which applications write them down.

A way is an *address* (how the key itself is spelled) inside *wrappers* (what it is stored in). Each way says
which keys it can carry at all: free text cannot hold a key with a line break, and nothing could read it back.
"""

from __future__ import annotations

import base64
import html
import json
import random
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

from s3gc.references.paths import BLANKS
from s3gc.references.types import ReferenceRules

BUCKET = "my-bucket"
RULES = ReferenceRules(
    bucket=BUCKET,
    endpoint_hosts=frozenset({"minio"}),
    base_urls=(("https://cdn.example.com/media/", "media/"), ("/files/", "")),
    key_prefixes=("store/",),
    foreign_hosts=frozenset({"www.gravatar.com"}),
)
#: Letters of every sort that a store takes and an encoding stumbles over; no NUL, which S3 does not take.
LETTERS = "abcXYZ019-_./ +%&#?=()é写\u0301'\"\\,;@~!$*:[]{}|<>`^\t\x01😀ñßżΩ\u00a0\u200d"
OWN = f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/"

Carries = Callable[[str], bool]


def _any(_: str) -> bool:
    return True


def _no_controls(key: str) -> bool:
    return not any(ord(letter) < 32 for letter in key)


def _is_normal(key: str) -> bool:
    """Composed or decomposed as a whole; of a mixture only the matcher finds other forms."""
    return key in (unicodedata.normalize("NFC", key), unicodedata.normalize("NFD", key))


def _on_a_line(text: str) -> bool:
    return text == text.strip(" \t\u200b\u200d") and not set(text) & set("\r\n\t\x0b\x0c\x1c\x1d\x1e\x85")


@dataclass(frozen=True)
class Way:
    name: str
    write: Callable[[str], str]
    carries: Carries = _any


def _url64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _in_pieces(text: str) -> str:
    return "/".join(text[place : place + 16] for place in range(0, len(text), 16))


def _carries_base64(text: str) -> bool:
    """What is told from a random name: text from its first byte, and no slash that looks like a path's.

    A slash among the first characters is one only beside padding (`encodings._slashed_base64` argues why).
    """
    data = text.encode()
    word = base64.b64encode(data).decode()
    is_text = _no_controls(text.strip()[:8]) and text[:1] != "\n" and len(data) > 5
    return is_text and ("/" not in word[:8] or word.endswith("="))


def _is_escaped(text: str) -> bool:
    """Not where ``escape()`` writes two letters of Latin-1 as what everybody else takes for one of UTF-8."""
    escapes = re.findall("[\x80-\xff]+", text)
    return all(text.encode("latin-1").decode("utf-8", "replace").count("\ufffd") for text in escapes)


def _js_escape(text: str) -> str:
    out = []
    for unit in (text.encode("utf-16-be")[place : place + 2] for place in range(0, 2 * len(text) + 64, 2)):
        if not unit:
            break
        number = int.from_bytes(unit, "big")
        letter = chr(number)
        if number < 128 and (letter.isalnum() or letter in "@*_+-./"):
            out.append(letter)
        else:
            out.append(f"%{number:02X}" if number < 256 else f"%u{number:04X}")
    return "".join(out)


def _entities(text: str) -> str:
    return "".join(f"&#{ord(c)};" if not c.isascii() or c in "&<>\"'" else c for c in text)


ADDRESSES = (
    Way("plain", lambda k: k),
    Way("slash", lambda k: "/" + k),
    Way("dot slash", lambda k: "./" + k),
    Way("blanks", lambda k: f"  {k}\n", lambda k: k == k.strip(" \t\xa0\u200d")),
    Way("doubled slashes", lambda k: k.replace("/", "//"), lambda k: "//" not in k),
    Way("backslashes", lambda k: k.replace("/", "\\"), lambda k: "\\" not in k),
    Way("NFC", lambda k: unicodedata.normalize("NFC", k), _is_normal),
    Way("NFD", lambda k: unicodedata.normalize("NFD", k), _is_normal),
    Way("percent-encoded", quote),
    Way("percent-encoded twice", lambda k: quote(quote(k))),
    Way("encodeURIComponent", lambda k: quote(k, safe="")),
    Way("only spaces escaped", lambda k: k.replace(" ", "%20"), lambda k: "%" not in k),
    Way("virtual host", lambda k: OWN + quote(k)),
    Way("virtual host, plus", lambda k: OWN + quote_plus(k, safe="/")),
    Way("virtual host, not encoded", lambda k: OWN + k, lambda k: k == k.strip()),
    Way("virtual host, presigned", lambda k: OWN + quote(k) + "?X-Amz-Signature=ab&X-Amz-Expires=9"),
    Way("virtual host, no scheme", lambda k: OWN.removeprefix("https://") + quote(k)),
    Way("path style", lambda k: f"https://s3.amazonaws.com/{BUCKET}/" + quote(k, safe="")),
    Way("endpoint", lambda k: f"http://minio:9000/{BUCKET}/" + quote(k)),
    Way("protocol-relative", lambda k: f"//{BUCKET}.minio:9000/" + quote(k)),
    Way("s3 URI", lambda k: f"s3://{BUCKET}/{k}", lambda k: k == k.strip()),
    Way("ARN", lambda k: f"arn:aws:s3:::{BUCKET}/{k}", lambda k: k == k.strip()),
    Way("base URL", lambda k: "HTTP://cdn.example.com/media/" + quote(k)),
    Way("base URL, key prefix", lambda k: "//cdn.example.com/media/" + quote(k.removeprefix("media/"))),
    Way("base path", lambda k: "/files/" + quote(k)),
    Way("base path of a host", lambda k: "https://app.example.org/files/" + quote(k) + "#top"),
    Way("key prefix", lambda k: k.removeprefix("store/")),
    Way("undeclared host", lambda k: "https://any.example.org/x/" + quote(k) + "?v=1"),
    Way("escape()", lambda k: "https://any.example.org/" + _js_escape(k), _is_escaped),
    Way(
        "Next.js",
        lambda k: "https://i.example.com/_next/image?url=" + quote(OWN + quote(k), safe="") + "&w=1",
    ),
    Way(
        "imgproxy plain",
        lambda k: "https://i.example.com/x/plain/" + quote(f"s3://{BUCKET}/{k}", safe="") + "@png",
    ),
    Way("imgproxy base64", lambda k: "https://i.example.com/s/" + _url64(f"s3://{BUCKET}/{k}") + ".png"),
    Way(
        "imgproxy pieces", lambda k: "https://i.example.com/s/w:1/" + _in_pieces(_url64(f"s3://{BUCKET}/{k}"))
    ),
    Way(
        "image handler",
        lambda k: "https://d1.cloudfront.net/" + base64.b64encode(json.dumps({"key": k}).encode()).decode(),
    ),
    Way("thumbor", lambda k: "https://t.example.com/unsafe/3x2/" + OWN.removeprefix("https://") + quote(k)),
    Way("Cloudflare", lambda k: "https://example.com/cdn-cgi/image/width=80/" + OWN + quote(k)),
    Way(
        "weserv",
        lambda k: (
            "https://images.weserv.nl/?url=ssl:" + OWN.removeprefix("https://") + quote(quote(k)) + "&w=3"
        ),
    ),
)

WRAPPERS = (
    Way("JSON", lambda v: json.dumps({"a": v})),
    Way("JSON, not ASCII", lambda v: json.dumps([1, {"b": v}], ensure_ascii=False)),
    Way("JSON, escaped slashes", lambda v: json.dumps({"a": v}).replace("/", "\\/")),
    Way("JSON in JSON", lambda v: json.dumps({"d": json.dumps({"u": v})})),
    Way("JSON string, escaped again", lambda v: '"' + json.dumps(json.dumps(v))[1:-1] + '"'),
    Way("HTML attribute", lambda v: f'<p>x</p><img alt="a" src="{html.escape(v)}">'),
    Way("HTML attribute, all escaped", lambda v: f'<p>x</p><img alt="a" src="{_entities(v)}">'),
    Way("JSON in an attribute", lambda v: f"<div data-x='{html.escape(json.dumps({'u': v}))}'>"),
    Way("PostgreSQL array", lambda v: '{x,"' + v.replace("\\", "\\\\").replace('"', '\\"') + '",NULL}'),
    Way("hstore", lambda v: '"a"=>"' + v.replace("\\", "\\\\").replace('"', '\\"') + '", "b"=>NULL'),
    Way("PHP", lambda v: f'a:1:{{s:4:"file";s:{len(v.encode())}:"{v}";}}'),
    Way("YAML", lambda v: f"- title: x\n  image: {json.dumps(v)}\n"),
    Way("CSV", lambda v: '1,"' + v.replace('"', '""') + '",3'),
    Way("bytea", lambda v: "\\x" + v.encode().hex()),
    Way(
        "base64",
        lambda v: base64.b64encode(v.encode()).decode(),
        _carries_base64,
    ),
    Way("a line of a text", lambda v: f"first line\n{v}\nlast", _on_a_line),
)


def random_key(rng: random.Random) -> str:
    """Return a key of 2 to about 40 characters, of which a third are awkward."""
    letters = (LETTERS if rng.random() < 0.35 else "abcdefgh0123456789" for _ in range(rng.randint(2, 18)))
    body = "".join(rng.choice(some) for some in letters)
    shape = rng.randrange(10)
    if shape < 6:
        key = f"d/{body}.jpg"
    elif shape < 8:
        key = body
    elif shape < 9:
        key = f"a/b/{body}/{body[::-1]}.png"
    else:
        key = rng.choice(["media/", "store/"]) + body + ".jpg"
    key = unicodedata.normalize(rng.choice(["NFC", "NFD"]), key) if rng.random() < 0.5 else key
    return key if is_readable(key) else f"d{rng.randrange(1000)}/x.jpg"


def is_readable(key: str) -> bool:
    """Whether a value could mean `key` at all: not blanks, not punctuation alone, not what is ignored.

    A value of blanks and characters of no width means nothing, as NULL does: every emptied field would name it.
    """
    bare = key.strip(BLANKS)
    has_letters = any(letter.isalnum() or ord(letter) > 0x2000 for letter in bare)
    return has_letters and not bare.lower().startswith(("data:", "mailto:", "tel:"))


def random_way(rng: random.Random, key: str) -> tuple[str, object]:
    """Return how `key` was written (for the message of a failure) and the value."""
    while True:
        address = rng.choice(ADDRESSES)
        if address.carries(key):
            break
    names, text = [address.name], address.write(key)
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2))):
        wrapper = rng.choice(WRAPPERS)
        if wrapper.carries(text) and (wrapper.name != "a line of a text" or _on_a_line(key)):
            names.append(wrapper.name)
            text = wrapper.write(text)
    value: object = text
    kind = rng.randrange(12)
    if kind == 0:
        value = text.encode()
        names.append("bytes")
    elif kind == 1:
        value = {"p": [text]}
        names.append("decoded JSON")
    return " in ".join(names), value
