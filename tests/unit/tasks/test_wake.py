"""What the change of another object means for tasks."""

from tests.support.builds_model import NS, build_object
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.settings import Settings
from tidegate.tasks import reconcile as tasks


async def test_a_task_that_was_given_a_slot_is_looked_at_before_others() -> None:
    cache, queue = Cache(watched_kinds()), WorkQueue()
    tasks.install(Context(Settings(), None, cache, queue, None))  # type: ignore[arg-type]
    build = build_object("b")
    build["metadata"] |= {"namespace": NS, "uid": "b-1"}
    for version, slots in enumerate([["old"], ["old", "new"]]):
        queue.add(Key("AgentTask", NS, "other"))
        build = build | {"status": {"slots": slots}}
        build["metadata"] = build["metadata"] | {"resourceVersion": str(version + 1)}
        cache.offer("BuildRequest", build)
    assert [(await queue.get()).name for _ in range(len(queue))] == ["new", "other"]
