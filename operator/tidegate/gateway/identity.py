"""Who is calling: a Pod's projected token becomes the attempt that this Pod runs, or a refusal."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidegate import names
from tidegate.clients.kube import Kube
from tidegate.errors import NotFound

MAX_REMEMBERED = 10_000
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_ACCOUNT = "system:serviceaccount:"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """The attempt that a Pod runs."""

    namespace: str
    task: str
    task_uid: str
    attempt: int
    pod: str


class RefusedError(Exception):
    """The caller isn't served. `status` is 401 for a token we don't take, 403 for a Pod that runs no attempt now."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class PodToken:
    """What the API server says of a token: the Pod it was made for."""

    namespace: str
    pod: str
    pod_uid: str


def read_review(review: Json) -> PodToken:
    """The Pod of a reviewed token. Raises RefusedError."""
    status = review.get("status") or {}
    if not status.get("authenticated") or names.GATEWAY_AUDIENCE not in (status.get("audiences") or []):
        raise RefusedError(401, f"the token is not a valid one for the audience {names.GATEWAY_AUDIENCE}")
    user = status.get("user") or {}
    extra = user.get("extra") or {}
    account = str(user.get("username") or "")
    pod, uid = (str((extra.get(key) or [""])[0]) for key in (_POD_NAME, _POD_UID))
    if not account.startswith(_ACCOUNT) or not pod or not uid:
        raise RefusedError(401, "the token belongs to no Pod: only projected tokens of agent Pods are served")
    return PodToken(account.removeprefix(_ACCOUNT).split(":", 1)[0], pod, uid)


def owner_task(token: PodToken, pod: Json) -> tuple[str, str]:
    """Name and UID of the AgentTask that owns the Pod. Raises RefusedError."""
    metadata = pod.get("metadata") or {}
    if metadata.get("uid") != token.pod_uid:
        raise RefusedError(403, f"Pod {token.pod} was replaced by another of that name")
    for owner in metadata.get("ownerReferences") or []:
        is_task = owner.get("kind") == "AgentTask" and str(owner.get("apiVersion", "")).startswith(f"{names.GROUP}/")
        if owner.get("controller") and is_task:
            return str(owner.get("name")), str(owner.get("uid"))
    raise RefusedError(403, f"Pod {token.pod} runs no AgentTask")


def open_attempt(token: PodToken, task_uid: str, task: Json) -> Caller:
    """The attempt in the task's status that this Pod holds, if it hasn't ended. Raises RefusedError."""
    metadata = task.get("metadata") or {}
    if metadata.get("uid") != task_uid:
        raise RefusedError(403, f"the AgentTask of Pod {token.pod} is gone")
    attempts: list[Json] = (task.get("status") or {}).get("attempts") or []
    nothing: Json = {}
    newest = max(attempts, key=lambda row: int(row.get("number") or 0), default=nothing)
    ours = newest.get("pod") == token.pod and newest.get("podUID") in (None, "", token.pod_uid)
    if not ours:
        raise RefusedError(403, f"Pod {token.pod} doesn't run the newest attempt of {metadata.get('name')}")
    if newest.get("endTime"):
        raise RefusedError(403, f"attempt {newest['number']} of {metadata.get('name')} has ended")
    return Caller(token.namespace, str(metadata["name"]), task_uid, int(newest["number"]), token.pod)


class Callers:
    """Finds the caller of a token and remembers the answer for a while; tokens are kept as hashes."""

    def __init__(
        self, kube: Kube, accepted_seconds: float, refused_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._seconds = (accepted_seconds, refused_seconds)
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, Caller | RefusedError]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Caller]] = {}

    async def find(self, token: str) -> Caller:
        """The caller. Raises RefusedError; KubeError when the API server can't tell."""
        key = hashlib.sha256(token.encode()).digest()
        until, answer = self._answers.get(key, (0.0, None))
        if answer is not None and self._clock() < until:
            if isinstance(answer, RefusedError):
                raise answer
            return answer
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, token))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: bytes, token: str) -> Caller:
        try:
            caller = await self._look_up(token)
        except RefusedError as refusal:
            self._remember(key, refusal, self._seconds[1])
            raise
        self._remember(key, caller, self._seconds[0])
        return caller

    def _remember(self, key: bytes, answer: Caller | RefusedError, seconds: float) -> None:
        self._answers[key] = (self._clock() + seconds, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > MAX_REMEMBERED:
            self._answers.popitem(last=False)

    async def _look_up(self, token: str) -> Caller:
        spec = {"token": token, "audiences": [names.GATEWAY_AUDIENCE]}
        found = read_review(await self._kube.create("TokenReview", "", {"metadata": {}, "spec": spec}))
        try:
            pod = await self._kube.get("Pod", found.namespace, found.pod)
            name, uid = owner_task(found, pod)
            task = await self._kube.get("AgentTask", found.namespace, name)
        except NotFound:
            raise RefusedError(403, f"Pod {found.pod} or its AgentTask is gone") from None
        return open_attempt(found, uid, task)
