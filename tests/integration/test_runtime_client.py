"""The API client and the guarded writer against the real API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.valid import SPECS
from tidegate.clients.kube import Kube
from tidegate.clients.resources import resource_of
from tidegate.errors import AlreadyExists, Conflict, Invalid, NotFound, NotLeaderError
from tidegate.runtime.cache import Cache
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.writer import Writer

pytestmark = pytest.mark.cluster


def task(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": SPECS["AgentTask"]}


@pytest.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    client = await Kube.connect(str(kubeconfig))
    yield client
    await client.close()


async def test_a_stale_resource_version_is_a_conflict_and_changes_nothing(kube: Kube, namespace: str) -> None:
    made = await kube.create("AgentTask", namespace, task("a"))
    stale = int(made["metadata"]["resourceVersion"])
    cache = Cache(watched_kinds())
    writer = Writer(kube, cache, lambda: None)
    key = Key("AgentTask", namespace, "a")
    await writer.patch_status(key, {"state": "Assigned"}, resource_version=stale)
    assert cache.get(key).state == "Assigned"  # the answer is in the cache at once
    with pytest.raises(Conflict):
        await writer.patch_status(key, {"state": "Failed"}, resource_version=stale)
    assert (await kube.get("AgentTask", namespace, "a"))["status"]["state"] == "Assigned"


async def test_of_many_writers_with_one_version_exactly_one_wins(kube: Kube, namespace: str) -> None:
    made = await kube.create("AgentTask", namespace, task("a"))
    writer = Writer(kube, Cache(watched_kinds()), lambda: None)
    key, version = Key("AgentTask", namespace, "a"), int(made["metadata"]["resourceVersion"])
    results = await asyncio.gather(
        *(writer.patch_status(key, {"ref": f"refs/{n}"}, resource_version=version) for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 9


async def test_a_second_create_is_told_apart_from_a_conflict(kube: Kube, namespace: str) -> None:
    await kube.create("AgentTask", namespace, task("a"))
    with pytest.raises(AlreadyExists):
        await kube.create("AgentTask", namespace, task("a"))


async def test_a_bad_object_names_the_field(kube: Kube, namespace: str) -> None:
    bad = {"metadata": {"name": "a"}, "spec": {**SPECS["AgentTask"], "priority": 11}}
    with pytest.raises(Invalid, match=r"spec\.priority"):
        await kube.create("AgentTask", namespace, bad)


async def test_delete_asks_for_the_uid_and_is_content_when_it_is_gone(kube: Kube, namespace: str) -> None:
    made = await kube.create("AgentTask", namespace, task("a"))
    with pytest.raises(Conflict):
        await kube.delete("AgentTask", namespace, "a", uid="another")
    await kube.delete("AgentTask", namespace, "a", uid=made["metadata"]["uid"])
    await kube.delete("AgentTask", namespace, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await kube.get("AgentTask", namespace, "a")


async def test_lists_are_whole_over_several_pages(kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.clients.kube.PAGE", 3)
    for n in range(8):
        await kube.create("AgentTask", namespace, task(f"t{n}"))
    items, version = await kube.list("AgentTask", namespace)
    metadata, _ = await kube.list_metadata("AgentTask", namespace)
    names = sorted(item["metadata"]["name"] for item in items)
    assert names == [f"t{n}" for n in range(8)] == sorted(item["metadata"]["name"] for item in metadata)
    assert int(version) >= max(int(item["metadata"]["resourceVersion"]) for item in items)
    assert all("spec" not in item for item in metadata)


async def test_without_the_lease_nothing_is_sent(kube: Kube, namespace: str) -> None:
    def guard() -> None:
        raise NotLeaderError("not now")

    writer = Writer(kube, Cache(watched_kinds()), guard)
    with pytest.raises(NotLeaderError):
        await writer.create("AgentTask", namespace, task("a"))
    with pytest.raises(NotFound):
        await kube.get("AgentTask", namespace, "a")


async def test_events_show_on_the_object_and_only_once(kube: Kube, namespace: str, cluster: Cluster) -> None:
    made = await kube.create("AgentTask", namespace, task("a"))
    view = watched_kinds()["AgentTask"].view(made)
    writer = Writer(kube, Cache(watched_kinds()), lambda: None)
    for _ in range(3):
        await writer.event("AgentTask", view, "Warning", "NoHandoff", "it wrote \x1b[31mnone")
    described = cluster.kubectl("describe", "agenttask", "a", "-n", namespace)
    assert "NoHandoff" in described
    assert "\x1b" not in described
    events = [e for e in cluster.list("events", namespace) if e["reason"] == "NoHandoff"]
    assert len(events) == 1


async def test_apply_makes_and_changes(kube: Kube, namespace: str) -> None:
    writer = Writer(kube, Cache(watched_kinds()), lambda: None)
    policy = {"metadata": {"name": "p"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    await writer.apply("NetworkPolicy", namespace, policy)
    policy["spec"] = {"podSelector": {}, "policyTypes": ["Egress"]}
    await writer.apply("NetworkPolicy", namespace, policy)
    assert (await kube.get("NetworkPolicy", namespace, "p"))["spec"]["policyTypes"] == ["Egress"]


async def test_a_library_that_lists_gets_objects_without_managed_fields(kube: Kube, namespace: str) -> None:
    await kube.create("AgentTask", namespace, task("a"))
    assert "managedFields" in (await kube.get("AgentTask", namespace, "a"))["metadata"]
    session, server = await kube.new_session()
    async with session, session.get(server + resource_of("AgentTask").path(namespace)) as answer:
        [item] = (await answer.json())["items"]
    assert item["metadata"]["name"] == "a"
    assert "managedFields" not in item["metadata"]
