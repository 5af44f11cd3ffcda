"""Gates that are services, against a real HTTP server: only a clear answer decides."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from aiohttp import web

from tests.support.valid import COMMIT, URL
from tidegate.api.views import GateRunView
from tidegate.clients import http
from tidegate.errors import NotFound
from tidegate.lane.consult import MAX_ANSWER_BYTES, Consultations, ask, facts
from tidegate.lane.gaterun import GateRuns
from tidegate.lane.index import install_indexes
from tidegate.lane.verdict import Verdict
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.settings import Settings
from tidegate.telemetry import metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = Key("GateRun", "n", "policy-1")
NOTHING = cast("Any", None)


class Service:
    """A gate service that does as told, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], Any]] = []
        self.handler: Handler = self.approve
        self.url = ""

    async def approve(self, _request: web.Request) -> web.Response:
        return web.json_response({"approved": True, "message": "fine"})

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((dict(request.headers), await request.json() if request.can_read_body else None))
        return await self.handler(request)

    def answer(self, text: str | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = text if isinstance(text, bytes) else text.encode()

        async def handler(_request: web.Request) -> web.Response:
            return web.Response(body=body, status=status, headers=headers)

        self.handler = handler


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/check"
    yield made
    await runner.cleanup()


async def asked(url: str, seconds: float = 5, token: str = "") -> tuple[Verdict, list[float]]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with http.async_client() as client:
        service = {"url": url, "timeoutSeconds": seconds}
        return await ask(client, service, {"commit": COMMIT}, "uid-1", token, sleep), pauses


async def test_a_clear_answer_decides_at_the_first_try(service: Service) -> None:
    verdict, pauses = await asked(service.url, token="s3cret")
    assert (verdict.verdict, verdict.reason, verdict.message) == ("Passed", "Passed", "fine")
    [(headers, body)] = service.asked
    assert (headers["Idempotency-Key"], headers["Authorization"], body) == (
        "uid-1",
        "Bearer s3cret",
        {"commit": COMMIT},
    )
    service.answer('{"approved": false, "message": "no \\u202e\\u001b[31mdeploys on Friday"}')
    verdict, pauses = await asked(service.url)
    assert (verdict.verdict, verdict.reason) == ("Failed", "NotApproved")
    assert verdict.message == "no [31mdeploys on Friday"
    assert (len(service.asked), pauses) == (2, [])


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ("", 500, "HTTP status 500"),
        ('{"approved": true}', 503, "HTTP status 503"),
        ('{"approved": true}', 404, "HTTP status 404"),
        ("", 200, "not JSON"),
        ("approved", 200, "not JSON"),
        ("[true]", 200, "without approved"),
        ("{}", 200, "without approved"),
        ('{"approved": "true"}', 200, "without approved"),
        ('{"approved": 1}', 200, "without approved"),
        ('{"approved": null}', 200, "without approved"),
        ("[" * 10_000, 200, "not JSON"),
        ('{"approved": true, "message": "' + "x" * MAX_ANSWER_BYTES + '"}', 200, "more than"),
    ],
)
async def test_anything_else_is_no_approval_after_three_tries(
    service: Service, answer: str, status: int, told: str
) -> None:
    service.answer(answer, status)
    verdict, pauses = await asked(service.url)
    assert (verdict.verdict, verdict.reason) == ("Infra", "GateUnreachable")
    assert told in verdict.message
    assert (len(service.asked), pauses) == (3, [1.0, 2.0])


async def test_redirects_are_not_followed_and_answers_not_unpacked(service: Service) -> None:
    service.answer("", 307, {"Location": "/elsewhere"})
    verdict, _ = await asked(service.url)
    assert "HTTP status 307" in verdict.message
    assert len(service.asked) == 3
    service.answer(gzip.compress(b'{"approved": true}'), headers={"Content-Encoding": "gzip"})
    verdict, _ = await asked(service.url)
    assert verdict.verdict == "Infra"


async def test_one_that_recovers_within_three_tries_decides(service: Service) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await service.approve(request) if len(service.asked) == 3 else web.Response(status=502)

    service.handler = handler
    assert (await asked(service.url))[0].verdict == "Passed"


async def test_one_that_hangs_or_drips_or_is_not_there_does_not_approve(service: Service) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    for handler in (hang, drip):
        service.handler = handler
        verdict, _ = await asked(service.url, seconds=0.2)
        assert (verdict.verdict, "no answer within 0.2 s" in verdict.message) == ("Infra", True)
    verdict, _ = await asked("http://127.0.0.1:1/check")
    assert (verdict.verdict, "can't be reached" in verdict.message) == ("Infra", True)


# -- in the operator


class Kube:
    """Secrets of the operator's namespace."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace) == ("Secret", "tidegate-system")
        if name != "policy":
            raise NotFound(404, "NotFound", name)
        return {"data": {"token": base64.b64encode(b"s3cret").decode()}}


class Writer:
    """Statuses that were written."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    async def patch_status(self, _key: Key, status: dict[str, Any], **_more: Any) -> None:
        self.written.append(status)


def run(url: str, **service: Any) -> GateRunView:
    gate = {"name": "policy", "http": {"url": url, "timeoutSeconds": 5, **service}}
    spec = {
        "repository": {"url": URL, "credentialsSecretName": "git-token"}, "laneRef": {"name": "l"}, "commit": COMMIT,
        "baseCommit": "b" * 40, "tree": "c" * 40, "jobRef": {"name": "j"}, "changedPaths": 3, "gate": gate,
    }  # fmt: skip
    meta = {"name": KEY.name, "namespace": "n", "uid": "uid-1", "resourceVersion": "5", "generation": 1}
    return GateRunView.from_object({"metadata": meta, "spec": spec})


