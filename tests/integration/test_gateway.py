"""The gateway between real HTTP on both sides; the API server's answers are what a real one was seen to give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tidegate import names
from tidegate.errors import NotFound, Unavailable
from tidegate.gateway.app import Gateway
from tidegate.gateway.identity import Callers
from tidegate.gateway.proxy import Upstream
from tidegate.gateway.settings import Settings

KEY = "sk-the-providers-key"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}


def review(pod: str = "t-1", uid: str = "pod-1", audience: str = names.GATEWAY_AUDIENCE) -> dict[str, Any]:
    extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid]}
    user = {"username": "system:serviceaccount:team:default", "extra": extra}
    return {"status": {"authenticated": True, "audiences": [audience], "user": user}}


def pod_object(uid: str = "pod-1", task_uid: str = "task-1") -> dict[str, Any]:
    owner = {"apiVersion": names.API_VERSION, "kind": "AgentTask", "name": "t", "uid": task_uid, "controller": True}
    return {"metadata": {"name": "t-1", "uid": uid, "ownerReferences": [owner]}}


def task_object(**attempt: Any) -> dict[str, Any]:
    row = {"number": 1, "pod": "t-1", "podUID": "pod-1", **attempt}
    return {"metadata": {"name": "t", "uid": "task-1"}, "status": {"attempts": [row]}}


@dataclass
class FakeKube:
    """What the API server would say; counts how often it is asked."""

    reviews: dict[str, dict[str, Any]] = field(default_factory=lambda: {"good": review()})
    objects: dict[str, Any] = field(default_factory=lambda: {"Pod": pod_object(), "AgentTask": task_object()})
    asked: int = 0
    broken: bool = False

    async def create(self, kind: str, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        assert (kind, namespace) == ("TokenReview", "")
        assert obj["spec"]["audiences"] == [names.GATEWAY_AUDIENCE]
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.broken:
            raise Unavailable(503, "ServiceUnavailable", "down")
        return self.reviews.get(obj["spec"]["token"], {"status": {"error": "invalid"}})

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert namespace == "team"
        if kind not in self.objects:
            raise NotFound(404, "NotFound", name)
        found: dict[str, Any] = self.objects[kind]
        return found


@dataclass
class FakeModel:
    """An OpenAI-compatible server: what it got, and how it is to answer."""

    requests: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    status: int = 200
    usage: bool = True
    words: tuple[str, ...] = ("one ", "two ", "three ")
    delay: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        return app

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((body, request.headers.get("Authorization", "")))
        usage = {"prompt_tokens": 11, "completion_tokens": 7}
        if self.status != 200:
            return web.json_response({"error": f"no, {KEY}"}, status=self.status, headers={"Retry-After": "9"})
        if not body.get("stream"):
            document: dict[str, Any] = {"choices": [{"message": {"content": "".join(self.words)}}]}
            return web.json_response({**document, **({"usage": usage} if self.usage else {})})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for word in self.words:
                await self._event(response, {"choices": [{"delta": {"content": word}}]})
                await asyncio.sleep(self.delay)
            if self.usage and (body.get("stream_options") or {}).get("include_usage"):
                await self._event(response, {"choices": [], "usage": usage})
            await response.write(b"data: [DONE]\n\n")
        finally:
            self.ended.set()
        return response

    async def _event(self, response: web.StreamResponse, document: dict[str, Any]) -> None:
        data = f"data: {json.dumps(document)}\n\n".encode()
        await response.write(data[:9])  # events arrive in pieces
        await response.write(data[9:])


@dataclass
class World:
    kube: FakeKube
    model: FakeModel
    client: TestClient[web.Request, web.Application]

    async def chat(self, token: str = "good", **changes: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.client.post("/v1/chat/completions", json={**CHAT, **changes}, headers=headers)

    async def usage(self, token: str = "good") -> dict[str, Any]:
        response = await self.client.get("/usage", headers={"Authorization": f"Bearer {token}"})
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    kube, model = FakeKube(), FakeModel()
    async with TestServer(model.application()) as server:
        settings = Settings(f"http://127.0.0.1:{server.port}/v1", KEY, max_body_bytes=100_000, timeout_seconds=2)
        upstream = Upstream(settings)
        gateway = Gateway(settings, Callers(kube, 60, 0.2), upstream)  # type: ignore[arg-type]
        async with TestClient(TestServer(gateway.application(), handler_cancellation=True)) as client:
            yield World(kube, model, client)
        await upstream.close()


async def test_passes_a_completion_with_the_providers_key_and_counts_its_tokens(world: World) -> None:
    response = await world.chat(temperature=0.2, store=True, user="x", response_format={"type": "json_object"})
    assert response.status == 200
    assert (await response.json())["choices"][0]["message"]["content"] == "one two three "
    [(body, authorization)] = world.model.requests
    assert authorization == f"Bearer {KEY}"
    assert body == {**CHAT, "temperature": 0.2, "response_format": {"type": "json_object"}}
    await world.chat()
    assert await world.usage() == {
        "task": "t", "attempt": 1, "tokensIn": 22, "tokensOut": 14, "modelCalls": 2, "estimated": False,
    }  # fmt: skip


async def test_a_stream_arrives_as_it_comes_and_its_usage_is_counted_but_not_shown(world: World) -> None:
    world.model.delay = 0.2
    response = await world.chat(stream=True)
    loop = asyncio.get_running_loop()
    started = loop.time()
    first = await response.content.readuntil(b"\n\n")
    assert loop.time() - started < 0.35, "held back until the end"
    rest = (await response.content.read()).decode()
    events = (first.decode() + rest).strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert [json.loads(e[6:])["choices"][0]["delta"]["content"] for e in events[:-1]] == list(world.model.words)
    assert world.model.requests[0][0]["stream_options"] == {"include_usage": True}
    assert (await world.usage())["tokensOut"] == 7


async def test_a_caller_that_asks_for_usage_in_a_stream_gets_it(world: World) -> None:
    response = await world.chat(stream=True, stream_options={"include_usage": True})
    assert '"prompt_tokens": 11' in await response.text()


@pytest.mark.parametrize("stream", [True, False])
async def test_without_usage_from_upstream_tokens_are_estimated_and_that_is_said(world: World, stream: bool) -> None:
    world.model.usage = False
    await (await world.chat(stream=stream)).read()
    usage = await world.usage()
    assert usage["estimated"]
    assert usage["tokensIn"] >= 3
    assert usage["tokensOut"] >= 3


async def test_a_caller_that_goes_away_ends_the_upstreams_work_and_is_counted(world: World) -> None:
    world.model.words = ("word ",) * 1000
    world.model.delay = 0.02
    response = await world.chat(stream=True)
    await response.content.readuntil(b"\n\n")
    response.close()
    await asyncio.wait_for(world.model.ended.wait(), 5)
    await asyncio.sleep(0.1)
    assert (await world.usage())["modelCalls"] == 1


async def test_models_are_listed(world: World) -> None:
    response = await world.client.get("/v1/models", headers={"Authorization": "Bearer good"})
    assert (await response.json())["data"] == [{"id": "m"}]


@pytest.mark.parametrize(
    ("token", "change", "status", "words"),
    [
        ("", {}, 401, "bearer"),
        ("unknown", {}, 401, "not a valid one"),
        ("good", {"review": review(audience="api")}, 401, "audience"),
        ("good", {"review": {"status": {"authenticated": True, "audiences": [names.GATEWAY_AUDIENCE],
                                        "user": {"username": "system:serviceaccount:team:default"}}}}, 401, "no Pod"),
        ("good", {"Pod": pod_object(uid="other")}, 403, "replaced"),
        ("good", {"Pod": {"metadata": {"uid": "pod-1"}}}, 403, "runs no AgentTask"),
        ("good", {"Pod": None}, 403, "gone"),
        ("good", {"AgentTask": None}, 403, "gone"),
        ("good", {"Pod": pod_object(task_uid="older")}, 403, "gone"),
        ("good", {"AgentTask": task_object(podUID="pod-2")}, 403, "newest attempt"),
        ("good", {"AgentTask": task_object(pod="t-2")}, 403, "newest attempt"),
        ("good", {"AgentTask": task_object(endTime="2026-01-01T00:00:00Z")}, 403, "has ended"),
    ],
)  # fmt: skip
async def test_everybody_else_is_refused(
    world: World, token: str, change: dict[str, Any], status: int, words: str
) -> None:
    if "review" in change:
        world.kube.reviews["good"] = change["review"]
    for kind in ("Pod", "AgentTask"):
        if kind in change and change[kind] is None:
            del world.kube.objects[kind]
        elif kind in change:
            world.kube.objects[kind] = change[kind]
    response = await world.chat(token)
    assert response.status == status
    assert words in (await response.json())["error"]["message"]
    assert world.model.requests == []


async def test_a_pod_whose_uid_is_not_recorded_yet_is_served(world: World) -> None:
    world.kube.objects["AgentTask"] = task_object(podUID="")
    assert (await world.chat()).status == 200


async def test_an_identity_is_asked_for_once_also_by_many_at_once(world: World) -> None:
    assert {r.status for r in await asyncio.gather(*(world.chat() for _ in range(10)))} == {200}
    assert world.kube.asked == 1


async def test_a_refusal_is_forgotten_soon(world: World) -> None:
    world.kube.objects["AgentTask"] = task_object(podUID="pod-2")
    assert (await world.chat()).status == 403
    world.kube.objects["AgentTask"] = task_object()
    assert (await world.chat()).status == 403
    await asyncio.sleep(0.25)
    assert (await world.chat()).status == 200


async def test_an_api_server_that_is_away_is_no_refusal(world: World) -> None:
    world.kube.broken = True
    assert (await world.chat()).status == 503
    world.kube.broken = False
    assert (await world.chat()).status == 200


@pytest.mark.parametrize(("status", "seen"), [(401, 502), (500, 502), (429, 429), (400, 400)])
async def test_upstream_errors_never_show_the_key(world: World, status: int, seen: int) -> None:
    world.model.status = status
    response = await world.chat(stream=True)
    assert response.status == seen
    assert KEY not in await response.text()
    assert response.headers.get("Retry-After") == ("9" if status == 429 else None)
    assert (await world.usage())["modelCalls"] == 0


async def test_an_upstream_that_takes_too_long_is_cut_off(world: World) -> None:
    world.model.delay = 5
    response = await world.chat(stream=True)
    assert response.status == 200
    assert "broke off" in await response.text()


async def test_an_upstream_that_is_gone_is_502(world: World) -> None:
    gone = Settings("http://127.0.0.1:9/v1")
    upstream = Upstream(gone)
    gateway = Gateway(gone, Callers(world.kube, 60, 5), upstream)  # type: ignore[arg-type]
    async with TestClient(TestServer(gateway.application())) as client:
        response = await client.post("/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer good"})
        assert response.status == 502
    await upstream.close()


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/chat/completions", b"{", 400, "not JSON"),
        ("/v1/chat/completions", b"[]", 400, "messages"),
        ("/v1/chat/completions", b"x" * 200_000, 413, "too large"),
        ("/v1/embeddings", b"{}", 404, "Not Found"),
        ("/v1/files", b"{}", 404, "Not Found"),
        ("/v1/models", b"{}", 405, "Not Allowed"),
    ],
)
async def test_what_it_does_not_know_it_refuses(world: World, path: str, body: bytes, status: int, words: str) -> None:
    response = await world.client.post(path, data=body, headers={"Authorization": "Bearer good"})
    assert response.status == status
    assert words in (await response.json())["error"]["message"]


async def test_health_metrics_and_readiness_need_no_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await world.chat(messages=[{"role": "user", "content": "a very private prompt"}])
    metrics = await (await world.client.get("/metrics")).text()
    assert 'tidegate_gateway_tokens_total{direction="in"}' in metrics
    assert (await world.client.get("/healthz")).status == 200
    assert (await world.client.get("/readyz")).status == 200
    assert "private prompt" not in caplog.text
    assert "Bearer" not in caplog.text
