"""Gates as the planner sees them, and the names of their runs. Pure."""

from __future__ import annotations

import hashlib

from tidegate import names
from tidegate.api.gates import Definition, about_change, by_tree, gate_key
from tidegate.lane.decide.model import Gate


def gate_of(definition: Definition) -> Gate:
    """The gate as the planner sees it."""
    return Gate(
        str(definition["name"]),
        gate_key(definition),
        by_tree(definition),
        counts=bool(definition.get("tests")),
        final=about_change(definition),
    )


def run_name(lane: str, gate: Gate, subject: str, number: int) -> str:
    """The name of a GateRun: the same gate on the same commit, or change, in the same lane has the same name."""
    digest = hashlib.sha256(f"{lane}\0{gate.key}\0{subject}".encode()).hexdigest()[:16]
    return names.bounded_name(gate.name[:40].rstrip("-"), digest, str(number))
