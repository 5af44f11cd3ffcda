"""The Planner engine against an HTTP server that answers as a model would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import Model

GOOD = {
    "summary": "Two modules.",
    "tasks": [
        {"name": "primes", "prompt": "Write mathkit/primes.py with is_prime.", "scope": ["./mathkit/primes.py"],
         "acceptance": ["tests/test_primes.py"], "dependsOn": []},
        {"name": "sums", "prompt": "Write mathkit/sums.py which uses primes.", "scope": ["mathkit/sums.py"],
         "acceptance": [], "dependsOn": ["primes"]},
    ],
}  # fmt: skip
BAD = {"summary": "x", "tasks": [{**GOOD["tasks"][0], "scope": ["../etc"]}]}  # type: ignore[dict-item]


class Agent:
    def __init__(self, root: Path, model: Model) -> None:
        self.root, self.model = root, model
        (root / "tests").mkdir()
        (root / "README.md").write_text("# mathkit\nOne module a subject.\n")
        (root / "tests/test_primes.py").write_text('primes = pytest.importorskip("mathkit.primes")\n')
        (root / "loop").symlink_to(root)
        self.environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "pod-token",
            "TIDEGATE_PROMPT_FILE": str(root.parent / "prompt"), "TIDEGATE_HANDOFF_FILE": str(root.parent / "handoff"),
            "TIDEGATE_ATTEMPT": "2", "TIDEGATE_MODEL": "",
        }  # fmt: skip

    def run(self, request: str = "Add primes and sums.") -> tuple[int, dict[str, Any]]:
        (self.root.parent / "prompt").write_text(request)
        words = [sys.executable, "-m", "tidegate.runner", "planner"]
        done = subprocess.run(words, cwd=self.root, env=self.environment, capture_output=True, timeout=60)
        handoff = self.root.parent / "handoff"
        return done.returncode, json.loads(handoff.read_text()) if handoff.exists() else {"err": done.stderr.decode()}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    (tmp_path / "repository").mkdir()
    with Model() as model:
        yield Agent(tmp_path / "repository", model)


def test_a_plan_becomes_the_handoff(agent: Agent) -> None:
    agent.model.answers = [json.dumps(GOOD)]
    code, handoff = agent.run()
    assert code == 0
    assert handoff["status"] == "Complete"
    assert handoff["summary"] == "2 tasks: primes, sums"
    assert [task["name"] for task in handoff["plan"]["tasks"]] == ["primes", "sums"]
    assert handoff["plan"]["tasks"][0]["scope"] == ["mathkit/primes.py"]
    assert handoff["usage"] == {"tokensIn": 10, "tokensOut": 20}
    [asked] = agent.model.requests
    assert agent.model.tokens == ["Bearer pod-token"]
    assert asked["model"] == "the-model"
    assert asked["response_format"]["type"] == "json_schema"
    assert 0 < asked["max_tokens"] <= 4096
    question = asked["messages"][-1]["content"]
    for words in ("Add primes and sums.", "importorskip", "One module a subject", "tests/test_primes.py"):
        assert words in question


def test_a_wrong_plan_is_mended_in_one_turn_that_names_the_fault(agent: Agent) -> None:
    agent.model.answers = [json.dumps(BAD), json.dumps(GOOD)]
    code, handoff = agent.run()
    assert (code, handoff["status"]) == (0, "Complete")
    second = agent.model.requests[1]["messages"]
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert "tasks[0].scope" in second[-1]["content"]
    assert agent.model.requests[0]["seed"] != agent.model.requests[1]["seed"]
    assert handoff["usage"] == {"tokensIn": 20, "tokensOut": 40}


def test_a_plan_that_stays_wrong_fails_and_says_why(agent: Agent) -> None:
    agent.model.answers = ["I can't do that", json.dumps(BAD)]
    code, handoff = agent.run()
    assert (code, handoff["status"]) == (1, "Failed")
    assert "tasks[0].scope" in handoff["summary"]
    assert "plan" not in handoff


def test_a_server_without_schemas_is_asked_for_plain_json(agent: Agent) -> None:
    agent.model.answers = [400, json.dumps(GOOD)]
    assert agent.run()[0] == 0
    assert agent.model.requests[1]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("status", [403, 500])
def test_a_gateway_that_refuses_fails_the_attempt_with_its_words(agent: Agent, status: int) -> None:
    agent.model.answers = [status, status]
    code, handoff = agent.run()
    assert code == 1
    assert f"{status}: told so" in handoff["summary"]


def test_a_later_plan_may_be_empty_and_repeats_nothing_that_was_merged(agent: Agent) -> None:
    request = 'Add primes and sums.\n\nTasks of earlier plans, a line each.\n{"task":"b-1-primes","change":"merged"}'
    agent.model.answers = [json.dumps({**GOOD, "tasks": GOOD["tasks"][:1]})]
    code, handoff = agent.run(request)
    assert (code, handoff["plan"]["tasks"]) == (0, [])
    agent.model.answers = [json.dumps({"summary": "", "tasks": []})] * 2
    assert agent.run("Add primes.")[0] == 1, "a first plan needs a task"


def test_without_a_gateway_it_says_what_is_missing(agent: Agent) -> None:
    del agent.environment["OPENAI_BASE_URL"]
    code, found = agent.run()
    assert code == 2
    assert "OPENAI_BASE_URL" in found["err"]


def test_a_large_repository_makes_no_large_question(agent: Agent) -> None:
    for number in range(3000):
        (agent.root / f"tests/test_{number:04}.py").write_text("x = 1\n" * 1000)
    agent.model.answers = [json.dumps(GOOD)]
    assert agent.run()[0] == 0
    assert len(agent.model.requests[0]["messages"][-1]["content"]) < 12_000
