"""The gate's Pod and the names and union of gates."""

from __future__ import annotations

import json
from typing import Any

from tidegate import names
from tidegate.api.gates import gate_key, merged
from tidegate.api.wire import GateInput, JudgeInput
from tidegate.lane.gates import gate_of, run_name
from tidegate.lane.pod import PodSettings, egress_mark, egress_policy, gate_pod

SETTINGS = PodSettings("runner:1", "Never", "https:ssh", "me_1")


def run(**gate: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "tests-abc-1", "uid": "u1"},
        "spec": {
            "repository": {"url": "https://git.example.org/x.git", "credentialsSecretName": "git"},
            "commit": "c" * 40,
            "baseCommit": "b" * 40,
            "fetchRef": "refs/tidegate/lanes/l/candidates/c",
            "gate": {"name": "tests", "image": "py:3", "command": ["sh", "-c", "echo $(HOME) $X"], **gate},
        },
    }


def test_the_pod_is_restricted_and_the_credential_is_checkouts_alone() -> None:
    pod = gate_pod(run(), "lane-1", SETTINGS)
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["initContainers"], *spec["containers"]]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory", "ephemeral-storage"}
    [checkout], [gate] = spec["initContainers"], spec["containers"]
    assert "git" in {mount["name"] for mount in checkout["volumeMounts"]}
    assert not {"git", "state"} & {mount["name"] for mount in gate["volumeMounts"]}
    assert "credentials" not in json.dumps(gate)
    assert gate["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert pod["metadata"]["labels"][names.LABEL_LANE] == "lane-1"


def test_what_the_kubelet_would_expand_is_kept_literal() -> None:
    pod = gate_pod(run(env=[{"name": "A", "value": "$(B)"}]), "lane-1", SETTINGS)
    [gate] = pod["spec"]["containers"]
    assert gate["command"][2] == "echo $$(HOME) $$X"
    assert {"name": "A", "value": "$$(B)"} in gate["env"]


def test_a_gate_can_not_override_what_we_set() -> None:
    pod = gate_pod(run(env=[{"name": "HOME", "value": "/evil"}]), "lane-1", SETTINGS)
    env = pod["spec"]["containers"][0]["env"]
    assert [one["value"] for one in env if one["name"] == "HOME"][-1] == names.PATH_HOME


def test_checkout_is_told_what_the_gate_may_see() -> None:
    for kind, tree_only in (("Tree", True), ("Repository", False)):
        pod = gate_pod(run(input=kind), "lane-1", SETTINGS)
        text = next(e["value"] for e in pod["spec"]["initContainers"][0]["env"] if e["name"] == "TIDEGATE_INPUT")
        given = GateInput.loads(text.replace("$$", "$"))
        assert (given.tree_only, given.commit, given.base) == (tree_only, "c" * 40, "b" * 40)


def test_egress_of_a_gate_is_a_policy_for_its_pods_alone() -> None:
    egress = [{"cidr": "192.0.2.0/24", "ports": [{"port": 443}]}]
    pod = gate_pod(run(egress=egress), "lane-1", SETTINGS)
    policy = egress_policy(egress)  # type: ignore[arg-type]
    mark = {names.LABEL_EGRESS: egress_mark(egress)}
    assert mark.items() <= pod["metadata"]["labels"].items()
    assert mark.items() <= policy["spec"]["podSelector"]["matchLabels"].items()
    assert policy["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    assert names.LABEL_EGRESS not in gate_pod(run(), "lane-1", SETTINGS)["metadata"]["labels"]


def test_gates_of_one_name_differ_by_definition_and_the_shorter_time_holds() -> None:
    one = {"name": "tests", "image": "a", "command": ["x"], "timeoutSeconds": 600}
    shorter, other = {**one, "timeoutSeconds": 60}, {**one, "image": "b"}
    assert merged([[one], [shorter], [other]]) == [shorter, other]
    assert gate_key(one) != gate_key(other)
    assert gate_of(one).tree_only
    assert not gate_of({**one, "input": "Repository"}).tree_only


COVERAGE = {"minimumPercent": 85, "paths": ["cov.xml"]}


def test_where_profiles_meet_the_stricter_parameters_hold() -> None:
    plain = {"name": "tests", "image": "a", "command": ["x"], "timeoutSeconds": 600}
    covered = {**plain, "coverage": COVERAGE}
    higher = {**plain, "timeoutSeconds": 60, "coverage": {**COVERAGE, "minimumPercent": "85.5"}}
    counted = {**plain, "timeoutSeconds": 900, "tests": {"paths": ["j.xml"]}}
    both = {**higher, "tests": {"paths": ["j.xml"]}}
    for groups in ([plain, covered, higher, counted], [counted, higher, covered, plain], [higher, counted]):
        assert merged([[one] for one in groups]) == [both]
    assert merged([[{**covered, "coverage": {**COVERAGE, "minimumPercent": 9}}], [higher]]) == [higher]
    elsewhere = {**covered, "coverage": {**COVERAGE, "paths": ["other.xml"]}}
    assert merged([[covered], [elsewhere]]) == [covered, elsewhere]


def test_reports_are_judged_by_a_container_of_ours_after_the_gate() -> None:
    gate = {"coverage": {**COVERAGE, "format": "Cobertura"}, "tests": {"paths": ["j.xml"]}, "timeoutSeconds": 60}
    spec = gate_pod(run(**gate), "lane-1", SETTINGS)["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["checkout", "gate"]
    [judge] = spec["containers"]
    assert (judge["name"], judge["image"], judge["args"]) == ("judge", "runner:1", ["judge"])
    assert judge["volumeMounts"] == [{"name": "workspace", "mountPath": names.PATH_WORKSPACE, "readOnly": True}]
    assert judge["securityContext"] == spec["initContainers"][1]["securityContext"]
    given = JudgeInput.loads(judge["env"][0]["value"])
    assert given == JudgeInput(["cov.xml"], "Cobertura", "85", ["j.xml"])
    text = next(e["value"] for e in spec["initContainers"][0]["env"] if e["name"] == "TIDEGATE_INPUT")
    assert GateInput.loads(text).reports == ["cov.xml", "j.xml"]
    assert (
        spec["activeDeadlineSeconds"] > gate_pod(run(timeoutSeconds=60), "l", SETTINGS)["spec"]["activeDeadlineSeconds"]
    )


def test_names_of_runs_tell_lane_gate_commit_and_number_apart() -> None:
    gate = gate_of({"name": "t" * 63, "image": "a", "command": ["x"]})
    made = {run_name(lane, gate, commit, n) for lane in ("a", "b") for commit in ("1", "2") for n in (1, 2)}
    assert len(made) == 8
    assert all(len(name) <= names.MAX_NAME for name in made)
