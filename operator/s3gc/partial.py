"""What of a broken manifest can still be judged, so that a person hears of every problem at once.

A manifest is read in two steps: its structure, then what it means. A broken structure would hide every problem of the
second step; so what is broken is taken out, and the rest is judged as if it had never been written.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

__all__ = ["without_problems"]

#: What must be there for the rest to be read; never used for anything but that.
_PLACEHOLDERS: dict[tuple[str, ...], object] = {
    ("spec", "bucket"): {"name": "any-bucket"},
    ("spec", "bucket", "name"): "any-bucket",
    ("spec", "vault"): {"persistentVolumeClaim": {"claimName": "any"}},
    ("metadata",): {"name": "any"},
    ("metadata", "name"): "any",
}


def without_problems(value: Any, error: ValidationError, root: Sequence[str] = ()) -> Any | None:
    """Return a copy of `value` without the places that `error` names, or None where nothing would be left.

    `root` is where `value` stands in a manifest. With an element of a list the whole list goes: the places of the
    others would be wrong in what is said about them.
    """
    rest = copy.deepcopy(value)
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        place = item["loc"]
        place = place[: next((at for at, part in enumerate(place) if isinstance(part, int)), len(place))]
        if not place:
            return None
        placeholder = _PLACEHOLDERS.get((*root, *map(str, place)))
        node = rest
        for part in place[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict):  # else it was taken out already with what is above it
            node.pop(place[-1], None)
            if placeholder is not None:
                node[place[-1]] = copy.deepcopy(placeholder)
    return rest
