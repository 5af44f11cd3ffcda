"""The work queue with a clock of its own."""

import asyncio

import pytest

from tidegate.runtime.keys import Key
from tidegate.runtime.queue import WorkQueue


def key(name: str, kind: str = "AgentTask") -> Key:
    return Key(kind, "ns", name)


async def test_a_key_added_twice_comes_once() -> None:
    queue = WorkQueue()
    queue.add(key("a"))
    queue.add(key("a"))
    assert await queue.get() == key("a")
    queue.done(key("a"))
    assert len(queue) == 0


async def test_the_earlier_of_two_times_counts() -> None:
    queue = WorkQueue()
    queue.add(key("a"), after=60)
    queue.add(key("a"), after=0.01)
    queue.add(key("a"), after=30)
    assert await asyncio.wait_for(queue.get(), 1) == key("a")


async def test_a_key_added_while_it_is_worked_waits_until_it_is_done() -> None:
    queue = WorkQueue()
    queue.add(key("a"))
    taken = await queue.get()
    queue.add(key("a"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    queue.done(taken)
    assert await asyncio.wait_for(queue.get(), 1) == key("a")


async def test_a_kind_keeps_its_interval() -> None:
    queue = WorkQueue()
    queue.set_min_interval("BuildRequest", 0.1)
    build = key("b", "BuildRequest")
    loop = asyncio.get_running_loop()
    queue.add(build)
    await queue.get()
    started = loop.time()
    queue.add(build)
    queue.done(build)
    assert await asyncio.wait_for(queue.get(), 1) == build
    assert loop.time() - started >= 0.09


async def test_a_kind_with_an_interval_comes_before_what_waits_longer() -> None:
    queue = WorkQueue()
    queue.set_min_interval("BuildRequest", 0.1)
    for name in "abc":
        queue.add(key(name))
    queue.add(key("b", "BuildRequest"))
    queue.add(key("later", "BuildRequest"), after=60)
    assert [(await queue.get()).kind for _ in range(4)] == ["BuildRequest", "AgentTask", "AgentTask", "AgentTask"]


async def test_an_urgent_key_comes_first_and_once() -> None:
    queue = WorkQueue()
    for name in "abc":
        queue.add(key(name))
    queue.add(key("c"), urgent=True)
    queue.add(key("d"), urgent=True)
    assert [await queue.get() for _ in range(len(queue))] == [key(name) for name in "cdab"]
    assert len(queue) == 0


async def test_many_waiters_get_many_keys() -> None:
    queue = WorkQueue()
    takers = [asyncio.create_task(queue.get()) for _ in range(20)]
    await asyncio.sleep(0)
    for n in range(20):
        queue.add(key(str(n)), after=0.01 * (n % 3))
    taken = await asyncio.wait_for(asyncio.gather(*takers), 2)
    assert sorted(taken) == sorted(key(str(n)) for n in range(20))


async def test_a_cancelled_waiter_loses_no_key() -> None:
    queue = WorkQueue()
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(key("a"))
    first.cancel()
    assert await asyncio.wait_for(second, 1) == key("a")


async def test_a_delayed_key_doesnt_hold_up_one_that_is_due() -> None:
    queue = WorkQueue()
    taker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(key("late"), after=30)
    queue.add(key("now"))
    assert await asyncio.wait_for(taker, 1) == key("now")
    assert queue.ready() == 0
    assert len(queue) == 1


async def test_what_happened_just_now_comes_first_and_the_rest_at_a_rate() -> None:
    now = 0.0
    queue = WorkQueue(lambda: now)
    for n in range(100):
        queue.add(key(f"old-{n}"))
    queue.add(key("later"), after=500)
    now = 100.0
    queue.add(key("old-7"))  # it changed again
    queue.add(key("new"))
    queue.newest_first(per_second=10)
    assert (await queue.get(), queue.ready()) == (key("new"), 0)
    now = 100.15
    assert (await queue.get(), queue.ready()) == (key("old-7"), 0)
    now = 110.05
    assert [(await queue.get()).name for _ in range(99)] == [f"old-{n}" for n in range(99, -1, -1) if n != 7]
    assert (len(queue), queue.ready()) == (1, 0)
