"""The indexes at size: an event costs its neighbours, not the build."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.support.builds_model import NS, Model, build_object, static
from tidegate.builds.decide.build import decide
from tidegate.builds.reconcile import BuildReconciler
from tidegate.runtime.keys import Key

CHAINS, LENGTH, SLOTS = 2000, 5, 200


def task(model: Model, chain: int, link: int, version: int, status: dict[str, Any]) -> dict[str, Any]:
    deps = [{"name": f"c{chain}-{link - 1}", "until": "Merged"}] if link else []
    owner = {"kind": "BuildRequest", "name": "mk", "uid": model.build["metadata"]["uid"], "controller": True}
    return {
        "metadata": {
            "name": f"c{chain}-{link}",
            "namespace": NS,
            "uid": f"u{chain}-{link}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [owner],
        },
        "spec": {"buildRef": {"name": "mk"}, "prompt": "x", "dependsOn": deps, "priority": 1 + chain % 10},
        "status": status,
    }


def room(model: Model) -> BuildReconciler:
    found = model.ctx.reconcilers["BuildRequest"]
    assert isinstance(found, BuildReconciler)
    return found


def test_ten_thousand_tasks_in_chains_cost_little() -> None:
    model = Model(build_object(planning=static({"name": "a"}), workers={"maxParallel": SLOTS}))
    model.settle()
    version = 1_000_000
    for chain in range(CHAINS):
        for link in range(LENGTH):
            version += 1
            model.cache.offer("AgentTask", task(model, chain, link, version, {}))
    index, uid = room(model)._index, model.build["metadata"]["uid"]
    assert len(index.state(uid).ready) == CHAINS + 1

    started = time.process_time()
    rounds = 100
    for _ in range(rounds):
        world = asyncio.run(room(model)._observer.world(model.cache.get(Key("BuildRequest", NS, "mk"))))
        decision = decide(world)
    per_round = (time.process_time() - started) / rounds
    assert decision.status is not None
    assert len(decision.status.slots) == SLOTS

    merged = {"state": "Complete", "conditions": [{"type": "Merged", "status": "True"}]}
    opened = {"state": "Running", "attempts": [{"number": 1}]}
    started = time.process_time()
    events = 0
    for chain in range(0, CHAINS, 4):
        for link in range(LENGTH):
            for status in (opened, merged):
                version += 1
                events += 1
                model.cache.offer("AgentTask", task(model, chain, link, version, status))
    per_event = (time.process_time() - started) / events
    assert len(index.state(uid).ready) == CHAINS + 1 - CHAINS // 4
    # Far above what it takes, far below what walking 10,000 tasks for each event would.
    assert per_event < 0.001
    assert per_round < 0.02
