"""Least privilege: the rights that the chart gives are those that the code uses, and where they hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chart import VARIANTS, Object, of_kind, rendered
from tests.support.cluster import Cluster, fresh_name

Right = tuple[str, str, str]  # API group, resource, verb

OWN = "tidegate.dev"
READ = ("get", "list", "watch")


def rights(role: Object) -> set[Right]:
    """Every single right of a role."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def every(group: str, resources: tuple[str, ...], verbs: tuple[str, ...]) -> set[Right]:
    return {(group, resource, verb) for resource in resources for verb in verbs}


MADE = ("agenttasks", "mergejobs", "mergelanes", "gateruns")
IN_NAMESPACE = (
    every(OWN, ("buildrequests",), (*READ, "patch", "delete"))
    | every(OWN, MADE, (*READ, "create"))
    | every(OWN, ("agenttasks", "mergejobs"), ("patch", "delete"))
    | every(OWN, ("gateruns",), ("delete",))
    | every(OWN, tuple(f"{kind}/status" for kind in ("buildrequests", *MADE)), ("patch",))
    | every(
        OWN, tuple(f"{k}/finalizers" for k in ("buildrequests", "agenttasks", "mergelanes", "gateruns")), ("update",)
    )
    | every("", ("pods",), (*READ, "create", "patch", "delete"))
    | every("", ("secrets", "configmaps"), ("get",))
    | every("networking.k8s.io", ("networkpolicies",), ("get", "create", "patch"))
    | every("events.k8s.io", ("events",), ("create",))
)


def test_the_operators_rights_are_exactly_these() -> None:
    objects = rendered({})
    roles = of_kind(objects, "ClusterRole")
    assert rights(roles["tidegate-namespace"]) == IN_NAMESPACE
    reads = every(OWN, ("agentclasses", "gateprofiles"), READ)
    assert rights(roles["tidegate-cluster"]) == reads | every(OWN, ("buildrequests", "mergejobs"), ("patch",))
    everywhere = of_kind(rendered({"namespaces": ["*"]}), "ClusterRole")
    assert rights(everywhere["tidegate-cluster"]) == reads
    lease = of_kind(objects, "Role")["tidegate-lease"]
    assert rights(lease) == every("coordination.k8s.io", ("leases",), ("create", "get", "watch", "patch"))
    named = [rule for rule in lease["rules"] if rule["verbs"] != ["create"]]
    assert all(rule["resourceNames"] == ["tidegate"] for rule in named)
    tokens = of_kind(rendered({"gates": {"tokenSecrets": ["policy"]}}), "Role")["tidegate-lease"]["rules"][-1]
    assert tokens == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["policy"], "verbs": ["get"]}


def test_the_gateways_rights_are_exactly_these() -> None:
    roles = of_kind(rendered(VARIANTS["gateway"]), "ClusterRole")
    assert rights(roles["tidegate-gateway-tokens"]) == {("authentication.k8s.io", "tokenreviews", "create")}
    assert rights(roles["tidegate-gateway"]) == {("", "pods", "get"), (OWN, "agenttasks", "get")}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_nobody_lists_secrets_or_has_everything(values: Object) -> None:
    objects = rendered(values)
    for kind in ("ClusterRole", "Role"):
        for name, role in of_kind(objects, kind).items():
            for group, resource, verb in rights(role):
                assert "*" not in (group, resource, verb), name
                assert resource != "secrets" or verb == "get", name


def test_people_get_no_status_and_no_evidence() -> None:
    roles = of_kind(rendered({}), "ClusterRole")
    for name in ("tidegate-editor", "tidegate-admin"):
        written = {resource for _, resource, _ in rights(roles[name])}
        assert written <= {"buildrequests", "agenttasks", "mergelanes"}
    assert {verb for _, _, verb in rights(roles["tidegate-viewer"])} == set(READ)


