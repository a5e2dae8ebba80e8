"""What a kubelet makes of a container: secrets put in, `$(NAME)` expanded, `$$` undone.

The rules are those of Kubernetes' documentation ("Define Dependent Environment Variables"): a reference to a variable
that is defined earlier is replaced, one to a variable that is not stays as it is, and `$$` is a dollar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")


def expand(text: str, known: Mapping[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return known.get(found[2], found[0])

    return _REFERENCE.sub(replaced, text)


def started(
    container: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of the container's process. A Secret that is missing is a KeyError."""
    environment: dict[str, str] = {}
    for variable in container["env"]:
        if "value" in variable:
            environment[variable["name"]] = expand(variable["value"], environment)
            continue
        reference = variable["valueFrom"]["secretKeyRef"]
        secret = secrets[reference["name"]]
        if reference["key"] in secret:
            environment[variable["name"]] = secret[reference["key"]]
        elif not reference.get("optional"):
            raise KeyError(reference["key"])
    arguments: Sequence[str] = container["args"]
    return [expand(word, environment) for word in arguments], environment
