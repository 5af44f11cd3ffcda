"""What an agent is told: the task's prompt, with what its role, scope and acceptance ask for. Pure.

A script is taken as it is, and our own engines put their own questions around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PREAMBLES: Mapping[str, str] = {
    "Planner": (
        "You are the planner. Read the repository in the current directory and divide the request below into tasks that"
        " can be done and tested on their own. Change no files. Write your plan into the handoff file, under the key"
        ' `plan`: {"tasks": [{"name", "prompt", "role": "Worker" or "Tester", "scope": [paths],'
        ' "acceptance": [statements or test files], "priority": 1 to 10, "dependsOn": [names of earlier tasks]}]}.'
    ),
    "Worker": "You are a developer. Do the task below in the repository in the current directory.",
    "Tester": "You are a tester. Write or mend the tests that the task below asks for; change no other code.",
    "Fixer": "You mend what is broken. Find the cause, make the smallest change that removes it, weaken no check.",
    "Reviewer": "You are a reviewer. Judge the work that the task below names; change only what it asks you to change.",
}
_HANDOFF = (
    "When you are done, write JSON to the file that the environment variable TIDEGATE_HANDOFF_FILE names:"
    ' {"status": "Complete" | "Partial" | "Blocked" | "Failed", "summary": "what you did and why", "concerns": [],'
    ' "suggestions": []}. Don\'t commit: the files as you leave them are your result.'
)


def assemble(spec: Mapping[str, Any], protocol: str, failure: str = "") -> str:
    """The text of the prompt file for a task's spec and its class's engine. `failure`: what an agent is told that goes
    on because the task's own gates failed."""
    prompt = str(spec.get("prompt") or "")
    if protocol in ("Script", "Planner", "Reviewer"):
        return prompt
    role = str(spec.get("role") or "Worker")
    parts = [
        _PREAMBLES.get(role, _PREAMBLES["Worker"]),
        f"# The task\n\n{prompt.rstrip()}",
        _listing("# Scope", "Touch only these paths; a change outside them is not merged:", spec.get("scope")),
        _listing("# Done when", "Each of these holds (a path names a file of tests to pass):", spec.get("acceptance")),
        f"# What failed\n\n{failure}" if failure else "",
        f"# At the end\n\n{_HANDOFF}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def subject(task: str, spec: Mapping[str, Any], protocol: str) -> str:
    """The first line of the attempt's commit."""
    if protocol == "Script":
        return task
    first = next((line.strip() for line in str(spec.get("prompt") or "").splitlines() if line.strip()), "")
    return f"{task}: {first}"[:100] if first else task


def _listing(heading: str, lead: str, items: Sequence[str] | None) -> str:
    if not items:
        return ""
    return "\n".join((heading, "", lead, *(f"- {' '.join(item.split())}" for item in items)))
