"""What the `agent` container finds on its read-only volumes: the entry script, its settings, the prompt. Pure text."""

from __future__ import annotations

import re
import shlex
from importlib import resources

from tidegate import names
from tidegate.api.wire import AgentInput

OWN_ENGINES = {"Planner": "planner", "Reviewer": "reviewer"}  # to the role of the runner image
_VARIABLE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_]*)\)")


def entry_script() -> str:
    """The script that is PID 1 of the agent's container."""
    return resources.files("tidegate.runner").joinpath("entry.sh").read_text("utf-8")


def quote(word: str) -> str:
    """A word for sh. `$(NAME)` stands for that environment variable, as in a Pod's `args`; `$$(NAME)` for itself."""
    out: list[str] = []
    at = 0
    for match in _VARIABLE.finditer(word):
        out.append(_literal(word[at : match.start()]))
        reference = f"$({match[2]})"
        out.append(_literal(reference) if match[1] else f'"${{{match[2]}-{_in_quotes(reference)}}}"')
        at = match.end()
    out.append(_literal(word[at:]))
    return "".join(out) or "''"


def _literal(text: str) -> str:
    return shlex.quote(text) if text else ""


def _in_quotes(text: str) -> str:
    return re.sub(r'([$`"\\])', r"\\\1", text)


def settings(
    given: AgentInput,
    *,
    workspace: str = names.PATH_WORKSPACE,
    output: str = names.PATH_OUTPUT,
    token: str = names.PATH_TOKEN,
    prompt: str = names.FILE_PROMPT,
    ready: str = "",
) -> str:
    """The settings file that the entry script reads. It waits for the file `ready` where one is named."""
    if given.engine == "Script":
        words = [prompt] if given.prompt.startswith("#!") else ["sh", prompt]
    elif given.engine in OWN_ENGINES and not given.command:
        words = ["python", "-P", "-m", "tidegate.runner", OWN_ENGINES[given.engine]]  # not from the workspace
    else:
        words = given.command
    variables = {
        "workspace": workspace,
        "output": output,
        "token": token,
        "ready": ready,
        "timeout": str(given.timeout_seconds),
        "kill_after": str(max(1, given.stop_seconds - 1)),
    }
    lines = [f"tidegate_{name}={shlex.quote(value)}" for name, value in variables.items()]
    command = " ".join(quote(word) for word in words)
    return "\n".join([*lines, f"tidegate_run() {{ exec $tidegate_session {command}; }}", ""])


def prompt_file(given: AgentInput) -> tuple[str, int]:
    """The prompt's text with a line end, and its mode: a script with a `#!` line is run as a program."""
    text = given.prompt if given.prompt.endswith("\n") else given.prompt + "\n"
    executable = given.engine == "Script" and text.startswith("#!")
    return text, 0o555 if executable else 0o444
