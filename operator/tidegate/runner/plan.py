"""A plan as the model writes it: its JSON schema, its check, the mending of harmless slips. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

MAX_TASKS = 200
MAX_PROMPT = 4096
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_OWN_NAME = re.compile(r"plan(-\d+)?")  # Tidegate's own tasks
_BAD_PATH = re.compile(r"^/|(^|/)\.\.(/|$)|[\x00-\x1f\x7f\\]")
_FIELDS = frozenset({"name", "prompt", "role", "scope", "acceptance", "priority", "dependsOn"})

Json = dict[str, Any]


def schema(acceptance: Sequence[str], *, may_be_empty: bool, max_tasks: int) -> Json:
    """The schema that the model's answer is constrained by. `acceptance` are the test files it may name."""
    accepted: Json = {"type": "string", "enum": list(acceptance)} if acceptance else {"type": "string"}
    task = {
        "name": {"type": "string", "pattern": "^[a-z][a-z0-9-]{1,30}[a-z0-9]$"},
        "prompt": {"type": "string", "minLength": 20, "maxLength": 1200},
        "scope": {"type": "array", "items": {"type": "string", "maxLength": 120}, "minItems": 1, "maxItems": 6},
        "acceptance": {"type": "array", "items": accepted, "maxItems": 4},
        "dependsOn": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 4},
    }
    tasks = {
        "type": "array",
        "items": {"type": "object", "properties": task, "required": list(task), "additionalProperties": False},
        "minItems": 0 if may_be_empty else 1,
        "maxItems": max_tasks,
    }
    return {"type": "object", "properties": {"tasks": tasks}, "required": ["tasks"], "additionalProperties": False}


def parse(text: str) -> Json | str:
    """The JSON object in a model's answer, also out of a fenced block; or what is wrong."""
    fenced = re.search(r"```(?:json)?\s*(\{.*\})\s*```", text, re.DOTALL)
    try:
        document = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        return f"the answer is not JSON: {error}"[:300]
    if not isinstance(document, dict) or not isinstance(document.get("tasks"), list):
        return "the answer is not an object with a list `tasks`"
    return document


def mend(tasks: Sequence[Any], finished: Collection[str] = ()) -> list[Any]:
    """The tasks with harmless slips mended: paths with `./`, entries twice, tasks listed before what they wait for.

    Tasks that bear the name of an earlier plan's finished task are dropped.
    """
    mended: list[Any] = []
    for task in tasks:
        if not isinstance(task, dict):
            mended.append(task)
            continue
        one = {key: value for key, value in task.items() if value is not None and value != []}
        if isinstance(one.get("name"), str):
            one["name"] = re.sub(r"[^a-z0-9]+", "-", one["name"].lower()).strip("-")[:40].strip("-")
        for key in ("scope", "acceptance", "dependsOn"):
            if isinstance(one.get(key), list) and all(isinstance(item, str) for item in one[key]):
                items = (item.strip() for item in one[key])
                items = (item.removeprefix("./") for item in items) if key == "scope" else items
                one[key] = list(dict.fromkeys(item for item in items if item and item != one.get("name")))
        if one.get("name") not in finished:
            mended.append(one)
    return _in_order([_without_finished(task, finished) for task in mended])


def excerpts(request: str, paths: Collection[str]) -> str:
    """The paragraphs and list items of a request that name one of these paths, as they are."""
    blocks: list[list[str]] = [[]]
    for line in request.splitlines():
        if not line.strip():
            blocks.append([])
        elif re.match(r"\s*([-*]|\d+[.)])\s", line):
            blocks.append([line])
        else:
            blocks[-1].append(line)
    texts = ("\n".join(block) for block in blocks)
    return "\n".join(text for text in texts if any(path in text for path in paths))


