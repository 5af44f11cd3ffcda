"""The election with a fake clock and a fake API server that knows resourceVersions."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tidegate.errors import AlreadyExists, Conflict, NotFound, NotLeaderError, Unavailable
from tidegate.runtime.lease import Lease
from tidegate.settings import Settings


class Clock:
    """Monotonic time that stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """One Lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.away = False

    def _store(self, spec: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}
        return self.lease

    async def get(self, *_: str, **__: Any) -> dict[str, Any]:
        if self.away:
            raise Unavailable(0, "Refused", "away")
        if self.lease is None:
            raise NotFound(404, "NotFound", "no lease")
        return self.lease

    async def create(self, _kind: str, _namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        if self.lease is not None:
            raise AlreadyExists(409, "AlreadyExists", "there")
        return self._store(dict(obj["spec"]))

    async def patch(self, *args: Any, **_: Any) -> dict[str, Any]:
        if self.away:
            raise Unavailable(0, "Refused", "away")
        patch = args[3]
        assert self.lease is not None
        if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "moved")
        return self._store({**self.lease["spec"], **patch["spec"]})

    async def watch_one(self, *_: Any) -> AsyncGenerator[dict[str, Any], None]:
        nothing: tuple[dict[str, Any], ...] = ()
        for event in nothing:
            yield event


class Replica:
    """A Lease with what it was told."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self.told: list[bool] = []
        settings = Settings(lease_retry_seconds=0.001, lease_renew_deadline_seconds=7, lease_duration_seconds=10)
        self.lease = Lease(server, settings, self.told.append, clock)  # type: ignore[arg-type]

    async def step(self) -> None:
        """One round; waiting for changes is cut short."""
        with contextlib.suppress(TimeoutError, Unavailable):
            round_ = self.lease._renew_once if self.lease._leading else self.lease._stand_by_once
            await asyncio.wait_for(round_(), 0.05)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


async def test_one_of_two_leads(server: Server, clock: Clock) -> None:
    a, b = Replica(server, clock), Replica(server, clock)
    await a.step()
    await b.step()
    a.lease.check()
    with pytest.raises(NotLeaderError):
        b.lease.check()
    assert (a.told, b.told) == ([True], [])


async def test_writing_ends_before_another_may_begin(server: Server, clock: Clock) -> None:
    a, b = Replica(server, clock), Replica(server, clock)
    await a.step()
    await b.step()  # sees it now
    server.away = True
    clock.now += 6.9
    a.lease.check()
    clock.now += 0.2
    with pytest.raises(NotLeaderError):
        a.lease.check()
    server.away = False
    await b.step()
    assert not b.told  # 7.1 s after it saw the Lease: too early
    clock.now += 3.0
    await b.step()
    b.lease.check()
    with pytest.raises(NotLeaderError):
        a.lease.check()


async def test_renewals_keep_it(server: Server, clock: Clock) -> None:
    a, b = Replica(server, clock), Replica(server, clock)
    await a.step()
    for _ in range(10):
        clock.now += 5
        await a.step()
        await b.step()
        a.lease.check()
    assert b.told == []


async def test_a_process_that_stood_still_is_no_leader_when_it_continues(server: Server, clock: Clock) -> None:
    a, b = Replica(server, clock), Replica(server, clock)
    await a.step()
    await b.step()
    clock.now += 11
    await b.step()
    b.lease.check()
    with pytest.raises(NotLeaderError):
        a.lease.check()
    await a.step()
    assert a.told == [True, False]


async def test_the_deadline_counts_from_when_the_renewal_was_sent(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Replica(server, clock)
    await a.step()
    original = server.patch

    async def slow(*args: Any, **kwargs: Any) -> dict[str, Any]:
        clock.now += 5  # the answer takes its time
        return await original(*args, **kwargs)

    monkeypatch.setattr(server, "patch", slow)
    await a.step()
    clock.now += 2.1  # 7.1 s after sending
    with pytest.raises(NotLeaderError):
        a.lease.check()


async def test_release_lets_another_in_at_once(server: Server, clock: Clock) -> None:
    a, b = Replica(server, clock), Replica(server, clock)
    await a.step()
    await b.step()
    await a.lease.release()
    with pytest.raises(NotLeaderError):
        a.lease.check()
    await b.step()
    b.lease.check()


async def test_its_own_lease_needs_no_waiting_after_an_outage(server: Server, clock: Clock) -> None:
    a = Replica(server, clock)
    await a.step()
    server.away = True
    clock.now += 8
    await a.step()
    server.away = False
    await a.step()
    a.lease.check()
    assert a.told == [True, False, True]


async def test_a_lease_taken_by_hand_ends_the_leadership(server: Server, clock: Clock) -> None:
    a = Replica(server, clock)
    await a.step()
    assert server.lease is not None
    server._store({**server.lease["spec"], "holderIdentity": "somebody"})
    await a.step()
    assert a.told == [True, False]


def test_identities_differ_from_start_to_start(server: Server, clock: Clock) -> None:
    assert Replica(server, clock).lease.identity != Replica(server, clock).lease.identity
