"""The native sidecar `publisher`: checkpoints while the agent works, publishes when the kubelet says that it ended."""

from __future__ import annotations

import logging
import time

from tidegate.api.wire import AgentInput, PublisherReport
from tidegate.clients.git import Credentials
from tidegate.errors import TidegateError
from tidegate.runner.base import Base
from tidegate.runner.places import Places
from tidegate.runner.publish import Attempt, checkpoint, make_scanner, publish
from tidegate.runner.repository import Claim, Remote, open_repository
from tidegate.runner.snapshot import Memory
from tidegate.runner.stop import StopSignal

log = logging.getLogger(__name__)
_CHECKPOINT_SHARE = 5  # a checkpoint may take one part in so many of the time


def run(given: AgentInput, places: Places, pod: str, stop: StopSignal) -> PublisherReport:
    """Let the agent start, checkpoint until the stop, then publish. Raises when the beginning didn't go well."""
    git = open_repository(places.git, given, Credentials.from_files(places.credentials))
    claim = Claim.load(places.claim)
    base = Base.read(git, claim.base)
    remote = Remote(git, given, pod, claim, places.claim)
    attempt = Attempt(given, places, git, remote, base, make_scanner(git, base, places), stop.is_set, Memory())
    (places.tools / "ready").touch()
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