def test_who_administers_a_namespace_answers_for_protected_paths_and_who_edits_it_does_not() -> None:
    roles = of_kind(rendered({}), "ClusterRole")
    lander = roles["tidegate-lander"]
    assert rights(lander) == every(OWN, ("mergejobs",), ("get", "create", "update", "patch")) | {
        (OWN, "mergelanes", "land")
    }
    aggregated = {label.rpartition("/")[2] for label in lander["metadata"]["labels"] if "aggregate-to" in label}
    assert aggregated == {"aggregate-to-admin"}
    others = [role for name, role in roles.items() if name != "tidegate-lander"]
    assert not [
        verb for role in others for _, resource, verb in rights(role) if (resource, verb) == ("mergelanes", "land")
    ]


def test_landing_without_gates_is_nobodys_by_default() -> None:
    objects = rendered({})
    roles = of_kind(objects, "ClusterRole")
    role = roles["tidegate-bypass"]
    assert rights(role) == {(OWN, "mergejobs", "get"), (OWN, "mergejobs", "patch"), (OWN, "mergelanes", "bypass")}
    assert not [label for label in role["metadata"]["labels"] if "aggregate-to" in label]
    assert [name for name, one in roles.items() if (OWN, "mergelanes", "bypass") in rights(one)] == ["tidegate-bypass"]
    assert not [o for o in objects if o["kind"].endswith("Binding") and o.get("roleRef", {}).get("name") == role]


def test_rights_are_bound_in_each_served_namespace() -> None:
    objects = rendered(VARIANTS["two-namespaces"])
    for role in ("tidegate-namespace", "tidegate-gateway"):
        bound = [o for o in objects if o["kind"] == "RoleBinding" and o["roleRef"]["name"] == role]
        assert [binding["metadata"]["namespace"] for binding in bound] == ["team-a", "team-b"]
        assert role not in of_kind(objects, "ClusterRoleBinding")


def test_all_namespaces_is_a_choice_of_its_own() -> None:
    objects = rendered(VARIANTS["all-namespaces"])
    assert {"tidegate-namespace", "tidegate-gateway"} <= set(of_kind(objects, "ClusterRoleBinding"))
    assert not [o for o in objects if o["kind"] == "RoleBinding" and o["metadata"].get("namespace")]


@pytest.fixture(scope="module")
def account(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """The operator's service account, the namespace it serves and another one, with the chart's RBAC in the cluster."""
    release, home, served, other = (fresh_name(word) for word in ("tg", "home", "served", "other"))
    for namespace in (home, served, other):
        cluster.create_namespace(namespace)
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    objects = [o for o in rendered({"namespaces": [served]}, release=release, namespace=home) if o["kind"] in kinds]
    for obj in objects:
        if obj["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            obj["metadata"].setdefault("namespace", home)
    cluster.apply(*objects)
    yield f"system:serviceaccount:{home}:{release}-tidegate", served, other
    for obj in objects:
        if obj["kind"].startswith("Cluster"):
            cluster.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--wait=false")
    for namespace in (home, served, other):
        cluster.delete_namespace(namespace)


def allowed(cluster: Cluster, user: str, namespace: str) -> set[tuple[str, str]]:
    """Resource and verb pairs that the user has in the namespace, as the API server says."""
    table = cluster.kubectl("auth", "can-i", "--list", f"--as={user}", "-n", namespace, "--no-headers")
    found = set()
    for line in table.splitlines():
        resource, _, rest = line.partition(" ")
        verbs = rest.rsplit("[", 1)[-1].rstrip("]").split()
        found |= {(resource, verb) for verb in verbs}
    return found


@pytest.mark.cluster
def test_the_api_server_grants_that_and_only_there(cluster: Cluster, account: tuple[str, str, str]) -> None:
    user, served, other = account
    wanted = {(f"{resource}.{group}" if group and "/" not in resource else resource, verb)
              for group, resource, verb in IN_NAMESPACE if "/" not in resource}  # fmt: skip
    there = allowed(cluster, user, served)
    assert wanted <= there
    assert ("secrets", "list") not in there
    assert ("pods/exec", "create") not in there
    elsewhere = allowed(cluster, user, other)
    assert not {pair for pair in elsewhere if pair[0] in ("secrets", "pods", "agenttasks.tidegate.dev")}
