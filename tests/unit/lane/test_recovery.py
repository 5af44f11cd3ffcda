"""Every way in which a landing may go wrong, one at a time: the real lane code over a real repository."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.property.lane.machine import NAMESPACE, World
from tests.property.lane.remote import TARGET
from tidegate.api import reasons
from tidegate.api.views import condition
from tidegate.errors import PermanentError
from tidegate.lane import freeze as freezing
from tidegate.lane import reconcile

Json = dict[str, Any]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def lane(world: World) -> Json:
    """The lane's status."""
    status: Json = world.api.get("MergeLane", NAMESPACE, world.lane.name)["status"]
    return status


def standing(world: World, type_: str) -> tuple[str, str]:
    """A condition of the lane: its status and reason."""
    found = condition(lane(world), type_) or {}
    return found.get("status", ""), found.get("reason", "")


def jobs(world: World) -> list[tuple[str, str]]:
    """State and reason of each job, in order of creation."""
    found = []
    for job in world.api.listed("MergeJob"):
        succeeded = condition(job.get("status") or {}, reasons.SUCCEEDED) or {}
        found.append(((job.get("status") or {}).get("state", ""), succeeded.get("reason", "")))
    return found


def queue(world: World, number: int = 1, line: int = 2) -> None:
    """Changes of one line each, five lines apart."""
    for one in range(number):
        world.submit("Rebase", 0, [(0, "edit", line + 5 * one)])


def go(world: World, name: str = "one", rounds: int = 12) -> None:
    """Rounds of a replica, with gates that end in between."""
    for _ in range(rounds):
        world.judge()
        world.work(name)
        world.clock += 20


def fail_at_the_push(world: World, fate: str) -> None:
    """The first replica works up to a landing, which meets its fate."""
    world.lead("one", alone=True)
    world.fate = fate
    for _ in range(20):
        if not world.fate:
            return
        world.judge()
        world.work("one")
    pytest.fail("nothing was pushed")


def thaw(world: World, name: str = "one") -> None:
    """What the condition Frozen asks a person to do."""
    world.set_lane(frozen=True)
    world.work(name)
    world.set_lane(frozen=False)


# -- recovery by the ledger


@pytest.mark.parametrize(
    ("fate", "cancelled", "wanted"),
    [
        ("die after", False, ("Merged", reasons.MERGED_BY_LANE)),
        ("die after", True, ("Merged", reasons.LANDED_BEFORE_CANCEL)),
        ("die before", True, ("Cancelled", reasons.CANCELLED)),
    ],
)
def test_the_next_leader_decides_an_intent_by_the_ledger(
    world: World, fate: str, cancelled: bool, wanted: tuple[str, str]
) -> None:
    queue(world)
    fail_at_the_push(world, fate)
    assert jobs(world)[0][0] == "Landing"
    if cancelled:
        world.cancel(0)
    world.lead("two", alone=True)
    go(world, "two", 2)
    assert jobs(world) == [wanted]
    assert len(world.checker.heads()) == (2 if fate == "die after" else 1)
    world.checker.check_end()


def test_what_did_not_land_is_queued_again_and_lands_once(world: World) -> None:
    queue(world, 2)
    fail_at_the_push(world, "die before")
    world.lead("two", alone=True)
    world.work("two", most=200)
    assert "Merged" not in {state for state, _ in jobs(world)}
    go(world, "two")
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)] * 2
    world.checker.check_end()


@pytest.mark.parametrize("fate", ["cut before", "cut after", "late"])
def test_a_cancel_waits_while_nobody_knows_what_the_push_did(world: World, fate: str) -> None:
    queue(world)
    fail_at_the_push(world, fate)
    assert jobs(world)[0][0] == "Landing"
    world.cancel(0)
    assert jobs(world)[0][0] == "Landing"
    go(world, rounds=2)  # the same leader moves the ledger, and only then reads
    world.remote.release_all()
    landed = fate == "cut after"
    assert jobs(world) == [("Merged", reasons.LANDED_BEFORE_CANCEL) if landed else ("Cancelled", reasons.CANCELLED)]
    assert len(world.checker.heads()) == 1 + landed
    world.checker.check_end()


def test_a_landing_that_was_overtaken_is_off(world: World) -> None:
    queue(world)
    world.overtake = 60
    fail_at_the_push(world, "overtaken")
    world.lead("two", alone=True)
    go(world, "two")
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)]
    assert [record.holder.partition(".")[0] for record in world.checker.records()] == ["two"]
    world.checker.check_end()


