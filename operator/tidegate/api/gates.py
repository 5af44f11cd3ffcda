"""Gates as their profiles define them: what stands for a definition, and the union of several. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

Definition = Mapping[str, Any]
TREE = "Tree"
TIMEOUT = 600  # seconds
MARKERS = "conflict-markers"
_PARAMETERS = ("timeoutSeconds", "coverage", "tests")


def gate_key(definition: Definition) -> str:
    """What stands for a gate's whole definition: another image, command or limit is another gate."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def markers_gate(image: str) -> dict[str, Any]:
    """The gate that every sweep has: no whole conflict is left in the files of the head. `image` is the runner's."""
    command = ["python", "-m", "tidegate.runner", "markers"]
    return {"name": MARKERS, "image": image, "command": command, "input": "Repository", "timeoutSeconds": 60}


def by_tree(definition: Definition) -> bool:
    """Whether the gate sees files alone, so that its verdict holds for every commit with the same ones."""
    return definition.get("input", TREE) == TREE and not about_change(definition)


def about_change(definition: Definition) -> bool:
    """Whether the gate decides about a change, not about what a head is like: a service or a review."""
    return bool(definition.get("http") or definition.get("review"))


def judged(definition: Definition) -> bool:
    """Whether the gate leaves reports that decide too."""
    return bool(definition.get("coverage") or definition.get("tests"))


def merged(groups: Iterable[Iterable[Definition]]) -> list[Definition]:
    """The union of several profiles' gates. Gates of one name that differ only in parameters become one with the
    stricter of each: the shorter time, the higher coverage, counted tests; where they differ in more, both are run."""
    kept: list[Definition] = []
    for definition in (one for group in groups for one in group):
        for place, held in enumerate(kept):
            stricter = _stricter(held, definition)
            if stricter is not None:
                kept[place] = stricter
                break
        else:
            kept.append(definition)
    return kept


def _stricter(one: Definition, other: Definition) -> Definition | None:
    """What demands all that both demand; None when they are two gates."""
    if _without(one, *_PARAMETERS) != _without(other, *_PARAMETERS):
        return None
    made = dict(one)
    first, second = one.get("timeoutSeconds", TIMEOUT), other.get("timeoutSeconds", TIMEOUT)
    if second < first:
        made["timeoutSeconds"] = second
    for parameter, floor in (("coverage", "minimumPercent"), ("tests", "")):
        mine, theirs = one.get(parameter), other.get(parameter)
        if mine and theirs and _without(mine, floor) != _without(theirs, floor):
            return None
        if theirs and (not mine or (floor and Decimal(str(theirs[floor])) > Decimal(str(mine[floor])))):
            made[parameter] = theirs
    return made


def _without(holder: Definition, *keys: str) -> Definition:
    return {key: value for key, value in holder.items() if key not in keys}
