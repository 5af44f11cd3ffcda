"""Gates that are reviews: each run has one AgentTask, which it owns; its handoff holds the verdict.

Nothing but a clear verdict approves. A task that ends without one refuses; one that the cluster ended decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tidegate import names
from tidegate.api import reasons
from tidegate.api.gates import TIMEOUT
from tidegate.api.review import Review, read_review
from tidegate.api.views import GateRunView, LaneView, TaskView, condition
from tidegate.clients.git import BlobMissingError, Credentials, GitThreads, read_blob
from tidegate.clients.task_refs import delete_refs
from tidegate.errors import AlreadyExists, Forbidden, Invalid, NotFound, PermanentError
from tidegate.lane.decide.model import FAILED, INFRA, PASSED
from tidegate.lane.messages import clean_text
from tidegate.lane.verdict import LOG_BYTES, Verdict
from tidegate.runtime.context import Context, parse_time
from tidegate.runtime.keys import Key
from tidegate.runtime.secrets import git_credentials
from tidegate.runtime.urls import git_protocols

COMPLETE = "Complete"
CANCELLED = "Cancelled"
_ENDED = (COMPLETE, "Partial", "Blocked", "Failed", CANCELLED)
KEPT_SECONDS = 3600.0  # that a task of a review, and its handoff on the remote, stay for people to look at
_THREADS = 4
_RETRIES = 1  # of an attempt that ended without a verdict; what the cluster ended is tried again besides
_PROMPT = "The change is commit {commit} for branch {branch}."

Object = dict[str, Any]


class Reviewers:
    """Has changes reviewed, a task for each GateRun."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._threads = GitThreads(_THREADS)

    async def verdict(self, view: GateRunView) -> Verdict | None:
        """What the review says; None while it is under way. Raises TransientError while the remote can't be read."""
        if not view.spec.get("change"):
            return Verdict(INFRA, reasons.REVIEWER_UNAVAILABLE, "the run names no change")
        key = Key("AgentTask", view.meta.namespace, task_name(view))
        task: TaskView | None = self._ctx.cache.get(key)
        if task is None:
            return await self._create(view)
        if task.meta.owner_uid != view.meta.uid:
            return _in_the_way(task, view)
        if task.state not in _ENDED:
            return None
        return await self._ended(view, task)

    def waiting(self, view: GateRunView) -> tuple[str, str]:
        """Reason and message of a review that is under way, as its task has them."""
        task: TaskView | None = self._ctx.cache.get(Key("AgentTask", view.meta.namespace, task_name(view)))
        status = task.status() if task is not None else {}
        found = condition(status, reasons.STALLED) or condition(status, reasons.SUCCEEDED) or {}
        message = f"AgentTask {task_name(view)}: {found.get('message') or 'waits'}"
        return str(found.get("reason") or reasons.PENDING), clean_text(message)[:500]

    async def clean_up(self, view: GateRunView) -> float | None:
        """Some time after the verdict, remove the task and what it left on the remote; returns when to look again.
        Raises TransientError while the remote can't be reached."""
        task: TaskView | None = self._ctx.cache.get(Key("AgentTask", view.meta.namespace, task_name(view)))
        if task is None or task.meta.owner_uid != view.meta.uid or task.meta.deleting:
            return None
        ended = parse_time(view.status.get("endTime") or "") or self._ctx.now()
        left = KEPT_SECONDS - (self._ctx.now() - ended).total_seconds()
        if left > 0:
            return left
        url, credentials = await self._access(view)
        protocols = git_protocols(self._ctx.settings)
        await self._threads.call(delete_refs, url, credentials, [task.meta.uid], protocols=protocols)
        await self._ctx.writer.delete("AgentTask", task.meta.namespace, task.meta.name, uid=task.meta.uid)
        return None

    async def _access(self, view: GateRunView) -> tuple[str, Credentials | None]:
        repository = view.spec["repository"]
        url, secret = str(repository["url"]), str(repository.get("credentialsSecretName") or "")
        return url, await git_credentials(self._ctx, view.meta.namespace, secret, url)

    def _lane(self, view: GateRunView) -> LaneView | None:
        name = (view.spec.get("laneRef") or {}).get("name") or ""
        found: LaneView | None = self._ctx.cache.get(Key("MergeLane", view.meta.namespace, name))
        return found

    async def _create(self, view: GateRunView) -> Verdict | None:
        lane = self._lane(view)
        if lane is None:
            return Verdict(INFRA, reasons.REVIEWER_UNAVAILABLE, "its MergeLane is gone")
        try:
            await self._ctx.writer.create("AgentTask", view.meta.namespace, review_task(view, lane))
        except AlreadyExists:
            found = await self._ctx.kube.get("AgentTask", view.meta.namespace, task_name(view))
            self._ctx.cache.offer("AgentTask", found)
            task = TaskView.from_object(found)
            return None if task.meta.owner_uid == view.meta.uid else _in_the_way(task, view)
        except (Forbidden, Invalid) as error:
            return Verdict(INFRA, reasons.REVIEWER_UNAVAILABLE, error.message[:500])
        return None

    async def _ended(self, view: GateRunView, task: TaskView) -> Verdict:
        ended = condition(task.status(), reasons.SUCCEEDED) or {}
        why = clean_text(f"{ended.get('reason') or task.state}: {ended.get('message') or ''}")[:400]
        if task.state != COMPLETE:
            lost = ended.get("reason") == reasons.INFRASTRUCTURE_EXHAUSTED
            word, reason = (INFRA, reasons.REVIEWER_UNAVAILABLE) if lost else (FAILED, reasons.REVIEW_MISSING)
            return Verdict(word, reason, f"not approved: AgentTask {task.meta.name} gave no verdict: {why}")
        if not await self._asked_by_us(view, task):
            return _taken(task)
        try:
            data = await self._handoff(view, task)
        except PermanentError as error:
            return Verdict(INFRA, error.reason, f"not approved: {error.message}"[:500])
        return verdict_of(data, task.meta.name)

    async def _asked_by_us(self, view: GateRunView, task: TaskView) -> bool:
        """Whether the task asks of whom and what we ask: who may make AgentTasks can make one that looks like ours."""
        lane = self._lane(view)
        try:
            live = await self._ctx.kube.get("AgentTask", task.meta.namespace, task.meta.name)
        except NotFound:
            return False
        wanted = review_task(view, lane)["spec"] if lane is not None else {}
        return bool(wanted) and live["metadata"]["uid"] == task.meta.uid and asks_the_same(live["spec"], wanted)

    async def _handoff(self, view: GateRunView, task: TaskView) -> bytes | None:
        """The handoff in the commit that the attempt recorded: whoever moves the ref changes nothing."""
        attempts = task.status().get("attempts") or ()
        newest: Mapping[str, Any] = max(attempts, key=lambda one: int(one.get("number") or 0), default={})
        commit = str(newest.get("handoffCommit") or "")
        if not commit:
            return None
        url, credentials = await self._access(view)
        ref = names.handoff_ref(task.meta.uid, int(newest["number"]))
        protocols = git_protocols(self._ctx.settings)
        try:
            return await self._threads.call(
                read_blob, url, credentials, ref, "handoff.json", commit=commit, protocols=protocols
            )
        except BlobMissingError:
            return None