def test_what_others_merged_is_told_apart(world: World) -> None:
    queue(world)
    world.external("merge", 0)
    world.lead("one", alone=True)
    go(world, rounds=3)
    assert jobs(world) == [("Merged", reasons.MERGED_ELSEWHERE)]
    assert not world.checker.records()


def test_the_same_commit_lands_once(world: World) -> None:
    queue(world)
    world.lead("one", alone=True)
    go(world)
    world.external("revert")
    world.submit("Rebase", 0, [], twin=True)  # asked for once more after it was reverted
    go(world)
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)] * 2
    assert len(world.checker.records()) == 1
    world.checker.check_end()


# -- what freezes a lane


def test_a_rewound_branch_freezes_until_a_person_accepts_it(world: World) -> None:
    queue(world)
    world.lead("one", alone=True)
    go(world)
    first, landed = world.checker.heads()
    world.remote.repo.set(TARGET, first)
    queue(world)
    go(world)
    assert standing(world, reasons.FROZEN) == ("True", reasons.TARGET_REWOUND)
    assert jobs(world)[1] == ("Queued", reasons.FROZEN)
    world.crash("one")
    world.lead("two", alone=True)
    go(world, "two", 4)
    assert standing(world, reasons.FROZEN) == ("True", reasons.TARGET_REWOUND)
    thaw(world, "two")
    go(world, "two")
    assert standing(world, reasons.FROZEN)[0] == "False"
    assert jobs(world)[1] == ("Merged", reasons.MERGED_BY_LANE)
    head = world.remote.repo.ref(TARGET)
    assert world.remote.repo.contains(head, first)
    assert not world.remote.repo.contains(head, landed)


def test_a_rewound_branch_that_is_put_back_goes_on_by_itself(world: World) -> None:
    queue(world)
    world.lead("one", alone=True)
    go(world)
    first, landed = world.checker.heads()
    world.remote.repo.set(TARGET, first)
    queue(world, line=12)
    go(world, rounds=4)
    assert standing(world, reasons.FROZEN)[0] == "True"
    world.remote.repo.set(TARGET, landed)
    go(world)
    assert standing(world, reasons.FROZEN)[0] == "False"
    assert jobs(world)[1][0] == "Merged"


def test_a_declined_push_freezes_and_ejects_nobody(world: World) -> None:
    hook = world.remote.directory / "hooks" / "update"
    hook.write_text('#!/bin/sh\ncase "$1" in refs/heads/main) echo "needs a review" >&2; exit 1;; esac\n')
    hook.chmod(0o755)
    queue(world, 2)
    world.lead("one", alone=True)
    go(world)
    assert standing(world, reasons.FROZEN) == ("True", reasons.PUSH_DECLINED)
    assert "needs a review" in (condition(lane(world), reasons.FROZEN) or {})["message"]
    assert [state for state, _ in jobs(world)] == ["Queued"] * 2
    assert (world.lane.name, reasons.PUSH_DECLINED) in world.api.told
    hook.unlink()
    world.clock += freezing.DECLINED_SECONDS
    go(world)
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)] * 2
    assert standing(world, reasons.FROZEN)[0] == "False"


def move_the_branch(world: World, name: str, times: int) -> None:
    """Others push each time when a candidate is being gated."""
    for _ in range(times):
        world.work(name)
        world.work(name)
        world.external("own")
        world.clock += 20
    world.work(name)


def test_a_lane_that_others_starve_says_so_whoever_leads(world: World) -> None:
    queue(world)
    world.lead("one", alone=True)
    move_the_branch(world, "one", 3)
    assert lane(world)["reforms"] == 3
    world.crash("one")
    world.lead("two", alone=True)
    move_the_branch(world, "two", 2)
    assert standing(world, reasons.STARVED) == ("True", reasons.STARVED)
    go(world, "two")
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)]
    assert standing(world, reasons.STARVED) == ("", "")
    assert lane(world)["reforms"] == 0


def test_a_landing_of_its_own_starves_nobody(world: World) -> None:
    queue(world)
    fail_at_the_push(world, "cut after")
    go(world, rounds=2)
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)]
    assert lane(world)["reforms"] == 0


