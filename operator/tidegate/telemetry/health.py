"""/metrics, /healthz and /readyz on one port. A check says what is wrong, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from tidegate.telemetry import metrics

Check = Callable[[], str | None]  # what is wrong, None when all is well

BEAT_SECONDS = 1.0
DEAD_AFTER_SECONDS = 20.0


class HealthServer:
    """Serves while the event loop runs. `alive` decides /healthz (restart me), `ready` /readyz."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._alive: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}
        self._runner: web.AppRunner | None = None
        self._beat: asyncio.Task[None] | None = None
        self._lag = 0.0
        self._alive["loop"] = self._check_loop

    def add_alive(self, name: str, check: Check) -> None:
        """A check whose failure means that only a restart helps."""
        self._alive[name] = check

    def add_ready(self, name: str, check: Check) -> None:
        """A check whose failure means: not able to take over yet."""
        self._ready[name] = check

    async def start(self) -> int:
        """Begin to serve; returns the port (it differs from the one asked for when that was 0)."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._beat = asyncio.create_task(self._heartbeat(), name="heartbeat")
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        if self._beat is not None:
            self._beat.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._lag = max(0.0, loop.time() - due)
            metrics.LOOP_LAG_SECONDS.set(self._lag)

    def _check_loop(self) -> str | None:
        return f"the event loop stood still for {self._lag:.0f} s" if self._lag > DEAD_AFTER_SECONDS else None

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._alive)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer({**self._alive, **self._ready})


def _answer(checks: dict[str, Check]) -> web.Response:
    wrong = {name: text for name, check in checks.items() if (text := check())}
    lines = [f"[{'-' if name in wrong else '+'}] {name} {wrong.get(name, 'ok')}" for name in checks]
    return web.Response(text="\n".join(lines) + "\n", status=503 if wrong else 200)