@pytest.fixture
def ctx() -> Context:
    ctx = Context(Settings(), cast("Any", Kube()), Cache(watched_kinds()), WorkQueue(), cast("Any", Writer()), term=1)
    install_indexes(ctx)
    meta = {"namespace": "n", "uid": "u", "resourceVersion": "5"}
    job = {"taskRef": {"name": "t", "uid": "x"}, "buildRef": {"name": "b"}, "repository": {"url": URL}}
    ctx.cache.offer("MergeJob", {"metadata": {"name": "j", **meta}, "spec": job})
    ctx.cache.offer("MergeLane", {"metadata": {"name": "l", **meta}, "spec": {"targetBranch": "release"}})
    return ctx


async def answered(ctx: Context, consultations: Consultations, view: GateRunView) -> Verdict:
    """The verdict, asked for again when the run's key comes back."""
    found = consultations.verdict(KEY, view)
    if found is None:
        await queued(ctx)
        found = consultations.verdict(KEY, view)
    assert found is not None
    return found


async def queued(ctx: Context, wanted: Key = KEY) -> None:
    """Until the run's key is in the queue because there is an answer."""
    key = None
    async with asyncio.timeout(20):
        while key != wanted:
            key = await ctx.queue.get()
            ctx.queue.done(key)


async def test_the_facts_tell_what_is_known_and_nothing_secret(ctx: Context) -> None:
    told = facts(ctx, run("https://a.b"))
    assert told == {
        "version": 1, "run": "policy-1", "gate": "policy", "namespace": "n", "repository": URL, "branch": "release",
        "base": "b" * 40, "commit": COMMIT, "tree": "c" * 40, "changedPaths": 3, "job": "j", "task": "t", "build": "b",
    }  # fmt: skip
    assert "git-token" not in json.dumps(told)


async def test_asking_holds_up_nobody_and_a_new_leader_asks_again(ctx: Context, service: Service) -> None:
    view, consultations = run(service.url, token={"secretName": "policy"}), Consultations(ctx)
    assert consultations.verdict(KEY, view) is None
    assert service.asked == []
    assert (await answered(ctx, consultations, view)).verdict == "Passed"
    assert (await answered(ctx, consultations, view)).verdict == "Passed"
    assert len(service.asked) == 1
    assert service.asked[0][0]["Authorization"] == "Bearer s3cret"
    ctx.term += 1
    assert (await answered(ctx, consultations, view)).verdict == "Passed"
    assert (await answered(ctx, Consultations(ctx), view)).verdict == "Passed"
    assert [headers["Idempotency-Key"] for headers, _ in service.asked] == ["uid-1"] * 3


async def test_a_token_that_is_not_there_is_named(ctx: Context, service: Service) -> None:
    for source, words in (({"secretName": "no"}, "gates.tokenSecrets"), ({"secretName": "policy", "key": "x"}, "'x'")):
        verdict = await answered(ctx, Consultations(ctx), run(service.url, token=source))
        assert (verdict.verdict, verdict.reason, words in verdict.message) == ("Infra", "SecretMissing", True)
    assert service.asked == []


async def test_a_run_gets_its_verdict_without_a_pod(ctx: Context, service: Service) -> None:
    service.answer('{"approved": false, "message": "no"}')
    view = run(service.url)
    ctx.cache.offer("GateRun", {"metadata": {"name": KEY.name, "namespace": "n", "uid": "uid-1", "resourceVersion": "5",
                                             "generation": 1}, "spec": view.spec})  # fmt: skip
    runs, written = GateRuns(ctx), cast("Writer", ctx.writer).written
    assert await runs.reconcile(KEY) == 60.0
    assert list(written[0]) == ["observedGeneration", "startTime"]
    await queued(ctx)
    await runs.reconcile(KEY)
    last = written[-1]
    assert (last["verdict"], last["reason"], last["message"]) == ("Failed", "NotApproved", "no")
    assert last["conditions"][0]["status"] == "False"


async def test_a_pass_after_a_failure_is_counted_as_a_flake_of_its_gate(ctx: Context, service: Service) -> None:
    def made(number: int, commit: str, **status: str) -> None:
        meta = {"name": f"policy-{commit}-{number}", "namespace": "n", "uid": f"u{commit}{number}", "generation": 1}
        spec = {**run(service.url).spec, "number": number}
        ctx.cache.offer("GateRun", {"metadata": {**meta, "resourceVersion": "5"}, "spec": spec, "status": status})

    def flakes() -> float:
        return metrics.GATE_FLAKES.labels("policy")._value.get()  # type: ignore[no-any-return]

    runs, before = GateRuns(ctx), flakes()
    made(1, "a", verdict="Failed")
    made(1, "b", verdict="Infra")
    for commit, expected in (("b", 0), ("a", 1)):
        made(2, commit)
        key = Key("GateRun", "n", f"policy-{commit}-2")
        await runs.reconcile(key)
        await queued(ctx, key)
        await runs.reconcile(key)
        assert flakes() - before == expected
    assert metrics.GATE_RUNS.labels("policy", "Passed")._value.get() >= 2
