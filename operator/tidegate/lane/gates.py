"""Gates: which ones a candidate must pass, and the names of their runs. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tidegate import names
from tidegate.lane.decide.model import Gate

Definition = Mapping[str, Any]
TREE = "Tree"


def gate_key(definition: Definition) -> str:
    """What stands for a gate's whole definition: another image, command or limit is another gate."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate_of(definition: Definition) -> Gate:
    """The gate as the planner sees it."""
    return Gate(str(definition["name"]), gate_key(definition), definition.get("input", TREE) == TREE)


def merged(groups: Iterable[Iterable[Definition]]) -> list[Definition]:
    """The union of several profiles' gates. Where two set a gate of the same name and differ only in its time, the
    shorter one holds; where they differ in more, both are run."""
    kept: dict[str, Definition] = {}
    for definition in (one for group in groups for one in group):
        rest = {key: value for key, value in definition.items() if key != "timeoutSeconds"}
        slot = gate_key(rest)
        held = kept.get(slot)
        if held is None or definition.get("timeoutSeconds", 600) < held.get("timeoutSeconds", 600):
            kept[slot] = definition
    return list(kept.values())


def run_name(lane: str, gate: Gate, commit: str, number: int) -> str:
    """The name of a GateRun: the same gate on the same commit in the same lane has the same name."""
    digest = hashlib.sha256(f"{lane}\0{gate.key}\0{commit}".encode()).hexdigest()[:16]
    return names.bounded_name(gate.name[:40].rstrip("-"), digest, str(number))