def test_a_runaway_lane_is_frozen_whoever_leads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (freezing, reconcile):
        monkeypatch.setattr(module, "FRUITLESS_LIMIT", 4)
    queue(world)
    world.lead("one", alone=True)
    move_the_branch(world, "one", 2)
    world.crash("one")
    world.lead("two", alone=True)
    move_the_branch(world, "two", 2)
    go(world, "two", 3)
    assert standing(world, reasons.FROZEN) == ("True", reasons.RUNAWAY)
    world.crash("two")
    world.lead("one", alone=True)
    go(world, "one", 3)
    assert standing(world, reasons.FROZEN) == ("True", reasons.RUNAWAY)
    assert jobs(world) == [("Queued", reasons.FROZEN)]
    thaw(world, "one")
    go(world, "one")
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)]
    assert lane(world)["fruitless"] == 0


# -- access to the remote


def test_new_credentials_are_tried_before_they_are_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"name": "git", "annotations": {"tidegate.dev/git-url": world.remote.repo.url}}
    secret = {"metadata": meta, "type": "kubernetes.io/basic-auth", "data": {"username": "dQ==", "password": "cA=="}}
    world.api.create("Secret", NAMESPACE, secret)
    world.set_lane(repository={"url": world.remote.repo.url, "credentialsSecretName": "git"})
    tried: list[str] = []
    monkeypatch.setattr(reconcile, "probe", lambda _mirror, _refs, commit: tried.append(commit))
    queue(world)
    world.lead("one", alone=True)
    go(world, rounds=3)
    assert len(tried) == 1
    world.api.patch("Secret", NAMESPACE, "git", {"data": {"password": "cTI="}}, status=False)
    queue(world)
    go(world, rounds=3)
    assert len(tried) == 2

    def refused(*_: Any) -> None:
        raise PermanentError(reasons.REFS_NOT_WRITABLE, "the remote refuses refs of the lane")

    monkeypatch.setattr(reconcile, "probe", refused)
    world.api.patch("Secret", NAMESPACE, "git", {"data": {"password": "cDM="}}, status=False)
    queue(world)
    before = len(world.checker.heads())
    go(world, rounds=6)
    assert standing(world, reasons.STALLED) == ("True", reasons.REFS_NOT_WRITABLE)
    assert len(world.checker.heads()) == before


def test_a_remote_that_is_not_atomic_stalls_the_lane_before_any_gate(world: World) -> None:
    world.remote.repo.git("config", "receive.advertiseAtomic", "false")
    world.api.patch("MergeLane", NAMESPACE, world.lane.name, {"status": {"probedCredentials": None}}, status=True)
    queue(world)
    world.lead("one", alone=True)
    go(world, rounds=3)
    assert standing(world, reasons.STALLED) == ("True", reasons.REMOTE_NOT_ATOMIC)
    assert standing(world, reasons.READY)[0] == "False"
    assert not world.api.listed("GateRun")


@pytest.mark.parametrize("lane_goes_too", [False, True])
def test_a_deleted_job_is_let_go_when_nobody_can_say_whether_it_landed(world: World, lane_goes_too: bool) -> None:
    queue(world)
    fail_at_the_push(world, "cut before")
    [job] = world.api.listed("MergeJob")
    away = world.remote.directory.rename(world.remote.directory.with_name("away"))
    world.api.delete("MergeJob", NAMESPACE, job["metadata"]["name"], None)
    if lane_goes_too:
        world.api.delete("MergeLane", NAMESPACE, world.lane.name, None)
    go(world, rounds=3)
    assert len(world.api.listed("MergeJob")) == 1  # its landing is undecided
    world.clock += reconcile.GIVE_UP_SECONDS
    go(world, rounds=2)
    assert not world.api.listed("MergeJob")
    assert (job["metadata"]["name"], reasons.REMOTE_UNREACHABLE) in world.api.told
    away.rename(world.remote.directory)


def test_a_deleted_job_never_lands(world: World) -> None:
    queue(world)
    fail_at_the_push(world, "cut before")
    [job] = world.api.listed("MergeJob")
    world.api.delete("MergeJob", NAMESPACE, job["metadata"]["name"], None)
    go(world)
    assert not world.api.listed("MergeJob")
    assert len(world.checker.heads()) == 1


def test_refs_that_nobody_needs_are_cleared_away(world: World) -> None:
    queue(world, 2)
    world.lead("one", alone=True)
    go(world, rounds=15)
    [ledger] = [ref for ref in world.remote.repo.refs("refs/tidegate/") if ref.endswith("/ledger")]
    assert list(world.remote.repo.refs("refs/tidegate/")) == [ledger]
    assert len(world.remote.repo.refs("refs/heads/work/")) == 2  # others' refs stay
