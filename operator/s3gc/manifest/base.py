"""What every part of a manifest is made of: spelling, bounds, and rules for the API server.

A rule is a CEL expression that the API server evaluates, so that a wrong manifest is refused when it is
applied, with a sentence. Its twin in Python is the model's own validator: outside of a cluster the same
mistake has the same end.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "BucketName",
    "Days",
    "Flag",
    "Identifier",
    "Key",
    "Label",
    "Name",
    "Part",
    "Percent",
    "SecretKeyRef",
    "SecretRef",
    "Template",
    "Url",
    "camel",
    "ruled",
]

GROUP = "s3gc.dev"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"

_ACRONYMS = {"url": "URL", "urls": "URLs", "id": "ID", "mb": "MB", "uid": "UID", "gc": "GC"}


def camel(name: str) -> str:
    """`base_urls` -> `baseURLs`, as Kubernetes spells fields."""
    head, *rest = name.split("_")
    return head + "".join(_ACRONYMS.get(part, part.capitalize()) for part in rest)


class Part(BaseModel):
    """Frozen; only the manifest's own spelling; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=camel, validate_by_name=False)


def ruled(*rules: tuple[str, str], **schema: Any) -> JsonDict:
    """Extra keys of a JSON schema: `rules` are pairs of CEL expression and sentence, `schema` is ``x_kubernetes_…``."""
    extra: JsonDict = {name.replace("_", "-"): value for name, value in schema.items()}
    if rules:
        extra["x-kubernetes-validations"] = [
            {"rule": expression, "message": message} for expression, message in rules
        ]
    return extra


Name = Annotated[str, Field(min_length=1, max_length=253)]
Label = Annotated[str, Field(min_length=1, max_length=63)]
BucketName = Annotated[str, Field(min_length=3, max_length=63)]
Key = Annotated[str, Field(max_length=1024)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Identifier = Annotated[str, Field(min_length=1, max_length=256)]
Template = Annotated[str, Field(min_length=1, max_length=1024)]
Flag = Annotated[bool, Field(strict=True)]
Days = Annotated[float, Field(strict=True, ge=0, le=36500)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]


class SecretRef(Part):
    """A Secret of the same namespace."""

    model_config = ConfigDict(json_schema_extra=ruled(x_kubernetes_map_type="atomic"))

    name: Name = Field(description="Name of the Secret.")


class SecretKeyRef(SecretRef):
    """One key of a Secret of the same namespace."""

    key: Name = Field(description="The key in it that holds the value.")
