"""GateRuns: any of them, of a lane or of a sweep, becomes a Pod and then a verdict."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.gates import TIMEOUT, judged
from tidegate.api.views import GateRunView, PodView
from tidegate.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound, PermanentError
from tidegate.lane.consult import Consultations
from tidegate.lane.decide.model import FAILED, INFRA, PASSED
from tidegate.lane.index import CANDIDATE, POD_OF_RUN, RUNS
from tidegate.lane.pod import PodSettings, egress_policy, gate_pod
from tidegate.lane.review import Reviewers
from tidegate.lane.slots import GateSlots
from tidegate.lane.verdict import Verdict, figures, judge, lost
from tidegate.runtime.conditions import set_condition
from tidegate.runtime.context import Context, parse_time, rfc3339
from tidegate.runtime.keys import Key
from tidegate.runtime.network import dns_egress, ensure_isolated, policy
from tidegate.runtime.urls import check_git_url, git_protocols
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)

SLOT_RETRY = 5.0  # seconds; a Pod that ends wakes those that wait anyway
QUOTA_RETRY = 10.0
SERVICE_LOOK = 60.0  # an answer of a service wakes its run anyway


class GateRuns:
    """Reconciles GateRuns."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._deadlines: set[str] = set()  # UIDs of Pods whose deadline is set
        self._services = Consultations(ctx)
        self._reviewers = Reviewers(ctx)
        self._slots = GateSlots(ctx)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one run nearer to its verdict; finished Pods go after their retention."""
        view: GateRunView | None = self._ctx.cache.get(key)
        if view is None or view.meta.deleting:
            self._services.forget(key)
            return None
        pod = self._pod(view)
        if view.status.get("verdict"):
            review = view.spec["gate"].get("review")
            return await (self._reviewers.clean_up(view) if review else self._clean_up(view, pod))
        if view.spec["gate"].get("http"):
            return await self._with_service(key, view)
        if view.spec["gate"].get("review"):
            return await self._with_review(key, view)
        if pod is None:
            return await self._without_pod(key, view)
        return await self._with_pod(key, view, pod)

    def _pod(self, view: GateRunView) -> PodView | None:
        pods: tuple[PodView, ...] = self._ctx.cache.indexed("Pod", POD_OF_RUN, view.meta.uid)
        return pods[0] if pods else None

    # -- a service

    async def _with_service(self, key: Key, view: GateRunView) -> float | None:
        found = self._services.verdict(key, view)
        if found is not None:
            again = await self._finish(key, view, found)
            self._services.forget(key)
            return again
        if not view.status.get("startTime"):
            status = {"observedGeneration": view.meta.generation, "startTime": rfc3339(self._ctx.now())}
            await self._ctx.writer.patch_status(key, status)
        return SERVICE_LOOK

    # -- a review

    async def _with_review(self, key: Key, view: GateRunView) -> float | None:
        found = await self._reviewers.verdict(view)
        if found is not None:
            again = await self._finish(key, view, found)
            metrics.REVIEWS.labels(found.verdict, found.reason).inc()
            return again
        reason, message = self._reviewers.waiting(view)
        if (view.status.get("reason"), view.status.get("message")) != (reason, message):
            start = view.status.get("startTime") or rfc3339(self._ctx.now())
            status = {"observedGeneration": view.meta.generation, "startTime": start}
            await self._ctx.writer.patch_status(key, {**status, "reason": reason, "message": message})
        return SERVICE_LOOK

    # -- no Pod yet, or no more

    async def _without_pod(self, key: Key, view: GateRunView) -> float | None:
        if view.status.get("podUID"):
            try:
                live = await self._ctx.kube.get("Pod", view.meta.namespace, view.meta.name)
                if live["metadata"]["uid"] == view.status["podUID"]:
                    return 1.0  # the cache is behind
            except NotFound:
                pass
            return await self._finish(key, view, lost())
        left = await self._slots.claim(view)
        if left is not None:
            return left
        if not self._slots.free(key, view):
            words = f"all {self._slots.total(view)} gate slots of the lane are taken (gateSlots of the MergeLane)"
            await self._wait(key, view, reasons.WAITING_FOR_SLOT, words)
            return SLOT_RETRY
        with self._slots.taken(key):
            return await self._create(key, view)

    async def _wait(self, key: Key, view: GateRunView, reason: str, message: str) -> None:
        """Say why there is no Pod yet."""
        if view.status.get("reason") != reason:
            status = {"observedGeneration": view.meta.generation, "reason": reason, "message": message[:1024]}
            await self._ctx.writer.patch_status(key, status, resource_version=view.meta.resource_version)

    async def _create(self, key: Key, view: GateRunView) -> float | None:
        settings = self._ctx.settings
        repository, gate = view.spec["repository"], view.spec["gate"]
        try:
            check_git_url(repository["url"], settings)
        except PermanentError as error:
            return await self._finish(key, view, Verdict(INFRA, error.reason, error.message))
        await self._isolate(view.meta.namespace, gate)
        lane = (view.spec.get("laneRef") or {}).get("name") or ""
        pod_settings = PodSettings(
            settings.runner_image, settings.image_pull_policy, git_protocols(settings), self._ctx.holder
        )
        run = {"metadata": {"name": view.meta.name, "uid": view.meta.uid}, "spec": view.spec}
        try:
            made = await self._ctx.writer.create("Pod", view.meta.namespace, gate_pod(run, lane, pod_settings))
        except AlreadyExists:
            made = await self._ctx.kube.get("Pod", view.meta.namespace, view.meta.name)
            if view.meta.uid not in {owner["uid"] for owner in made["metadata"].get("ownerReferences") or ()}:
                message = f"a Pod {view.meta.name} that is not ours is in the way: delete it"
                return await self._finish(key, view, Verdict(INFRA, reasons.NAME_TAKEN, message))
        except Forbidden as error:
            if names.ANNOTATION_GATE_HOLDER in error.message:
                raise Conflict(error.status, error.reason, error.message) from None
            if error.quota:
                await self._wait(key, view, reasons.QUOTA_EXCEEDED, error.message)
                return QUOTA_RETRY
            return await self._finish(key, view, Verdict(INFRA, reasons.POD_REFUSED, error.message))
        except Invalid as error:
            return await self._finish(key, view, Verdict(INFRA, reasons.POD_REFUSED, error.message))
        status: dict[str, Any] = {
            "observedGeneration": view.meta.generation,
            "pod": made["metadata"]["name"],
            "podUID": made["metadata"]["uid"],
            "startTime": rfc3339(self._ctx.now()),
            "reason": None,  # why it waited
            "message": None,
        }
        await self._ctx.writer.patch_status(key, status)
        return 30.0

    async def _isolate(self, namespace: str, gate: dict[str, Any]) -> None:
        """Checkout runs in the same Pod and a policy knows no containers: the git hosts are open to the gate too."""
        egress = [dns_egress(), *self._ctx.settings.git_egress]
        policies = [policy("tidegate-gate", names.COMPONENT_GATE, egress)]
        if gate.get("egress"):
            policies.append(egress_policy(gate["egress"]))
        await ensure_isolated(self._ctx, namespace, policies)

    # -- a Pod

    async def _with_pod(self, key: Key, view: GateRunView, pod: PodView) -> float | None:
        gate = view.spec["gate"]
        timeout = int(gate.get("timeoutSeconds") or TIMEOUT)
        found = judge(pod, timeout, self._ctx.now(), pod.meta.uid in self._deadlines, judged(gate))
        if isinstance(found, Verdict):
            return await self._finish(key, view, found)
        if found.deadline is not None:
            patch = {"spec": {"activeDeadlineSeconds": found.deadline}}
            try:
                await self._ctx.writer.patch("Pod", pod.meta.namespace, pod.meta.name, patch)
            except (NotFound, Invalid) as error:
                log.info("the deadline was not set", extra={"pod": pod.meta.name, "error": str(error)})
            self._deadlines.add(pod.meta.uid)
        return found.seconds

    async def _finish(self, key: Key, view: GateRunView, verdict: Verdict) -> float | None:
        now = rfc3339(self._ctx.now())
        start = parse_time(view.status.get("startTime") or "")
        if start is not None:
            seconds = (self._ctx.now() - start).total_seconds()
            metrics.GATE_SECONDS.labels(verdict.verdict).observe(max(seconds, 0))
        conditions = set_condition(
            list(view.status.get("conditions") or ()), reasons.SUCCEEDED,
            {"Passed": "True", "Failed": "False"}.get(verdict.verdict, "Unknown"), verdict.reason, verdict.message,
            now=now, generation=view.meta.generation,
        )  # fmt: skip
        status: dict[str, Any] = {
            "observedGeneration": view.meta.generation,
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "message": verdict.message[:1024],
            "endTime": now,
            "conditions": conditions,
        }
        known = {"exitCode": verdict.exit_code, "logTail": verdict.log_tail, "imageID": verdict.image_id}
        status.update({name: value for name, value in known.items() if value not in (None, "")}, **figures(verdict))
        await self._ctx.writer.patch_status(key, status, resource_version=view.meta.resource_version)
        self._count(view, verdict)
        pod = self._pod(view)
        if pod is not None and not pod.terminal and verdict.verdict == INFRA:
            await self._ctx.writer.delete("Pod", pod.meta.namespace, pod.meta.name, uid=pod.meta.uid)
        return float(self._ctx.settings.pod_retention_seconds)

    def _count(self, view: GateRunView, verdict: Verdict) -> None:
        gate, lane = str(view.spec["gate"]["name"]), (view.spec.get("laneRef") or {}).get("name")
        metrics.GATE_RUNS.labels(gate, verdict.verdict).inc()
        if verdict.verdict == PASSED and view.spec.get("purpose", CANDIDATE) == CANDIDATE:
            others = self._ctx.cache.indexed("GateRun", RUNS, f"{view.meta.namespace}/{lane}")
            same = view.meta.name.rpartition("-")[0]
            if any(run.meta.name.rpartition("-")[0] == same and run.status.get("verdict") == FAILED for run in others):
                metrics.GATE_FLAKES.labels(gate).inc()

    async def _clean_up(self, view: GateRunView, pod: PodView | None) -> float | None:
        if pod is None:
            return None
        self._deadlines.discard(pod.meta.uid)
        ended = parse_time(view.status.get("endTime") or "")
        due = (ended or self._ctx.now()) + timedelta(seconds=self._ctx.settings.pod_retention_seconds)
        left = (due - self._ctx.now()).total_seconds()
        if left > 0:
            return left
        if not pod.deletion_time:
            await self._ctx.writer.delete("Pod", pod.meta.namespace, pod.meta.name, uid=pod.meta.uid)
        return None
