"""Shapes: a text that is called plain has nothing in it that the full rules would decode, cut or resolve."""

from __future__ import annotations

import base64
import re

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3gc.references.encodings import base64_texts
from s3gc.references.shapes import Shape, shapes_of


def shape_of(text: str | None) -> Shape:
    return Shape(shapes_of(pa.array([text], pa.string()))[0].as_py())


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("a", Shape.PATH),
        ("uploads/2024/a-b_c.tar.gz", Shape.PATH),
        ("https://h/a", Shape.ADDRESS),
        ("http://User-1.example:8080/uploads/2024/a.jpg", Shape.ADDRESS),
        ("https://h/300x200/a.jpg", Shape.OPTIONS),
        ("https://h/a/UPLOAD/b.jpg", Shape.OPTIONS),
        (None, Shape.ODD),
        ("", Shape.ODD),
        ("a\n", Shape.ODD),
        ("a/\nb", Shape.ODD),
        ("/a", Shape.ODD),
        ("a/", Shape.ODD),
        ("a//b", Shape.ODD),
        ("a/./b", Shape.ODD),
        ("../a", Shape.ODD),
        ("a b", Shape.ODD),
        ("a%20b", Shape.ODD),
        ("caf\u00e9.jpg", Shape.ODD),
        ("cdn.example.com/a.jpg", Shape.ODD),  # perhaps a host, then any end of it is a key
        ("x/cdn.example.com/a.jpg", Shape.ODD),
        ("v1.2/a.jpg", Shape.ODD),
        ("6f1c2b3a-0000-4000-8000-000000000000", Shape.ODD),  # a UUID has other spellings
        ("6F1C2B3A000040008000000000000000", Shape.ODD),
        ("0x6b2f612e6a7067", Shape.ODD),  # hexadecimal of k/a.jpg
        ("https://h/k/0x6b2f612e6a7067", Shape.ODD),
        ("https://h/aHR0cHM6Ly9teS9hLmpwZw", Shape.ODD),  # base64 of https://my/a.jpg
        ("aHR0cHM6Ly9teS9hLmpwZw", Shape.ODD),
        ("YWI/YWJj", Shape.ODD),  # base64 of ab?abc, with a slash in it
        ("YWJjZGVm--0a1b2c3d", Shape.ODD),  # base64 of abcdef, and a signature
        ("x/IAovw6k--abcdef.jpg", Shape.ODD),
        ("https://h/a?b", Shape.ODD),
        ("https://h/a#b", Shape.ODD),
        ("https://user@h/a", Shape.ODD),
        ("https://h/a.b/c", Shape.ODD),  # a host may be nested in it
        ("https://h//a", Shape.ODD),
        ("https://h/a.", Shape.ODD),
        ("https://h/a/-", Shape.ODD),  # punctuation at the end of an address may not be part of it
        ("https://h/a_", Shape.ODD),
        ("https://h/", Shape.ODD),
        ("https://h", Shape.ODD),
        ("https://h\n/a", Shape.ODD),
        ("s3://my-bucket/a", Shape.ODD),
        ("HTTPS://h/a", Shape.ODD),
        ("a" * 1024, Shape.PATH),
        ("a" * 1025, Shape.ODD),
    ],
)
def test_a_text_is_plain_only_if_nothing_else_can_be_read_in_it(text: str | None, shape: Shape) -> None:
    assert shape_of(text) is shape


def test_each_text_of_a_batch_has_its_own_shape() -> None:
    texts = ["a", None, "https://h/a", "a b", "https://h/plain/a", "YWI/YWJj", "b"]
    shapes = [Shape.PATH, Shape.ODD, Shape.ADDRESS, Shape.ODD, Shape.OPTIONS, Shape.ODD, Shape.PATH]
    assert shapes_of(pa.array(texts)).to_pylist() == [shape.value for shape in shapes]
    assert shapes_of(pa.array([], pa.string())).to_pylist() == []


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ENCODED = st.builds(
    lambda text, tail: base64.urlsafe_b64encode(text.encode() + tail).decode().rstrip("="),
    st.text(st.sampled_from("abcé写\U0001f600 /.:\n\x00\x7f\x85"), min_size=2, max_size=12),
    st.sampled_from([b"", b"", b"\xff", b"\x80\x01\x02", b"\xc3"]),
)
_WORDS = st.builds(
    lambda before, word, after: before + word + after,
    st.sampled_from(["", "", "x/", "a-", "x."]),
    st.one_of(_ENCODED, _ENCODED, st.text(st.sampled_from(_LETTERS), min_size=6, max_size=20)),
    st.sampled_from(["", "", ".jpg", "/a", "/0", "--abcdef", "-", "_"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_WORDS, min_size=1, max_size=50))
@example(["IAovw6k--abcdef.jpg", "an03J--V_Dwn", "ICAgL2EgYmP_/x"])
def test_no_plain_text_holds_base64_of_text(texts: list[str]) -> None:
    shapes = shapes_of(pa.array(texts)).to_pylist()
    for text, shape in zip(texts, shapes, strict=True):
        if base64_texts(text):
            assert shape == Shape.ODD, text
        elif re.fullmatch(r"[A-Za-z0-9-]+\.jpg", text):
            assert shape == Shape.PATH, text  # and random names are not odd because they might
