"""The Pod of an attempt: who sees what, limits, and nothing expanded on the way."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tidegate import names
from tidegate.api.wire import AgentInput
from tidegate.settings import Settings
from tidegate.tasks.network import agent_policies
from tidegate.tasks.pod import Platform, PodPlan, agent_pod
from tidegate.tasks.prompt import assemble

Object = dict[str, Any]
PLATFORM = Platform("runner:1", "IfNotPresent", "http://gateway.tidegate:8080", "https:ssh")
CLASS: Object = {
    "image": "agent:1",
    "engine": {
        "protocol": "Exec",
        "command": ["aider"],
        "args": ["--yes"],
        "env": [{"name": "A", "value": "$(HOME) $B"}],
    },
    "model": "small",
    "stopSeconds": 10,
    "publishSeconds": 110,
}


def plan(**fields: Any) -> PodPlan:
    spec = {"prompt": "use $(HOME) and $PATH", "scope": ["a/*.py", "b"], "acceptance": ["tests/test_a.py"]}
    given: Object = {
        "namespace": "ns", "task": "t", "task_uid": "u-1", "attempt": 2, "spec": spec,
        "repository": {"url": "https://git.example.org/r.git", "credentialsSecretName": "git-token"},
        "agent_class": "c", "class_spec": CLASS, "platform": PLATFORM, "build": "b", "build_uid": "12345678-9",
    }  # fmt: skip
    return PodPlan(**{**given, **fields})


def containers(pod: Object) -> dict[str, Object]:
    return {c["name"]: c for c in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])}


def env(container: Object) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container["env"]}


def as_the_kubelet_expands(value: str, known: dict[str, str]) -> str:
    """Kubernetes' own rule: `$$` is `$`, `$(NAME)` the variable."""
    return re.sub(r"\$(\$|\(([^)]*)\))", lambda m: "$" if m[1] == "$" else known.get(m[2], m[0]), value)


