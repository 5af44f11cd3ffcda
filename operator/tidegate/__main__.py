"""The operator's process: `python -m tidegate`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from pydantic import ValidationError

from tidegate.builds import handlers as build_handlers
from tidegate.builds import reconcile as builds
from tidegate.clients.kube import Kube
from tidegate.errors import PermanentError
from tidegate.lane import handlers as lane_handlers
from tidegate.lane import reconcile as lane
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.operator import Operator
from tidegate.settings import Settings
from tidegate.tasks import handlers as task_handlers
from tidegate.tasks import reconcile as tasks
from tidegate.telemetry import logs, metrics

log = logging.getLogger("tidegate")

ROOMS = (
    (builds.install, build_handlers.register),
    (tasks.install, task_handlers.register),
    (lane.install, lane_handlers.register),
)


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    kube = await Kube.connect(on_call=metrics.count_api_call)
    stop = asyncio.Event()
    operator = Operator(settings, kube, watched_kinds(), ROOMS)
    await operator.run(stop, lambda: _take_signals(stop))


def _take_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def main() -> int:
    """Exit code 0 after a stop that was asked for, 1 when the process can't go on, 2 for wrong settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"wrong settings: {error}", file=sys.stderr)
        return 2
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings))
    except PermanentError as error:
        log.error("the operator ends", extra={"reason": error.reason, "error": error.message})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
