"""Our signatures are botocore's, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from s3gc.store.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, Signer, canonical_query

NOW = datetime(2026, 11, 23, 23, 59, 58, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)


def _botocore(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    payload: str,
    token: str | None,
) -> str:
    class Fixed(botocore.auth.S3SigV4Auth):
        def payload(self, request: AWSRequest) -> str:
            return payload

    url = f"https://h.example{path}"
    if query:
        url += "?" + "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in query)
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context["timestamp"] = "20261123T235958Z"
    signer = Fixed(BotoCredentials("AKID", "secret/+key", token), "s3", "eu-west-1")
    request.headers["X-Amz-Content-SHA256"] = payload
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.headers["X-Amz-Date"] = "20261123T235958Z"
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


def _ours(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    payload: str,
    token: str | None,
) -> str:
    signer = Signer("eu-west-1")
    signed = signer.sign(
        Credentials("AKID", "secret/+key", token),
        method,
        "h.example",
        path,
        canonical_query(query),
        headers,
        payload,
        NOW,
    )
    return signed["authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize("token", [None, "session//token=="])
@pytest.mark.parametrize("payload", [EMPTY_SHA256, UNSIGNED_PAYLOAD, "ab" * 32])
@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("GET", "/", [], {}),
        ("HEAD", "/bucket/a%2Fb%20c%2B%C3%BC", [], {}),
        ("GET", "/bucket//a/../b/./c", [("versionId", "a/b+c=")], {"range": "bytes=0-9"}),
        ("GET", "/bucket", [("list-type", "2"), ("prefix", "ü b/+%"), ("start-after", "x\n")], {}),
        (
            "PUT",
            "/bucket/k",
            [],
            {"if-none-match": "*", "x-amz-meta-a": "  two   spaces ", "content-type": "a/b"},
        ),
        ("DELETE", "/bucket/k", [], {"if-match": '"etag"'}),
        ("POST", "/bucket/k", [("uploads", "")], {"x-amz-meta-ü": "ü"}),
    ],
)
def test_every_kind_of_request_is_signed_as_botocore_signs_it(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    payload: str,
    token: str | None,
) -> None:
    expected = _botocore(method, path, query, headers, payload, token)
    assert _ours(method, path, query, headers, payload, token) == expected


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.lists(st.tuples(TEXT, TEXT)),
)
def test_any_key_and_query_is_signed_as_botocore_signs_it(key: str, query: list[tuple[str, str]]) -> None:
    path = "/bucket/" + quote(key.encode(), safe="/~")
    assert _ours("GET", path, query, {}, EMPTY_SHA256, None) == _botocore(
        "GET", path, query, {}, EMPTY_SHA256, None
    )


def test_the_days_key_is_derived_again_for_another_day_and_other_credentials() -> None:
    signer = Signer("us-east-1")

    def sign(secret: str, now: datetime) -> str:
        return signer.sign(Credentials("a", secret), "GET", "h", "/", "", {}, EMPTY_SHA256, now)[
            "authorization"
        ]

    def fresh(secret: str, now: datetime) -> str:
        return Signer("us-east-1").sign(Credentials("a", secret), "GET", "h", "/", "", {}, EMPTY_SHA256, now)[
            "authorization"
        ]

    tomorrow = datetime(2026, 11, 24, tzinfo=UTC)
    for secret, now in [("x", NOW), ("x", tomorrow), ("y", tomorrow), ("x", NOW)]:
        assert sign(secret, now) == fresh(secret, now)


def test_credentials_show_nothing_of_themselves() -> None:
    assert "hunter2" not in repr(Credentials("AKID", "hunter2", "tok"))