def verdict_of(handoff: bytes | None, task: str) -> Verdict:
    """The verdict in a handoff; without a clear one, none that approves. Pure."""
    found: Review | str = "it left no handoff"
    if handoff is not None:
        try:
            document = orjson.loads(handoff)
            found = read_review(document.get("review") if isinstance(document, dict) else None)
        except orjson.JSONDecodeError:
            found = "its handoff is not JSON"
    if isinstance(found, str):
        return Verdict(FAILED, reasons.REVIEW_MISSING, f"not approved: AgentTask {task} gave no verdict: {found}"[:500])
    tail = clean_text("\n".join(one.words for one in found.findings)).encode()[:LOG_BYTES].decode("utf-8", "ignore")
    summary = clean_text(found.summary)
    if found.approved:
        return Verdict(PASSED, reasons.PASSED, summary, log_tail=tail)
    return Verdict(FAILED, reasons.REVIEW_REFUSED, summary, log_tail=tail)


def asks_the_same(spec: Object, wanted: Object) -> bool:
    """Whether a task's spec holds what is wanted, and nothing else but defaults. Pure."""
    more = spec.keys() - wanted.keys() - {"priority", "desiredState"}
    return _holds(spec, wanted) and not any(spec[name] for name in more)


def _holds(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(given, dict) and all(_holds(given.get(name), value) for name, value in wanted.items())
    return bool(given == wanted)


def _in_the_way(task: TaskView, view: GateRunView) -> Verdict | None:
    """That of an earlier run of the same name goes with its owner; anybody else's stays."""
    if task.meta.owner_uid and (task.meta.labels or {}).get(names.LABEL_GATE_RUN) == view.meta.name:
        return None
    return _taken(task)


def _taken(task: TaskView) -> Verdict:
    message = f"an AgentTask {task.meta.name} that is not ours is in the way: delete it"
    return Verdict(INFRA, reasons.NAME_TAKEN, message)


def task_name(view: GateRunView) -> str:
    """The name of a run's AgentTask."""
    return names.bounded_name("review", view.meta.name, limit=57)


def review_task(view: GateRunView, lane: LaneView) -> Object:
    """The AgentTask of a run, which owns it: a run that isn't wanted any more takes its agent with it. Pure."""
    spec, gate = view.spec, view.spec["gate"]
    branch = str(lane.spec.get("targetBranch") or "main")
    labels = {
        names.LABEL_MANAGED_BY: names.OPERATOR,
        names.LABEL_PART_OF: names.OPERATOR,
        names.LABEL_ROLE: "Reviewer",
        names.LABEL_LANE: lane.meta.name,
        names.LABEL_GATE_RUN: names.bounded_name(view.meta.name),
    }
    owner = {
        "apiVersion": names.API_VERSION, "kind": "GateRun", "name": view.meta.name, "uid": view.meta.uid,
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    asked = [_PROMPT.format(commit=spec["commit"], branch=branch), str(gate["review"].get("instructions") or "")]
    made: Object = {
        "repository": {**spec["repository"], "targetBranch": branch},
        "role": "Reviewer",
        "agentClassName": gate["review"]["agentClassName"],
        "prompt": "\n\n".join(part for part in asked if part),
        "timeoutSeconds": int(gate.get("timeoutSeconds") or TIMEOUT),
        "retryLimit": _RETRIES,
        "reviews": {
            "sourceRef": spec["fetchRef"],
            "sourceCommit": spec["commit"],
            "baseCommits": list(spec["change"].get("baseCommits") or ()),
            "maxCharacters": int(gate["review"].get("maxCharacters") or 60_000),
        },
    }
    return {"metadata": {"name": task_name(view), "labels": labels, "ownerReferences": [owner]}, "spec": made}
