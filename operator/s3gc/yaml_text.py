"""YAML as Kubernetes reads it, with the surprises taken out: a policy means the same to kubectl and to s3gc.

PyYAML follows YAML 1.1, where an unquoted `12:30` is the number 750, `no` is false and a key may stand
twice, the last one winning. A policy that deletes must not be read that way: here those are text, text, and
an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from s3gc.exceptions import ConfigurationError

__all__ = ["read_one_document"]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own way

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(None, None, "a name must be text", key.start_mark)
            if name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} stands twice in one mapping", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def read_one_document(text: str, name: str) -> object:
    """Return the one document in `text`; `name` says in messages where it came from.

    Raises ConfigurationError with line and column for what is not YAML, and for more than one document.
    """
    try:
        loaded = yaml.load_all(text, Loader=_Loader)
        documents = [document for document in loaded if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"{name}{at}: {error.problem or error.context or 'not YAML'}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name} is not YAML: {error}") from None
    except (RecursionError, ValueError) as error:
        raise ConfigurationError(f"{name} cannot be read as YAML: {error}") from None
    if len(documents) > 1:
        raise ConfigurationError(
            f"{name} holds {len(documents)} documents; keep one BucketGC a file, other kinds in their own"
        )
    return documents[0] if documents else None
