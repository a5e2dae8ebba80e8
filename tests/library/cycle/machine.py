"""`Story` as a hypothesis state machine: which steps are taken, in which order, and when the process is killed.

One example is one story in a world of its own. A seed decides all of it but the instants of the timed kills, so a
failure is told with its seed, its world and every step up to it; nothing is shrunk, as each step costs a process.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tests.library.cycle.killpoints import TENDER
from tests.library.cycle.story import Story

__all__ = ["Told", "tell_story"]

#: Examples that hypothesis makes of one seed; one of them is told.
_EXAMPLES = 20
_DICE = st.integers(0, 2**32 - 1)


@dataclass
class Told:
    """What came of one story."""

    kills: int = 0
    cycles: int = 0
    killed_at: list[str] = field(default_factory=list)


def tell_story(number: int, make: Callable[[], Coroutine[Any, Any, Story]], *, steps: int) -> Told:
    """Run the story of seed `number`; raises AssertionError with the seed and all steps."""
    told, failures = Told(), []
    chosen = settings(
        max_examples=_EXAMPLES, stateful_step_count=steps, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    # Hypothesis begins with examples of one step or of one rule, which tell nothing. All are rehearsed without a world
    # (what is drawn depends on nothing that happens), and the most varied one is told.
    rehearsed: list[set[str]] = []

    class Rehearsal(_Machine):
        def teardown(self) -> None:
            rehearsed.append(self.taken)

    run_state_machine_as_test(seed(number)(Rehearsal), settings=chosen)
    best = max(range(len(rehearsed)), key=lambda index: len(rehearsed[index]))
    examples = itertools.count()
    loop = asyncio.Runner()

    class Machine(_Machine):
        def __init__(self) -> None:
            super().__init__()
            self.loop, self.failures = loop, failures
            self.story = loop.run(make()) if next(examples) == best else None

        def teardown(self) -> None:
            if self.story is None:
                return
            try:
                if not failures:
                    self.act(Story.finish)
            finally:
                told.kills += self.story.kills
                told.cycles += self.story.cycles
                told.killed_at += self.story.killed_at
                loop.run(self.story.end())

    try:
        run_state_machine_as_test(seed(number)(Machine), settings=chosen)
    except BaseException as error:
        if not failures:
            raise
        raise AssertionError(failures[0]) from error
    finally:
        loop.close()
    return told


class _Machine(RuleBasedStateMachine):
    story: Story | None = None
    loop: asyncio.Runner
    failures: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()  # names of rules

    def act(self, step: Callable[[Story], Coroutine[Any, Any, Any]]) -> None:
        self.taken.add(inspect.stack(0)[1].function)
        if self.story is None:
            return
        try:
            self.loop.run(step(self.story))
        except Exception as error:
            steps = "\n  ".join(self.story.told)
            self.failures.append(f"{type(error).__name__}: {error}\nafter these steps:\n  {steps}")
            raise

    @initialize()
    def begin(self) -> None:
        self.act(Story.begin)

    # --- the application

    @rule(dice=_DICE)
    def put(self, dice: int) -> None:
        self.act(lambda story: story.put(random.Random(dice)))

    @rule(dice=_DICE, same_bytes=st.booleans())
    def overwrite(self, dice: int, same_bytes: bool) -> None:
        self.act(lambda story: story.overwrite(random.Random(dice), same_bytes=same_bytes))

    @rule(dice=_DICE)
    def remove(self, dice: int) -> None:
        self.act(lambda story: story.remove(random.Random(dice)))

    @rule(dice=_DICE)
    def refer(self, dice: int) -> None:
        self.act(lambda story: story.refer(random.Random(dice)))

    @rule(dice=_DICE)
    def refer_to_gone(self, dice: int) -> None:
        self.act(lambda story: story.refer_to_gone(random.Random(dice)))

    @rule(dice=_DICE)
    def forget(self, dice: int) -> None:
        self.act(lambda story: story.forget(random.Random(dice)))

    @rule(dice=_DICE)
    def move(self, dice: int) -> None:
        self.act(lambda story: story.move(random.Random(dice)))

    @rule(dice=_DICE)
    def open_late(self, dice: int) -> None:
        self.act(lambda story: story.open_late(random.Random(dice)))

    @rule(dice=_DICE)
    def end_late(self, dice: int) -> None:
        self.act(lambda story: story.end_late(random.Random(dice)))

    # --- s3gc

    @rule(mode=st.sampled_from(["dry_run", "audit_only"]))
    def look_only(self, mode: str) -> None:
        self.act(lambda story: story.cycle(mode))

    @rule()
    def execute(self) -> None:
        self.act(lambda story: story.cycle())

    @rule(dice=_DICE, after=st.floats(0.1, 1.5))
    def execute_while_a_transaction_commits(self, dice: int, after: float) -> None:
        self.act(lambda story: story.open_late(random.Random(dice)))
        self.act(lambda story: story.cycle(commit_after=after))

    @rule()
    def ask_for_approval(self) -> None:
        self.act(lambda story: story.cycle(approval="manual"))

    @rule()
    def approve(self) -> None:
        self.act(lambda story: story.approve())

    @rule(dice=_DICE)
    def restore(self, dice: int) -> None:
        self.act(lambda story: story.restore(random.Random(dice)))

    # --- kills

    @rule(share=st.floats(0, 1), after=st.booleans())
    def killed_at_a_step(self, share: float, after: bool) -> None:
        self.act(
            lambda story: story.cycle(
                kill_kind="", kill_nth=1 + int(share * (story.steps - 1)), kill_is_after=after
            )
        )

    @rule(kind=st.sampled_from(TENDER), nth=st.integers(1, 4), after=st.booleans())
    def killed_where_it_hurts(self, kind: str, nth: int, after: bool) -> None:
        self.act(lambda story: story.forget(random.Random(nth)))  # so that there is something to delete
        self.act(lambda story: story.put(random.Random(nth)))
        self.act(lambda story: story.cycle(kill_kind=kind, kill_nth=nth, kill_is_after=after))

    @rule(kind=st.sampled_from(TENDER), nth=st.integers(1, 4), share=st.floats(0, 0.7))
    def killed_where_it_hurts_and_again(self, kind: str, nth: int, share: float) -> None:
        self.killed_where_it_hurts(kind, nth, False)
        self.killed_at_a_step(share, False)

    @rule(seconds=st.floats(0.05, 1.2))
    def killed_by_the_clock(self, seconds: float) -> None:
        self.act(lambda story: story.cycle(kill_after=seconds))

    @rule(dice=_DICE, nth=st.integers(1, 30))
    def killed_while_restoring(self, dice: int, nth: int) -> None:
        self.act(lambda story: story.restore(random.Random(dice), kill_nth=nth))
