"""Who may start gates in a lane, and how many."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.builds_model import NS, Store
from tests.support.release import gate_pod
from tidegate.api.views import GateRunView
from tidegate.errors import Conflict, Unavailable
from tidegate.lane.index import install_indexes
from tidegate.lane.slots import CLAIM_SECONDS, GateSlots
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.settings import Settings

LANE = "l"


class World:
    """A lane with one slot, a run that wants it, and a clock."""

    def __init__(self, holder: str = "") -> None:
        self.now = 0.0
        self.cache = Cache(watched_kinds())
        self.store = Store(self.cache, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.ctx = Context(
            settings=Settings(), kube=self.store, cache=self.cache, queue=WorkQueue(), writer=self.store,  # type: ignore[arg-type]
            monotonic=lambda: self.now, holder="me_1",
        )  # fmt: skip
        install_indexes(self.ctx)
        spec = {"repository": {"url": "https://git.example.org/a.git"}, "gateSlots": 1}
        lane: dict[str, Any] = {"metadata": {"name": LANE}, "spec": spec}
        if holder:
            lane["status"] = {"gateHolder": holder}
        asyncio.run(self.store.create("MergeLane", NS, lane))
        wanted = {"laneRef": {"name": LANE}, "purpose": "Candidate", "gate": {"name": "g"}}
        asyncio.run(self.store.create("GateRun", NS, {"metadata": {"name": "r"}, "spec": wanted}))
        self.slots = GateSlots(self.ctx)

    @property
    def run(self) -> GateRunView:
        found: GateRunView = self.cache.get(Key("GateRun", NS, "r"))
        return found

    def claim(self) -> float | None:
        return asyncio.run(self.slots.claim(self.run))

    @property
    def holder(self) -> str:
        return str(self.store.objects["MergeLane", LANE]["status"]["gateHolder"])


def test_who_holds_the_lane_goes_on_at_once() -> None:
    world = World("me_1")
    assert world.claim() is None
    assert world.slots.free(Key("GateRun", NS, "r"), world.run)


def test_a_new_holder_waits_until_its_name_is_known_and_counts_what_the_former_one_made() -> None:
    world = World("other_2")
    assert world.claim() == CLAIM_SECONDS
    assert world.holder == "me_1"
    world.now += CLAIM_SECONDS / 2
    assert world.claim() == CLAIM_SECONDS / 2
    unseen = gate_pod("late", LANE, "other_2")
    unseen["metadata"] |= {"namespace": NS, "uid": "u", "resourceVersion": "1000"}
    world.store.objects["Pod", "late"] = unseen
    world.now += CLAIM_SECONDS / 2
    assert world.claim() is None
    assert not world.slots.free(Key("GateRun", NS, "r"), world.run)


def test_a_lost_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("other_2")
    written = world.store.patch_status

    async def lost(*args: Any, **options: Any) -> None:
        await written(*args, **options)
        raise Unavailable(0, "Timeout", "no answer")

    monkeypatch.setattr(world.store, "patch_status", lost)
    with pytest.raises(Unavailable):
        world.claim()
    world.now += CLAIM_SECONDS
    assert world.claim() is None


def test_a_former_holder_that_is_behind_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("other_2")
    stale = world.cache.get(Key("MergeLane", NS, LANE))
    asyncio.run(world.store.patch("MergeLane", NS, LANE, {"status": {"gateHolder": "third_3"}}))
    monkeypatch.setattr(world.slots, "_lane", lambda _: stale)
    with pytest.raises(Conflict):
        world.claim()
    assert world.holder == "third_3"