def with_excerpts(tasks: Sequence[Json], request: str) -> list[Json]:
    """The tasks, each prompt followed by the request's own words on its files: a model's summary leaves things out."""
    told: list[Json] = []
    for task in tasks:
        quoted = excerpts(request, task.get("scope") or ())
        prompt = f"{task['prompt']}\n\nThe request says of it, in its own words:\n{quoted}"
        told.append({**task, "prompt": prompt} if quoted and len(prompt) <= MAX_PROMPT else dict(task))
    return told


def _without_finished(task: Any, finished: Collection[str]) -> Any:
    if isinstance(task, dict) and isinstance(task.get("dependsOn"), list):
        return {**task, "dependsOn": [name for name in task["dependsOn"] if name not in finished]}
    return task


def _in_order(tasks: list[Any]) -> list[Any]:
    """Each task after those it depends on, otherwise in the given order; unchanged where that can't be done."""
    names = {task["name"] for task in tasks if isinstance(task, dict) and isinstance(task.get("name"), str)}
    out: list[Any] = []
    done: set[str] = set()
    left = list(tasks)
    while left:
        ready = next((task for task in left if _needs(task) & names <= done), None)
        if ready is None:
            return tasks
        left.remove(ready)
        out.append(ready)
        if isinstance(ready, dict):
            done.add(str(ready.get("name")))
    return out


def _needs(task: Any) -> set[str]:
    needs = task.get("dependsOn") if isinstance(task, dict) else None
    return {name for name in needs if isinstance(name, str)} if isinstance(needs, list) else set()


def faults(tasks: Sequence[Any], *, may_be_empty: bool) -> list[str]:
    """What is wrong with a plan's tasks, each fault with the field's path."""
    found: list[str] = []
    if not tasks and not may_be_empty:
        found.append("tasks: empty, at least one task is needed")
    if len(tasks) > MAX_TASKS:
        found.append(f"tasks: {len(tasks)}, at most {MAX_TASKS}")
    seen: set[str] = set()
    for number, task in enumerate(tasks[:MAX_TASKS]):
        found += [f"tasks[{number}].{fault}" for fault in _task_faults(task, seen)]
        if isinstance(task, dict):
            seen.add(str(task.get("name")))
    return found


def _task_faults(task: Any, earlier: set[str]) -> list[str]:
    if not isinstance(task, dict):
        return ["not an object"]
    found = [f"{key}: unknown field" for key in task.keys() - _FIELDS]
    name, prompt = task.get("name"), task.get("prompt")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _OWN_NAME.fullmatch(name):
        found.append(f"name: {name!r} is not lower-case words joined by -, of at most 40 characters, other than plan")
    elif name in earlier:
        found.append(f"name: {name} is there twice")
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_PROMPT:
        found.append(f"prompt: not a text of 1 to {MAX_PROMPT} characters")
    if task.get("role", "Worker") not in ("Worker", "Tester"):
        found.append("role: neither Worker nor Tester")
    priority = task.get("priority", 5)
    if not isinstance(priority, int) or isinstance(priority, bool) or not 1 <= priority <= 10:
        found.append("priority: not a whole number from 1 to 10")
    found += _list_faults(task, "scope", 32, 256)
    found += [f"scope: {path!r} is not a path inside the repository" for path in _texts(task, "scope")
              if _BAD_PATH.search(path)]  # fmt: skip
    found += _list_faults(task, "acceptance", 16, 500)
    found += _list_faults(task, "dependsOn", 16, 63)
    found += [f"dependsOn: {one} is not the name of an earlier task" for one in _texts(task, "dependsOn")
              if one not in earlier]  # fmt: skip
    return found


def _texts(task: Json, key: str) -> list[str]:
    value = task.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _list_faults(task: Json, key: str, most: int, longest: int) -> list[str]:
    value = task.get(key, [])
    if not isinstance(value, list) or len(value) > most:
        return [f"{key}: not a list of at most {most} texts"]
    return [f"{key}[{n}]: not a text of 1 to {longest} characters" for n, item in enumerate(value)
            if not isinstance(item, str) or not 1 <= len(item) <= longest]  # fmt: skip
