"""Mistakes put into the real code, to see whether the invariants notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tests.property.lane.machine import World
from tidegate.api import reasons
from tidegate.api.views import MergeJobView
from tidegate.clients.git import Git
from tidegate.clients.git_objects import Objects
from tidegate.lane import jobs, lander, landing, reconcile
from tidegate.lane.candidate import SQUASH, Change, form
from tidegate.lane.decide.model import Formed
from tidegate.lane.lander import Lander
from tidegate.lane.landing import LaneRefs, PushReport
from tidegate.lane.ledger import Landing, Ledger
from tidegate.lane.mirror import Mirror
from tidegate.lane.state import LaneState
from tidegate.runtime.writer import Writer

Mistake = Callable[[World], contextlib.AbstractContextManager[None]]
_take, _patch_status, _intend, _land = landing.take, Writer.patch_status, Lander._intend, Lander.land


@contextlib.contextmanager
def no_ledger_in_the_push(world: World) -> Iterator[None]:
    """The branch is pushed alone; the answer looks as if the ledger had moved."""
    push = world._push

    def alone(git: Git, *arguments: str, timeout: float = landing.PUSH_TIMEOUT) -> PushReport:
        if "--atomic" not in arguments:
            return push(git, *arguments, timeout=timeout)
        report = push(git, *(word for word in arguments if "/ledger" not in word), timeout=timeout)
        ledger = next(word.partition(":")[2] for word in arguments if word.endswith("/ledger"))
        return PushReport(report.code, {**report.refs, ledger: ("ok", "")}, report.text)

    with mock.patch.object(world, "_push", alone):
        yield


@contextlib.contextmanager
def no_lease_on_the_branch(world: World) -> Iterator[None]:
    """The branch is overwritten, whatever it is."""
    push = world._push

    def forced(git: Git, *arguments: str, timeout: float = landing.PUSH_TIMEOUT) -> PushReport:
        words = [word for word in arguments if not word.startswith("--force-with-lease=refs/heads/")]
        if "--atomic" in arguments:
            words = [f"+{word}" if word.endswith(":refs/heads/main") else word for word in words]
        return push(git, *words, timeout=timeout)

    with mock.patch.object(world, "_push", forced):
        yield


@contextlib.contextmanager
def read_without_moving(_world: World) -> Iterator[None]:
    """A holder that doesn't know what became of its push reads the ledger, and goes on with what it finds."""

    def read(mirror: Mirror, refs: LaneRefs, holder: str, accept: str = "") -> Ledger:
        mirror.fetch(refs.fetched)
        found = landing.read_ledger(mirror, refs)
        mine = bool(found.chain) and found.chain[-1][1].holder == holder
        return found if mine and not accept else _take(mirror, refs, holder, accept)

    with mock.patch.object(reconcile, "take", read):
        yield


@contextlib.contextmanager
def acknowledged_before_the_push(_world: World) -> Iterator[None]:
    """Merged is written once the intents stand."""

    async def early(self: Lander, *arguments: Any) -> list[MergeJobView] | None:
        members = await _intend(self, *arguments)
        rungs = next(one for one in arguments if isinstance(one, tuple))
        for rung, job in zip(rungs, members or (), strict=False):
            status = jobs.merged(job, self.moment(), rung.link.commit, reasons.MERGED_BY_LANE, "landed")
            await self.finish(job, status, reasons.MERGED_BY_LANE, "landed")
        return members

    with mock.patch.object(Lander, "_intend", early):
        yield


@contextlib.contextmanager
def no_resource_version(_world: World) -> Iterator[None]:
    """Status is written over whatever is there."""

    async def over(self: Writer, key: Any, status: Any, *, resource_version: int | None = None) -> Any:
        return await _patch_status(self, key, status)

    with mock.patch.object(Writer, "patch_status", over):
        yield


@contextlib.contextmanager
def no_intent(_world: World) -> Iterator[None]:
    """Nothing is written before the push."""

    async def none(_self: Lander, *arguments: Any) -> list[MergeJobView]:
        rungs = next(one for one in arguments if isinstance(one, tuple))
        views = next(one for one in arguments if isinstance(one, dict))
        return [views[rung.job.uid] for rung in rungs]

    with mock.patch.object(Lander, "_intend", none):
        yield


@contextlib.contextmanager
def containment_as_record(_world: World) -> Iterator[None]:
    """Recovery looks whether the branch contains the source."""

    async def recover(self: Lander, state: LaneState, open_jobs: tuple[MergeJobView, ...], *_: Any) -> bool:
        for job in open_jobs:
            source = job.spec["sourceCommit"]
            if state.mirror.contains(state.head, source):
                await self.merged(job, Landing(job.meta.uid, source, state.head, state.head))
            elif job.status.get("landing"):
                await self.withdraw(job, "its push did not land")
        return any(job.status.get("landing") for job in open_jobs)

    with mock.patch.object(Lander, "recover", recover):
        yield


@contextlib.contextmanager
def merged_again_at_landing(world: World) -> Iterator[None]:
    """A branch that moved is merged with once more, and pushed without gates."""
    land = landing.land

    def again(mirror: Mirror, refs: LaneRefs, ledger: Ledger, holder: str, landings: Any) -> landing.LandResult:
        result = land(mirror, refs, ledger, holder, landings)
        if not isinstance(result, landing.Moved) or not result.ledger_ours or len(landings) > 1:
            return result
        mirror.fetch(refs.fetched)
        with mirror.work() as git, Objects(git) as objects:
            made = form(objects, result.head, Change(landings[0].source, SQUASH))
        if not isinstance(made, Formed):
            return result
        one = Landing(landings[0].job, landings[0].source, result.head, made.commit)
        return land(mirror, refs, ledger, holder, (one,))

    with mock.patch.object(lander, "land", again):
        yield


# each with the accidents in which it shows
MISTAKES: tuple[tuple[Mistake, tuple[str, ...]], ...] = (
    (no_ledger_in_the_push, ("overtaken", "late, and die")),
    (no_lease_on_the_branch, ("raced",)),
    (read_without_moving, ("late",)),
    (acknowledged_before_the_push, ("raced",)),
    (no_resource_version, ("late", "overtaken")),
    (no_intent, ("cancelled",)),
    (containment_as_record, ("die after",)),
    (merged_again_at_landing, ("raced",)),
)
