"""The operator with the lane's room alone. Run as a process: `python -m tests.support.lane_operator`."""

from __future__ import annotations

import asyncio
import signal

from tidegate.clients.kube import Kube
from tidegate.lane import handlers, reconcile
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.operator import Operator
from tidegate.settings import Settings
from tidegate.telemetry import logs, metrics


async def main() -> None:
    """Run until SIGTERM."""
    settings = Settings()
    logs.configure(settings.log_level, "console")
    kube = await Kube.connect(on_call=metrics.count_api_call)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    operator = Operator(settings, kube, watched_kinds(), [(reconcile.install, handlers.register)])
    await operator.run(stop, lambda: loop.add_signal_handler(signal.SIGTERM, stop.set))


if __name__ == "__main__":
    asyncio.run(main())
