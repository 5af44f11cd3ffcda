"""Whatever is added when: a key is never worked twice at once, and every addition is followed by a start."""

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.runtime.keys import Key
from tidegate.runtime.queue import WorkQueue

ADDS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.001, 0.003]), st.booleans()), max_size=40)


@given(adds=ADDS, workers=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_never_twice_at_once_and_nothing_lost(adds: list[tuple[int, float, bool]], workers: int, seed: int) -> None:
    async def scenario() -> None:
        queue, chance = WorkQueue(), random.Random(seed)
        running: set[Key] = set()
        waiting: set[Key] = set()

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in running
                running.add(key)
                waiting.discard(key)
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
                running.discard(key)
                queue.done(key)

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        for number, after, pause in adds:
            key = Key("AgentTask", "ns", str(number))
            queue.add(key, after)
            waiting.add(key)
            if pause:
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while len(queue) or queue.running:  # noqa: ASYNC110 - the queue has no such event
                await asyncio.sleep(0.002)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        assert not waiting

    asyncio.run(scenario())
