"""`python -m tidegate.gateway`: serves models to agent Pods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

from aiohttp import web

from tidegate import names
from tidegate.clients.kube import Kube
from tidegate.errors import KubeError, PermanentError
from tidegate.gateway.app import Gateway
from tidegate.gateway.identity import Callers, RefusedError, read_review
from tidegate.gateway.proxy import Upstream
from tidegate.gateway.settings import Settings

log = logging.getLogger("tidegate.gateway")
_CHECK_SECONDS = 15.0
_DRAIN_SECONDS = 20.0


async def watch_api_server(gateway: Gateway, kube: Kube) -> None:
    """Keep `/readyz` true: ask the API server to review a token that nobody has, as every request needs it."""
    spec = {"token": "readiness", "audiences": [names.GATEWAY_AUDIENCE]}
    while True:
        try:
            read_review(await kube.create("TokenReview", "", {"metadata": {}, "spec": spec}))
        except RefusedError:
            problem = ""
        except KubeError as error:
            problem = f"the API server reviews no tokens for the gateway: {error.status} {error.reason}"
        gateway.problem = lambda text=problem: text  # type: ignore[misc]
        await asyncio.sleep(_CHECK_SECONDS if not problem else 1.0)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM; running requests get some seconds to end."""
    kube = await Kube.connect()
    upstream = Upstream(settings)
    gateway = Gateway(settings, Callers(kube, settings.identity_seconds, settings.refusal_seconds), upstream)
    gateway.problem = lambda: "the API server was not asked yet"
    runner = web.AppRunner(gateway.application(), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, settings.host, settings.port, shutdown_timeout=_DRAIN_SECONDS)
    await site.start()
    log.info("serving on port %s for %s", settings.port, settings.upstream)
    checks = asyncio.create_task(watch_api_server(gateway, kube))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    checks.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await checks
    await runner.cleanup()
    await upstream.close()
    await kube.close()


def main() -> int:
    """Run the gateway; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(Settings.load()))
    except PermanentError as error:
        print(error.message, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
