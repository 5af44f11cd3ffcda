"""Follows a build until it is finalized."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.live import Live

from tidegate import names
from tidegate.cli import render
from tidegate.cli.snapshot import Snapshot, snapshot
from tidegate.clients.kube import Kube
from tidegate.errors import KubeError, NotFound

POLL_SECONDS = 1.0
MANY = 500  # tasks from which on the API server is asked less often
GIVE_UP_SECONDS = 300.0  # without any answer from the API server

EXIT_PASSED = 0
EXIT_NOT_PASSED = 1
EXIT_USAGE = 2


class Screen(Protocol):
    """Where snapshots go."""

    def show(self, shot: Snapshot, now: datetime) -> None:
        """Take a new snapshot."""

    def note(self, text: str) -> None:
        """Say something that isn't of the build."""

    def end(self, shot: Snapshot) -> None:
        """Show the verdict."""


class LiveScreen:
    """A tree that is drawn anew in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._live.start()

    def show(self, shot: Snapshot, now: datetime) -> None:  # noqa: ARG002 - the tree holds no clock time
        self._live.update(render.tree(shot, max(5, self._console.height - 8)))

    def note(self, text: str) -> None:
        self._live.console.print(text, style="yellow", markup=False, highlight=False)

    def end(self, shot: Snapshot) -> None:
        self._live.stop()
        self._console.print(render.tree(shot, 1000))
        for line in render.verdict(shot):
            style = "bold green" if shot.passed else "bold red" if line.startswith(shot.phase) else "yellow"
            self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


class LineScreen:
    """A line for each change."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: Snapshot | None = None

    def show(self, shot: Snapshot, now: datetime) -> None:
        for line in render.changes(self._last, shot, now):
            self._write(line)
        self._last = shot

    def note(self, text: str) -> None:
        self._write(text)

    def end(self, shot: Snapshot) -> None:
        self._write(render.headline(shot))
        for line in render.verdict(shot):
            self._write(line)


class JsonScreen:
    """A JSON object a line for each change."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: Snapshot | None = None

    def show(self, shot: Snapshot, now: datetime) -> None:  # noqa: ARG002 - times are in the objects
        if shot != self._last:
            self._write(orjson.dumps(shot).decode())
        self._last = shot

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def end(self, shot: Snapshot) -> None:
        """Nothing more: the last object holds the verdict."""


async def look(kube: Kube, namespace: str, build: str, now: datetime) -> Snapshot:
    """The build as it is now. Raises NotFound."""
    selector = f"{names.LABEL_BUILD}={names.bounded_name(build)}"
    found, (tasks, _), (jobs, _) = await asyncio.gather(
        kube.get("BuildRequest", namespace, build),
        kube.list("AgentTask", namespace, selector),
        kube.list("MergeJob", namespace, selector),
    )
    uid = found["metadata"]["uid"]
    return snapshot(found, [t for t in tasks if _owned(t, uid)], [j for j in jobs if _owned(j, uid)], now)


def _owned(obj: dict[str, Any], uid: str) -> bool:
    return any(reference.get("uid") == uid for reference in obj["metadata"].get("ownerReferences") or ())


async def follow(kube: Kube, namespace: str, build: str, screen: Screen, *, poll: float = POLL_SECONDS) -> int:
    """Show the build until it is finalized; the exit code. Outages of the API server are waited out."""
    seen = False
    failing_since: float | None = None
    clock = asyncio.get_running_loop().time
    while True:
        now = datetime.now(UTC)
        try:
            shot = await look(kube, namespace, build, now)
        except NotFound:
            screen.note(
                f"build {build} was deleted" if seen else f"no BuildRequest {build!r} in namespace {namespace!r}"
            )
            return EXIT_NOT_PASSED if seen else EXIT_USAGE
        except KubeError as error:
            if not error.transient or clock() - (failing_since or clock()) > GIVE_UP_SECONDS:
                raise
            if failing_since is None:
                screen.note(f"the API server does not answer, waiting: {error}")
            failing_since = failing_since or clock()
            await asyncio.sleep(poll * 2)
            continue
        seen, failing_since = True, None
        screen.show(shot, now)
        if shot.finalized:
            screen.end(shot)
            return EXIT_PASSED if shot.passed else EXIT_NOT_PASSED
        await asyncio.sleep(poll * 5 if len(shot.tasks) > MANY else poll)
