"""The operator's machine room with one toy room: it writes the replica's name into the status of each AgentTask.

Run as a process: `python -m tests.support.toy_operator`; settings come from TIDEGATE_* as for the real one.
"""

from __future__ import annotations

import asyncio
import signal

import kopf

from tidegate.clients.kube import Kube
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.operator import Operator
from tidegate.runtime.watch import watch
from tidegate.settings import Settings
from tidegate.telemetry import logs, metrics


def install(ctx: Context) -> None:
    """Mark each task that nobody has marked."""

    async def reconcile(key: Key) -> float | None:
        view = ctx.cache.get(key)
        if view is None or view.ref:
            return None
        status = {"ref": f"refs/{ctx.settings.identity}"}
        await ctx.writer.patch_status(key, status, resource_version=view.meta.resource_version)
        return None

    ctx.reconciler("AgentTask", reconcile)


def register(registry: kopf.OperatorRegistry, ctx: Context) -> None:
    """Watch every kind."""
    for kind in watched_kinds():
        watch(registry, ctx, kind)


async def main() -> None:
    """Run until SIGTERM."""
    settings = Settings()
    logs.configure(settings.log_level, "console")
    kube = await Kube.connect(on_call=metrics.count_api_call)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    operator = Operator(settings, kube, watched_kinds(), [(install, register)])
    await operator.run(stop, lambda: loop.add_signal_handler(signal.SIGTERM, stop.set))


if __name__ == "__main__":
    asyncio.run(main())
