"""Good objects are accepted, get their defaults, and keep what may not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT, Cluster, RefusedError, fresh_name
from tests.support.fill import LIMIT_BYTES
from tests.support.largest import largest, largest_status
from tests.support.valid import COMMIT, REMOVED, SPECS, URL, Object, changed, valid
from tidegate.api.printing import KINDS, KindInfo

pytestmark = pytest.mark.cluster

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def create(cluster: Cluster, obj: Object, namespace: str = "default", *, dry: bool = True, user: str = "") -> Object:
    """Create an object as a strict client does, perhaps as another administrator; what the API server made of it."""
    flags = ["--dry-run=server"] if dry else []
    flags += [f"--as={user}", "--as-group=system:masters"] if user else []
    command = ["create", "-n", namespace, "--validate=strict", *flags, "-o", "json", "-f", "-"]
    made: Object = json.loads(cluster.kubectl(*command, stdin=json.dumps(obj)))
    return made


SMALLEST: list[tuple[str, Object]] = [
    (
        "BuildRequest",
        {
            "request": "Add a module `fractions` with add, sub, mul and div of rational numbers, with tests.",
            "repository": {"url": URL, "credentialsSecretName": "git-token"},
        },
    ),
    ("BuildRequest", {"requestFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}, "repository": {"url": URL}}),
    ("AgentTask", {"buildRef": {"name": "mathkit"}, "prompt": "p"}),
    ("AgentTask", {"repository": {"url": "http://git.example.org:3000/a.git"}, "prompt": "p"}),
    ("AgentTask", {"repository": {"url": "file:///srv/git/a.git"}, "prompt": "#!/bin/sh\ntrue"}),
    ("AgentTask", {"repository": {"url": "https://[2001:db8::1]/a/b.git"}, "prompt": "p", "role": "Planner"}),
    ("MergeJob", {"repository": {"url": URL}, "sourceRef": "refs/heads/x", "sourceCommit": COMMIT}),
    ("MergeJob", {"repository": {"url": URL}, "sourceRef": "refs/heads/x", "sourceCommit": "0" * 64}),
    (
        "AgentTask",
        {
            "buildRef": {"name": "mathkit"},
            "prompt": "p",
            "role": "Fixer",
            "resolves": {
                "mergeJobName": "a-1",
                "taskRef": {"name": "a", "uid": "b"},
                "sourceRef": "refs/tidegate/tasks/b",
                "sourceCommit": COMMIT,
            },
        },
    ),
    ("MergeLane", {"repository": {"url": URL}}),
    ("MergeLane", {"repository": {"url": URL}, "refPrefix": "refs/heads/tidegate/lanes", "frozen": True}),
    (
        "GateRun",
        {
            "repository": {"url": URL},
            "commit": COMMIT,
            "fetchRef": "refs/heads/main",
            "gate": {"name": "t", "image": "a", "command": ["true"]},
        },
    ),
    ("AgentClass", {"engine": {"protocol": "Planner"}, "model": "qwen2.5-coder"}),
    ("AgentClass", {"engine": {"protocol": "Script"}, "image": "localhost/agent@sha256:" + "0" * 64}),
    ("GateProfile", {"gates": [{"name": "t", "image": "a", "command": ["true"]}]}),
    (
        "GateProfile",
        {
            "gates": [{"name": "t", "image": "a", "command": ["true"]}],
            "requiredFor": [{"repository": "git.example.org/team/*", "branch": "release/*"}, {"repository": "**"}],
        },
    ),
    ("GateProfile", {"gates": [{"name": "t", "http": {"url": "http://policy.team-a.svc:8080/check"}}]}),
    ("GateProfile", {"gates": [{"name": "t", "review": {"agentClassName": "reviewer"}}]}),
    ("AgentClass", {"engine": {"protocol": "Reviewer"}}),
    (
        "GateRun",
        {
            "repository": {"url": URL},
            "commit": COMMIT,
            "fetchRef": "refs/heads/main",
            "gate": {"name": "t", "review": {"agentClassName": "reviewer"}},
            "change": {"patchId": COMMIT, "baseCommits": [COMMIT]},
        },
    ),
    (
        "AgentTask",
        {
            "repository": {"url": URL},
            "prompt": "p",
            "role": "Reviewer",
            "reviews": {"sourceRef": "refs/heads/x", "sourceCommit": COMMIT, "baseCommits": [COMMIT]},
        },
    ),
]


@pytest.mark.parametrize(
    ("kind", "spec"), SMALLEST, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(SMALLEST)]
)
def test_the_smallest_objects_are_accepted(cluster: Cluster, kind: str, spec: Object) -> None:
    made = create(cluster, {**valid(kind), "spec": spec})
    assert made["spec"].items() >= {key: spec[key] for key in spec if not isinstance(spec[key], dict | list)}.items()


@pytest.mark.parametrize("kind", SPECS)
def test_the_objects_that_other_tests_spoil_are_good(cluster: Cluster, kind: str) -> None:
    create(cluster, valid(kind))


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_accepted(cluster: Cluster, example: Path) -> None:
    cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", str(example))


def test_a_build_gets_its_defaults(cluster: Cluster) -> None:
    spec = create(cluster, {**valid("BuildRequest"), "spec": SMALLEST[0][1]})["spec"]
    assert spec["repository"]["targetBranch"] == "main"
    assert spec["repository"]["publishBranches"] == "Never"
    assert spec["repository"]["branchPrefix"] == "tidegate/"
    assert spec["planning"] == {"maxIterations": 100, "replanAfterHandoffs": 3, "maxTasks": 500}
    assert spec["workers"] == {
        "maxParallel": 50,
        "timeoutSeconds": 1800,
        "startTimeoutSeconds": 600,
        "retry": {"limit": 2, "backoffSeconds": 10, "maxBackoffSeconds": 300},
    }
    assert spec["merge"] == {
        "strategy": "Rebase", "maxConflictRetries": 2, "maxConflictFixTasks": 30, "allowFewerTests": False,
    }  # fmt: skip
    assert spec["sweep"] == {
        "intervalSeconds": 300,
        "errorIntervalSeconds": 60,
        "greenSweepsToRelax": 3,
        "maxFixTasks": 5,
    }
    assert spec["finalization"] == {"enabled": True, "maxAttempts": 3, "sweepTimeoutSeconds": 120}
    assert (spec["desiredState"], spec["deleteAfterFinished"]) == ("Active", False)


def test_the_largest_plan_of_a_chain_is_accepted(cluster: Cluster) -> None:
    tasks = [
        {"name": f"t{i}", "prompt": "p" * 400, "dependsOn": [f"t{j}" for j in range(max(0, i - 4), i)]}
        for i in range(200)
    ]
    create(cluster, changed(valid("BuildRequest"), "spec.planning", {"tasks": tasks}))


@EVERY_KIND
def test_an_object_filled_to_its_bounds_is_accepted_and_small(cluster: Cluster, namespace: str, kind: KindInfo) -> None:
    obj = largest(kind, fresh_name("full"))
    answering = obj["spec"].get("approval", {}).get("by", "")  # where a release is installed, nobody else may
    made = create(cluster, obj, namespace, dry=False, user=answering)
    name = made["metadata"]["name"]
    try:
        assert len(json.dumps(made["spec"])) < LIMIT_BYTES
        if not kind.has_status:
            return
        status = largest_status(kind)
        command = ["patch", kind.plural, name, "-n", namespace, "--subresource=status", "--type=merge", "-o", "json"]
        stored = json.loads(cluster.kubectl(*command, "--patch-file=/dev/stdin", stdin=json.dumps({"status": status})))
        assert stored["status"] == status  # nothing pruned, nothing filled in
        assert len(json.dumps(stored["status"])) < LIMIT_BYTES
    finally:
        cluster.kubectl("delete", kind.plural, name, "-n", namespace, "--wait=false")


UNCHANGEABLE: list[tuple[str, str, Any]] = [
    ("BuildRequest", "spec.request", "something else"),
    ("BuildRequest", "spec.repository.url", f"{URL}x"),
    ("BuildRequest", "spec.repository.targetBranch", "other"),
    ("BuildRequest", "spec.repository.author", REMOVED),
    ("BuildRequest", "spec.planning.tasks.0.prompt", "other"),
    ("BuildRequest", "spec.planning.tasks", REMOVED),
    ("BuildRequest", "spec.planning.maxTasks", 3),
    ("BuildRequest", "spec.workers.agentClassName", REMOVED),
    ("BuildRequest", "spec.workers.agentClassName", "other"),
    ("BuildRequest", "spec.workers.timeoutSeconds", 60),
    ("BuildRequest", "spec.workers.retry.limit", 2),
    ("BuildRequest", "spec.workers.resources", REMOVED),
    ("BuildRequest", "spec.merge.strategy", "Rebase"),
    ("BuildRequest", "spec.merge.gateProfileName", REMOVED),
    ("BuildRequest", "spec.merge.allowFewerTests", True),
    ("AgentTask", "spec.repository.url", f"{URL}x"),
    ("AgentTask", "spec.allowFewerTests", True),
    ("AgentTask", "spec.prompt", "other"),
    ("AgentTask", "spec.role", "Tester"),
    ("AgentTask", "spec.scope", REMOVED),
    ("AgentTask", "spec.acceptance", ["new"]),
    ("AgentTask", "spec.dependsOn", [{"name": "first"}]),
    ("AgentTask", "spec.agentClassName", "new"),
    ("AgentTask", "spec.timeoutSeconds", 5),
    ("AgentTask", "spec.gateProfileName", "new"),
    ("AgentTask", "spec.ownGates", {"profileName": "minimal"}),
    ("BuildRequest", "spec.workers.ownGates", {"profileName": "minimal"}),
    ("AgentTask", "spec.retryLimit", 3),
    ("MergeJob", "spec.sourceCommit", "f" * 40),
    ("MergeJob", "spec.sourceRef", "refs/heads/other"),
    ("MergeJob", "spec.targetBranch", "other"),
    ("MergeJob", "spec.taskRef", REMOVED),
    ("MergeJob", "spec.priority", 1),
    ("MergeJob", "spec.strategy", "Squash"),
    ("MergeJob", "spec.gateProfileName", "minimal"),
    ("MergeJob", "spec.allowFewerTests", True),
    ("MergeJob", "spec.repository.credentialsSecretName", "other"),
    ("MergeLane", "spec.repository.url", f"{URL}x"),
    ("MergeLane", "spec.targetBranch", "other"),
    ("MergeLane", "spec.refPrefix", "refs/tidegate/x"),
    ("GateRun", "spec.commit", "f" * 40),
    ("GateRun", "spec.gate.command", ["true"]),
    ("GateRun", "spec.gate.env", REMOVED),
    ("GateRun", "spec.number", 2),
]

CHANGEABLE: list[tuple[str, str, Any]] = [
    ("BuildRequest", "spec.desiredState", "Cancelled"),
    ("BuildRequest", "spec.workers.maxParallel", 9),
    ("BuildRequest", "spec.sweep.intervalSeconds", 9),
    ("BuildRequest", "spec.finalization.enabled", False),
    ("BuildRequest", "spec.ttlSecondsAfterFinished", REMOVED),
    ("BuildRequest", "spec.deleteAfterFinished", True),
    ("AgentTask", "spec.desiredState", "Cancelled"),
    ("AgentTask", "spec.priority", 1),
    ("MergeJob", "spec.desiredState", "Cancelled"),
    ("MergeLane", "spec.frozen", True),
    ("MergeLane", "spec.strategies", ["Squash"]),
    ("MergeLane", "spec.requiredGateProfileName", "strict"),
]

UPDATED_KINDS = ("BuildRequest", "AgentTask", "MergeJob", "MergeLane", "GateRun")


@pytest.fixture(scope="module")
def stored(cluster: Cluster) -> Iterator[dict[str, Object]]:
    """One stored object of each kind that has rules about changes."""
    namespace = fresh_name("admission")
    cluster.create_namespace(namespace)
    yield {kind: create(cluster, valid(kind), namespace, dry=False) for kind in UPDATED_KINDS}
    cluster.delete_namespace(namespace)


def replace(cluster: Cluster, obj: Object) -> None:
    namespace = obj["metadata"]["namespace"]
    cluster.kubectl("replace", "-n", namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(obj))


def _id(case: tuple[str, str, Any]) -> str:
    return f"{case[0]}-{case[1]}-{'removed' if case[2] is REMOVED else 'changed'}"


@pytest.mark.parametrize("case", UNCHANGEABLE, ids=_id)
def test_what_may_not_change(cluster: Cluster, stored: dict[str, Object], case: tuple[str, str, Any]) -> None:
    kind, field, value = case
    with pytest.raises(RefusedError) as refusal:
        replace(cluster, changed(stored[kind], field, value))
    message = str(refusal.value)
    assert "can't be changed" in message, message
    assert field.split(".")[1] in message or kind == "GateRun", message
    assert f"make a new {kind}" in message


@pytest.mark.parametrize("case", CHANGEABLE, ids=_id)
def test_what_may_change(cluster: Cluster, stored: dict[str, Object], case: tuple[str, str, Any]) -> None:
    kind, field, value = case
    replace(cluster, changed(stored[kind], field, value))


@pytest.mark.parametrize(("kind", "active"), [("BuildRequest", "Active"), ("AgentTask", "Run"), ("MergeJob", "Run")])
def test_a_cancel_is_final(cluster: Cluster, namespace: str, kind: str, active: str) -> None:
    made = create(cluster, changed(valid(kind), "spec.desiredState", "Cancelled"), namespace, dry=False)
    with pytest.raises(RefusedError, match="desiredState can't leave Cancelled"):
        replace(cluster, changed(made, "spec.desiredState", active))
    with pytest.raises(RefusedError, match="desiredState"):
        cluster.kubectl(
            "patch", kind, "good", "-n", namespace, "--type=json", "-p", '[{"op":"remove","path":"/spec/desiredState"}]'
        )


def test_a_status_is_not_taken_from_whoever_writes_the_spec(cluster: Cluster, namespace: str) -> None:
    made = create(cluster, {**valid("AgentTask"), "status": {"state": "Complete"}}, namespace, dry=False)
    assert "status" not in made


def test_kinds_are_found_by_their_short_names_and_category(cluster: Cluster) -> None:
    table = cluster.kubectl("api-resources", "--api-group=tidegate.dev", "--no-headers")
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    assert {plural: row[1] for plural, row in rows.items()} == {kind.plural: kind.short for kind in KINDS}
    assert {plural: row[3] == "true" for plural, row in rows.items()} == {k.plural: k.namespaced for k in KINDS}
    by_category = cluster.kubectl("api-resources", "--categories=tidegate", "-o", "name").split()
    assert sorted(by_category) == sorted(f"{kind.plural}.tidegate.dev" for kind in KINDS)


def test_columns_show_what_is_there(cluster: Cluster, namespace: str) -> None:
    create(cluster, valid("AgentTask"), namespace, dry=False)
    status = {
        "state": "Running",
        "attempts": [{"number": 1, "pod": "good-1"}, {"number": 2, "pod": "good-2"}],
        "conditions": [
            {
                "type": "Succeeded",
                "status": "Unknown",
                "reason": "Progressing",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "at", "good", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    heading, row = cluster.kubectl("get", "at", "-n", namespace, "-o", "wide").splitlines()
    assert heading.split()[:7] == ["NAME", "BUILD", "ROLE", "STATE", "REASON", "ATTEMPT", "MERGED"]
    assert row.split()[:5] == ["good", "Worker", "Running", "Progressing", "2"]
    assert "good-2" in row
    found = cluster.kubectl("get", "at", "-n", namespace, "--field-selector=status.state=Running", "-o", "name")
    assert found.split() == ["agenttask.tidegate.dev/good"]
