"""Uploads in parts, and the comparison of streamed bytes with the ETag that came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3gc.exceptions import StoreError
from s3gc.store.errors import error_for, parse_error
from s3gc.store.keys import quote_key
from s3gc.store.transport import Transport
from s3gc.store.types import PutAnswer
from s3gc.store.wire import Answer, Body, Request
from s3gc.store.xml import Element, escape, parse_xml

__all__ = ["abort", "check_md5", "complete", "create", "upload_part"]

#: Stores assemble a big object before they answer its completion.
_COMPLETION_SECONDS = 600


async def create(transport: Transport, key: str, headers: Mapping[str, str] | None) -> str:
    request = Request(
        "CreateMultipartUpload", "s3:PutObject", "POST", quote_key(key), [("uploads", "")], headers, Body(b"", 0), key,
        repeat="refused",
    )  # fmt: skip
    upload_id = _xml(transport, await transport.call(request), "InitiateMultipartUploadResult").get(
        "UploadId"
    )
    if not upload_id:
        raise _unusable(transport, "CreateMultipartUpload", "it has no UploadId")
    return upload_id


async def upload_part(transport: Transport, key: str, upload_id: str, number: int, body: Body) -> str:
    query = [("partNumber", str(number)), ("uploadId", upload_id)]
    proof = await body.proof()
    request = Request("UploadPart", "s3:PutObject", "PUT", quote_key(key), query, proof, body, key)
    answer = await transport.call(request)
    check_md5(transport, body, answer, key)
    return answer.headers.get("etag", "").strip('"')


async def complete(
    transport: Transport, key: str, upload_id: str, parts: Sequence[tuple[int, str]], *, create_only: bool
) -> PutAnswer | None:
    items = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{escape(etag)}"</ETag></Part>'
        for number, etag in parts
    )
    document = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    request = Request(
        "CompleteMultipartUpload", "s3:PutObject", "POST", quote_key(key), [("uploadId", upload_id)],
        {"content-type": "application/xml", **({"if-none-match": "*"} if create_only else {})},
        Body(document, len(document)), key, repeat="refused",
        accept=frozenset({200, 412} if create_only else {200}), timeout_seconds=_COMPLETION_SECONDS,
    )  # fmt: skip
    answer = await transport.call(request)
    error = parse_error(answer.body)
    if create_only and (answer.status == 412 or error.code == "PreconditionFailed"):
        return None
    if error.code:  # a 200 that turned into an error while the store assembled the parts
        raise error_for(500, answer.headers, answer.body, transport.target(request))
    result = _xml(transport, answer, "CompleteMultipartUploadResult")
    return PutAnswer(result.get("ETag").strip('"'), answer.headers.get("x-amz-version-id"), answer.headers)


async def abort(transport: Transport, key: str, upload_id: str) -> None:
    request = Request(
        "AbortMultipartUpload", "s3:AbortMultipartUpload", "DELETE", quote_key(key), [("uploadId", upload_id)],
        key=key, accept=frozenset({200, 204, 404}),
    )  # fmt: skip
    await transport.call(request)


def check_md5(transport: Transport, body: Body, answer: Answer, key: str) -> None:
    """Compare what was streamed with the ETag, where the ETag is an MD5 (it is not under encryption by key)."""
    etag = answer.headers.get("etag", "").strip('"').lower()
    is_encrypted = any(name.startswith("x-amz-server-side-encryption") for name in answer.headers)
    if body.stream is None or is_encrypted or len(etag) != 32 or etag == body.md5.hexdigest():
        return
    raise StoreError(
        f"The bytes that arrived for key {key!r} of bucket {transport.bucket!r} are not those that were sent "
        f"(ETag {etag}).",
        details={"bucket": transport.bucket, "key": key, "action": "s3:PutObject"},
    )


def _xml(transport: Transport, answer: Answer, root: str) -> Element:
    try:
        element = parse_xml(answer.body)
    except ValueError as error:
        raise _unusable(transport, root, str(error)) from error
    if element.name != root:
        raise _unusable(transport, root, f"it is a <{element.name}>")
    return element


def _unusable(transport: Transport, what: str, why: str) -> StoreError:
    return StoreError(
        f"{transport.endpoint.name} gave an unusable answer to {what} for bucket {transport.bucket!r}: {why}.",
        details={"bucket": transport.bucket},
    )
