"""A remote that hangs delays its own lane alone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from tests.property.lane.fakeapi import FakeKube
from tests.property.lane.machine import NAMESPACE, World
from tests.unit.lane.test_recovery import jobs, queue
from tidegate import names
from tidegate.api import reasons
from tidegate.clients.kube import Kube
from tidegate.errors import TidegateError
from tidegate.lane.index import install_indexes
from tidegate.lane.reconcile import Lanes
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.runtime.writer import Writer
from tidegate.settings import Settings

HANGING = 5  # lanes


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
def hung() -> Iterator[str]:
    """URL of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_lane_goes_on_while_the_remotes_of_others_hang(world: World, hung: str, tmp_path: Path) -> None:
    cache = Cache(watched_kinds())
    kube = cast("Kube", FakeKube(world.api))
    settings = Settings(allow_file_urls=True, allowed_http_hosts=["127.0.0.1"], mirror_dir=str(tmp_path / "mirrors"))
    ctx = Context(settings, kube, cache, WorkQueue(), Writer(kube, cache, lambda: None))
    install_indexes(ctx)
    queue(world)
    others = [f"{hung}/{number}.git" for number in range(HANGING)]
    for url in others:
        spec = {"repository": {"url": url}, "sourceRef": "refs/heads/x", "sourceCommit": "a" * 40}
        world.api.create("MergeLane", NAMESPACE, {"metadata": {"name": names.lane_name(url, "main")},
                                                  "spec": {"repository": {"url": url}}})  # fmt: skip
        job = {**spec, "targetBranch": "main", "strategy": "Rebase", "desiredState": "Run"}
        cache.offer("MergeJob", {"metadata": {"name": f"x-{url[-5]}", "namespace": NAMESPACE, "uid": url,
                                              "resourceVersion": "1"}, "spec": job})  # fmt: skip
    lanes = Lanes(ctx)

    def look() -> None:
        for kind, _, obj in world.api.events:
            if cache.watches(kind):
                cache.offer(kind, obj)

    async def work() -> None:
        look()
        hanging = [
            asyncio.create_task(_swallow(lanes, Key("MergeLane", NAMESPACE, names.lane_name(url, "main"))))
            for url in others
        ]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in hanging)
        deadline = time.monotonic() + 20
        while jobs(world)[0][0] != "Merged" and time.monotonic() < deadline:
            await lanes.reconcile(world.lane)
            world.judge()
            look()
        assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)]
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    asyncio.run(work())


async def _swallow(lanes: Lanes, key: Key) -> None:
    with suppress(TidegateError):
        await lanes.reconcile(key)
