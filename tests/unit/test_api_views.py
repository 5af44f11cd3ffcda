"""What the cache keeps of the objects that the API server sends."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tidegate import names
from tidegate.api import views

META: dict[str, Any] = {
    "namespace": "team-a",
    "name": "one",
    "uid": "u-1",
    "resourceVersion": "42",
    "generation": 3,
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:secret-text": {}}}],
}
EVERY_VIEW = [
    views.TaskView,
    views.PodView,
    views.BuildView,
    views.MergeJobView,
    views.LaneView,
    views.GateRunView,
    views.ClassView,
    views.ProfileView,
]


@pytest.mark.parametrize("view", EVERY_VIEW)
def test_an_object_without_status_and_spec_can_be_read(view: type[views.View]) -> None:
    seen = view.from_object({"metadata": META})
    assert seen.meta.name == "one"
    assert (seen.meta.resource_version, seen.meta.generation) == (42, 3)
    assert not seen.meta.deleting
    assert "secret-text" not in repr(seen)


def test_the_controlling_owner_is_known() -> None:
    owners = [{"uid": "other"}, {"uid": "owner", "controller": True}]
    meta = {**META, "ownerReferences": owners, "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
    seen = views.Meta.from_object({"metadata": meta})
    assert (seen.owner_uid, seen.deleting, seen.finalizers) == ("owner", True, ("x/y",))


def task(**status: Any) -> views.TaskView:
    spec = {
        "buildRef": {"name": "b"},
        "prompt": "PROMPT",
        "priority": 2,
        "dependsOn": [{"name": "first"}, {"name": "second", "until": "Complete"}],
    }
    return views.TaskView.from_object({"metadata": META, "spec": spec, "status": status})


def test_a_task_is_read_without_prompt_and_handoff() -> None:
    seen = task(state="Complete", handoff={"summary": "HANDOFF"}, commit="c")
    assert "PROMPT" not in repr(seen)
    assert "HANDOFF" not in repr(seen)
    assert seen.status() == {"state": "Complete", "commit": "c"}
    assert (seen.build, seen.priority, seen.commit) == ("b", 2, "c")
    assert seen.depends_on == (("first", "Merged"), ("second", "Complete"))


def test_a_new_task_is_pending_without_attempts() -> None:
    seen = task()
    assert (seen.state, seen.attempt, seen.attempt_open, seen.merged) == ("Pending", 0, False, False)
    assert seen.status() == {}


def test_the_newest_attempt_counts_wherever_it_stands() -> None:
    ended = {"number": 1, "endTime": "2026-01-01T00:00:00Z"}
    assert (task(attempts=[{"number": 2}, ended]).attempt, task(attempts=[{"number": 2}, ended]).attempt_open) == (
        2,
        True,
    )
    assert not task(attempts=[ended]).attempt_open


@pytest.mark.parametrize(("status", "merged"), [("True", True), ("False", False), ("Unknown", False)])
def test_merged_is_what_the_condition_says(status: str, merged: bool) -> None:
    assert task(conditions=[{"type": "Merged", "status": status}]).merged is merged


def test_a_build_is_read_without_its_texts() -> None:
    spec = {
        "request": "REQUEST",
        "repository": {"url": "https://example.org/a.git"},
        "planning": {"tasks": [{"name": "t", "prompt": "PROMPT"}], "maxTasks": 3},
        "workers": {"maxParallel": 7},
    }
    obj: dict[str, Any] = {"metadata": META, "spec": spec, "status": {"slots": ["t"]}}
    seen = views.BuildView.from_object(obj)
    assert "REQUEST" not in repr(seen)
    assert "PROMPT" not in repr(seen)
    assert seen.spec["planning"] == {"tasks": [{"name": "t"}], "maxTasks": 3}
    assert (seen.max_parallel, seen.slots, seen.target_branch) == (7, ("t",), "main")
    assert obj["spec"]["planning"]["tasks"][0]["prompt"] == "PROMPT"  # the object itself is left alone


def test_log_tails_stay_in_the_gate_runs() -> None:
    status: dict[str, Any] = {"gates": [{"name": "tests", "verdict": "Failed", "logTail": "LOG"}], "logTail": "LOG"}
    job = views.MergeJobView.from_object({"metadata": META, "status": status})
    run = views.GateRunView.from_object({"metadata": META, "status": status})
    assert job.status["gates"] == [{"name": "tests", "verdict": "Failed"}]
    assert run.status["logTail"] == "LOG"
    assert status["gates"][0]["logTail"] == "LOG"


def test_a_pod_tells_how_its_containers_are() -> None:
    labels = {names.LABEL_TASK: "one", names.LABEL_ATTEMPT: "3", names.LABEL_COMPONENT: names.COMPONENT_AGENT}
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}],
        "initContainerStatuses": [{"name": "workspace", "state": {"terminated": {"exitCode": 0, "message": "{}"}}}],
        "containerStatuses": [
            {"name": "agent", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "restartCount": 1},
            {"name": "publisher", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}},
        ],
    }
    seen = views.PodView.from_object(
        {"metadata": {**META, "labels": labels}, "spec": {"nodeName": "n"}, "status": status}
    )
    assert (seen.task, seen.attempt, seen.component, seen.node) == ("one", 3, "agent", "n")
    assert (seen.terminal, seen.disrupted, seen.reason) == (True, "TerminationByKubelet", "Evicted")
    agent, publisher, workspace = (seen.container(name) for name in ("agent", "publisher", "workspace"))
    assert agent is not None
    assert (agent.state, agent.exit_code, agent.reason, agent.restarts) == ("Terminated", 137, "OOMKilled", 1)
    assert publisher is not None
    assert (publisher.state, publisher.exit_code, publisher.reason) == ("Waiting", None, "ImagePullBackOff")
    assert workspace is not None
    assert workspace.message == "{}"
    assert seen.container("nobody") is None


def test_a_label_that_is_no_number_reads_as_zero() -> None:
    seen = views.PodView.from_object({"metadata": {**META, "labels": {names.LABEL_ATTEMPT: "many"}}})
    assert seen.attempt == 0


def test_views_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        task().state = "Running"  # type: ignore[misc]
