"""Retries of the API client, against a real HTTP server that fails as told."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from tidegate.clients import kube_session
from tidegate.clients.kube import Kube
from tidegate.clients.kube_session import KubeSession
from tidegate.errors import Conflict, NotLeaderError, TooManyRequests, Unavailable

POD = {"metadata": {"name": "p", "namespace": "ns", "resourceVersion": "5"}}


class Server:
    """Answers with the codes it is given, then with 200; None closes the connection."""

    def __init__(self) -> None:
        self.codes: list[int | None] = []
        self.seen: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.method)
        code = self.codes.pop(0) if self.codes else 200
        if code is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        headers = {"Retry-After": "0"} if code == 429 else {}
        return web.json_response(POD if code == 200 else {"reason": "R", "message": "m"}, status=code, headers=headers)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def kube(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setattr(kube_session, "BACKOFF_SECONDS", 0.01)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    calls: list[tuple[str, str, str]] = []
    session = KubeSession(configuration, aiohttp.ClientSession(), lambda *call: calls.append(call))
    client = Kube(session)
    yield client
    await client.close()
    await runner.cleanup()


async def test_reads_are_tried_again_after_what_passes(kube: Kube, server: Server) -> None:
    server.codes = [503, 500, 429, None]
    assert (await kube.get("Pod", "ns", "p"))["metadata"]["name"] == "p"
    assert len(server.seen) == 5


async def test_tries_are_bounded(kube: Kube, server: Server) -> None:
    server.codes = [503] * 50
    with pytest.raises(Unavailable):
        await kube.get("Pod", "ns", "p")
    assert len(server.seen) == kube_session.ATTEMPTS


async def test_a_create_is_not_sent_twice_when_its_end_is_unknown(kube: Kube, server: Server) -> None:
    for code in (503, None):
        server.codes, server.seen = [code], []
        with pytest.raises(Unavailable):
            await kube.create("Pod", "ns", POD)
        assert server.seen == ["POST"]


async def test_a_create_that_was_turned_away_is_sent_again(kube: Kube, server: Server) -> None:
    server.codes = [429, 429]
    await kube.create("Pod", "ns", POD)
    assert server.seen == ["POST"] * 3


async def test_a_merge_patch_is_sent_again_a_json_patch_is_not(kube: Kube, server: Server) -> None:
    server.codes = [503]
    await kube.patch("Pod", "ns", "p", {"metadata": {"labels": {"a": "b"}}})
    server.codes = [503]
    operations: list[dict[str, Any]] = [{"op": "add", "path": "/metadata/finalizers/-", "value": "x/y"}]
    with pytest.raises(Unavailable):
        await kube.patch("Pod", "ns", "p", operations, content="json")


async def test_what_the_server_decided_is_not_asked_again(kube: Kube, server: Server) -> None:
    server.codes = [409]
    with pytest.raises(Conflict):
        await kube.patch("Pod", "ns", "p", {})
    assert len(server.seen) == 1


async def test_the_guard_is_asked_before_every_sending(kube: Kube, server: Server) -> None:
    server.codes = [503, 503]
    asked = 0

    def guard() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise NotLeaderError("lost meanwhile")

    with pytest.raises(NotLeaderError):
        await kube.patch("Pod", "ns", "p", {}, guard=guard)
    assert len(server.seen) == 1


async def test_a_long_ban_ends_in_an_error(kube: Kube, server: Server) -> None:
    server.codes = [429] * 50
    with pytest.raises(TooManyRequests):
        await kube.get("Pod", "ns", "p")


async def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_session, "BACKOFF_SECONDS", 0.001)
    session = KubeSession(Configuration(host="http://127.0.0.1:9"), aiohttp.ClientSession())
    with pytest.raises(Unavailable, match="no connection"):
        await Kube(session).get("Pod", "ns", "p")
    await session.close()
