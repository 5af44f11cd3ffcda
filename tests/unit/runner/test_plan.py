"""A plan as a model writes it."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.runner.plan import MAX_PROMPT, excerpts, faults, mend, parse, schema, with_excerpts


def task(name: str = "primes", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "prompt": "Write primes.",
        "scope": ["primes.py"],
        "acceptance": [],
        "dependsOn": [],
        **fields,
    }


def test_a_good_plan_has_no_faults() -> None:
    assert faults([task(), task("gcd", dependsOn=["primes"], priority=1, role="Tester")], may_be_empty=False) == []


@pytest.mark.parametrize(
    ("tasks", "fault"),
    [
        ([], "tasks: empty"),
        (["x"], "tasks[0].not an object"),
        ([task("Bad Name")], "tasks[0].name"),
        ([task("plan")], "tasks[0].name"),
        ([task("plan-2")], "tasks[0].name"),
        ([task(), task()], "tasks[1].name: primes is there twice"),
        ([task(prompt=" ")], "tasks[0].prompt"),
        ([task(prompt="x" * 5000)], "tasks[0].prompt"),
        ([task(role="Planner")], "tasks[0].role"),
        ([task(priority=0)], "tasks[0].priority"),
        ([task(priority=True)], "tasks[0].priority"),
        ([task(scope=["../x"])], "tasks[0].scope"),
        ([task(scope=["/x"])], "tasks[0].scope"),
        ([task(scope="x")], "tasks[0].scope"),
        ([task(acceptance=[1])], "tasks[0].acceptance[0]"),
        ([task(dependsOn=["later"]), task("later")], "tasks[0].dependsOn"),
        ([task(image="evil")], "tasks[0].image: unknown field"),
        ([task(f"t{n}") for n in range(201)], "tasks: 201, at most 200"),
    ],
)
def test_faults_name_the_field(tasks: list[Any], fault: str) -> None:
    assert any(found.startswith(fault) for found in faults(tasks, may_be_empty=False))


def test_slips_are_mended() -> None:
    slips = [
        task("Second Task", scope=["./a.py", "a.py", ""], dependsOn=["first", "second-task"], role=None),
        task("first"),
    ]
    mended = mend(slips)
    assert [one["name"] for one in mended] == ["first", "second-task"]
    assert mended[1]["scope"] == ["a.py"]
    assert mended[1]["dependsOn"] == ["first"]
    assert faults(mended, may_be_empty=False) == []


def test_a_ring_stays_a_fault() -> None:
    ring = mend([task("a", dependsOn=["b"]), task("b", dependsOn=["a"])])
    assert faults(ring, may_be_empty=False)


def test_what_was_merged_before_is_not_planned_again() -> None:
    assert mend([task("primes"), task("more", dependsOn=["primes"])], {"primes"}) == [
        {"name": "more", "prompt": "Write primes.", "scope": ["primes.py"], "dependsOn": []}
    ]


@pytest.mark.parametrize(
    "text", ['{"tasks": []}', '```json\n{"tasks": []}\n```', 'Here:\n```\n{"tasks": []}\n```\nDone']
)
def test_answers_that_hold_a_plan(text: str) -> None:
    assert parse(text) == {"tasks": []}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tasks": 1}', "I can't", "{" * 100_000])
def test_answers_that_hold_none(text: str) -> None:
    assert isinstance(parse(text), str)


def test_the_schema_offers_only_tests_that_exist() -> None:
    made = schema(["tests/test_a.py"], may_be_empty=False, max_tasks=3)
    properties = made["properties"]["tasks"]["items"]["properties"]
    assert properties["acceptance"]["items"] == {"type": "string", "enum": ["tests/test_a.py"]}
    assert made["properties"]["tasks"]["minItems"] == 1
    assert made["properties"]["tasks"]["maxItems"] == 3


REQUEST = """Add modules.

- m/primes.py with is_prime(n: int) -> bool,
  and primes_up_to(limit)
- m/sums.py with add
1. m/late.py

Tests are in tests/test_primes.py."""


def test_each_prompt_ends_with_the_requests_own_words_on_its_files() -> None:
    quoted = "- m/primes.py with is_prime(n: int) -> bool,\n  and primes_up_to(limit)"
    assert excerpts(REQUEST, ["m/primes.py"]) == quoted
    assert excerpts(REQUEST, ["m/late.py"]) == "1. m/late.py"
    assert excerpts(REQUEST, ["other"]) == ""
    [one, other] = with_excerpts([task(scope=["m/primes.py"]), task(scope=["other"])], REQUEST)
    assert one["prompt"].endswith(quoted)
    assert other == task(scope=["other"])
    long = "m/primes.py " * 1000
    assert len(with_excerpts([task(scope=["m/primes.py"])], long)[0]["prompt"]) <= MAX_PROMPT
