"""Killed at any instant, the next run carries on: a state machine of rows, objects, cycles, restores and SIGKILLs.

`story` says what must hold after each step. Kills fall at any step that reaches the store or the vault, and by the
clock; `test_killpoints` puts one at each kind of step. Seeds: S3GC_SOAK_SEED begins with another one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.library.cycle.machine import tell_story
from tests.library.cycle.story import Story

#: store, versioned, database, vault
WORLDS = [
    ("minio", True, "postgres", "folder"),
    ("versitygw", False, "sqlite", "s3"),
    ("minio", True, "mariadb", "s3"),
    ("versitygw", False, "postgres", "folder"),
]


MakeStory = Callable[[int, tuple[str, bool, str, str]], Callable[[], Coroutine[Any, Any, Story]]]


def tell_until(make_story: MakeStory, *, kills: int, seconds: float, steps: int) -> int:
    """Tell stories, the worlds in turn, until there were so many kills or so many seconds are over; return the kills."""
    began, done, seed = time.monotonic(), 0, int(os.environ.get("S3GC_SOAK_SEED", "1"))
    while done < kills and time.monotonic() - began < seconds:
        chosen = WORLDS[seed % len(WORLDS)]
        name = "-".join(map(str, chosen))
        try:
            told = tell_story(seed, make_story(seed, chosen), steps=steps)
        except AssertionError as error:
            raise AssertionError(
                f"seed {seed} in {name} (S3GC_SOAK_SEED={seed} begins with it): {error}"
            ) from error
        done += told.kills
        print(f"seed {seed} {name}: {told.cycles} cycles, {told.kills} kills; {done} of {kills}", flush=True)
        seed += 1
    return done


@pytest.mark.timeout(1200)
def test_killed_at_any_instant_nothing_is_lost_and_every_byte_comes_back(make_story: MakeStory) -> None:
    assert tell_until(make_story, kills=30, seconds=float("inf"), steps=25) >= 30


@pytest.mark.soak
def test_killed_hundreds_of_times_nothing_is_lost_and_every_byte_comes_back(
    make_story: MakeStory, soak_seconds: float
) -> None:
    wanted = int(os.environ.get("S3GC_SOAK_KILLS", "500"))
    tell_until(make_story, kills=wanted, seconds=soak_seconds * 3, steps=40)
