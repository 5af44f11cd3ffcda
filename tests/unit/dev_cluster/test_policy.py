"""The local cluster's NetworkPolicy rules, as far as they can be judged without a kernel."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from dev.cluster.policy.model import Pod, Policy, Port, matches, pod_of
from dev.cluster.policy.render import World, render
from dev.cluster.policy.store import Store

WEB = Port("web", "TCP", 8080)
CLIENT = Pod("a", "client", "u1", {"role": "client"}, (), "10.0.0.1")
SERVER = Pod("a", "server", "u2", {"role": "server"}, (WEB,), "10.0.0.2")
STRANGER = Pod("b", "stranger", "u3", {"role": "client"}, (), "10.0.0.3")
NAMESPACES = {"a": {"team": "ours"}, "b": {"team": "theirs"}}


def rules(*policies: Policy, pods: tuple[Pod, ...] = (CLIENT, SERVER, STRANGER)) -> str:
    """The rendered table."""
    return render("t", World(pods, NAMESPACES, policies))


def chain(text: str, name: str) -> list[str]:
    """The lines of one chain."""
    found = re.search(rf"chain {name} {{\n(.*?)\n }}", text, re.DOTALL)
    assert found, text
    return [line.strip() for line in found[1].splitlines()]


def policy(**spec: Any) -> Policy:
    """A policy in namespace a that selects the server, unless told otherwise."""
    return Policy("a", "p", {"podSelector": {"matchLabels": {"role": "server"}}, **spec})


def test_a_cluster_without_policies_filters_nothing() -> None:
    """Nothing but replies is named."""
    assert "drop" not in rules()
    assert "vmap" not in rules()


def test_only_selected_pods_are_isolated() -> None:
    """Default deny of the server: its address leads to a chain that only drops; nobody else's does."""
    text = rules(policy(policyTypes=["Ingress"]))
    assert "ip daddr vmap { 10.0.0.2 : jump ingress_0 }" in text
    assert chain(text, "ingress_0") == ["drop"]
    assert "saddr vmap" not in text
    assert "10.0.0.1" not in text


def test_egress_is_asked_at_the_node_too() -> None:
    """Traffic to the node itself passes another hook than traffic between Pods."""
    text = rules(policy(policyTypes=["Egress"]))
    assert "ip saddr vmap { 10.0.0.2 : jump egress_0 }" in "\n".join(chain(text, "input"))
    assert "ip saddr vmap { 10.0.0.2 : jump egress_0 }" in "\n".join(chain(text, "forward"))


def test_a_pod_selector_means_the_policys_own_namespace() -> None:
    """The stranger has the same label elsewhere."""
    peer = {"podSelector": {"matchLabels": {"role": "client"}}}
    assert chain(rules(policy(ingress=[{"from": [peer]}])), "ingress_0") == ["ip saddr { 10.0.0.1 } return", "drop"]


def test_a_namespace_selector_reaches_into_others() -> None:
    """Together with a podSelector both must hold."""
    peer = {"namespaceSelector": {"matchLabels": {"team": "theirs"}}, "podSelector": {}}
    assert chain(rules(policy(ingress=[{"from": [peer]}])), "ingress_0") == ["ip saddr { 10.0.0.3 } return", "drop"]


def test_peers_that_do_not_exist_allow_nothing() -> None:
    """A selector without a match is not the same as no selector."""
    peer = {"podSelector": {"matchLabels": {"role": "nobody"}}}
    assert chain(rules(policy(ingress=[{"from": [peer], "ports": [{"port": 1}]}])), "ingress_0") == ["drop"]


def test_blocks_with_exceptions_and_port_ranges() -> None:
    """All of it in one rule."""
    block = {"ipBlock": {"cidr": "10.9.0.0/16", "except": ["10.9.1.0/24"]}}
    port = {"protocol": "UDP", "port": 100, "endPort": 200}
    text = rules(policy(policyTypes=["Egress"], egress=[{"to": [block], "ports": [port]}]))
    expected = "ip daddr 10.9.0.0/16 ip daddr != { 10.9.1.0/24 } udp dport 100-200 return"
    assert chain(text, "egress_0") == [expected, "drop"]


