"""Bad objects are refused by the API server with a message that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.cluster import Cluster, RefusedError
from tests.support.valid import COMMIT, GATE, REMOVED, SPECS, changed, valid

pytestmark = pytest.mark.cluster

SERVICE = {"name": "a", "http": {"url": "https://a.b/c"}}
REVIEW = {"name": "a", "review": {"agentClassName": "reviewer"}}
REVIEWS = {"sourceRef": "refs/tidegate/tasks/b", "sourceCommit": COMMIT}
REVIEWER = {"repository": {"url": "https://a.b/c.git"}, "prompt": "p", "role": "Reviewer"}
CHANGE = {"patchId": COMMIT}
TASK = {"name": "t", "prompt": "p"}
ANSWER = {"decision": "Approved", "laneName": "mathkit-main-0123456789", "sourceCommit": COMMIT, "by": "ann"}
BYPASS = {"laneName": "mathkit-main-0123456789", "sourceCommit": COMMIT, "by": "ann", "reason": "the gate is broken"}
RESOLVES = {
    "mergeJobName": "a-1",
    "taskRef": {"name": "a", "uid": "b"},
    "sourceRef": "refs/tidegate/tasks/b",
    "sourceCommit": COMMIT,
}
REPO = "spec.repository"
TASKS = "spec.planning.tasks"

# kind, field that is spoilt, its bad value, what the message must contain
BAD: list[tuple[str, str, Any, str]] = [
    # BuildRequest: the request
    ("BuildRequest", "spec", REMOVED, "spec"),
    ("BuildRequest", "metadata.name", "a" * 64, "metadata.name"),
    ("BuildRequest", "spec.request", REMOVED, "exactly one of request and requestFrom"),
    ("BuildRequest", "spec.request", "", "spec.request"),
    ("BuildRequest", "spec.request", " \n\t", "spec.request"),
    ("BuildRequest", "spec.request", "x" * 32_769, "spec.request"),
    ("BuildRequest", "spec.request", None, "spec.request"),
    ("BuildRequest", "spec.requestFrom", {"configMapKeyRef": {"name": "a", "key": "b"}}, "spec.request"),
    ("BuildRequest", "spec.requestFrom", {"configMapKeyRef": {"name": "a"}}, "spec.requestFrom.configMapKeyRef.key"),
    ("BuildRequest", "spec.requestFrom", {}, "spec.requestFrom.configMapKeyRef"),
    # BuildRequest: the repository
    ("BuildRequest", REPO, REMOVED, "spec.repository"),
    ("BuildRequest", f"{REPO}.url", REMOVED, "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "git.example.org/x.git", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "ftp://git.example.org/x.git", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "git@git.example.org:x.git", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "https://user:pass@git.example.org/x.git", "without a user part"),
    ("BuildRequest", f"{REPO}.url", "ssh://git@git.example.org/x.git", "without a user part"),
    ("BuildRequest", f"{REPO}.url", "ssh://-oProxyCommand=id/x.git", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "ext::sh -c id", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "https://git.example.org/a b.git", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "https://git.example.org", "spec.repository.url"),
    ("BuildRequest", f"{REPO}.url", "https://git.example.org/" + "x" * 1024, "spec.repository.url"),
    ("BuildRequest", f"{REPO}.targetBranch", "", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "refs/heads/main", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "-f", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "a..b", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "main.lock", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "a b", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "a:b", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.targetBranch", "HEAD", "spec.repository.targetBranch"),
    ("BuildRequest", f"{REPO}.credentialsSecretName", "Not_A_Name", "spec.repository.credentialsSecretName"),
    ("BuildRequest", f"{REPO}.author.email", "nobody", "spec.repository.author.email"),
    ("BuildRequest", f"{REPO}.author.name", "A <b>", "spec.repository.author.name"),
    ("BuildRequest", f"{REPO}.author", {"name": "A"}, "spec.repository.author.email"),
    ("BuildRequest", f"{REPO}.publishBranches", "Sometimes", "spec.repository.publishBranches"),
    ("BuildRequest", f"{REPO}.branchPrefix", "feature/", "spec.repository.branchPrefix"),
    ("BuildRequest", f"{REPO}.branchPrefix", "tidegate/x", "spec.repository.branchPrefix"),
    ("BuildRequest", f"{REPO}.branchPrefix", "tidegate/../", "spec.repository.branchPrefix"),
    # BuildRequest: planning
    ("BuildRequest", f"{TASKS}.0.name", "One", "spec.planning.tasks[0].name"),
    ("BuildRequest", f"{TASKS}.0.name", REMOVED, "spec.planning.tasks[0].name"),
    ("BuildRequest", f"{TASKS}.0.prompt", REMOVED, "spec.planning.tasks[0].prompt"),
    ("BuildRequest", f"{TASKS}.0.prompt", "x" * 4097, "spec.planning.tasks[0].prompt"),
    ("BuildRequest", f"{TASKS}.0.role", "Planner", "spec.planning.tasks[0].role"),
    ("BuildRequest", f"{TASKS}.0.priority", 0, "spec.planning.tasks[0].priority"),
    ("BuildRequest", f"{TASKS}.0.priority", 11, "spec.planning.tasks[0].priority"),
    ("BuildRequest", f"{TASKS}.0.scope", ["/etc/passwd"], "spec.planning.tasks[0].scope[0]"),
    ("BuildRequest", f"{TASKS}.0.scope", ["a/../../b"], "spec.planning.tasks[0].scope[0]"),
    ("BuildRequest", f"{TASKS}.0.scope", [f"f{i}" for i in range(33)], "spec.planning.tasks[0].scope"),
    ("BuildRequest", f"{TASKS}.0.acceptance", [""], "spec.planning.tasks[0].acceptance[0]"),
    ("BuildRequest", f"{TASKS}.0.dependsOn", ["two"], "earlier in the list"),
    ("BuildRequest", f"{TASKS}.0.dependsOn", ["one"], "earlier in the list"),
    ("BuildRequest", f"{TASKS}.1.dependsOn", ["three"], "not in the list"),
    ("BuildRequest", f"{TASKS}.1.dependsOn", ["one", "one"], "spec.planning.tasks[1].dependsOn[1]"),
    ("BuildRequest", f"{TASKS}.1.dependsOn", [f"t{i}" for i in range(17)], "spec.planning.tasks[1].dependsOn"),
    ("BuildRequest", TASKS, [TASK, TASK], "spec.planning.tasks[1]"),
    ("BuildRequest", TASKS, [{**TASK, "name": f"t{i}"} for i in range(201)], "spec.planning.tasks"),
    (
        "BuildRequest",
        TASKS,
        [{"name": f"t{i}", "prompt": "x" * 4000} for i in range(40)],
        "prompt, scope, acceptance and dependsOn of all tasks together",
    ),
    ("BuildRequest", "spec.planning.agentClassName", "planner", "spec.planning.agentClassName"),
    ("BuildRequest", "spec.planning.maxIterations", 0, "spec.planning.maxIterations"),
    ("BuildRequest", "spec.planning.maxTasks", 10_001, "spec.planning.maxTasks"),
    # BuildRequest: limits
    ("BuildRequest", "spec.workers.maxParallel", 0, "spec.workers.maxParallel"),
    ("BuildRequest", "spec.workers.maxParallel", 1001, "spec.workers.maxParallel"),
    ("BuildRequest", "spec.workers.maxParallel", "many", "spec.workers.maxParallel"),
    ("BuildRequest", "spec.workers.timeoutSeconds", 0, "spec.workers.timeoutSeconds"),
    ("BuildRequest", "spec.workers.startTimeoutSeconds", -1, "spec.workers.startTimeoutSeconds"),
    ("BuildRequest", "spec.workers.agentClassName", "A B", "spec.workers.agentClassName"),
    ("BuildRequest", "spec.workers.retry.limit", 10, "spec.workers.retry.limit"),
    ("BuildRequest", "spec.workers.retry", {"backoffSeconds": 301}, "spec.workers.retry.maxBackoffSeconds"),
    ("BuildRequest", "spec.workers.resources.limits", {"memory": "lots"}, "spec.workers.resources.limits.memory"),
    ("BuildRequest", "spec.workers.resources.limits", {"memory": "-1Gi"}, "spec.workers.resources.limits.memory"),
    ("BuildRequest", "spec.workers.resources.requests", {"memory": "2Gi"}, "spec.workers.resources"),
    ("BuildRequest", "spec.merge.strategy", "Octopus", "spec.merge.strategy"),
    ("BuildRequest", "spec.merge.allowFewerTests", "no", "spec.merge.allowFewerTests"),
    ("BuildRequest", "spec.merge.maxConflictRetries", 21, "spec.merge.maxConflictRetries"),
    ("BuildRequest", "spec.sweep.intervalSeconds", 0, "spec.sweep.intervalSeconds"),
    ("BuildRequest", "spec.finalization.maxAttempts", 0, "spec.finalization.maxAttempts"),
    ("BuildRequest", "spec.desiredState", "Paused", "spec.desiredState"),
    ("BuildRequest", "spec.ttlSecondsAfterFinished", -1, "spec.ttlSecondsAfterFinished"),
    ("BuildRequest", "spec.deleteAfterFinished", "yes", "spec.deleteAfterFinished"),
    # AgentTask
    ("AgentTask", REPO, REMOVED, "exactly one of buildRef"),
    ("AgentTask", "spec.buildRef", {"name": "b"}, "spec.buildRef"),
    ("AgentTask", f"{REPO}.url", "https://", "spec.repository.url"),
    ("AgentTask", "spec.prompt", REMOVED, "spec.prompt"),
    ("AgentTask", "spec.prompt", "x" * 65_537, "spec.prompt"),
    ("AgentTask", "spec.role", "Boss", "spec.role"),
    ("AgentTask", "spec.scope", ["../x"], "spec.scope[0]"),
    ("AgentTask", "spec.priority", 0, "spec.priority"),
    ("AgentTask", "spec.dependsOn.0.until", "Never", "spec.dependsOn[0].until"),
    ("AgentTask", "spec.dependsOn.1.name", "first", "spec.dependsOn[1]"),
    ("AgentTask", "spec.desiredState", "Stop", "spec.desiredState"),
    ("AgentTask", "spec.timeoutSeconds", 0, "spec.timeoutSeconds"),
    ("AgentTask", "spec.retryLimit", 10, "spec.retryLimit"),
    ("AgentTask", "spec", {"buildRef": {"name": "b"}, "prompt": "p", "retryLimit": 1}, "spec.retryLimit"),
    ("AgentTask", "spec.ownGates", {}, "spec.ownGates.profileName"),
    ("AgentTask", "spec.ownGates", {"profileName": "A b"}, "spec.ownGates.profileName"),
    ("AgentTask", "spec.ownGates", {"profileName": "a", "maxContinuations": 6}, "spec.ownGates.maxContinuations"),
    ("AgentTask", "spec.ownGates", {"profileName": "a", "maxContinuations": -1}, "spec.ownGates.maxContinuations"),
    (
        "AgentTask",
        "spec",
        {"repository": {"url": "https://a.b/c"}, "prompt": "p", "role": "Planner", "ownGates": {"profileName": "a"}},
        "ownGates is for tasks that change files",
    ),
    ("BuildRequest", "spec.workers.ownGates", {"maxContinuations": 1}, "spec.workers.ownGates.profileName"),
    ("BuildRequest", "spec.workers.ownGates", {"profileName": "a", "maxContinuations": 6}, "ownGates.maxContinuations"),
    ("AgentTask", "spec.resolves", RESOLVES, "resolves is for Fixers of a build"),
    (
        "AgentTask",
        "spec",
        {"buildRef": {"name": "b"}, "prompt": "p", "role": "Fixer", "resolves": {**RESOLVES, "sourceRef": "x"}},
        "spec.resolves.sourceRef",
    ),
    ("AgentTask", "spec.reviews", REVIEWS, "reviews is for Reviewers that stand alone"),
    (
        "AgentTask",
        "spec",
        {"buildRef": {"name": "b"}, "prompt": "p", "role": "Reviewer", "reviews": REVIEWS},
        "reviews is for Reviewers that stand alone",
    ),
    ("AgentTask", "spec", {**REVIEWER, "reviews": {**REVIEWS, "sourceRef": "x"}}, "spec.reviews.sourceRef"),
    ("AgentTask", "spec", {**REVIEWER, "reviews": {**REVIEWS, "sourceCommit": "x"}}, "spec.reviews.sourceCommit"),
    ("AgentTask", "spec", {**REVIEWER, "reviews": {**REVIEWS, "baseCommits": ["x"]}}, "spec.reviews.baseCommits[0]"),
    ("AgentTask", "spec", {**REVIEWER, "reviews": {**REVIEWS, "maxCharacters": 999}}, "spec.reviews.maxCharacters"),
    ("AgentTask", "spec", {**REVIEWER, "reviews": {**REVIEWS, "maxCharacters": 10**7}}, "spec.reviews.maxCharacters"),
    ("BuildRequest", "spec.merge.maxConflictFixTasks", -1, "spec.merge.maxConflictFixTasks"),
    ("BuildRequest", "spec.merge.maxConflictFixTasks", 1001, "spec.merge.maxConflictFixTasks"),
    # MergeJob
    ("MergeJob", "spec.replaces", {"mergeJobName": "a"}, "spec.replaces.taskRef"),
    (
        "MergeJob",
        "spec.replaces",
        {"mergeJobName": "A", "taskRef": {"name": "a", "uid": "b"}},
        "spec.replaces.mergeJobName",
    ),
    ("AgentTask", "spec.allowFewerTests", "yes", "spec.allowFewerTests"),
    ("AgentTask", "spec", {"buildRef": {"name": "b"}, "prompt": "p", "allowFewerTests": True}, "merge.allowFewerTests"),
    ("MergeJob", "spec.allowFewerTests", 1, "spec.allowFewerTests"),
    ("MergeJob", "spec.sourceCommit", "HEAD", "spec.sourceCommit"),
    ("MergeJob", "spec.sourceCommit", COMMIT[:39], "spec.sourceCommit"),
    ("MergeJob", "spec.sourceCommit", COMMIT.upper(), "spec.sourceCommit"),
    ("MergeJob", "spec.sourceCommit", REMOVED, "spec.sourceCommit"),
    ("MergeJob", "spec.sourceRef", "main", "spec.sourceRef"),
    ("MergeJob", "spec.sourceRef", "refs/heads/*:refs/heads/x", "spec.sourceRef"),
    ("MergeJob", "spec.taskRef", {"name": "one"}, "spec.taskRef.uid"),
    ("MergeJob", "spec.strategy", "Merge", "spec.strategy"),
    ("MergeJob", "spec.priority", 11, "spec.priority"),
    ("MergeJob", "spec.targetBranch", "a~1", "spec.targetBranch"),
    ("MergeJob", "spec.approval", {**ANSWER, "sourceCommit": "1" * 40}, "approval.sourceCommit must be"),
    ("MergeJob", "spec.approval", {**ANSWER, "decision": "Perhaps"}, "spec.approval.decision"),
    ("MergeJob", "spec.approval", {**ANSWER, "by": ""}, "spec.approval.by"),
    ("MergeJob", "spec.approval", {**ANSWER, "laneName": "A B"}, "spec.approval.laneName"),
    ("MergeJob", "spec.approval", {**ANSWER, "reason": "x" * 513}, "spec.approval.reason"),
    ("MergeJob", "spec.bypass", {**BYPASS, "reason": " "}, "spec.bypass.reason"),
    ("MergeJob", "spec.bypass", {**BYPASS, "sourceCommit": "1" * 40}, "bypass.sourceCommit must be"),
    # MergeLane
    ("MergeLane", f"{REPO}.url", "javascript:alert(1)", "spec.repository.url"),
    ("MergeLane", "spec.targetBranch", "a/", "spec.targetBranch"),
    ("MergeLane", "spec.strategies", [], "spec.strategies"),
    ("MergeLane", "spec.strategies", ["Rebase", "Rebase"], "spec.strategies[1]"),
    ("MergeLane", "spec.window", 0, "spec.window"),
    ("MergeLane", "spec.greenness", "Some", "spec.greenness"),
    ("MergeLane", "spec.gateSlots", 101, "spec.gateSlots"),
    ("MergeLane", "spec.refPrefix", "refs/heads", "spec.refPrefix"),
    ("MergeLane", "spec.refPrefix", "refs/tidegate/", "spec.refPrefix"),
    ("MergeLane", "spec.requiredGateProfileName", "", "spec.requiredGateProfileName"),
    ("MergeLane", "spec.protectedPaths", ["/etc"], "spec.protectedPaths[0]"),
    ("MergeLane", "spec.protectedPaths", ["a/../b"], "protectedPaths holds paths or globs"),
    ("MergeLane", "spec.protectedPaths", ["!docs"], "spec.protectedPaths[0]"),
    ("MergeLane", "spec.protectedPaths", [f"f{i}" for i in range(65)], "spec.protectedPaths"),
    ("MergeLane", "spec.protectedPathsPolicy", "Ignore", "spec.protectedPathsPolicy"),
    ("MergeLane", "spec.signingSecretName", "", "spec.signingSecretName"),
    ("MergeLane", "spec.signingSecretName", "A B", "spec.signingSecretName"),
    # GateRun
    ("GateRun", "spec.commit", "main", "spec.commit"),
    ("GateRun", "spec.fetchRef", "--upload-pack=id", "spec.fetchRef"),
    ("GateRun", "spec.purpose", "Fun", "spec.purpose"),
    ("GateRun", "spec.number", 0, "spec.number"),
    ("GateRun", "spec.gate", REMOVED, "spec.gate"),
    ("GateRun", "spec.gate.timeoutSeconds", 0, "spec.gate.timeoutSeconds"),
    ("GateRun", "spec.gate.input", "Files", "spec.gate.input"),
    ("GateRun", "spec.change", CHANGE, "change is for gates with review"),
    ("GateRun", "spec.gate", REVIEW, "change is for gates with review"),
    ("GateRun", "spec.change", {"patchId": "x"}, "spec.change.patchId"),
    ("GateRun", "spec.change", {**CHANGE, "baseCommits": ["main"]}, "spec.change.baseCommits[0]"),
    ("GateRun", "spec.change", {**CHANGE, "baseCommits": [f"{n:040}" for n in range(9)]}, "spec.change.baseCommits"),
    # AgentClass
    ("AgentClass", "spec.image", REMOVED, "spec.image"),
    ("AgentClass", "spec.image", "two words", "spec.image"),
    ("AgentClass", "spec.engine", REMOVED, "spec.engine"),
    ("AgentClass", "spec.engine.protocol", "Telepathy", "spec.engine.protocol"),
    ("AgentClass", "spec.engine.command", REMOVED, "spec.engine.command"),
    ("AgentClass", "spec.engine", {"protocol": "Script", "command": ["sh"]}, "spec.engine.command"),
    ("AgentClass", "spec.engine.env.0.name", "TIDEGATE_TASK", "spec.engine.env[0].name"),
    ("AgentClass", "spec.engine.env.0.name", "1A", "spec.engine.env[0].name"),
    ("AgentClass", "spec.stopSeconds", 0, "spec.stopSeconds"),
    ("AgentClass", "spec.publishSeconds", 5, "spec.publishSeconds"),
    ("AgentClass", "spec.checkpointSeconds", 0, "spec.checkpointSeconds"),
    ("AgentClass", "spec.egress.0", {"cidr": "10.0.0.1"}, "spec.egress[0].cidr"),
    ("AgentClass", "spec.egress.0", {}, "spec.egress[0]"),
    ("AgentClass", "spec.egress.0", {"cidr": "10.0.0.0/8", "podSelector": {}}, "spec.egress[0]"),
    ("AgentClass", "spec.egress.0.ports", [{"port": 65_536}], "spec.egress[0].ports[0].port"),
    ("AgentClass", "spec.resources.requests", {"cpu": "2"}, "spec.resources"),
    ("AgentClass", "spec.allowedNamespaces", ["Team A"], "spec.allowedNamespaces[0]"),
    ("AgentClass", "spec.imagePullPolicy", "Perhaps", "spec.imagePullPolicy"),
    # GateProfile
    ("GateProfile", "spec.gates", [], "spec.gates"),
    ("GateProfile", "spec.gates", [GATE, GATE], "spec.gates[1]"),
    ("GateProfile", "spec.gates", [{**GATE, "name": f"g{i}"} for i in range(33)], "spec.gates"),
    ("GateProfile", "spec.gates.0.coverage", {"paths": ["c"]}, "spec.gates[0].coverage.minimumPercent"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": 85}, "spec.gates[0].coverage.paths"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": 101, "paths": ["c"]}, "minimumPercent"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": -1, "paths": ["c"]}, "minimumPercent"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": 84.5, "paths": ["c"]}, "minimumPercent"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": "100.5", "paths": ["c"]}, "minimumPercent"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": 1, "paths": ["../c"]}, "coverage.paths[0]"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": 1, "paths": ["a/*.xml"]}, "coverage.paths[0]"),
    ("GateProfile", "spec.gates.0.coverage", {"minimumPercent": 1, "paths": ["c"], "format": "Xml"}, "coverage.format"),
    ("GateProfile", "spec.gates.0.tests", {"paths": []}, "spec.gates[0].tests.paths"),
    ("GateProfile", "spec.gates.0.tests", {"paths": ["/etc/passwd"]}, "spec.gates[0].tests.paths[0]"),
    ("GateProfile", "spec.gates.0.tests", {"paths": [".git/config"]}, "spec.gates[0].tests.paths[0]"),
    ("GateProfile", "spec.gates.0.http", {"url": "https://a.b/c"}, "spec.gates[0].image"),
    ("GateProfile", "spec.gates.0", {"name": "a", "image": "b"}, "either image and command, or http"),
    ("GateProfile", "spec.gates.0", {"name": "a"}, "either image and command, or http"),
    ("GateProfile", "spec.gates.0", {**SERVICE, "env": [{"name": "A", "value": "b"}]}, "spec.gates[0].http"),
    ("GateProfile", "spec.gates.0", {**SERVICE, "tests": {"paths": ["a"]}}, "a gate with http has no Pod"),
    ("GateProfile", "spec.gates.0", {"name": "a", "http": {"url": "ftp://a.b/"}}, "spec.gates[0].http.url"),
    ("GateProfile", "spec.gates.0", {"name": "a", "http": {"url": "https://u:p@a.b/"}}, "spec.gates[0].http.url"),
    ("GateProfile", "spec.gates.0", {"name": "a", "http": {"url": "https://a.b/?token=x"}}, "spec.gates[0].http.url"),
    ("GateProfile", "spec.gates.0.http", {"url": "https://a.b", "timeoutSeconds": 301}, "http.timeoutSeconds"),
    ("GateProfile", "spec.gates.0.http", {"url": "https://a.b", "token": {"key": "a"}}, "http.token.secretName"),
    ("GateProfile", "spec.gates.0.review", REVIEW["review"], "spec.gates[0].image"),
    ("GateProfile", "spec.gates.0", {**SERVICE, **REVIEW}, "or http, or review"),
    ("GateProfile", "spec.gates.0", {**REVIEW, "tests": {"paths": ["a"]}}, "spec.gates[0].review"),
    ("GateProfile", "spec.gates.0", {**REVIEW, "egress": [{"cidr": "192.0.2.0/24"}]}, "spec.gates[0].review"),
    ("GateProfile", "spec.gates.0", {"name": "a", "review": {}}, "spec.gates[0].review.agentClassName"),
    ("GateProfile", "spec.gates.0", {"name": "a", "review": {"agentClassName": "A B"}}, "review.agentClassName"),
    (
        "GateProfile",
        "spec.gates.0",
        {"name": "a", "review": {"agentClassName": "a", "instructions": "x" * 1025}},
        "review.instructions",
    ),
    (
        "GateProfile",
        "spec.gates.0",
        {"name": "a", "review": {"agentClassName": "a", "maxCharacters": 999}},
        "review.maxCharacters",
    ),
    (
        "GateProfile",
        "spec.gates.0",
        {"name": "a", "review": {"agentClassName": "a", "maxCharacters": 1_000_001}},
        "review.maxCharacters",
    ),
    ("GateProfile", "spec.gates.0.name", "type_check", "spec.gates[0].name"),
    ("GateProfile", "spec.requiredFor", [{"repository": "https://git.example.org/a"}], "requiredFor[0].repository"),
    ("GateProfile", "spec.requiredFor", [{"repository": "git@git.example.org/a"}], "requiredFor[0].repository"),
    ("GateProfile", "spec.requiredFor", [{"branch": "main"}], "requiredFor[0].repository"),
    ("GateProfile", "spec.requiredFor", [{"repository": "a.b/c", "branch": ""}], "requiredFor[0].branch"),
    ("GateProfile", "spec.requiredFor", [{"repository": "a.b/c"}] * 9, "spec.requiredFor"),
    ("GateProfile", "spec.gates.0.command", [], "spec.gates[0].command"),
    ("GateProfile", "spec.gates.0.image", REMOVED, "spec.gates[0].image"),
    ("GateProfile", "spec.gates.0.timeoutSeconds", 86_401, "spec.gates[0].timeoutSeconds"),
]


def _title(value: Any) -> str:
    return "removed" if value is REMOVED else repr(value)[:20]


@pytest.mark.parametrize(
    ("kind", "field", "value", "named"), BAD, ids=[f"{kind}-{field}-{_title(value)}" for kind, field, value, _ in BAD]
)
def test_refused_naming_the_field(cluster: Cluster, kind: str, field: str, value: Any, named: str) -> None:
    bad = changed(valid(kind), field, value)
    with pytest.raises(RefusedError) as refusal:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(bad))
    message = str(refusal.value)
    assert "is invalid" in message, message  # the API server's validation, not a failure to reach it
    assert named in message


def test_unknown_fields_are_refused_by_strict_clients(cluster: Cluster) -> None:
    bad = changed(valid("BuildRequest"), "spec.budget", {"maxTokens": 1})
    with pytest.raises(RefusedError, match=r'unknown field "spec.budget"'):
        cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(bad))


def test_the_table_is_long_enough_and_has_every_kind() -> None:
    assert len({(kind, field, repr(value)) for kind, field, value, _ in BAD}) >= 60
    assert {kind for kind, *_ in BAD} == set(SPECS)
