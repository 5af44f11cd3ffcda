"""Gates that are services: asked in the background, so that no reconcile waits for them.

Nothing but a clear answer decides. No answer after three tries is not an approval and not a refusal: the run ends as
`Infra` and the lane asks again later. A new leader asks again: the facts are the same, and so is the idempotency key.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from tidegate.api import reasons
from tidegate.api.gates import TIMEOUT
from tidegate.api.views import GateRunView, LaneView, MergeJobView
from tidegate.clients import http
from tidegate.errors import Forbidden, NotFound
from tidegate.lane.decide.model import FAILED, INFRA, PASSED
from tidegate.lane.messages import clean_text
from tidegate.lane.verdict import Verdict
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key

TRIES = 3
FIRST_PAUSE = 1.0  # seconds; doubles
MAX_ANSWER_BYTES = 64 * 1024
MESSAGE_CHARACTERS = 500
FACTS_VERSION = 1

Sleep = Callable[[float], Awaitable[None]]


class UnclearError(Exception):
    """The service gave no answer that decides; the message says what happened."""


class Consultations:
    """The services that are being asked now."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._running: dict[Key, tuple[str, int, asyncio.Task[Verdict]]] = {}  # run UID, term, its task
        self._client: http.AsyncClient | None = None

    def verdict(self, key: Key, view: GateRunView) -> Verdict | None:
        """What the service said, until it is forgotten; None while it is asked. The key is queued when it answers."""
        uid, term, task = self._running.get(key, ("", 0, None))
        if task is not None and (uid, term) == (view.meta.uid, self._ctx.term):
            if not task.done():
                return None
            if not task.cancelled() and task.exception() is None:
                return task.result()
        self.forget(key)
        task = asyncio.create_task(self._consult(view), name=f"gate-service-{view.meta.name}")
        task.add_done_callback(lambda _task: self._ctx.queue.add(key))
        self._running[key] = (view.meta.uid, self._ctx.term, task)
        return None

    def forget(self, key: Key) -> None:
        """The answer is written down, or the run is gone."""
        _, _, task = self._running.pop(key, ("", 0, None))
        if task is not None:
            task.cancel()

    async def _consult(self, view: GateRunView) -> Verdict:
        service = view.spec["gate"]["http"]
        try:
            token = await self._token(service.get("token"))
        except UnclearError as error:
            return Verdict(INFRA, reasons.SECRET_MISSING, str(error))
        except Exception as error:  # noqa: BLE001 - whatever the API server says, it is no approval
            return Verdict(INFRA, reasons.GATE_UNREACHABLE, f"not approved: {type(error).__name__} reading its token")
        if self._client is None:
            self._client = http.async_client(connections=64)
        try:
            async with asyncio.timeout(float(view.spec["gate"].get("timeoutSeconds") or TIMEOUT)):
                return await ask(self._client, service, facts(self._ctx, view), view.meta.uid, token)
        except TimeoutError:
            return Verdict(INFRA, reasons.GATE_UNREACHABLE, "not approved: no answer within timeoutSeconds")

    async def _token(self, source: dict[str, Any] | None) -> str:
        if not source:
            return ""
        name, key = str(source["secretName"]), str(source.get("key") or "token")
        try:
            found = await self._ctx.kube.get("Secret", self._ctx.settings.operator_namespace, name)
            return base64.b64decode((found.get("data") or {})[key], validate=True).decode("ascii").strip()
        except (NotFound, Forbidden):
            message = f"no Secret {name!r} for the operator: make it in its namespace, list it in gates.tokenSecrets"
        except (KeyError, binascii.Error, UnicodeDecodeError):
            message = f"Secret {name!r} has no token under {key!r}"
        raise UnclearError(message)


def facts(ctx: Context, view: GateRunView) -> dict[str, Any]:
    """What a service is told of a candidate: names and numbers, nothing secret."""
    spec, namespace = view.spec, view.meta.namespace
    lane: LaneView | None = ctx.cache.get(Key("MergeLane", namespace, (spec.get("laneRef") or {}).get("name") or ""))
    job: MergeJobView | None = ctx.cache.get(Key("MergeJob", namespace, (spec.get("jobRef") or {}).get("name") or ""))
    about = job.spec if job is not None else {}
    return {
        "version": FACTS_VERSION,
        "run": view.meta.name,
        "gate": spec["gate"]["name"],
        "namespace": namespace,
        "repository": spec["repository"]["url"],
        "branch": (lane.spec.get("targetBranch") or "main") if lane is not None else None,
        "base": spec.get("baseCommit"),
        "commit": spec["commit"],
        "tree": spec.get("tree"),
        "changedPaths": spec.get("changedPaths"),
        "job": (spec.get("jobRef") or {}).get("name"),
        "task": (about.get("taskRef") or {}).get("name"),
        "build": (about.get("buildRef") or {}).get("name"),
    }


async def ask(client: http.AsyncClient, service: dict[str, Any], told: dict[str, Any], uid: str, token: str = "",
              sleep: Sleep = asyncio.sleep) -> Verdict:  # fmt: skip
    """Ask up to three times until there is an answer that decides."""
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "Idempotency-Key": uid}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    seconds = float(service.get("timeoutSeconds") or 30)
    unclear = ""
    for number in range(TRIES):
        if number:
            await sleep(FIRST_PAUSE * 2 ** (number - 1))
        try:
            async with asyncio.timeout(seconds):
                return _decided(await _post(client, service["url"], orjson.dumps(told), headers))
        except UnclearError as error:
            unclear = str(error)
        except TimeoutError:
            unclear = f"no answer within {seconds:g} s"
        except (http.HTTPError, http.InvalidURL, OSError, ValueError) as error:
            unclear = f"can't be reached: {type(error).__name__}"
    return Verdict(INFRA, reasons.GATE_UNREACHABLE, f"not approved: {TRIES} tries, the last one: {unclear}")


async def _post(client: http.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> bytes:
    async with client.stream("POST", url, content=body, headers=headers) as response:
        if not 200 <= response.status_code < 300:
            raise UnclearError(f"HTTP status {response.status_code}")
        answer = bytearray()
        async for piece in response.aiter_raw():  # never unpacked: a small answer can't become a large one
            answer += piece
            if len(answer) > MAX_ANSWER_BYTES:
                raise UnclearError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return bytes(answer)


def _decided(answer: bytes) -> Verdict:
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise UnclearError("an answer that is not JSON") from None
    approved = found.get("approved") if isinstance(found, dict) else None
    if approved is not True and approved is not False:
        raise UnclearError("an answer without approved: true or false")
    message = found.get("message")
    words = clean_text(message)[:MESSAGE_CHARACTERS] if isinstance(message, str) else ""
    if approved:
        return Verdict(PASSED, reasons.PASSED, words)
    return Verdict(FAILED, reasons.NOT_APPROVED, words or "the service doesn't approve and says no more")
