"""From Pods, Namespaces and NetworkPolicies to one nftables table; pure.

A Pod that no policy selects is not in the table. For one that is, a verdict map leads from its address to the chain of
the policies that select it: a packet that a rule allows returns from the chain, any other is dropped. Both ends are
asked: the sender's egress first, then the receiver's ingress. Replies are let through by connection tracking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dev.cluster.policy.model import Direction, Json, Pod, Policy, matches

PRIORITY = -5  # after address translation: the real Pod behind a Service address is what counts


@dataclass(frozen=True)
class World:
    """All that the rules depend on; `namespaces` gives each one's labels."""

    pods: Sequence[Pod]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: Sequence[Policy]


def render(table: str, world: World) -> str:
    """An nft script that replaces the whole table in one transaction."""
    maps: dict[Direction, list[str]] = {"ingress": [], "egress": []}
    chains: list[str] = []
    for direction, elements in maps.items():
        for number, (policies, pods) in enumerate(_groups(direction, world)):
            name = f"{direction}_{number}"
            chains += _chain(name, direction, policies, pods, world)
            elements += [f"{pod.address} : jump {name}" for pod in pods]
    lines = [
        f"table ip {table} {{}}",
        f"delete table ip {table}",
        f"table ip {table} {{",
        *chains,
        *_base_chain("forward", _verdicts("saddr", maps["egress"]) + _verdicts("daddr", maps["ingress"])),
        *_base_chain("input", _verdicts("saddr", maps["egress"])),  # the node itself, the API server among it
        "}",
    ]
    return "\n".join(lines) + "\n"


def _groups(direction: Direction, world: World) -> Iterator[tuple[list[Policy], list[Pod]]]:
    """Isolated Pods, together where the same policies select them."""
    groups: dict[tuple[tuple[str, str], ...], tuple[list[Policy], list[Pod]]] = {}
    covering = sorted((p for p in world.policies if p.covers(direction)), key=lambda p: (p.namespace, p.name))
    for pod in sorted((p for p in world.pods if p.address), key=lambda p: p.address):
        chosen = [policy for policy in covering if policy.selects(pod)]
        if chosen:
            key = tuple((policy.namespace, policy.name) for policy in chosen)
            groups.setdefault(key, (chosen, []))[1].append(pod)
    return iter(groups.values())


def _base_chain(hook: str, rules: list[str]) -> list[str]:
    return [
        f" chain {hook} {{",
        f"  type filter hook {hook} priority {PRIORITY}; policy accept;",
        "  ct state established,related accept",
        *rules,
        " }",
    ]


def _verdicts(field: str, elements: list[str]) -> list[str]:
    return [f"  ip {field} vmap {{ {', '.join(elements)} }}"] if elements else []


def _chain(name: str, direction: Direction, policies: list[Policy], pods: list[Pod], world: World) -> list[str]:
    matchers: dict[str, None] = {}  # a set that keeps its order
    for policy in policies:
        for rule in policy.spec.get(direction) or []:
            matchers.update(dict.fromkeys(_matchers(direction, policy, rule, pods, world)))
    allowed = [f"  {matcher} return".replace("   ", "  ") if matcher else "  return" for matcher in matchers]
    return [f" chain {name} {{", *allowed, "  drop", " }"]


def _matchers(direction: Direction, policy: Policy, rule: Json, pods: list[Pod], world: World) -> Iterator[str]:
    """What a rule allows, as nft expressions; the empty one matches everything."""
    field = "saddr" if direction == "ingress" else "daddr"
    listed = rule.get("from" if direction == "ingress" else "to") or []
    peers = [pod for peer in listed if "ipBlock" not in peer for pod in _peers(peer, policy, world)]
    addresses = [""] if not listed else []
    if peers:
        addresses.append(f"ip {field} {_set(sorted({pod.address for pod in peers}))}")
    addresses += [_block(field, peer["ipBlock"]) for peer in listed if "ipBlock" in peer]
    ports = rule.get("ports") or []
    if not ports:
        yield from addresses
    for port in ports:
        if isinstance(port.get("port"), str):
            receivers = pods if direction == "ingress" else (peers if listed else list(world.pods))
            yield from _named(direction, port, receivers, addresses)
        else:
            for address in addresses:
                yield f"{address} {_port(port)}".strip()


def _peers(peer: Json, policy: Policy, world: World) -> Iterator[Pod]:
    for pod in world.pods:
        if not pod.address:
            continue
        if "namespaceSelector" in peer:
            near = matches(peer["namespaceSelector"] or {}, world.namespaces.get(pod.namespace, {}))
        else:
            near = pod.namespace == policy.namespace
        if near and matches(peer.get("podSelector") or {}, pod.labels):
            yield pod


def _block(field: str, block: Json) -> str:
    excepted = block.get("except") or []
    return f"ip {field} {block['cidr']}" + (f" ip {field} != {_set(excepted)}" if excepted else "")


def _set(elements: Sequence[str]) -> str:
    return f"{{ {', '.join(elements)} }}"


def _port(port: Json) -> str:
    protocol = str(port.get("protocol", "TCP")).lower()
    if port.get("port") is None:
        return f"ip protocol {protocol}"
    last = port.get("endPort")
    return f"{protocol} dport {port['port']}" + (f"-{last}" if last else "")


def _named(direction: Direction, port: Json, receivers: Sequence[Pod], addresses: Sequence[str]) -> Iterator[str]:
    """A port given by name is another number in each Pod that receives."""
    protocol = port.get("protocol", "TCP")
    for pod in receivers:
        for known in pod.ports:
            if pod.address and (known.name, known.protocol) == (port["port"], protocol):
                target = f"ip daddr {pod.address} {protocol.lower()} dport {known.number}"
                if direction == "egress":
                    yield target
                else:
                    for address in addresses:
                        yield f"{address} {target}".strip()
