"""A kill at each kind of step that reaches the store or the vault, before it and after it; the next run carries on.

The steps are those of a cycle that was let run, so a step that is added to the product is killed here without a word.
Between the kills rows and objects change, and each run that is killed has recovered what the one before left.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.library.cycle.story import Story

#: Steps that only read leave nothing behind: what they would find is there before and after. A file of a folder has its
#: two sides where it gets its name.
_ONE_SIDE = re.compile(r"^(bucket|vault) (Get|Head|List|write)")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "where",
    [("minio", True, "postgres", "folder"), ("versitygw", False, "sqlite", "s3")],
    ids=["versioned-folder", "unversioned-s3"],
)
async def test_killed_before_and_after_each_kind_of_step_nothing_is_lost(
    make_story: Callable[..., Any], where: tuple[str, bool, str, str]
) -> None:
    first, again = await _steps_of(await make_story(6, where)())
    story: Story = await make_story(7, where)()
    chance = random.Random(7)
    missed: list[str] = []
    try:
        await story.begin()
        story.settings["restore_hold_days"] = 0
        for kind in [*first, *again]:
            for is_after in (False,) if _ONE_SIDE.match(kind) else (False, True):
                await _live(story, chance)
                report = await story.cycle(kill_kind=f"^{re.escape(kind)}$", kill_is_after=is_after)
                if not report.killed:
                    missed.append(kind)
        await story.finish()
    except AssertionError as error:
        steps = "\n  ".join(story.told)
        raise AssertionError(f"{error}\nafter these steps:\n  {steps}") from error
    finally:
        await story.end()
    assert not missed, f"never reached: {missed}"
    assert "bucket DeleteObject object" in story.killed_at


async def _steps_of(story: Story) -> tuple[list[str], list[str]]:
    """The kinds of steps that only the first cycle in a vault and bucket has, and those that each one has."""
    try:
        await story.begin()
        runs: list[list[str]] = []
        for _ in range(2):
            await story.world.age()
            report = await story.cycle()
            assert report.result is not None
            assert report.result["deleted_count"] > 0, "a cycle that deletes nothing has not all steps"
            runs.append(list(dict.fromkeys(report.kinds)))
            await story.put(random.Random(1), 3)
            await story.forget(random.Random(1))
    finally:
        await story.end()
    return [kind for kind in runs[0] if kind not in runs[1]], runs[1]


async def _live(story: Story, chance: random.Random) -> None:
    """New objects, of which the next run but one finds some old enough and unreferenced; rows come and go."""
    await story.put(chance, 2)
    await story.overwrite(chance, same_bytes=chance.random() < 0.5)
    for step in chance.sample([story.refer_to_gone, story.forget, story.move, story.remove], 2):
        await step(chance)
