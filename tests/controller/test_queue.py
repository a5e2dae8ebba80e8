"""The queue: each key once, in time, and never twice at once."""

from __future__ import annotations

import asyncio

import pytest

from s3gc.controller.queue import LONGEST_PAUSE_SECONDS, Key, WorkQueue

A, B = Key("BucketGC", "shop", "a"), Key("BucketGC", "shop", "b")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock)


async def next_of(queue: WorkQueue) -> Key | None:
    try:
        async with asyncio.timeout(0.02):
            return await queue.get()
    except TimeoutError:
        return None


async def test_a_key_that_is_added_twice_comes_once(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(B)
    queue.add(A)
    assert [await next_of(queue), await next_of(queue), await next_of(queue)] == [A, B, None]


async def test_a_key_that_is_worked_on_comes_again_afterwards_and_not_at_once(queue: WorkQueue) -> None:
    queue.add(A)
    await queue.get()
    queue.add(A)
    assert await next_of(queue) is None
    queue.done(A)
    assert await next_of(queue) == A


async def test_a_key_comes_at_its_time(queue: WorkQueue, clock: Clock) -> None:
    queue.add_at(A, 1010)
    assert await next_of(queue) is None
    clock.seconds = 1010
    assert await next_of(queue) == A


async def test_the_earlier_time_counts_and_it_comes_once(queue: WorkQueue, clock: Clock) -> None:
    queue.add_at(A, 1020)
    queue.add_at(A, 1010)
    queue.add_at(A, 1030)
    clock.seconds = 1040
    assert [await next_of(queue), await next_of(queue)] == [A, None]


async def test_a_look_makes_older_times_of_its_key_void(queue: WorkQueue, clock: Clock) -> None:
    queue.add_at(A, 1010)
    queue.add(A)
    queue.done(await queue.get(), next_look=1500)
    clock.seconds = 1400
    assert await next_of(queue) is None
    clock.seconds = 1500
    assert await next_of(queue) == A


async def test_a_key_that_waits_for_a_worker_wakes_it(queue: WorkQueue) -> None:
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    assert await asyncio.wait_for(waiting, 30) == A


async def test_pauses_double_and_are_forgotten_with_a_success(queue: WorkQueue, clock: Clock) -> None:
    pauses = []
    for _ in range(12):
        queue.add(A)
        await queue.get()
        pauses.append(queue.failed(A))
        clock.seconds += pauses[-1]
        assert await next_of(queue) == A
        queue.done(A) if len(pauses) == 12 else queue._end(A)
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    queue.add(A)
    await queue.get()
    assert queue.failed(A) == 1


async def test_what_is_gone_is_forgotten(queue: WorkQueue, clock: Clock) -> None:
    queue.add_at(A, 1010)
    queue.forget(A)
    clock.seconds = 2000
    assert await next_of(queue) is None


async def test_many_workers_never_share_a_key(queue: WorkQueue) -> None:
    working: set[Key] = set()
    looks = 0

    async def work() -> None:
        nonlocal looks
        while True:
            key = await queue.get()
            assert key not in working
            working.add(key)
            await asyncio.sleep(0)
            looks += 1
            if looks % 3:
                queue.add(key)
            await asyncio.sleep(0)
            working.discard(key)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    for number in range(200):
        queue.add(Key("BucketGC", "shop", str(number % 20)))
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    for worker in workers:
        assert not worker.done(), worker.exception()
        worker.cancel()
    assert looks >= 20
