"""A proxy before the real API server that fails as told: cut connections, expired watches, refused and late writes."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tidegate.clients.kube_session import auth_headers, load_configuration, new_session

EXPIRED = {
    "type": "ERROR",
    "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410},
}
DROPPED_HEADERS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


class Late:
    """A request that is on its way for as long as one likes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, method: str, text: bytes) -> None:
        self._loop = loop
        self._method = method
        self._text = text
        self._released = asyncio.Event()
        self.body: Any = None  # once it was sent
        self.answer: tuple[int, str] | None = None  # once it has arrived: the status and the text

    def is_for(self, method: str, body: bytes) -> bool:
        """Whether this is the request."""
        return method == self._method and self._text in body

    async def arrive(self, body: bytes) -> None:
        """Wait until it may."""
        self.body = json.loads(body)
        await self._released.wait()

    def release(self) -> None:
        """Let it arrive."""
        self._loop.call_soon_threadsafe(self._released.set)


class ApiProxy:
    """Plain HTTP on this machine for one client; what is not told to fail is passed on."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        self._upstream = kubeconfig
        self.kubeconfig = directory / "proxy.kubeconfig"
        self._loop = asyncio.new_event_loop()
        self._down = False
        self._expire: set[str] = set()  # paths whose next watch is told that its version is too old
        self._expire_all = False
        self._failures: list[tuple[str, str, int]] = []  # method, part of the path, code
        self._late: list[Late] = []
        self.failed = 0
        self.expired = 0
        self._streams: dict[int, web.BaseRequest] = {}
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        self._write_kubeconfig(started.result(30))

    def cut(self) -> None:
        """Break every connection and take no new one."""

        def act() -> None:
            self._down = True
            for request in list(self._streams.values()):
                if request.transport is not None:
                    request.transport.abort()

        self._loop.call_soon_threadsafe(act)

    def restore(self, *, expired: bool = False) -> None:
        """Take connections again; with `expired` each watch that goes on from before is answered with 410, once."""

        def act() -> None:
            self._expire_all = expired
            self._expire.clear()
            self._down = False

        self._loop.call_soon_threadsafe(act)

    def fail(self, method: str, path: str, *codes: int) -> None:
        """Answer the next requests of a method to paths that contain `path` with these codes."""
        self._loop.call_soon_threadsafe(self._failures.extend, [(method, path, code) for code in codes])

    def delay(self, method: str, text: str) -> Late:
        """Keep the next request of a method whose body contains `text` until it is released."""
        late = Late(self._loop, method, text.encode())
        self._loop.call_soon_threadsafe(self._late.append, late)
        return late

    def close(self) -> None:
        """End the proxy."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _write_kubeconfig(self, port: int) -> None:
        entry = {"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [entry],
            "contexts": [context],
            "current-context": "proxy",
            "users": [{"name": "proxy", "user": {}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def _serve(self, started: Future[int]) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._start())
        started.set_result(int(runner.addresses[0][1]))
        self._loop.run_forever()
        self._loop.run_until_complete(self._end(runner))

    async def _end(self, runner: web.AppRunner) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._session.close()
        await runner.cleanup()

    async def _start(self) -> web.AppRunner:
        self._configuration = await load_configuration(str(self._upstream))
        self._session = await new_session(self._configuration, connections=0)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        for failure in self._failures:
            method, path, code = failure
            if method == request.method and path in request.path:
                self._failures.remove(failure)
                self.failed += 1
                status: dict[str, Any] = {"kind": "Status", "reason": "Injected", "message": "as told", "code": code}
                return web.json_response(status, status=code, headers={"Retry-After": "1"} if code == 429 else {})
        goes_on = request.query.get("watch") and request.query.get("resourceVersion")
        if self._expire_all and goes_on and request.path not in self._expire:
            self._expire.add(request.path)
            self.expired += 1
            return web.Response(body=json.dumps(EXPIRED).encode() + b"\n", content_type="application/json")
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in DROPPED_HEADERS}
        headers.update(await auth_headers(self._configuration))
        timeout = aiohttp.ClientTimeout(total=None)
        url = self._configuration.host.rstrip("/") + request.path_qs
        body = await request.read() or None
        late = next((one for one in self._late if one.is_for(request.method, body or b"")), None)
        if late is not None:
            self._late.remove(late)
            await late.arrive(body or b"")
        async with self._session.request(
            request.method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if late is not None:
                late.answer = (answer.status, (await answer.read()).decode())
                return web.Response(status=answer.status)
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            self._streams[id(request)] = request
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (ConnectionError, aiohttp.ClientError):
                pass  # cut
            finally:
                self._streams.pop(id(request), None)
        return response