def test_named_ports_are_the_receivers() -> None:
    """On ingress the selected Pod's own, on egress each peer's."""
    into = chain(rules(policy(ingress=[{"ports": [{"port": "web"}]}])), "ingress_0")
    assert into == ["ip daddr 10.0.0.2 tcp dport 8080 return", "drop"]
    everyone = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]}
    out = chain(rules(Policy("b", "p", everyone)), "egress_0")
    assert out == ["ip daddr 10.0.0.2 tcp dport 8080 return", "drop"]


def test_several_policies_add_up() -> None:
    """What either allows is allowed."""
    one, two = (Policy("a", f"p{n}", {"podSelector": {}, "ingress": [{"ports": [{"port": n}]}]}) for n in (1, 2))
    assert chain(rules(one, two), "ingress_0") == ["tcp dport 1 return", "tcp dport 2 return", "drop"]


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ["x"], True),
        ("In", ["y"], False),
        ("NotIn", ["x"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_selector_operators(operator: str, values: list[str], expected: bool) -> None:
    """As the API defines them, on a label that is there."""
    selector = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    assert matches(selector, {"k": "x"}) is expected


def test_a_missing_label_is_not_in() -> None:
    """NotIn holds where the label is absent."""
    assert matches({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["x"]}]}, {})


def api_pod(name: str = "p", uid: str = "u", phase: str = "Pending", **spec: Any) -> dict[str, Any]:
    """A Pod as the API server sends it."""
    metadata = {"namespace": "a", "name": name, "uid": uid, "labels": {"role": "server"}}
    return {"metadata": metadata, "spec": {"containers": [], **spec}, "status": {"phase": phase}}


def test_ended_and_host_network_pods_are_no_concern() -> None:
    """Their addresses are free, or the node's."""
    assert pod_of(api_pod(phase="Succeeded")) is None
    assert pod_of(api_pod(hostNetwork=True)) is None
    assert pod_of(api_pod()) is not None


def giving(store: Store, uid: str, address: str) -> threading.Thread:
    """The network plugin's call, which waits for rules, in a thread."""
    thread = threading.Thread(target=store.give, args=(("a", "p"), uid, address, 5.0))
    thread.start()
    return thread


def test_a_sandbox_waits_until_its_rules_are_in_force() -> None:
    """Not before the Pod is known, and not before the version that has its address is applied."""
    store = Store()
    thread = giving(store, "u", "10.0.0.9")
    store.observe("pods", "ADDED", api_pod())
    store.applied(0)
    while not any(pod.address for pod in store.snapshot()[1].pods):
        thread.join(0.01)
    assert thread.is_alive()
    version, world = store.snapshot()
    assert [pod.address for pod in world.pods] == ["10.0.0.9"]
    store.applied(version)
    thread.join(5)
    assert not thread.is_alive()


def test_rules_stay_until_the_sandbox_is_gone() -> None:
    """A Pod deleted by force may still run: its address keeps its rules until the plugin takes it back."""
    store = Store()
    store.observe("pods", "ADDED", api_pod())
    thread = giving(store, "u", "10.0.0.9")
    while thread.is_alive():
        store.applied(store.snapshot()[0])
    store.observe("pods", "DELETED", api_pod())
    assert [pod.address for pod in store.snapshot()[1].pods] == ["10.0.0.9"]
    store.take_back(("a", "p"), "u")
    assert list(store.snapshot()[1].pods) == []


def test_an_old_sandbox_does_not_take_a_new_pods_address() -> None:
    """The same name again, another UID: the late end of the first changes nothing."""
    store = Store()
    store.observe("pods", "ADDED", api_pod(uid="new"))
    thread = giving(store, "new", "10.0.0.9")
    while thread.is_alive():
        store.applied(store.snapshot()[0])
    store.take_back(("a", "p"), "old")
    assert [pod.address for pod in store.snapshot()[1].pods] == ["10.0.0.9"]
