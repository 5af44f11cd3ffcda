"""What the chart renders, and which values it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.support.chart import CHART, VARIANTS, HelmError, Object, helm, of_kind, rendered, shipped
from tests.support.cluster import ROOT
from tidegate.api.gates import merged
from tidegate.api.v1alpha1 import GateProfile
from tidegate.gateway.settings import Settings as GatewaySettings
from tidegate.settings import Settings
from tidegate.tasks.network import GATEWAY_LABELS

EVERY_VARIANT = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)


def pod_templates(objects: list[Object]) -> list[tuple[str, Object]]:
    """Name and Pod template of every Deployment and Job."""
    return [
        (obj["metadata"]["name"], obj["spec"]["template"]) for obj in objects if obj["kind"] in ("Deployment", "Job")
    ]


def environment(objects: list[Object], deployment: str) -> dict[str, str]:
    """The environment of a Deployment's container; what comes from its Pod's fields is the field's path."""
    container = of_kind(objects, "Deployment")[deployment]["spec"]["template"]["spec"]["containers"][0]
    return {
        item["name"]: item["value"] if "value" in item else item["valueFrom"]["fieldRef"]["fieldPath"]
        for item in container["env"]
    }


@EVERY_VARIANT
def test_pods_are_restricted(values: Object) -> None:
    for name, template in pod_templates(rendered(values)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert not container["image"].endswith((":latest", ":"))


@EVERY_VARIANT
def test_every_object_has_the_labels_and_names_are_unique(values: Object) -> None:
    objects = rendered(values)
    keys = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
    assert len(keys) == len(set(keys))
    for obj in objects:
        if obj["kind"] not in ("CustomResourceDefinition", "ConfigMap"):
            assert obj["metadata"]["labels"]["app.kubernetes.io/name"] == "tidegate", obj["metadata"]["name"]
            assert obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


@EVERY_VARIANT
def test_selectors_find_their_pods(values: Object) -> None:
    objects = rendered(values)
    pods = {name: template["metadata"]["labels"] for name, template in pod_templates(objects)}
    for obj in objects:
        match obj["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                selector = obj["spec"]["selector"]["matchLabels"]
            case "Service":
                selector = obj["spec"]["selector"]
            case "NetworkPolicy":
                selector = obj["spec"]["podSelector"]["matchLabels"]
            case _:
                continue
        found = [name for name, labels in pods.items() if selector.items() <= labels.items()]
        assert found == [obj["metadata"]["name"]]


@EVERY_VARIANT
def test_the_operator_understands_its_environment(values: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered(values)
    name = "tg" if values.get("fullnameOverride") else "tidegate"
    env = {key: value for key, value in environment(objects, name).items() if key.startswith("TIDEGATE_")}
    unknown = {key for key in env if key.removeprefix("TIDEGATE_").lower() not in Settings.model_fields}
    assert not unknown
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.namespaces == values.get("namespaces", ["default"])
    assert settings.lease_name == name
    assert bool(settings.gateway_url) == bool(values.get("gateway"))
    assert settings.git_egress[0]["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}]
    assert settings.allow_file_urls is False


def test_the_gateway_understands_its_environment() -> None:
    objects = rendered(VARIANTS["all-namespaces"])
    settings = GatewaySettings.load(environment(objects, "tidegate-gateway"))
    assert (settings.upstream, settings.port, settings.key) == ("http://llm.models.svc:8000/v1", 8080, "")


def test_agents_find_the_gateway() -> None:
    objects = rendered(VARIANTS["gateway"])
    template = of_kind(objects, "Deployment")["tidegate-gateway"]["spec"]["template"]
    assert GATEWAY_LABELS.items() <= template["metadata"]["labels"].items()
    url = environment(objects, "tidegate")["TIDEGATE_GATEWAY_URL"]
    service = of_kind(objects, "Service")["tidegate-gateway"]
    assert url == f"http://tidegate-gateway.tidegate-system.svc:{service['spec']['ports'][0]['port']}"


def test_objects_of_our_own_kinds_are_shipped_not_plain() -> None:
    """Helm refuses an install whose plain objects are of kinds that the same release defines."""
    text = helm("template", "tidegate", str(CHART), values=VARIANTS["gateway"])
    plain = [obj for obj in yaml.safe_load_all(text) if obj]
    assert not [obj for obj in plain if obj["apiVersion"].startswith("tidegate.dev/")]
    names = {obj["metadata"]["name"] for whole in plain for obj in shipped(whole)}
    assert {"default", "planner", "standard"} <= names


def test_only_the_gateway_has_the_models_key() -> None:
    objects = rendered(VARIANTS["gateway"])
    holders = [name for name, template in pod_templates(objects) if "model-key" in json.dumps(template)]
    assert holders == ["tidegate-gateway"]


def test_without_an_upstream_there_is_no_gateway() -> None:
    assert not [obj for obj in rendered({}) if "gateway" in obj["metadata"]["name"]]


@pytest.mark.parametrize(
    ("upstream", "port"),
    [
        ("https://models.example.org/v1", 443),
        ("http://models.example.org", 80),
        ("http://llm.models.svc:8000/v1", 8000),
        ("https://[2001:db8::1]:8443/v1", 8443),
    ],
)
def test_the_gateway_may_reach_its_upstream(upstream: str, port: int) -> None:
    policies = of_kind(rendered({"gateway": {"upstream": upstream}}), "NetworkPolicy")
    assert {"ports": [{"port": port, "protocol": "TCP"}]} in policies["tidegate-gateway"]["spec"]["egress"]


def test_the_definitions_are_those_of_the_repository() -> None:
    made = of_kind(rendered({}), "CustomResourceDefinition")
    wanted = [yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / "crds").glob("*.yaml")]
    assert len(made) == len(wanted) == 7
    for crd in wanted:
        assert made[crd["metadata"]["name"]]["spec"] == crd["spec"]


def test_definitions_are_kept_unless_told_otherwise() -> None:
    kept = of_kind(rendered({}), "CustomResourceDefinition").values()
    assert all(crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for crd in kept)
    loose = of_kind(rendered({"crds": {"keep": False}}), "CustomResourceDefinition").values()
    assert all("annotations" not in crd["metadata"] for crd in loose)
    assert not of_kind(rendered(VARIANTS["bare"]), "CustomResourceDefinition")


def test_images_are_named_by_registry_tag_and_digest() -> None:
    everything = of_kind(rendered(VARIANTS["everything"]), "Deployment")["tg"]
    plain = of_kind(rendered({"operator": {"image": {"tag": "1"}}}), "Deployment")["tidegate"]
    digest = "sha256:" + "0" * 64
    images = [d["spec"]["template"]["spec"]["containers"][0]["image"] for d in (everything, plain)]
    assert images == [f"registry.example.org/tidegate/operator@{digest}", "localhost/tidegate/operator:1"]


def test_profiles_run_what_they_promise() -> None:
    profiles = of_kind(rendered({"gates": {"coverage": 90}}), "GateProfile")
    assert set(profiles) == {"minimal", "standard", "strict"}
    gates = {name: {gate["name"]: gate for gate in profile["spec"]["gates"]} for name, profile in profiles.items()}
    assert [list(gates[name]) for name in ("minimal", "standard", "strict")] == [
        ["tests"], ["typecheck", "lint", "tests"], ["typecheck", "lint", "tests", "build", "integration"],
    ]  # fmt: skip
    for name in ("standard", "strict"):
        assert gates[name]["tests"]["coverage"] == {"minimumPercent": "90", "paths": [".tidegate/coverage.json"]}
        assert gates[name]["tests"]["tests"] == {"paths": [".tidegate/junit.xml"]}
        assert gates[name]["typecheck"]["command"][0] == "mypy"
    assert "coverage" not in gates["minimal"]["tests"]
    assert "--cov" not in gates["minimal"]["tests"]["command"]
    # what both have is one gate where a lane requires the one and a build names the other
    both = merged([profiles["strict"]["spec"]["gates"], profiles["standard"]["spec"]["gates"]])
    assert [gate["name"] for gate in both] == list(gates["strict"])


def test_strict_has_changes_reviewed_where_there_is_a_model() -> None:
    review: Object = {"instructions": "Mind: dates", "maxCharacters": 20_000}
    gateway = {"upstream": "https://models.example.org/v1"}
    profiles = of_kind(rendered({"gates": {"review": review}, "gateway": gateway}), "GateProfile")
    assert [gate["name"] for gate in profiles["standard"]["spec"]["gates"]] == ["typecheck", "lint", "tests"]
    assert profiles["strict"]["spec"]["gates"][-1] == {
        "name": "review",
        "review": {"agentClassName": "reviewer", "maxCharacters": 20_000, "instructions": "Mind: dates"},
        "timeoutSeconds": 600,
    }
    engine = of_kind(rendered({}), "AgentClass")["reviewer"]["spec"]["engine"]
    assert engine == {"protocol": "Reviewer"}
    own: Object = {"gates": {"review": {"agentClass": "own"}}}
    off: Object = {"gates": {"review": {"agentClass": ""}}, "gateway": gateway}
    gone: Object = {"agentClasses": {"reviewer": None}, "gateway": gateway}
    for values, last in ((own, "review"), (off, "integration"), (gone, "integration"), ({}, "integration")):
        gates = of_kind(rendered(values), "GateProfile")["strict"]["spec"]["gates"]
        assert gates[-1]["name"] == last, values


def test_other_languages_have_profiles_where_the_platform_gives_an_image() -> None:
    image = {"registry": "registry.example.org", "repository": "node", "tag": "20"}
    mirror = [{"cidr": "192.0.2.0/24"}]
    node = {"image": image, "egress": mirror, "commands": {"lint": None}, "env": {"NPM_CONFIG_REGISTRY": "https://a.b"}}
    values: Object = {"gates": {"node": node, "language": "go", "go": {"image": {"repository": "go", "tag": "1"}}}}
    profiles = of_kind(rendered(values), "GateProfile")
    names = ("minimal", "standard", "strict")
    assert set(profiles) == {f"{name}{end}" for name in names for end in ("", "-node", "-python")}
    gates = {gate["name"]: gate for gate in profiles["strict-node"]["spec"]["gates"]}
    assert list(gates) == ["typecheck", "tests", "build", "integration"]
    assert gates["tests"]["image"] == "registry.example.org/node:20"
    assert gates["tests"]["egress"] == mirror
    assert gates["tests"]["env"] == [{"name": "NPM_CONFIG_REGISTRY", "value": "https://a.b"}]
    go = profiles["standard"]["spec"]["gates"][-1]
    assert (go["image"], go["coverage"]["paths"], "tests" in go) == ("go:1", [".tidegate/cover.out"], False)
    for profile in profiles.values():
        assert GateProfile.model_validate(profile).spec.gates


def test_a_class_can_be_left_out_or_added() -> None:
    spec: Object = {"image": "registry.example.org/a:1", "engine": {"protocol": "Script"}}
    classes = of_kind(rendered({"agentClasses": {"default": None, "script": spec}}), "AgentClass")
    assert set(classes) == {"planner", "reviewer", "script"}
    assert classes["script"]["spec"] == spec
    aider = of_kind(rendered({"agents": {"model": "m"}}), "AgentClass")["default"]["spec"]
    assert (aider["model"], aider["image"]) == ("m", "localhost/tidegate/agent-aider:0.1.0")


def test_a_pod_monitor_needs_its_kind() -> None:
    values: Object = {"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "stack"}}}}
    with pytest.raises(HelmError, match=r"monitoring\.coreos\.com/v1"):
        rendered(values)
    monitors = of_kind(rendered(values, "--api-versions=monitoring.coreos.com/v1"), "PodMonitor")
    assert set(monitors) == {"tidegate-operator"}
    assert monitors["tidegate-operator"]["metadata"]["labels"]["release"] == "stack"
    assert not of_kind(rendered({}, "--api-versions=monitoring.coreos.com/v1"), "PodMonitor")


def test_one_replica_has_no_disruption_budget() -> None:
    assert set(of_kind(rendered(VARIANTS["gateway"]), "PodDisruptionBudget")) == {"tidegate", "tidegate-gateway"}
    assert not of_kind(rendered(VARIANTS["bare"]), "PodDisruptionBudget")


BAD_VALUES: list[tuple[Object, str]] = [
    ({"namespaces": []}, "namespaces"),
    ({"namespaces": ["Team A"]}, "namespaces"),
    ({"namespaces": ["team-a", "*"]}, r"namespaces: \* stands alone"),
    ({"namespaces": "team-a"}, "namespaces"),
    ({"operator": {"replicas": "two"}}, "operator/replicas"),
    ({"operator": {"replica": 2}}, "replica"),
    ({"operator": {"logLevel": "LOUD"}}, "operator/logLevel"),
    ({"operator": {"image": {"pullPolicy": "Perhaps"}}}, "operator/image/pullPolicy"),
    ({"operator": {"image": {"digest": "abc"}}}, "operator/image/digest"),
    ({"operator": {"lease": {"durationSeconds": 0}}}, "operator/lease/durationSeconds"),
    ({"git": {"allowedHosts": ["https://git.example.org"]}}, "git/allowedHosts"),
    ({"gateway": {"upstream": "models.example.org"}}, "gateway/upstream"),
    ({"gateway": {"port": 0}}, "gateway/port"),
    ({"gateway": {"key": "secret"}}, "key"),
    ({"gates": {"coverage": 101}}, "gates/coverage"),
    ({"gates": {"language": "perl"}}, "gates/language"),
    ({"gates": {"go": {"commands": {"fuzz": ["true"]}}}}, "fuzz"),
    ({"gates": {"node": {"commands": {"lint": "eslint"}}}}, "lint"),
    ({"operator": {"defaults": {"gateProfileByRole": {"Boss": "strict"}}}}, "Boss"),
    ({"agentClasses": {"Aider": {}}}, "Aider"),
    ({"metrics": {"podMonitor": {"interval": "often"}}}, "metrics/podMonitor/interval"),
    ({"networkPolicy": {"apiServerPorts": []}}, "networkPolicy/apiServerPorts"),
    ({"crds": {"keep": "yes"}}, "crds/keep"),
    ({"nonsense": 1}, "nonsense"),
]


@pytest.mark.parametrize(("values", "named"), BAD_VALUES, ids=[json.dumps(values)[:50] for values, _ in BAD_VALUES])
def test_bad_values_are_refused(values: Object, named: str) -> None:
    with pytest.raises(HelmError, match=named):
        rendered(values)


def test_every_value_is_in_the_schema_and_explained() -> None:
    values: Any = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    schema: Any = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert set(values) == set(schema["properties"])
    for key in ("operator", "gateway", "git", "gates", "metrics", "networkPolicy", "crds"):
        assert set(values[key]) == set(schema["properties"][key]["properties"]), key


def test_the_chart_has_no_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))
