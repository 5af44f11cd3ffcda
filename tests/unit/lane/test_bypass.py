"""A person's order to land without gates: what counts as one, and what is told of it."""

from __future__ import annotations

from typing import Any

from tidegate.api import reasons
from tidegate.api.views import MergeJobView
from tidegate.lane import jobs
from tidegate.lane.bypass import bypass_of, shown
from tidegate.lane.decide.model import Place
from tidegate.lane.index import lane_of_job
from tidegate.lane.observe import wanted

URL = "https://git.example.org/team/mathkit.git"
COMMIT = "a" * 40
NOW = jobs.Moment("2026-01-01T00:00:00Z")


def job(order: dict[str, Any] | None = None, **status: Any) -> MergeJobView:
    spec: dict[str, Any] = {"repository": {"url": URL}, "sourceCommit": COMMIT, "sourceRef": "refs/heads/x"}
    meta = {"name": "j", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1}
    made = MergeJobView.from_object({"metadata": meta, "spec": spec, "status": status})
    if order is not None:
        words = {"laneName": lane_of_job(made), "sourceCommit": COMMIT, "by": "ann", "reason": "broken", **order}
        spec["bypass"] = words
    return made


LANE = lane_of_job(job())


def test_it_counts_for_its_lane_and_commit_alone() -> None:
    assert bypass_of(job(), LANE) is None
    order = bypass_of(job({}), LANE)
    assert order is not None
    assert order.words == "by ann: broken"
    assert bypass_of(job({"laneName": "another"}), LANE) is None
    assert bypass_of(job({"sourceCommit": "b" * 40}), LANE) is None


def test_history_names_who_ordered_it() -> None:
    assert ("Tidegate-Bypassed-By", "ann") in wanted(job({})).change.trailers
    assert "Tidegate-Bypassed-By" not in dict(wanted(job({"laneName": "another"})).change.trailers)


def found(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def test_its_job_never_says_that_the_gates_passed() -> None:
    meant = jobs.intent(job({}), NOW, "c", "b", "l", [], "by ann: broken")
    assert found(meant)["GatesPassed"] == ("False", "GatesBypassed")
    after = jobs.merged(job({}, **meant), NOW, "c", reasons.MERGED_BY_LANE, "landed")
    assert found(after)["GatesPassed"] == ("False", "GatesBypassed")
    assert found(after)["Bypassed"] == ("True", "GatesBypassed")
    plain = jobs.merged(job(**jobs.intent(job(), NOW, "c", "b", "l", [])), NOW, "c", reasons.MERGED_BY_LANE, "landed")
    assert found(plain)["GatesPassed"] == ("True", "Passed")
    assert "Bypassed" not in found(plain)


def test_one_for_another_lane_says_that_it_has_no_effect() -> None:
    wrong = job({"laneName": "another"})
    [(type_, status, reason, message)] = shown(wrong, LANE)
    assert (type_, status, reason) == ("Bypassed", "False", "LaneMismatch")
    assert LANE in message
    placed = jobs.placed(wrong, NOW, LANE, Place("u", 1, reasons.GATING), [])
    assert found(placed)["Bypassed"] == ("False", "LaneMismatch")
