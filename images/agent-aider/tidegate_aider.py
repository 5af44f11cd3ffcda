"""Run Aider on one task: the prompt from a file, the work in the current directory, a check, bounded continuations.

Exit code 0 when the check passes (or none was asked for and something changed), 1 when it doesn't. The handoff says
the same in words. Environment: see `Settings.read`. The network is used for completions from `OPENAI_BASE_URL` alone.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from conversation import Conversation, ModelLimits, Usage

CHECK_TAIL_CHARACTERS = 1500
SUMMARY_CHARACTERS = 600


class OutOfTimeError(Exception):
    """The attempt has used all its seconds."""


@dataclass(frozen=True)
class Settings:
    """What the task is and what bounds it."""

    prompt: str
    handoff: Path
    model: str
    attempt: int
    scope: tuple[str, ...]
    acceptance: tuple[str, ...]
    check: str
    tidy: str
    continuations: int
    seconds: int
    check_seconds: int
    limits: ModelLimits

    @classmethod
    def read(cls, environment: dict[str, str]) -> Settings:
        """From the environment; ends the program when something that is needed is missing."""

        def need(name: str) -> str:
            value = environment.get(name, "").strip()
            if not value:
                raise SystemExit(f"tidegate-aider: {name} is not set")
            return value

        def whole(name: str, default: int) -> int:
            text = environment.get(name, "").strip() or str(default)
            if not text.isdigit():
                raise SystemExit(f"tidegate-aider: {name}={text!r} is no whole number")
            return int(text)

        need("OPENAI_BASE_URL")
        attempt = whole("TIDEGATE_ATTEMPT", 1)
        return cls(
            prompt=Path(need("TIDEGATE_PROMPT_FILE")).read_text(encoding="utf-8", errors="replace").strip(),
            handoff=Path(need("TIDEGATE_HANDOFF_FILE")),
            model=need("TIDEGATE_MODEL"),
            attempt=attempt,
            scope=lines(environment.get("TIDEGATE_SCOPE", "")),
            acceptance=lines(environment.get("TIDEGATE_ACCEPTANCE", "")),
            check=environment.get("AGENT_CHECK", "").strip(),
            tidy=environment.get("AGENT_TIDY", "").strip(),
            continuations=whole("AGENT_MAX_CONTINUATIONS", 2),
            seconds=whole("AGENT_SECONDS", 600),
            check_seconds=whole("AGENT_CHECK_SECONDS", 180),
            limits=ModelLimits(
                output_tokens=whole("AGENT_MAX_OUTPUT_TOKENS", 800),
                context_tokens=whole("AGENT_CONTEXT_TOKENS", 8192),
                reflections=whole("AGENT_MAX_REFLECTIONS", 1),
                call_seconds=whole("AGENT_CALL_SECONDS", 240),
                seed=attempt,
                temperature=min(0.1 + 0.15 * (attempt - 1), 0.6),
            ),
        )


def lines(text: str) -> tuple[str, ...]:
    """The lines that aren't empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def safe_file(path: str) -> bool:
    """Whether `path` is a relative path of the work tree, without a pattern and outside any git directory."""
    parts = Path(path).parts
    plain = not re.search(r"[*?\[\]\s]", path) and not path.endswith("/")
    return plain and bool(parts) and not path.startswith("/") and ".." not in parts and ".git" not in parts


def in_scope(path: str, scope: tuple[str, ...]) -> bool:
    """Whether the task may touch `path`; an empty scope allows every file."""
    return safe_file(path) and (
        not scope or any(path == s or fnmatch.fnmatch(path, s) or path.startswith(s.rstrip("/") + "/") for s in scope)
    )


def first_message(settings: Settings, targets: list[str], tests: list[str]) -> str:
    """What Aider is asked first: the prompt, then where the work goes and what judges it."""
    parts = [settings.prompt]
    if targets:
        parts.append(f"Write the whole content of {' and '.join(targets)} and of no other file.")
    if tests:
        parts.append(f"The tests in {' and '.join(tests)} must pass as they are; they say what each function returns.")
    statements = [a for a in settings.acceptance if a not in tests]
    parts += [f"Accepted when: {statement}" for statement in statements]
    parts.append("Annotate every parameter and result. Docstrings have one line. No example usage, and no tests.")
    return "\n\n".join(parts)


def continuation_message(output: str, targets: list[str]) -> str:
    """What Aider is asked after a failed check."""
    where = f" in {' and '.join(targets)}" if targets else ""
    return f"The check failed:\n\n{output}\n\nCorrect what it names{where}: write the whole file again, corrected."


