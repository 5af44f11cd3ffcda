"""A replica of the operator with the real lane code, driven by hand: one step goes from one wait to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from unittest import mock

from tests.property.lane.fakeapi import FakeApi, FakeKube, Pause
from tidegate.clients.kube import Kube
from tidegate.errors import NotLeaderError, PermanentError, TidegateError
from tidegate.lane import reconcile
from tidegate.lane.index import install_indexes
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.runtime.writer import Writer
from tidegate.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class Died(BaseException):
    """SIGKILL, as the code in the process would never see it."""


class _Threads:
    """In place of the thread pool: the work is done at once, between two pauses."""

    def __init__(self, _workers: int = 1) -> None:
        pass

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a piece of blocking work."""
        await Pause()
        result = work(*args, **kwargs)
        await Pause()
        return result


class Replica:
    """One process: cache, queue, writer, the lane's reconciler, and what it believes about its Lease."""

    def __init__(self, api: FakeApi, lane: Key, root: Path, holder: str, clock: Callable[[], float]) -> None:
        self.holder = holder
        self.leads = False
        self.refusals: list[str] = []
        self._api, self._lane = api, lane
        self._seen = 0
        self._running: Coroutine[Any, Any, float | None] | None = None
        cache = Cache(watched_kinds())
        kube = cast("Kube", FakeKube(api))
        self.ctx = Context(
            Settings(allow_file_urls=True, mirror_dir=str(root)), kube, cache, WorkQueue(),
            Writer(kube, cache, self._guard), monotonic=lambda: time.monotonic() + clock(), holder=holder,
        )  # fmt: skip
        with mock.patch.object(reconcile, "GitThreads", _Threads):
            install_indexes(self.ctx)
            self.lanes = reconcile.Lanes(self.ctx)

    def _guard(self) -> None:
        if not self.leads:
            raise NotLeaderError(f"{self.holder} doesn't lead")

    def lead(self) -> None:
        """Come to lead."""
        if not self.leads:
            self.leads = True
            self.ctx.term += 1

    def watch(self, events: int | None = None) -> None:
        """Take the next events, all of them by default."""
        until = len(self._api.events) if events is None else min(self._seen + events, len(self._api.events))
        for kind, type_, obj in self._api.events[self._seen : until]:
            if self.ctx.cache.watches(kind):
                self.ctx.observe(kind, {"type": type_, "object": obj})
        self._seen = until

    @property
    def idle(self) -> bool:
        """Whether no round is under way."""
        return self._running is None

    def step(self) -> None:
        """Go on to the next wait, or begin a round; raises Died, and what no code should raise."""
        if self._running is None:
            if not self.leads:
                return
            self._running = self.lanes.reconcile(self._lane)
        running = self._running
        try:
            running.send(None)
        except StopIteration:
            self._running = None
        except PermanentError as error:
            self._running = None
            self.refusals.append(str(error))
        except TidegateError:
            self._running = None
        except BaseException:
            self._running = None
            raise

    def die(self) -> None:
        """The process is gone: nothing of it goes on, and its mirror is free for the next one."""
        if self._running is not None:
            self._running.close()
            self._running = None
        self.leads = False
        for mirror in self.lanes._mirrors.values():
            mirror.close()
