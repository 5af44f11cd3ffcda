"""The native sidecar `publisher`: checkpoints while the agent works, publishes when the kubelet says that it ended."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from dataclasses import dataclass, field
from types import FrameType

from tidegate.api.wire import AgentInput, PublisherReport
from tidegate.clients.git import Credentials
from tidegate.errors import TidegateError
from tidegate.runner.base import Base
from tidegate.runner.places import Places
from tidegate.runner.publish import Attempt, checkpoint, make_scanner, publish
from tidegate.runner.repository import Claim, Remote, open_repository
from tidegate.runner.snapshot import Memory

log = logging.getLogger(__name__)
_CHECKPOINT_SHARE = 5  # a checkpoint may take one part in so many of the time


@dataclass(slots=True)
class StopSignal:
    """SIGTERM as a flag that can be waited for; a lock in a signal handler could block for ever."""

    _set: bool = False
    _pipe: tuple[int, int] = field(default_factory=os.pipe)

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT."""
        for fd in self._pipe:
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._set = True

    def is_set(self) -> bool:
        """True once the signal came."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True once the signal came."""
        if not self._set:
            select.select([self._pipe[0]], [], [], seconds)
        return self._set


def run(given: AgentInput, places: Places, pod: str, stop: StopSignal) -> PublisherReport:
    """Checkpoint until the stop, then publish. Raises when not even the beginning went well."""
    git = open_repository(places.git, given, Credentials.from_files(places.credentials))
    claim = Claim.load(places.claim)
    base = Base.read(git, claim.base)
    remote = Remote(git, given, pod, claim, places.claim)
    attempt = Attempt(given, places, git, remote, base, make_scanner(git, base, places), stop.is_set, Memory())
    pause = float(given.checkpoint_seconds)
    while not stop.wait(pause):
        started = time.monotonic()
        try:
            if checkpoint(attempt, seconds=max(5.0, min(30.0, given.publish_seconds / 4))):
                log.info("checkpoint on %s", remote.wip_ref)
        except (TidegateError, OSError, LookupError) as error:
            log.warning("no checkpoint this time: %s", error)
        pause = max(float(given.checkpoint_seconds), _CHECKPOINT_SHARE * (time.monotonic() - started))
    return publish(attempt)
