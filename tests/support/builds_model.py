"""A small model of the world around the builds room: tasks, merge jobs, gate runs and a person, one step at a time.

The room itself is the real one: cache, indexes, observe, decide, act. Only the API server is a dictionary.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate import names
from tidegate.api.gates import MARKERS
from tidegate.builds import reconcile
from tidegate.builds.decide.world import TERMINAL
from tidegate.errors import AlreadyExists, Conflict, NotFound
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context, rfc3339
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.settings import Settings

Object = dict[str, Any]
NS = "team"
URL = "https://git.example.invalid/team/repo.git"


def merge(old: Any, patch: Any) -> Any:
    """JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    made = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge(made.get(key), value)
    return made


class Store:
    """Objects by (kind, name), with resourceVersions and UIDs; stands for reads and guarded writes alike."""

    def __init__(self, cache: Cache, now: Any) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.cache = cache
        self.now = now
        self.versions = itertools.count(1)
        self.calls = 0
        self.events: list[tuple[str, str, str]] = []

    def check(self) -> None:
        """The Lease is always held here."""

    async def get(self, kind: str, _namespace: str, name: str) -> Object:
        try:
            return copy.deepcopy(self.objects[kind, name])
        except KeyError:
            raise NotFound(404, "NotFound", f"{kind} {name}") from None

    async def list(self, kind: str, _namespace: str, selector: str) -> tuple[list[Object], str]:
        wanted = dict(part.split("=") for part in selector.split(","))
        of_kind = (obj for (other, _), obj in self.objects.items() if other == kind)
        found = [obj for obj in of_kind if wanted.items() <= (obj["metadata"].get("labels") or {}).items()]
        return copy.deepcopy(found), ""

    async def create(self, kind: str, namespace: str, obj: Object) -> Object:
        self.calls += 1
        name = obj["metadata"]["name"]
        if (kind, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", name)
        made = copy.deepcopy(obj)
        version = next(self.versions)
        made["metadata"] |= {
            "namespace": namespace, "uid": f"uid-{version}", "generation": 1, "creationTimestamp": rfc3339(self.now()),
        }  # fmt: skip
        return self._put(kind, made, version)

    async def apply(self, kind: str, namespace: str, obj: Object) -> Object:
        if (kind, obj["metadata"]["name"]) not in self.objects:
            return await self.create(kind, namespace, obj)
        return await self.patch(kind, namespace, obj["metadata"]["name"], obj)

    async def patch(self, kind: str, _namespace: str, name: str, patch: Object) -> Object:
        self.calls += 1
        old = await self.get(kind, _namespace, name)
        wanted = (patch.get("metadata") or {}).pop("resourceVersion", None)
        if wanted is not None and wanted != old["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", name)
        made = merge(old, patch)
        if made["metadata"].get("deletionTimestamp") and not made["metadata"].get("finalizers"):
            self._remove(kind, name)
            return dict(made)
        return self._put(kind, made, next(self.versions))

    async def patch_status(self, key: Key, status: Object, *, resource_version: int | None = None) -> Object:
        patch: Object = {"status": status}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": str(resource_version)}
        return await self.patch(key.kind, key.namespace, key.name, patch)

    async def delete(self, kind: str, _namespace: str, name: str, *, uid: str | None = None) -> None:
        self.calls += 1
        found = self.objects.get((kind, name))
        if found is None:
            return
        if uid and found["metadata"]["uid"] != uid:
            raise Conflict(409, "Conflict", name)
        if found["metadata"].get("finalizers"):
            found = merge(found, {"metadata": {"deletionTimestamp": rfc3339(self.now())}})
            self._put(kind, found, next(self.versions))
            return
        self._remove(kind, name)

    async def event(self, _kind: str, _view: Any, type_: str, reason: str, note: str) -> None:
        self.events.append((type_, reason, note))

    def _put(self, kind: str, obj: Object, version: int) -> Object:
        obj["metadata"]["resourceVersion"] = str(version)
        self.objects[kind, obj["metadata"]["name"]] = obj
        if self.cache.watches(kind):
            self.cache.offer(kind, copy.deepcopy(obj))
        return copy.deepcopy(obj)

    def _remove(self, kind: str, name: str) -> None:
        obj = self.objects.pop((kind, name))
        self.cache.remove(Key(kind, NS, name), obj["metadata"]["uid"], next(self.versions))


class Model:
    """One build and its neighbours. Every method is one step somebody may take."""

    def __init__(self, build: Object, *, gates: tuple[str, ...] = ("tests",), lane_ready: bool = True) -> None:
        self.clock = datetime(2026, 1, 1, tzinfo=UTC)
        self.looks = itertools.count(step=10)  # what may wait a few seconds waits until the next round
        self.cache = Cache(watched_kinds())
        self.store = Store(self.cache, lambda: self.clock)
        self.commits = itertools.count(1)
        self.head = self.commit()
        self.lane_ready = lane_ready
        settings = Settings(default_gate_profile="standard" if gates else "")
        self.ctx = Context(
            settings=settings, kube=self.store, cache=self.cache, queue=WorkQueue(), writer=self.store,  # type: ignore[arg-type]
            now=lambda: self.clock, monotonic=lambda: next(self.looks),
        )  # fmt: skip
        reconcile.install(self.ctx)
        self.name = build["metadata"]["name"]
        if gates:
            profile = {
                "gates": [{"name": g, "image": "gate", "command": ["check", g], "timeoutSeconds": 60} for g in gates]
            }
            self.create("GateProfile", {"metadata": {"name": "standard"}, "spec": profile}, namespace="")
        self.create("BuildRequest", build)

    # -- plumbing

    def run(self, call: Any) -> Any:
        return asyncio.run(call)

    def commit(self) -> str:
        return f"{next(self.commits):040x}"

    def create(self, kind: str, obj: Object, namespace: str = NS) -> None:
        self.run(self.store.create(kind, namespace, obj))

    def patch(self, kind: str, name: str, patch: Object) -> None:
        self.run(self.store.patch(kind, NS, name, patch))

    def status(self, kind: str, name: str, status: Object) -> None:
        self.patch(kind, name, {"status": status})

    def all(self, kind: str) -> list[Object]:
        return [obj for (k, _), obj in list(self.store.objects.items()) if k == kind]

    @property
    def build(self) -> Object:
        return self.store.objects["BuildRequest", self.name]

    def condition(self, type_: str) -> Object:
        found = (c for c in self.build.get("status", {}).get("conditions", []) if c["type"] == type_)
        return next(found, {})

    @property
    def finalized(self) -> bool:
        return ("BuildRequest", self.name) not in self.store.objects or self.condition("Finalized").get(
            "status"
        ) == "True"

    # -- steps

    def reconcile(self) -> float | None:
        """One round of the builds room."""
        answer: float | None = self.run(self.ctx.reconcilers["BuildRequest"](Key("BuildRequest", NS, self.name)))
        return answer

    def settle(self, rounds: int = 20) -> None:
        """Rounds of the builds room, and of the lane's first steps, until nothing changes."""
        for _ in range(rounds):
            before = self.store.calls
            self.reconcile_quietly()
            self.lane()
            if self.store.calls == before:
                return

    def tick(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)

    def lane(self) -> None:
        """The lane room takes up a new lane and shows the head, which never holds conflicts."""
        for lane in self.all("MergeLane"):
            ready = "True" if self.lane_ready else "False"
            status: Object = {"head": self.head, "conditions": [{"type": "Ready", "status": ready, "reason": "Probed"}]}
            if any(lane.get("status", {}).get(key) != value for key, value in status.items()):
                status["headTime"] = rfc3339(self.clock)
                self.status("MergeLane", lane["metadata"]["name"], status)
        for run in self.all("GateRun"):
            if run["spec"]["gate"]["name"] == MARKERS and not run.get("status", {}).get("verdict"):
                self.finish_gate(run["metadata"]["name"], "Passed")

    def lane_up(self) -> bool:
        return self.lane_ready and any(lane.get("status") for lane in self.all("MergeLane"))

    def state(self, task: Object) -> str:
        return str(task.get("status", {}).get("state") or "Pending")

    def active(self) -> list[str]:
        return [t["metadata"]["name"] for t in self.all("AgentTask") if self.state(t) in ("Assigned", "Running")]

    def may_start(self, task: Object) -> bool:
        status = task.get("status", {})
        waits = status.get("nextAttemptTime")
        return (
            self.state(task) == "Pending"
            and task["metadata"]["name"] in self.build.get("status", {}).get("slots", [])
            and task["spec"].get("desiredState") != "Cancelled"
            and (not waits or waits <= rfc3339(self.clock))
        )

    def start(self, name: str) -> bool:
        """The tasks room starts an attempt of a task that holds a slot."""
        task = self.store.objects["AgentTask", name]
        if not self.may_start(task):
            return False
        attempts = [*task.get("status", {}).get("attempts", [])]
        attempts.append({"number": len(attempts) + 1, "startTime": rfc3339(self.clock)})
        self.status("AgentTask", name, {"state": "Running", "attempts": attempts, "nextAttemptTime": None})
        return True

    def end(
        self, name: str, state: str = "Complete", *, diff: bool = True, backoff: float = 0, handoff: str = ""
    ) -> bool:
        """The tasks room judges the attempt of an active task; state Pending is a retry after `backoff` seconds."""
        task = self.store.objects["AgentTask", name]
        if self.state(task) not in ("Assigned", "Running"):
            return False
        attempts = copy.deepcopy(task["status"]["attempts"])
        attempts[-1] |= {"endTime": rfc3339(self.clock), "handoffCommit": handoff}
        status: Object = {"state": state, "attempts": attempts}
        if state == "Pending":
            status["nextAttemptTime"] = rfc3339(self.clock + timedelta(seconds=backoff))
        if diff and state != "Pending":
            status |= {"commit": self.commit(), "ref": names.task_ref(task["metadata"]["uid"])}
        if state == "Complete" and (not diff or task["spec"].get("role") == "Planner"):
            status["conditions"] = [{"type": "Merged", "status": "True", "reason": "EmptyDiff"}]
        self.status("AgentTask", name, status)
        return True

    def gate(self, name: str) -> bool:
        """The attempt of an active task ended well, and its own gates run."""
        if not self.end(name, "Gating", diff=False):
            return False
        ref = names.task_ref(self.store.objects["AgentTask", name]["metadata"]["uid"])
        self.status("AgentTask", name, {"ref": ref})
        return True

    def after_gates(self, name: str, state: str) -> bool:
        """Its own gates have their verdict: Complete, Failed, or Pending for the agent to go on."""
        task = self.store.objects["AgentTask", name]
        if self.state(task) != "Gating" or task["spec"].get("desiredState") == "Cancelled":
            return False
        status: Object = {"state": state}
        if state == "Pending":
            status["nextAttemptTime"] = rfc3339(self.clock + timedelta(seconds=3))
        if state == "Complete":
            status["commit"] = self.commit()
        self.status("AgentTask", name, status)
        return True

    def gating(self) -> list[str]:
        return [t["metadata"]["name"] for t in self.all("AgentTask") if self.state(t) == "Gating"]

    def answer_cancels(self) -> None:
        """Tasks room and lane end what was asked to end."""
        for task in self.all("AgentTask"):
            if task["spec"].get("desiredState") == "Cancelled" and self.state(task) not in TERMINAL:
                if self.state(task) in ("Pending", "Gating"):
                    self.status("AgentTask", task["metadata"]["name"], {"state": "Cancelled"})
                else:
                    self.end(task["metadata"]["name"], "Cancelled", diff=False)
        for job in self.all("MergeJob"):
            if job["spec"].get("desiredState") == "Cancelled" and not self.ended(job):
                self.finish_job(job["metadata"]["name"], merged=False, reason="Cancelled")

    def make_jobs(self) -> None:
        """The tasks room queues the changes of complete tasks."""
        for task in self.all("AgentTask"):
            status, meta = task.get("status", {}), task["metadata"]
            name = names.merge_job_name(meta["name"], len(status.get("attempts", [])))
            merged = any(c["status"] == "True" for c in status.get("conditions", []) if c["type"] == "Merged")
            if self.state(task) != "Complete" or merged or ("MergeJob", name) in self.store.objects:
                continue
            spec = {
                "taskRef": {"name": meta["name"], "uid": meta["uid"]},
                "buildRef": {"name": self.name},
                "repository": {"url": URL},
                "sourceRef": status["ref"],
                "sourceCommit": status["commit"],
                "targetBranch": "main",
                "desiredState": "Run",
            }
            if resolves := task["spec"].get("resolves"):
                spec["replaces"] = {key: resolves[key] for key in ("mergeJobName", "taskRef")}
            owners = [
                {"kind": "BuildRequest", "name": self.name, "uid": self.build["metadata"]["uid"], "controller": True}
            ]
            self.create("MergeJob", {"metadata": {"name": name, "ownerReferences": owners}, "spec": spec})

    def ended(self, job: Object) -> bool:
        return any(c["type"] == "Succeeded" for c in job.get("status", {}).get("conditions", []))

    def finish_job(self, name: str, *, merged: bool, reason: str = "", show: bool = True) -> bool:
        """The lane lands a change, or ejects it; the tasks room copies the end into its task."""
        job = self.store.objects["MergeJob", name]
        if self.ended(job):
            return False
        value = "True" if merged else "False"
        why = reason or ("Landed" if merged else "GatesFailed")
        status: Object = {
            "baseCommit": self.head,
            "conditions": [{"type": t, "status": value, "reason": why} for t in ("Succeeded", "Merged")],
        }
        if merged:
            self.head = self.commit()
            status |= {"mergedCommit": self.head, "completionTime": rfc3339(self.clock)}
        self.status("MergeJob", name, status)
        if show:
            self.lane()
        task = job["spec"]["taskRef"]["name"]
        if ("AgentTask", task) in self.store.objects:
            self.status("AgentTask", task, {"conditions": [{"type": "Merged", "status": value, "reason": why}]})
        return True

    def status_of_job(self, name: str) -> str:
        job = self.store.objects["MergeJob", name]
        return "ended" if self.ended(job) else "open"

    def reconcile_quietly(self) -> None:
        """A round for a build that may be gone already."""
        if ("BuildRequest", self.name) in self.store.objects:
            self.reconcile()

    def gate_runs(self) -> list[Object]:
        """Those that wait for a verdict; the gate of every sweep gets its own by itself."""
        runs = self.all("GateRun")
        return [r for r in runs if not r.get("status", {}).get("verdict") and r["spec"]["gate"]["name"] != MARKERS]

    def finish_gate(self, name: str, verdict: str) -> None:
        """A gate Pod ended."""
        self.status("GateRun", name, {"verdict": verdict, "logTail": "E   assert 1 == 2"})

    def drive(self, rounds: int = 200, verdict: str = "Passed") -> None:
        """Everybody does their part, well, until the build is finalized."""
        for _ in range(rounds):
            self.settle()
            if self.finalized:
                return
            for task in self.all("AgentTask"):
                self.start(task["metadata"]["name"])
            for name in self.active():
                self.end(name)
            for name in self.gating():
                self.after_gates(name, "Complete")
            self.answer_cancels()
            self.make_jobs()
            for job in self.all("MergeJob"):
                if not self.ended(job):
                    self.finish_job(job["metadata"]["name"], merged=True)
            for run in self.gate_runs():
                self.finish_gate(run["metadata"]["name"], verdict)
            self.tick(1)


def build_object(name: str = "mk", **spec: Any) -> Object:
    """A BuildRequest."""
    base: Object = {"request": "Build it.", "repository": {"url": URL, "targetBranch": "main"}}
    return {"metadata": {"name": name}, "spec": base | spec}


def static(*tasks: Object) -> Object:
    """A static plan."""
    return {"tasks": [{"prompt": "true", **task} for task in tasks]}
