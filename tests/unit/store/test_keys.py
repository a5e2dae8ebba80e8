"""Keys are never changed, and two keys never get the same name."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from s3gc.exceptions import StoreError
from s3gc.store.keys import INVALID_UTF8, key_bytes, key_text, quote_key, unquote_listed

ODD = [
    "/lead",
    "//",
    "a//b",
    "./a",
    "a/../b",
    "..",
    "a/",
    "+",
    "%2F",
    "%2f",
    "a b ",
    "\n",
    "\r\n",
    "\x01",
    "ü",
    "ü",
    "☃",
]


@given(st.binary(min_size=1, max_size=60))
@example(INVALID_UTF8.encode())
@example(INVALID_UTF8.encode() + b"%FF")
@example(b"\xff")
@example(b"\xed\xa0\x80")  # a lone surrogate
def test_a_key_of_any_bytes_has_a_text_that_leads_back_to_exactly_it(raw: bytes) -> None:
    text = key_text(raw)
    text.encode()  # is Unicode that Arrow and Parquet can hold
    assert key_bytes(text) == raw


@given(st.binary(min_size=1, max_size=8), st.binary(min_size=1, max_size=8))
@example(b"\xff", INVALID_UTF8.encode() + b"%FF")
def test_two_keys_never_share_a_text(one: bytes, other: bytes) -> None:
    assert (key_text(one) == key_text(other)) == (one == other)


def test_a_key_that_is_not_utf_8_is_never_addressed() -> None:
    with pytest.raises(StoreError, match="never touched"):
        quote_key(key_text(b"a\xff"))
    with pytest.raises(StoreError, match="address the bucket"):
        quote_key("")
    with pytest.raises(StoreError, match="exactly"):
        quote_key("a\ud800")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_key_survives_the_url_without_normalisation(key: str) -> None:
    if key.startswith(INVALID_UTF8):
        return
    path = "/bucket/" + quote_key(key)
    url = URL(f"http://127.0.0.1:9000{path}", encoded=True)
    assert url.raw_path_qs == path
    assert unquote_to_bytes(path.removeprefix("/bucket/")).decode() == key


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_survive_the_url_without_normalisation(key: str) -> None:
    path = "/bucket/" + quote_key(key)
    assert URL(f"http://h{path}?x=1", encoded=True).raw_path_qs == path + "?x=1"
    assert unquote_to_bytes(path.removeprefix("/bucket/")).decode() == key


@given(st.binary(max_size=40))
def test_listed_keys_are_decoded_as_s3_encodes_them(raw: bytes) -> None:
    assert unquote_listed(quote_from_bytes(raw, safe="/*-._ ").replace(" ", "+").encode()) == raw
