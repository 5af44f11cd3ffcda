"""The gateway's HTTP side: routes, errors, metrics. Bodies and tokens are never logged."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from tidegate.errors import KubeError
from tidegate.gateway.identity import Caller, Callers, RefusedError
from tidegate.gateway.proxy import Answer, Completion, Upstream, UpstreamError, read_request
from tidegate.gateway.settings import Settings
from tidegate.gateway.usage import StreamMeter, Tallies, Tokens, estimate
from tidegate.telemetry import gateway_metrics as metrics

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_JSON = "application/json"
CALLER = web.RequestKey("caller", Caller)


def error_answer(status: int, message: str, kind: str, **headers: str) -> web.Response:
    """An error as OpenAI's clients read it."""
    body = {"error": {"message": message, "type": kind, "code": status}}
    return web.json_response(body, status=status, headers={k: v for k, v in headers.items() if v})


def bearer(request: web.Request) -> str:
    """The token that the request carries. Raises RefusedError."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError(401, "no bearer token: send the Pod's projected token in the header Authorization")
    return token.strip()


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever goes wrong into a JSON error, count it, log who called."""
    started = time.monotonic()
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "other"
    response: web.StreamResponse
    try:
        response = await handler(request)
    except RefusedError as error:
        response = error_answer(error.status, error.message, "refused")
    except UpstreamError as error:
        headers = {"Retry-After": error.retry_after}
        response = error_answer(error.status, error.message, "upstream_error", **headers)
    except KubeError as error:
        log.warning("callers can't be identified: %s %s", error.status, error.reason)
        response = error_answer(503, "the gateway can't ask the API server who is calling: try again", "unavailable")
    except web.HTTPRequestEntityTooLarge:
        response = error_answer(413, "the body is too large: send fewer or shorter messages", "refused")
    except web.HTTPException as error:
        response = error_answer(error.status, f"{request.method} {request.path}: {error.reason}", "refused")
    caller: Caller | None = request.get(CALLER)
    seconds = time.monotonic() - started
    metrics.REQUESTS.labels(route=route, code=str(response.status)).inc()
    metrics.SECONDS.labels(route=route).observe(seconds)
    if caller is not None or response.status >= 400:
        who = f"{caller.namespace}/{caller.task} attempt {caller.attempt}" if caller else "unknown"
        log.info("%s %s %s for %s in %.2f s", request.method, route, response.status, who, seconds)
    return response


class Gateway:
    """The routes and what they share."""

    def __init__(self, settings: Settings, callers: Callers, upstream: Upstream) -> None:
        self._settings = settings
        self._callers = callers
        self._upstream = upstream
        self._tallies = Tallies()
        self.problem: Callable[[], str] = lambda: ""  # what /readyz tells, empty when all is well

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=self._settings.max_body_bytes, middlewares=[as_json])
        app.router.add_post("/v1/chat/completions", self._completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/usage", self._usage)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _caller(self, request: web.Request) -> Caller:
        caller = await self._callers.find(bearer(request))
        request[CALLER] = caller
        return caller

    def _count(self, caller: Caller, tokens: Tokens) -> None:
        self._tallies.of(caller.task_uid, caller.attempt).add(tokens)
        metrics.TOKENS.labels(direction="in").inc(tokens.tokens_in)
        metrics.TOKENS.labels(direction="out").inc(tokens.tokens_out)
        if tokens.estimated:
            metrics.ESTIMATED.inc()

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        caller = await self._caller(request)
        try:
            asked = read_request(await request.read())
        except ValueError as error:
            return error_answer(400, str(error), "invalid_request_error")
        if asked.stream:
            return await self._stream(request, caller, asked)
        answer = await self._upstream.complete(asked)
        if answer.tokens is not None:
            self._count(caller, answer.tokens)
        return web.Response(status=answer.status, body=answer.body, content_type=_JSON)

    async def _stream(self, request: web.Request, caller: Caller, asked: Completion) -> web.StreamResponse:
        meter = StreamMeter(keep_usage=asked.asked_for_usage)
        async with self._upstream.stream(asked, meter) as found:
            if isinstance(found, Answer):
                return web.Response(status=found.status, body=found.body, content_type=_JSON)
            headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
            response = web.StreamResponse(headers=headers)
            try:  # counted however the stream ends, also when the caller goes away
                await response.prepare(request)
                await self._pass_on(response, found)
            finally:
                self._count(caller, meter.tokens or estimate(asked.body, meter.answered))
            return response

    async def _pass_on(self, response: web.StreamResponse, events: AsyncIterator[bytes]) -> None:
        try:
            async for data in events:
                await response.write(data)
        except UpstreamError as error:  # too late for a status: the last event says it
            text = error_answer(error.status, error.message, "upstream_error").body
            await response.write(b"data: " + bytes(text if isinstance(text, bytes) else b"{}") + b"\n\n")
        await response.write_eof()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        await self._caller(request)
        answer = await self._upstream.models()
        return web.Response(status=answer.status, body=answer.body, content_type=_JSON)

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        caller = await self._caller(request)
        tally: dict[str, Any] = self._tallies.of(caller.task_uid, caller.attempt).document()
        return web.json_response({"task": caller.task, "attempt": caller.attempt, **tally})

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        problem = self.problem()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