def run_shell(command: str, seconds: int) -> tuple[int, str]:
    """Exit code and the end of the output of a shell command; 124 when it took too long."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code = 124
        output += f"\nended after {seconds} s".encode()
    except OutOfTimeError:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return code, output.decode(errors="replace").strip()[-CHECK_TAIL_CHARACTERS:]


def work(settings: Settings, targets: list[str], tests: list[str], usage: Usage) -> tuple[bool, str]:
    """Talk to the model until the check passes or the turns are used up: whether it passed, and its last output."""
    before = snapshot()
    conversation = Conversation(
        settings.model, settings.limits, targets, tests, lambda path: in_scope(path, settings.scope), usage
    )
    message = first = first_message(settings, targets, tests)
    output = ""
    for turn in range(settings.continuations + 1):
        conversation.say(message, turn)
        if settings.tidy:
            run_shell(settings.tidy, settings.check_seconds)
        missing = [t for t in targets if not Path(t).is_file() or not Path(t).read_text(errors="replace").strip()]
        if missing:
            code, output = 1, f"{' and '.join(missing)}: nothing was written"
        elif snapshot() == before:
            code, output = 1, "no file was changed"
        else:
            code, output = run_shell(settings.check, settings.check_seconds) if settings.check else (0, "")
        say(f"turn {turn + 1}: check ended with {code}")
        if code == 0:
            return True, output
        say(output)
        if turn and turn == settings.continuations - 1:
            start_over(targets, before)
        message = f"{first}\n\n{continuation_message(output, targets)}"
    return False, output


def start_over(targets: list[str], before: dict[str, tuple[int, int]]) -> None:
    """Empty the files that the attempt made: a small model repeats a mistake that it sees."""
    for target in targets:
        if f"./{target}" not in before and Path(target).is_file():
            Path(target).write_text("")


def snapshot() -> dict[str, tuple[int, int]]:
    """Size and time of every file of the work tree, as a cheap answer to: did anything change?"""
    found = {}
    for directory, names, files in os.walk("."):
        names[:] = [n for n in names if not n.startswith(".") and n != "__pycache__"]
        for name in files:
            state = (Path(directory) / name).lstat()
            found[f"{directory}/{name}"] = (state.st_size, state.st_mtime_ns)
    return found


def say(message: str) -> None:
    """One line in the attempt's log."""
    print(f"tidegate-aider: {message}", flush=True)


def write_handoff(settings: Settings, status: str, summary: str, concerns: list[str], usage: Usage) -> None:
    """The attempt's result, for the publisher."""
    handoff = {
        "status": status,
        "summary": summary[:SUMMARY_CHARACTERS],
        "concerns": [c[:SUMMARY_CHARACTERS] for c in concerns],
        "suggestions": [],
        "usage": {"tokensIn": usage.tokens_in, "tokensOut": usage.tokens_out, "modelCalls": usage.model_calls},
    }
    settings.handoff.write_text(json.dumps(handoff), encoding="utf-8")


def remove_empty(targets: list[str], were_there: set[str]) -> None:
    """Aider makes each file of the chat; what stayed empty was no work."""
    for target in targets:
        path = Path(target)
        if target not in were_there and path.is_file() and path.stat().st_size == 0:
            path.unlink()


def out_of_time(_number: int, _frame: FrameType | None) -> NoReturn:
    """The alarm of the whole attempt."""
    raise OutOfTimeError


def main() -> int:
    """One attempt."""
    settings = Settings.read(dict(os.environ))
    targets = [s for s in settings.scope if safe_file(s)]
    tests = [a for a in settings.acceptance if safe_file(a) and Path(a).is_file()]
    were_there = {t for t in targets if Path(t).exists()}
    usage = Usage()
    began = time.monotonic()
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(settings.seconds)
    try:
        passed, output = work(settings, targets, tests, usage)
    except OutOfTimeError:
        passed, output = False, f"out of time after {settings.seconds} s"
    finally:
        signal.alarm(0)
        remove_empty(targets, were_there)
    spent = f"{usage.model_calls} model calls, {time.monotonic() - began:.0f} s"
    say(f"{'passed' if passed else 'failed'}: {spent}, {usage.tokens_in} tokens in, {usage.tokens_out} out")
    if passed:
        write_handoff(
            settings, "Complete", f"{', '.join(targets) or 'The change'} passes the check ({spent}).", [], usage
        )
        return 0
    write_handoff(settings, "Failed", f"The check still fails ({spent}).", [output], usage)
    return 1


if __name__ == "__main__":
    sys.exit(main())
