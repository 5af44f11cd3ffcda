"""After the end: the change on its way into the branch, and what is cleaned up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support import taskworld as w
from tidegate.api import reasons
from tidegate.api.views import MergeJobView, TaskView
from tidegate.tasks.decide import decide
from tidegate.tasks.model import NOTHING, Decision, Observed, PodDeletion
from tidegate.tasks.objects import merge_job, merge_lane


def complete(**fields: Any) -> Observed:
    """A task whose good end was just recorded."""
    seen = w.observed(w.task(status=w.with_attempt(), **fields), pods=(w.ended(),))
    return replace(seen, task=after(seen, decide(seen), **fields), pods=())


def after(seen: Observed, decision: Decision, **fields: Any) -> TaskView:
    return w.task(status=w.merged(seen.task.status(), decision.status), **fields)


def merged_condition(view: TaskView) -> tuple[str, str]:
    found = next(c for c in view.status()["conditions"] if c["type"] == reasons.MERGED)
    return found["status"], found["reason"]


def ended_job(name: str = "t-1", *, created: float = 0, **conditions: tuple[str, str]) -> MergeJobView:
    return w.job(name, created=created, conditions=conditions, mergedCommit="a" * 40)


def test_the_end_is_recorded_before_the_merge_job_is_made() -> None:
    seen = w.observed(w.task(status=w.with_attempt()), pods=(w.ended(),))
    decision = decide(seen)
    assert not decision.create_job
    view = after(seen, decision)
    assert (view.state, view.commit, view.ref) == ("Complete", "c" * 40, w.TASK_REF)
    assert merged_condition(view) == ("Unknown", "Queued")
    assert view.status()["mergeJob"] == "t-1"
    assert view.status()["usage"] == {"tokensIn": 5, "tokensOut": 7, "modelCalls": 1}
    assert decide(replace(seen, task=view, pods=())) == Decision(create_job=True)


def test_with_its_job_under_way_there_is_nothing_to_do() -> None:
    assert decide(replace(complete(), jobs=(w.job(),))) == NOTHING


def test_an_empty_diff_counts_as_merged() -> None:
    said = w.report(commit="", ref="")
    seen = w.observed(w.task(status=w.with_attempt()), pods=(w.ended(said=said),))
    view = after(seen, decide(seen))
    assert view.merged
    assert merged_condition(view) == ("True", "EmptyDiff")
    assert decide(replace(seen, task=view, pods=())) == NOTHING


def test_a_planners_result_is_its_handoff() -> None:
    seen = w.observed(w.task(status=w.with_attempt(), role="Planner"), pods=(w.ended(said=w.report(ref="wip")),))
    view = after(seen, decide(seen), role="Planner")
    assert view.merged
    assert view.status()["attempts"][0]["handoffCommit"] == "d" * 40


def test_a_reviews_result_is_its_handoff_and_never_a_change() -> None:
    reviews = {"sourceRef": "refs/heads/x", "sourceCommit": "e" * 40}
    for said, state in ((w.report(commit="", ref=""), "Complete"), (w.report(), "Complete"),
                        (w.report(commit="", ref="", handoff_valid=False), "Pending"),
                        (w.report(commit="", ref="", handoff_made=True), "Pending")):  # fmt: skip
        pods = (w.ended(said=said),)
        seen = w.observed(w.task(status=w.with_attempt(), role="Reviewer", reviews=reviews), pods=pods)
        view = after(seen, decide(seen), role="Reviewer", reviews=reviews)
        assert (view.state, "mergeJob" in view.status()) == (state, False)
        assert decide(replace(seen, task=view, pods=())).create_job is False


def test_a_script_says_itself_that_it_had_nothing_to_change() -> None:
    quiet = w.report(commit="", ref="", tokens_in=0, tokens_out=0, model_calls=0)
    seen = w.observed(w.task(status=w.with_attempt()), pods=(w.ended(said=quiet),))
    assert after(seen, decide(seen)).state == "Pending"
    script = replace(seen, agent_class=w.agent_class("Script"))
    assert after(script, decide(script)).state == "Complete"


def test_what_became_of_the_job_is_copied() -> None:
    seen = replace(complete(), jobs=(ended_job(Merged=("True", "Landed"), Succeeded=("True", "Landed")),))
    view = after(seen, decide(seen))
    assert view.merged
    assert view.status()["mergedCommit"] == "a" * 40
    failed = replace(complete(), jobs=(ended_job(Succeeded=("False", "GatesFailed")),))
    lost = after(failed, decide(failed))
    assert merged_condition(lost) == ("False", "GatesFailed")
    assert decide(replace(failed, task=lost)) == NOTHING
    assert decide(replace(failed, task=lost, jobs=())) == NOTHING  # its job was cleaned up: not made again


def test_a_change_that_was_queued_again_can_still_land() -> None:
    failed = ended_job(Succeeded=("False", "GatesFailed"))
    seen = replace(complete(), jobs=(failed,))
    seen = replace(seen, task=after(seen, decide(seen)))
    again = replace(seen, jobs=(failed, w.job("t-1-r1", created=5)))
    queued = after(again, decide(again))
    assert merged_condition(queued) == ("Unknown", "Queued")
    landed = replace(again, task=queued, jobs=(failed, ended_job("t-1-r1", Merged=("True", "Landed"))))
    assert after(landed, decide(landed)).merged


def test_a_cancel_after_the_end_takes_the_change_out_of_the_queue() -> None:
    seen = complete(desiredState="Cancelled")
    seen = replace(complete(), task=w.task(status=complete().task.status(), desiredState="Cancelled"), jobs=(w.job(),))
    decision = decide(seen)
    assert decision.cancel_jobs == ("t-1",)
    unborn = replace(seen, jobs=())
    assert not decide(unborn).create_job
    assert merged_condition(after(unborn, decide(unborn))) == ("False", "Cancelled")
    assert after(unborn, decide(unborn)).state == "Complete"


def test_a_build_that_goes_makes_no_jobs() -> None:
    assert decide(replace(complete(), build=None)) == NOTHING


def test_a_job_of_somebody_else_is_told() -> None:
    seen = replace(complete(), foreign_job=True)
    assert merged_condition(after(seen, decide(seen))) == ("False", "NameTaken")


def test_finished_pods_stay_for_their_time_and_go_once_judged() -> None:
    seen = replace(complete(), pods=(w.ended(),), jobs=(w.job(),))
    assert decide(seen) == Decision(again_after=300)
    later = replace(seen, now=w.NOW.replace(minute=5))
    assert decide(later) == Decision(delete_pods=(PodDeletion("t-1", "pod-1", tidying=True),))


def test_a_pod_that_runs_after_the_end_is_stopped() -> None:
    seen = replace(complete(), pods=(w.pod(attempt=2),), jobs=(w.job(),))
    assert decide(seen).delete_pods == (PodDeletion("t-2", "pod-2"),)


def test_the_job_is_the_builds_and_a_lone_tasks_own() -> None:
    merge = {"strategy": "Squash", "gateProfileName": "p", "maxConflictRetries": 1}
    made = merge_job(complete().task, w.build(merge=merge))
    assert made["metadata"]["ownerReferences"][0]["kind"] == "BuildRequest"
    assert made["spec"] == {
        "taskRef": {"name": "t", "uid": w.UID},
        "buildRef": {"name": "b"},
        "repository": {"url": "https://git.example.org/team/repo.git"},
        "sourceRef": w.TASK_REF,
        "sourceCommit": "c" * 40,
        "targetBranch": "main",
        "strategy": "Squash",
        "priority": 5,
        "gateProfileName": "p",
        "maxConflictRetries": 1,
    }
    alone = w.task(build="", status=complete().task.status(), gateProfileName="own")
    lone = merge_job(alone, None)
    assert lone["metadata"]["ownerReferences"][0]["kind"] == "AgentTask"
    assert lone["spec"]["gateProfileName"] == "own"
    assert "buildRef" not in lone["spec"]


def test_only_what_a_person_wrote_allows_fewer_tests() -> None:
    by_build = merge_job(complete().task, w.build(merge={"allowFewerTests": True}))
    assert by_build["spec"]["allowFewerTests"] is True
    alone = w.task(build="", status=complete().task.status(), allowFewerTests=True)
    assert merge_job(alone, None)["spec"]["allowFewerTests"] is True
    planned = w.task(status=complete().task.status(), allowFewerTests=True)
    assert "allowFewerTests" not in merge_job(planned, w.build(merge={"allowFewerTests": False}))["spec"]


def test_a_lane_is_named_from_url_and_branch() -> None:
    repository = {
        "url": "https://git.example.org/team/repo.git",
        "credentialsSecretName": "s",
        "publishBranches": "Always",
    }
    lane = merge_lane(repository)
    assert lane["metadata"]["name"].startswith("repo-main-")
    assert lane["spec"] == {
        "repository": {"url": repository["url"], "credentialsSecretName": "s"},
        "targetBranch": "main",
    }