def test_who_sees_what() -> None:
    pod = agent_pod(plan())
    seen = {name: {m["mountPath"] for m in c["volumeMounts"]} for name, c in containers(pod).items()}
    writable = {
        name: {m["mountPath"] for m in c["volumeMounts"] if not m.get("readOnly")}
        for name, c in containers(pod).items()
    }
    assert names.PATH_GIT_CREDENTIALS in seen["workspace"] & seen["publisher"]
    assert names.PATH_GIT_CREDENTIALS not in seen["agent"]
    assert names.PATH_STATE not in seen["agent"]
    token_dir = names.PATH_TOKEN.rsplit("/", 1)[0]
    assert token_dir in seen["agent"] & seen["publisher"]
    tokens = {m["name"] for c in containers(pod).values() for m in c["volumeMounts"] if m["mountPath"] == token_dir}
    assert len(tokens) == 2
    assert names.PATH_WORKSPACE not in writable["publisher"]
    assert names.PATH_OUTPUT not in writable["publisher"]
    assert not {names.PATH_TOOLS, names.PATH_INPUT} & writable["agent"]
    mounted = {m["name"] for c in containers(pod).values() for m in c["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["spec"]["volumes"]}


def test_no_credential_and_no_kubernetes_token_reaches_the_agent() -> None:
    pod = agent_pod(plan())
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
    assert "TIDEGATE_INPUT" not in env(containers(pod)["agent"])
    sources = [v["projected"]["sources"] for v in pod["spec"]["volumes"] if "projected" in v]
    assert all(s[0]["serviceAccountToken"]["audience"] == names.GATEWAY_AUDIENCE for s in sources)


def test_pod_security_restricted() -> None:
    pod = agent_pod(plan())
    whole = pod["spec"]["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod).values():
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        for kind in ("requests", "limits"):
            assert set(container["resources"][kind]) == {"cpu", "memory", "ephemeral-storage"}
    assert all("hostPath" not in v for v in pod["spec"]["volumes"])
    assert all("sizeLimit" in v["emptyDir"] for v in pod["spec"]["volumes"] if "emptyDir" in v)


def test_times_and_owner() -> None:
    pod = agent_pod(plan(workers={"timeoutSeconds": 100, "startTimeoutSeconds": 50}))
    assert pod["spec"]["terminationGracePeriodSeconds"] == 120
    assert pod["spec"]["activeDeadlineSeconds"] == 50 + 100 + 120 + 60
    owner = pod["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "AgentTask",
        "u-1",
        True,
        True,
    )
    assert pod["metadata"]["name"] == "t-2"
    assert pod["metadata"]["labels"][names.LABEL_ATTEMPT] == "2"
    assert containers(pod)["publisher"]["restartPolicy"] == "Always"
    assert pod["spec"]["restartPolicy"] == "Never"


def test_the_input_arrives_as_it_was_meant() -> None:
    pod = agent_pod(plan())
    raw = as_the_kubelet_expands(env(containers(pod)["workspace"])["TIDEGATE_INPUT"], {"HOME": "wrong"})
    given = AgentInput.loads(raw)
    assert "use $(HOME) and $PATH" in given.prompt
    assert given.command == ["aider", "--yes"]
    assert (given.attempt, given.task_uid, given.agent_class) == (2, "u-1", "c")
    agent = env(containers(pod)["agent"])
    assert as_the_kubelet_expands(agent["A"], {"HOME": "wrong"}) == "$(HOME) $B"
    assert agent["TIDEGATE_SCOPE"] == "a/*.py\nb"
    assert agent["OPENAI_BASE_URL"] == "http://gateway.tidegate:8080/v1"
    assert json.loads(raw)["v"] == 1


def test_ours_cannot_be_overridden_by_a_classs_environment() -> None:
    spec = {
        **CLASS,
        "engine": {**CLASS["engine"], "env": [{"name": "HOME", "value": "/"}, {"name": "MINE", "value": "1"}]},
    }
    agent = env(containers(agent_pod(plan(class_spec=spec)))["agent"])
    assert (agent["HOME"], agent["MINE"]) == (names.PATH_HOME, "1")


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        (None, {"cpu": "250m", "memory": "256Mi"}, {"cpu": "2", "memory": "2Gi"}),
        ({"limits": {"memory": "64Mi"}}, {"cpu": "250m"}, {"cpu": "2", "memory": "64Mi"}),
        ({"requests": {"memory": "8Gi"}}, {"cpu": "250m", "memory": "8Gi"}, {"cpu": "2", "memory": "8Gi"}),
    ],
)
def test_every_resource_has_a_limit(given: Any, requests: Object, limits: Object) -> None:
    spec = {**CLASS, "resources": given} if given else CLASS
    found = containers(agent_pod(plan(class_spec=spec)))["agent"]["resources"]
    assert {k: v for k, v in found["requests"].items() if k != "ephemeral-storage"} == requests
    assert {k: v for k, v in found["limits"].items() if k != "ephemeral-storage"} == limits


def test_the_builds_resources_come_first() -> None:
    found = agent_pod(plan(workers={"resources": {"limits": {"memory": "1Gi"}}}))
    assert containers(found)["agent"]["resources"]["limits"]["memory"] == "1Gi"


def test_a_planner_runs_in_our_image() -> None:
    spec = {"engine": {"protocol": "Planner"}, "model": "m"}
    pod = agent_pod(plan(class_spec=spec, platform=Platform("runner:1", "Never", "", "https")))
    agent = containers(pod)["agent"]
    assert (agent["image"], agent["imagePullPolicy"]) == ("runner:1", "Never")
    assert "OPENAI_BASE_URL" not in env(agent)
    assert not [v for v in pod["spec"]["volumes"] if "projected" in v]


def test_the_longest_prompt_fits_what_linux_hands_over() -> None:
    prompt = "\N{WATER WAVE}$(A)\N{WATER WAVE}" * (65_536 // 6)
    found = containers(agent_pod(plan(spec={"prompt": prompt})))
    given = {name: as_the_kubelet_expands(value, {"A": "x"}) for name, value in env(found["workspace"]).items()}
    assert max(len(f"{name}={value}".encode()) for name, value in given.items()) < 128 * 1024
    assert prompt in AgentInput.from_variables(given).prompt
    assert not AgentInput.from_variables(env(found["publisher"])).prompt


def test_a_reviewer_is_told_of_the_change_in_our_image() -> None:
    reviews = {"sourceRef": "refs/a/b", "sourceCommit": "e" * 40, "baseCommits": ["b" * 40], "maxCharacters": 4000}
    spec = {"prompt": "p", "role": "Reviewer", "reviews": reviews}
    found = containers(agent_pod(plan(class_spec={"engine": {"protocol": "Reviewer"}}, spec=spec)))
    assert found["agent"]["image"] == "runner:1"
    assert env(found["agent"])["TIDEGATE_REVIEWER_CONTEXT_CHARACTERS"] == "4000"
    given = AgentInput.loads(env(found["workspace"])["TIDEGATE_INPUT"])
    assert (given.engine, given.prompt, given.handoff_only) == ("Reviewer", "p", True)
    assert (given.review_ref, given.review_commit, given.review_bases) == ("refs/a/b", "e" * 40, ["b" * 40])


def test_ordinary_branches_only_when_asked_for() -> None:
    def branch(**repository: str) -> str:
        made = plan(repository={"url": "https://git.example.org/r.git", **repository})
        return AgentInput.loads(
            env(containers(agent_pod(made))["workspace"])["TIDEGATE_INPUT"].replace("$$", "$")
        ).publish_branch

    assert branch() == ""
    assert branch(publishBranches="Always", branchPrefix="tidegate/x/") == "refs/heads/tidegate/x/b-12345678/t"


def test_a_script_is_taken_as_it_is() -> None:
    spec = {"prompt": "#!/bin/sh\necho", "scope": ["a"], "role": "Worker"}
    assert assemble(spec, "Script") == "#!/bin/sh\necho"
    assert assemble(spec, "Planner") == "#!/bin/sh\necho"


def test_a_prompt_tells_role_scope_and_how_to_end() -> None:
    text = assemble(
        {"prompt": "Add f.", "scope": ["a", "b"], "acceptance": ["tests/test_f.py"], "role": "Tester"}, "Exec"
    )
    assert text.startswith("You are a tester.")
    assert text.index("Add f.") < text.index("- a\n- b") < text.index("- tests/test_f.py") < text.index("HANDOFF_FILE")


def test_policies_let_agents_reach_dns_gateway_git_and_what_the_class_names() -> None:
    settings = Settings(gateway_url="http://gateway.tidegate:8080", operator_namespace="tidegate")
    egress = [{"cidr": "192.0.2.0/24", "ports": [{"port": 443, "protocol": "TCP"}]}, {"podSelector": {}}]
    common, own = agent_policies(settings, "c", {"egress": egress})
    assert len(common["spec"]["egress"]) == 3
    gateway = common["spec"]["egress"][1]["to"][0]
    assert gateway["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "tidegate"}}
    assert own["spec"]["podSelector"]["matchLabels"][names.LABEL_CLASS] == "c"
    assert own["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443, "protocol": "TCP"}]},
        {"to": [{"podSelector": {}}]},
    ]
    assert "podSelector" not in common["spec"]["egress"][2]


def test_a_gateway_outside_the_cluster_is_named_by_its_address() -> None:
    common, _ = agent_policies(Settings(gateway_url="http://198.51.100.7:9000"), "c", {})
    assert common["spec"]["egress"][1] == {
        "to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}],
        "ports": [{"port": 9000, "protocol": "TCP"}],
    }
