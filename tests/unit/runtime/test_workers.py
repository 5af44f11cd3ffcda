"""Workers: what becomes of a key when its reconcile ends one way or another."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from tidegate.errors import Conflict, NotLeaderError, PermanentError, TransientError
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.runtime.workers import Workers
from tidegate.settings import Settings

KEY = Key("AgentTask", "ns", "a")
OTHER = Key("AgentTask", "ns", "b")


def context(reconcile: Callable[[Key], Awaitable[float | None]]) -> Context:
    nothing = cast("Any", None)
    ctx = Context(Settings(), nothing, Cache(watched_kinds()), WorkQueue(), nothing)
    ctx.reconciler("AgentTask", reconcile)
    return ctx


async def run(ctx: Context, until: Callable[[], bool], number: int = 2) -> None:
    workers = Workers(ctx, number)
    workers.start()
    try:
        async with asyncio.timeout(5):
            while not until():  # noqa: ASYNC110 - a condition of the test's own
                await asyncio.sleep(0.005)
    finally:
        await workers.stop()


@pytest.mark.parametrize(
    "error", [TransientError("t"), Conflict(409, "Conflict", "moved"), PermanentError("R", "m"), ValueError("bug")]
)
async def test_a_failed_key_comes_back(error: Exception) -> None:
    calls: list[Key] = []

    async def reconcile(key: Key) -> None:
        calls.append(key)
        if len(calls) < 3:
            raise error

    ctx = context(reconcile)
    ctx.queue.add(KEY)
    await run(ctx, lambda: len(calls) == 3)
    assert calls == [KEY] * 3


async def test_one_failing_key_doesnt_hold_up_another() -> None:
    done: list[Key] = []

    async def reconcile(key: Key) -> None:
        if key == KEY:
            raise ValueError("bug")
        done.append(key)

    ctx = context(reconcile)
    ctx.queue.add(KEY)
    ctx.queue.add(OTHER)
    await run(ctx, lambda: done == [OTHER], number=1)


async def test_a_returned_time_brings_the_key_back() -> None:
    calls: list[float] = []
    loop = asyncio.get_running_loop()

    async def reconcile(_: Key) -> float | None:
        calls.append(loop.time())
        return 0.05 if len(calls) == 1 else None

    ctx = context(reconcile)
    ctx.queue.add(KEY)
    await run(ctx, lambda: len(calls) == 2)
    assert calls[1] - calls[0] >= 0.045
    assert len(ctx.queue) == 0


async def test_without_the_lease_the_key_stays_for_the_next_leader() -> None:
    async def reconcile(_: Key) -> None:
        raise NotLeaderError("lost")

    ctx = context(reconcile)
    ctx.queue.add(KEY)
    workers = Workers(ctx, 1)
    workers.start()
    await asyncio.sleep(0.02)
    await workers.stop()
    assert len(ctx.queue) == 1
    assert ctx.queue.running == 0


async def test_stopping_lets_running_work_end_and_keeps_what_had_to_be_cut() -> None:
    ended: list[Key] = []

    async def reconcile(key: Key) -> None:
        await asyncio.sleep(0.05 if key == KEY else 30)
        ended.append(key)

    ctx = context(reconcile)
    workers = Workers(ctx, 2)
    workers.start()
    ctx.queue.add(KEY)
    ctx.queue.add(OTHER)
    await asyncio.sleep(0.01)
    await workers.stop(grace_seconds=0.3)
    assert ended == [KEY]
    assert await ctx.queue.get() == OTHER


async def test_workers_start_again_after_a_stop() -> None:
    done: list[Key] = []

    async def reconcile(key: Key) -> None:
        done.append(key)

    ctx = context(reconcile)
    workers = Workers(ctx, 1)
    workers.start()
    await workers.stop()
    ctx.queue.add(KEY)
    workers.start()
    await asyncio.sleep(0.05)
    await workers.stop()
    assert done == [KEY]
