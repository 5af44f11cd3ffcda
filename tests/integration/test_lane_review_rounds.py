"""The lane's own rounds with reviews, on a real repository: each change is reviewed once, before it is gated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.property.lane.fakeapi import FakeApi
from tests.property.lane.replica import Replica
from tests.support.repo import File, Repo
from tidegate import names
from tidegate.runtime.keys import Key

Object = dict[str, Any]
FILES: dict[str, File] = {"a": "1\n", "b": "1\n"}
REVIEW = {"name": "review", "review": {"agentClassName": "reviewer"}}
TESTS = {"name": "tests", "image": "a", "command": ["x"]}


class Rounds:
    """A lane on its own: the test says what gates and reviews say."""

    def __init__(self, root: Path) -> None:
        self.repo, self.api = Repo(root / "repo.git"), FakeApi()
        self.base = self.repo.commit(FILES)
        self.repo.set("refs/heads/main", self.base)
        self.lane = names.lane_name(self.repo.url, "main")
        spec = {"repository": {"url": self.repo.url}, "targetBranch": "main", "window": 2}
        self.api.create("MergeLane", "n", {"metadata": {"name": self.lane}, "spec": spec})
        self.api.create("GateProfile", "", {"metadata": {"name": "p"}, "spec": {"gates": [TESTS, REVIEW]}})
        self.api.create(
            "AgentClass", "", {"metadata": {"name": "reviewer"}, "spec": {"engine": {"protocol": "Reviewer"}}}
        )
        self.replica = Replica(self.api, Key("MergeLane", "n", self.lane), root / "mirrors", "me", lambda: 0.0)
        self.replica.lead()

    def job(self, name: str, source: str, **spec: Any) -> None:
        self.repo.set(f"refs/heads/{name}", source)
        made = {
            "repository": {"url": self.repo.url}, "targetBranch": "main", "sourceRef": f"refs/heads/{name}",
            "sourceCommit": source, "gateProfileName": "p", **spec,
        }  # fmt: skip
        self.api.create("MergeJob", "n", {"metadata": {"name": name}, "spec": made})

    def change(self, files: dict[str, File], parent: str = "") -> str:
        return self.repo.commit({**FILES, **files}, parent or self.base)

    def rounds(self, count: int = 4) -> None:
        for _ in range(count):
            self.replica.watch()
            self.replica.step()
            while not self.replica.idle:
                self.replica.step()
        assert not self.replica.refusals

    def runs(self, gate: str) -> list[Object]:
        return [run for run in self.api.listed("GateRun") if run["spec"]["gate"]["name"] == gate]

    def say(self, gate: str, verdict: str, **status: Any) -> None:
        for run in self.runs(gate):
            if not (run.get("status") or {}).get("verdict"):
                given = {"verdict": verdict, "endTime": "2026-01-01T00:00:00Z", **status}
                self.api.patch("GateRun", "n", run["metadata"]["name"], {"status": given}, status=True)
        self.rounds()

    def of(self, name: str) -> tuple[str, str]:
        status = self.api.get("MergeJob", "n", name)["status"]
        succeeded = next(one for one in status["conditions"] if one["type"] == "Succeeded")
        return status["state"], succeeded["reason"]


@pytest.fixture
def lane(tmp_path: Path) -> Rounds:
    return Rounds(tmp_path)


def test_a_change_is_gated_and_lands_when_its_review_approved(lane: Rounds) -> None:
    source = lane.change({"a": "2\n"})
    lane.job("one", source)
    lane.rounds()
    [review] = lane.runs("review")
    assert lane.runs("tests") == []
    assert lane.of("one") == ("Queued", "Reviewing")
    assert review["spec"]["commit"] == source
    assert review["spec"]["change"]["baseCommits"] == [lane.base]
    assert lane.repo.ref(review["spec"]["fetchRef"]) == source
    lane.say("review", "Passed", reason="Passed", message="Fine.")
    assert lane.of("one") == ("Gating", "Gating")
    assert len(lane.runs("tests")) == 1
    lane.say("tests", "Passed")
    assert lane.of("one") == ("Merged", "Landed")
    gates = lane.api.get("MergeJob", "n", "one")["status"]["gates"]
    assert [(gate["name"], gate["verdict"]) for gate in gates] == [("review", "Passed"), ("tests", "Passed")]


def test_a_refusal_is_final_and_tells_the_findings(lane: Rounds) -> None:
    lane.job("one", lane.change({"a": "2\n"}))
    lane.rounds()
    lane.say("review", "Failed", reason="ReviewRefused", message="No.", logTail="a:1: wrong")
    assert lane.of("one") == ("Failed", "NotApproved")
    status = lane.api.get("MergeJob", "n", "one")["status"]
    assert status["gates"][0] | {"run": ""} == {
        "name": "review", "run": "", "verdict": "Failed", "flaked": False, "reason": "ReviewRefused", "message": "No.",
        "logTail": "a:1: wrong",
    }  # fmt: skip
    assert any((one["type"], one["status"]) == ("GatesPassed", "False") for one in status["conditions"])
    assert (len(lane.runs("review")), lane.runs("tests")) == (1, [])
    lane.job("again", lane.change({"a": "2\n"}))  # the same change under another name
    lane.rounds()
    assert lane.of("again") == ("Failed", "NotApproved")
    assert len(lane.runs("review")) == 1


def test_a_missing_verdict_fails_the_job_and_the_change_may_be_queued_again(lane: Rounds) -> None:
    lane.job("one", lane.change({"a": "2\n"}))
    lane.rounds()
    lane.say("review", "Failed", reason="ReviewMissing", endTime="2025-12-31T00:00:00Z")  # before all jobs were made
    lane.rounds()
    assert [run["spec"]["number"] for run in lane.runs("review")] == [1, 2]
    lane.say("review", "Failed", reason="ReviewMissing", endTime="2026-02-01T00:00:00Z")
    assert lane.of("one") == ("Failed", "NotApproved")


def test_a_rebased_change_is_not_reviewed_again_and_a_changed_one_is(lane: Rounds) -> None:
    lane.job("one", lane.change({"a": "2\n"}))
    lane.rounds()
    lane.say("review", "Passed")
    lane.api.patch("MergeJob", "n", "one", {"spec": {"desiredState": "Cancelled"}}, status=False)
    lane.rounds()
    assert lane.of("one")[0] == "Cancelled"
    head = lane.change({"b": "2\n"})
    lane.repo.set("refs/heads/main", head)
    lane.job("rebased", lane.change({"a": "2\n", "b": "2\n"}, head))
    lane.job("changed", lane.change({"a": "2 \n", "b": "2\n"}, head))
    lane.replica.die()
    lane.replica.lead()  # a new leader knows it too
    lane.rounds()
    assert lane.of("rebased") == ("Gating", "Gating")
    assert lane.of("changed") == ("Queued", "Reviewing")
    assert len(lane.runs("review")) == 2


def test_what_the_cluster_ended_is_asked_again(lane: Rounds) -> None:
    lane.job("one", lane.change({"a": "2\n"}))
    lane.rounds()
    lane.say("review", "Infra")
    assert [run["spec"]["number"] for run in lane.runs("review")] == [1, 2]
    assert lane.of("one") == ("Queued", "Reviewing")


def test_a_persons_bypass_skips_the_review_and_ends_one_that_runs(lane: Rounds) -> None:
    source = lane.change({"a": "2\n"})
    lane.job("one", source)
    lane.job("two", lane.change({"b": "2\n"}))
    lane.rounds()
    assert len(lane.runs("review")) == 2
    order = {"laneName": lane.lane, "sourceCommit": source, "by": "ann", "reason": "broken"}
    lane.api.patch("MergeJob", "n", "one", {"spec": {"bypass": order}}, status=False)
    lane.rounds()
    assert lane.of("one") == ("Merged", "Landed")
    lane.rounds()
    assert [run["spec"]["jobRef"]["name"] for run in lane.runs("review")] == ["two"]


def test_no_more_than_so_many_reviews_are_under_way(lane: Rounds) -> None:
    for number in range(7):
        lane.job(f"j{number}", lane.change({"a": f"{number + 5}\n"}))
    lane.rounds()
    assert len(lane.runs("review")) == 4
    lane.say("review", "Failed")
    assert len(lane.runs("review")) == 7


def test_a_round_in_which_nothing_happened_writes_nothing_however_many_wait_for_reviews(lane: Rounds) -> None:
    for number in range(30):
        lane.job(f"j{number}", lane.change({"a": f"{number + 5}\n"}))
    lane.rounds(8)
    before = len(lane.api.events)
    lane.rounds()
    assert len(lane.api.events) == before
    lane.say("review", "Failed")
    written = {(kind, obj["metadata"]["name"]) for kind, _, obj in lane.api.events[before:]}
    assert len([one for one in written if one[0] == "GateRun"]) == 2 * 4


def test_without_its_reviewer_a_change_waits_and_says_why(lane: Rounds) -> None:
    lane.api.delete("AgentClass", "", "reviewer", None)
    lane.job("one", lane.change({"a": "2\n"}))
    lane.rounds()
    assert lane.of("one") == ("Queued", "AgentClassMissing")
    assert lane.runs("review") == lane.runs("tests") == []
