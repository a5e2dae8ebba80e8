"""What belongs to an object or a bucket beside bytes: tags, ACL, versioning, Object Lock.

Stores that lack a feature say so in many ways (501, 400, a 404 with its own code); each becomes "has none"
here. A denial never does: whether an object is locked must be known, not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from s3gc.exceptions import StoreError
from s3gc.store.errors import error_for, parse_error
from s3gc.store.keys import quote_key
from s3gc.store.transport import Transport
from s3gc.store.wire import Answer, Body, Request
from s3gc.store.xml import Element, escape, parse_xml

__all__ = [
    "LockConfiguration",
    "VersioningState",
    "VersioningStatus",
    "read_acl",
    "read_lock_configuration",
    "read_tags",
    "read_versioning",
    "write_tags",
]

_UNSUPPORTED = frozenset(
    {"NotImplemented", "AccessControlListNotSupported", "XNotImplemented", "MethodNotAllowed", "NotSupported"}
)
_MAYBE = frozenset({200, 400, 404, 405, 501})


VersioningStatus = Literal["Enabled", "Suspended", "Off"]


@dataclass(frozen=True, slots=True)
class VersioningState:
    status: VersioningStatus
    mfa_delete: bool = False


@dataclass(frozen=True, slots=True)
class LockConfiguration:
    """Object Lock of a bucket. `default_mode` is GOVERNANCE or COMPLIANCE where new objects are locked by
    default, for `default_days`; None where they are not.
    """

    enabled: bool
    default_mode: str | None = None
    default_days: int | None = None


async def read_tags(
    transport: Transport, key: str, version_id: str | None
) -> tuple[tuple[str, str], ...] | None:
    action = "s3:GetObjectTagging" if version_id is None else "s3:GetObjectVersionTagging"
    request = Request(
        "GetObjectTagging",
        action,
        "GET",
        quote_key(key),
        _query("tagging", version_id),
        key=key,
        accept=_MAYBE,
    )
    root = await _read(transport, request, "Tagging", none=frozenset({"NoSuchTagSet", "NoSuchTagSetError"}))
    if root is None:
        return None
    tags = root.find("TagSet")
    return tuple((tag.get("Key"), tag.get("Value")) for tag in (tags.all("Tag") if tags else ()))


async def write_tags(transport: Transport, key: str, tags: Sequence[tuple[str, str]]) -> None:
    """Give the current object these tags and no others."""
    items = "".join(
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags
    )
    document = f"<Tagging><TagSet>{items}</TagSet></Tagging>".encode()
    body = Body(document, len(document))
    headers = {"content-type": "application/xml", **await body.proof()}
    await transport.call(
        Request(
            "PutObjectTagging", "s3:PutObjectTagging", "PUT", quote_key(key), [("tagging", "")], headers, body, key,
            accept=frozenset({200, 204}),
        )
    )  # fmt: skip


async def read_acl(transport: Transport, key: str, version_id: str | None) -> tuple[str | None, bool]:
    """Return the ACL's XML where it grants anybody but the owner, and whether the store has ACLs at all."""
    action = "s3:GetObjectAcl" if version_id is None else "s3:GetObjectVersionAcl"
    request = Request(
        "GetObjectAcl", action, "GET", quote_key(key), _query("acl", version_id), key=key, accept=_MAYBE
    )
    answer = await transport.call(request)
    root = _element(transport, request, answer, "AccessControlPolicy", frozenset())
    if root is None:
        return None, False
    owner = root.get("Owner/ID")
    grants = root.find("AccessControlList")
    for grant in grants.all("Grant") if grants else ():
        grantee = grant.find("Grantee")
        kind = grantee.attributes.get("type", "CanonicalUser") if grantee else ""
        is_owners = (
            kind == "CanonicalUser" and grant.get("Grantee/ID") == owner and not grant.get("Grantee/URI")
        )
        if not is_owners or grant.get("Permission") != "FULL_CONTROL":
            return answer.body.decode(errors="replace"), True
    # MinIO answers for every object the same, of an owner without a name.
    return None, owner != ""


async def read_versioning(transport: Transport) -> VersioningState:
    request = Request(
        "GetBucketVersioning", "s3:GetBucketVersioning", "GET", query=[("versioning", "")], accept=_MAYBE
    )
    root = await _read(transport, request, "VersioningConfiguration")
    status = root.get("Status") if root is not None else ""
    if status not in ("", "Enabled", "Suspended"):
        raise StoreError(
            f"Bucket {transport.bucket!r} has versioning {status!r}, which is not known; nothing is deleted there.",
            details={"bucket": transport.bucket},
        )
    mfa = root is not None and "enabled" in (root.get("MfaDelete").lower(), root.get("MFADelete").lower())
    state: Literal["Enabled", "Suspended", "Off"] = (
        "Enabled" if status == "Enabled" else "Suspended" if status == "Suspended" else "Off"
    )
    return VersioningState(state, mfa)


async def read_lock_configuration(transport: Transport) -> LockConfiguration:
    request = Request(
        "GetObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration", "GET", query=[("object-lock", "")],
        accept=_MAYBE,
    )  # fmt: skip
    none = frozenset(
        {
            "ObjectLockConfigurationNotFoundError",
            "ObjectLockConfigurationNotFound",
            "NoSuchObjectLockConfiguration",
        }
    )
    root = await _read(transport, request, "ObjectLockConfiguration", none=none)
    if root is None or root.get("ObjectLockEnabled") != "Enabled":
        return LockConfiguration(enabled=False)
    rule = root.find("Rule/DefaultRetention")
    if rule is None or not rule.get("Mode"):
        return LockConfiguration(enabled=True)
    days = int(rule.get("Days") or 0) + 365 * int(rule.get("Years") or 0)
    return LockConfiguration(True, rule.get("Mode"), days)


async def _read(
    transport: Transport, request: Request, root: str, *, none: frozenset[str] = frozenset()
) -> Element | None:
    return _element(transport, request, await transport.call(request), root, none)


def _element(
    transport: Transport, request: Request, answer: Answer, root: str, none: frozenset[str]
) -> Element | None:
    """The answer's root; an empty one for an error code of `none`; None where the store lacks the feature."""
    if answer.status != 200:
        code = parse_error(answer.body).code
        if code in none:
            return Element(root)
        if code in _UNSUPPORTED or (answer.status == 501):
            return None
        raise error_for(answer.status, answer.headers, answer.body, transport.target(request))
    try:
        element = parse_xml(answer.body)
    except ValueError as error:
        raise _unusable(transport, request, str(error)) from error
    # moto, in whose store many people try things out, names some answers after the operation.
    if element.name not in (root, f"{request.operation}Response"):
        raise _unusable(transport, request, f"it is a <{element.name}>")
    return element


def _unusable(transport: Transport, request: Request, why: str) -> StoreError:
    return StoreError(
        f"{transport.endpoint.name} gave an unusable answer to {request.operation} for bucket {transport.bucket!r}: "
        f"{why}.",
        details={"bucket": transport.bucket, "action": request.action},
    )


def _query(name: str, version_id: str | None) -> list[tuple[str, str]]:
    return [(name, "")] if version_id is None else [(name, ""), ("versionId", version_id)]
