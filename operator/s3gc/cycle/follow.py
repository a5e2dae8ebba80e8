"""Change capture through one cycle: begun after the listing and before the reading, ended whatever ends the cycle.

Only for deletions that this cycle's own reading has judged. What a run that was killed deleted was judged by another
reading, and a stream that began today knows nothing of what was written in between; such an operation is checked by
reading again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3gc.cycle.start import OpenSource
from s3gc.exceptions import S3GCError
from s3gc.references.cdc.following import Following

__all__ = ["begin_following", "end_following"]


async def begin_following(opened: Sequence[OpenSource], work: Path) -> dict[str, Following]:
    """Begin every capture that the policy asks for; raises CDCError when one of them cannot, with none left open."""
    followings: dict[str, Following] = {}
    try:
        for number, one in enumerate(opened):
            if one.capture is not None:
                following = Following(
                    one.source.name, one.preflight.columns, one.capture, work / f"changes-{number}.jsonl"
                )
                followings[one.source.name] = following
                await following.begin()
    except BaseException:
        await end_following(followings)
        raise
    return followings


async def end_following(followings: Mapping[str, Following]) -> None:
    """End them; an error here changes nothing of what the cycle found."""
    for following in followings.values():
        with contextlib.suppress(S3GCError, OSError):
            await following.close()
