"""How often a build's status is written: at once where it says something new, now and then where it counts."""

from __future__ import annotations

import itertools

from tests.support.builds_model import NS, Model, build_object
from tidegate.builds import status
from tidegate.builds.status import GRANT_SECONDS, TALLY_SECONDS
from tidegate.runtime.keys import Key

OLD = {
    "tasks": {"total": 3}, "tasksSummary": "0/3", "slots": ["a", "b"], "iteration": 1,
    "conditions": [{"type": "Planned", "status": "True", "reason": "AsExpected", "message": "1"}],
}  # fmt: skip


def test_what_may_wait() -> None:
    counted = OLD | {"tasksSummary": "1/3", "slots": ["b"]}
    reworded = OLD | {"conditions": [OLD["conditions"][0] | {"message": "2"}]}  # type: ignore[index]
    assert status.may_wait(counted, OLD) == status.may_wait(reworded, OLD) == TALLY_SECONDS
    assert status.may_wait(OLD | {"slots": ["b", "c"]}, OLD) == GRANT_SECONDS


def test_what_may_not() -> None:
    turned = OLD | {"conditions": [OLD["conditions"][0] | {"status": "False"}]}  # type: ignore[index]
    for new in (OLD | {"iteration": 2}, turned, OLD | {"conditions": []}, OLD | {"completionTime": "now"}):
        assert status.may_wait(new, OLD) == 0.0


def test_counts_are_written_when_their_time_has_come() -> None:
    tasks = [{"name": name, "prompt": "x"} for name in "abc"]
    model = Model(build_object(planning={"tasks": tasks}, workers={"maxParallel": 3}))
    model.settle()
    for task in [t["metadata"]["name"] for t in model.all("AgentTask")]:
        assert model.start(task)
    model.settle()
    still = next(model.looks)
    model.ctx.monotonic = lambda: still
    reconcile = model.ctx.reconcilers["BuildRequest"]
    reconcile._wrote = dict.fromkeys(reconcile._wrote, still - 0.25 * TALLY_SECONDS)  # type: ignore[attr-defined]
    key, before = Key("BuildRequest", NS, model.name), model.build["status"]["tasks"]
    model.status("AgentTask", next(iter(t["metadata"]["name"] for t in model.all("AgentTask"))), {"state": "Failed"})
    again = model.run(reconcile(key))
    assert again is not None
    assert 0 < again <= 0.75 * TALLY_SECONDS
    assert model.build["status"]["tasks"] == before
    model.ctx.monotonic = itertools.count(still + 10).__next__
    model.run(reconcile(key))
    assert model.build["status"]["tasks"]["failed"] == 1
