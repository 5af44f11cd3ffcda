"""Comparing the cache with the real API server: what no watch event told of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.valid import SPECS
from tidegate.clients.kube import Kube
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.runtime.resync import GET_AT_MOST, catch_up, resync_kind
from tidegate.runtime.writer import Writer
from tidegate.settings import Settings

pytestmark = pytest.mark.cluster
TASK = watched_kinds()["AgentTask"]


@pytest.fixture
async def ctx(kubeconfig: Path, cluster: Cluster, namespace: str) -> AsyncIterator[Context]:
    """A context without watches: nothing reaches the cache by itself."""
    kube = await Kube.connect(str(kubeconfig))
    cache = Cache(watched_kinds())
    yield Context(Settings(namespaces=[namespace]), kube, cache, WorkQueue(), Writer(kube, cache, lambda: None))
    await kube.close()


async def make(ctx: Context, namespace: str, name: str) -> Key:
    await ctx.writer.create("AgentTask", namespace, {"metadata": {"name": name}, "spec": SPECS["AgentTask"]})
    return Key("AgentTask", namespace, name)


async def test_a_ghost_is_dropped_and_its_key_queued(ctx: Context, namespace: str) -> None:
    gone, stays = await make(ctx, namespace, "gone"), await make(ctx, namespace, "stays")
    await ctx.kube.delete("AgentTask", namespace, "gone")
    found = await resync_kind(ctx, TASK)
    assert found.ghosts == (gone,)
    assert ctx.cache.get(gone) is None
    assert ctx.cache.get(stays) is not None
    assert await ctx.queue.get() == gone


async def test_a_new_object_of_the_same_name_replaces_the_ghost(ctx: Context, namespace: str) -> None:
    key = await make(ctx, namespace, "a")
    old = ctx.cache.get(key).meta.uid
    await ctx.kube.delete("AgentTask", namespace, "a")
    await ctx.kube.create("AgentTask", namespace, {"metadata": {"name": "a"}, "spec": SPECS["AgentTask"]})
    found = await resync_kind(ctx, TASK)
    assert found.missed == (key,)
    assert ctx.cache.get(key).meta.uid != old


async def test_missed_objects_and_changes_are_fetched(ctx: Context, namespace: str) -> None:
    key = await make(ctx, namespace, "a")
    await ctx.kube.patch("AgentTask", namespace, "a", {"status": {"state": "Assigned"}}, status=True)
    for n in range(GET_AT_MOST + 5):
        await ctx.kube.create("AgentTask", namespace, {"metadata": {"name": f"t{n}"}, "spec": SPECS["AgentTask"]})
    await resync_kind(ctx, TASK)
    assert ctx.cache.get(key).state == "Assigned"
    assert ctx.cache.count("AgentTask") == GET_AT_MOST + 6


async def test_a_new_leader_asks_only_for_what_holds_a_slot(ctx: Context, namespace: str) -> None:
    for name in ("resting", "active", "complete"):
        await ctx.kube.create("AgentTask", namespace, {"metadata": {"name": name}, "spec": SPECS["AgentTask"]})
    await ctx.kube.patch("AgentTask", namespace, "active", {"status": {"state": "Assigned"}}, status=True)
    await ctx.kube.patch("AgentTask", namespace, "complete", {"status": {"state": "Complete"}}, status=True)
    await catch_up(ctx, watched_kinds())
    assert ctx.cache.keys("AgentTask") == (Key("AgentTask", namespace, "active"),)
