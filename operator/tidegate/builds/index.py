"""What is known of each build's tasks and merge jobs, kept as events come.

Nothing here walks a build's tasks because one of them changed: an event costs its own dependencies and dependents.
Everything can be made again from the cache (`rebuild`), and is the same then.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import MergeJobView, PodView, TaskView, condition, condition_status
from tidegate.builds.decide.world import ACTIVE, FIXER, GATING, MAX_NAMED, MAX_UNMERGED, TERMINAL, Change
from tidegate.builds.state import (
    BuildState,
    Job,
    Phase,
    Record,
    change_of,
    has_work,
    is_helper,
    outcome,
    said_unmerged,
    tasks_of,
)
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import parse_time
from tidegate.runtime.keys import Key


class BuildIndex:
    """The states of all builds, fed by cache listeners."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._clear()

    def _clear(self) -> None:
        self._states: dict[str, BuildState] = {}  # by UID of the build
        self._home: dict[tuple[str, str], str] = {}  # task -> UID of its build
        self._dependents: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
        self._unowned: dict[tuple[str, str], dict[str, None]] = {}  # build -> tasks that name it without being its own
        self._pods: dict[tuple[str, str], dict[str, None]] = {}  # task -> its Pods that may still run
        self._busy: dict[tuple[str, str], dict[str, None]] = {}  # build -> tasks with such Pods

    # -- feeding

    def rebuild(self) -> None:
        """Make everything again from the cache."""
        self._clear()
        for job in self._cache.all("MergeJob"):
            self.on_job(Key("MergeJob", job.meta.namespace, job.meta.name), None, job)
        for task in self._cache.all("AgentTask"):
            self.on_task(Key("AgentTask", task.meta.namespace, task.meta.name), None, task)
        for pod in self._cache.all("Pod"):
            self.on_pod(Key("Pod", pod.meta.namespace, pod.meta.name), None, pod)

    def on_task(self, key: Key, old: TaskView | None, new: TaskView | None) -> list[tuple[str, str]]:
        """Take a change of a task; returns the builds it touches as (namespace, name)."""
        place = (key.namespace, key.name)
        touched: dict[tuple[str, str], None] = {}
        if old is not None:
            self._forget(place, old, touched)
        if new is not None:
            self._enter(place, new, touched)
        if _satisfaction(old) != _satisfaction(new):
            self._wake_dependents(place, touched)
        return list(touched)

    def on_job(self, key: Key, old: MergeJobView | None, new: MergeJobView | None) -> list[tuple[str, str]]:
        """Take a change of a MergeJob; returns the builds it touches."""
        touched: dict[tuple[str, str], None] = {}
        for view, by in ((old, -1), (new, 1)):
            if view is not None and view.meta.owner_uid:
                self._count_job(key.name, view, by)
        view = new or old
        assert view is not None
        build = (view.spec.get("buildRef") or {}).get("name")
        if build:
            touched[(key.namespace, build)] = None
        for task in tasks_of(view):
            self._again((key.namespace, task), touched)
            self._wake_dependents((key.namespace, task), touched)
        return list(touched)

    def on_pod(self, key: Key, _old: PodView | None, new: PodView | None) -> list[tuple[str, str]]:
        """Take a change of an agent Pod; returns the builds it touches."""
        view = new or _old
        assert view is not None
        if not view.task or view.component == names.COMPONENT_GATE:
            return []
        task, build = (key.namespace, view.task), (key.namespace, view.build)
        pods = self._pods.setdefault(task, {})
        if new is not None and not new.terminal:
            pods[key.name] = None
            if view.build:
                self._busy.setdefault(build, {})[view.task] = None
            return []
        pods.pop(key.name, None)
        if not pods:
            del self._pods[task]
            busy = self._busy.get(build)
            if busy is not None:
                busy.pop(view.task, None)
                if not busy:
                    del self._busy[build]
        return [build] if view.build else []

    # -- asking

    def state(self, uid: str) -> BuildState:
        """The state of the build with that UID; an empty one when it has no tasks."""
        return self._states.get(uid) or BuildState()

    def unowned(self, namespace: str, build: str) -> tuple[str, ...]:
        """Tasks that name the build and belong to nobody."""
        return tuple(self._unowned.get((namespace, build), ()))

    def pod_active(self, namespace: str, task: str) -> bool:
        """Whether a Pod of the task may still run."""
        return (namespace, task) in self._pods

    def busy(self, namespace: str, build: str) -> frozenset[str]:
        """Tasks of the build with a Pod that may still run."""
        return frozenset(self._busy.get((namespace, build), ()))

    def promote(self, uid: str, now: datetime) -> datetime | None:
        """Make deferred tasks ready whose time has come; returns the time of the next one."""
        state = self._states.get(uid)
        if state is None:
            return None
        earliest: datetime | None = None
        for name in list(state.by_phase[Phase.DELAYED]):
            record = state.records[name]
            due = parse_time(record.view.next_attempt_time)
            if due is None or due <= now:
                state.drop(name)
                record.phase = Phase.READY
                state.add(record)
            elif earliest is None or due < earliest:
                earliest = due
        return earliest

    def ready(self, uid: str, without: frozenset[str], limit: int) -> tuple[str, ...]:
        """The first tasks to start, in order."""
        state = self.state(uid)
        return tuple(islice((name for _, _, name in state.ready if name not in without), limit))

    def waits_outside(self, uid: str, finished: frozenset[str]) -> int:
        """How many waiting tasks wait for a task outside the build that can still end. Walks the waiting ones: asked
        only when nothing else moves. `finished`: UIDs of builds that have ended."""
        state = self.state(uid)
        return sum(
            1
            for name in state.by_phase[Phase.WAITING]
            if any(self._alive_outside(uid, state.records[name].view, dep, finished) for dep, _ in _deps(state, name))
        )

    def changes(self, uid: str, limit: int = MAX_UNMERGED) -> tuple[Change, ...]:
        """Unmerged work, what has a ref first."""
        state = self.state(uid)
        found = sorted(state.unmerged, key=lambda name: (not state.records[name].view.ref, name))
        return tuple(change_of(state, state.records[name].view) for name in found[:limit])

    def mergeable(self, uid: str) -> tuple[Change, ...]:
        """All unmerged work that could be queued again."""
        state = self.state(uid)
        made = (change_of(state, state.records[n].view) for n in state.unmerged)
        return tuple(change for change in made if change.mergeable)

    def conflicts(self, uid: str, build: str) -> tuple[Change, ...]:
        """Changes that ended in conflict and never had a Fixer; a Fixer's own gets none, nor does one without files in
        conflict: it has another history."""
        state = self.state(uid)
        views = (state.records[name].view for name in sorted(state.unmerged))
        alone = (
            view for view in views
            if view.role != FIXER and names.resolver_name(build, view.meta.name) not in state.records
        )  # fmt: skip
        found = (change_of(state, view) for view in alone)
        return tuple(c for c in found if c.mergeable and c.files and c.reason == reasons.MERGE_CONFLICT)

    def blocking(self, uid: str) -> int:
        """How many unmerged changes keep the build from passing; a sweep's Fixers don't."""
        state = self.state(uid)
        views = (state.records[name].view for name in state.unmerged)
        return sum(1 for view in views if view.state == "Complete" and not is_helper(view))

    def ended_badly(self, uid: str) -> tuple[str, ...]:
        """`name (State)` of the first tasks that keep the build from passing."""
        state = self.state(uid)
        return tuple(f"{name} ({state.records[name].view.state})" for name in islice(state.bad, MAX_NAMED))

    def fixing(self, uid: str) -> frozenset[str]:
        """Gates for which a sweep's Fixer has not ended."""
        return frozenset(self.state(uid).fixing)

    def stalled(self, uid: str) -> tuple[str, str, str] | None:
        """Name, reason and message of a task that a person must help."""
        state = self.state(uid)
        name = next(iter(state.stalled), None)
        if name is None:
            return None
        found = condition(state.records[name].view.status(), reasons.STALLED) or {}
        return name, str(found.get("reason") or ""), str(found.get("message") or "")

    def named(self, uid: str, phase: Phase) -> tuple[str, ...]:
        """Names of tasks in a phase, for a message."""
        return tuple(islice(self.state(uid).by_phase[phase], MAX_NAMED))

    def unfinished(self, uid: str) -> Iterator[TaskView]:
        """Tasks that have not ended."""
        state = self.state(uid)
        for phase, found in state.by_phase.items():
            if phase is not Phase.DONE:
                yield from (state.records[name].view for name in list(found))

    # -- inside

    def _state_of(self, uid: str) -> BuildState:
        return self._states.setdefault(uid, BuildState())

    def _tidy(self, uid: str) -> None:
        state = self._states.get(uid)
        if state is not None and not state.records and not state.jobs:
            del self._states[uid]

    def _forget(self, place: tuple[str, str], view: TaskView, touched: dict[tuple[str, str], None]) -> None:
        for dep, _ in view.depends_on:
            held = self._dependents.get((place[0], dep))
            if held is not None:
                held.pop(place, None)
                if not held:
                    del self._dependents[(place[0], dep)]
        if view.build:
            touched[(place[0], view.build)] = None
            self._unowned.get((place[0], view.build), {}).pop(place[1], None)
        uid = self._home.pop(place, None)
        if uid is not None:
            self._state_of(uid).drop(place[1])
            self._tidy(uid)

    def _enter(self, place: tuple[str, str], view: TaskView, touched: dict[tuple[str, str], None]) -> None:
        for dep, _ in view.depends_on:
            self._dependents.setdefault((place[0], dep), {})[place] = None
        if not view.build:
            return
        touched[(place[0], view.build)] = None
        if not view.meta.owner_uid:
            self._unowned.setdefault((place[0], view.build), {})[place[1]] = None
            return
        self._home[place] = view.meta.owner_uid
        state = self._state_of(view.meta.owner_uid)
        state.add(self._record(state, view))

    def _record(self, state: BuildState, view: TaskView) -> Record:
        status = view.status()
        usage = status.get("usage") or {}
        settled, merged = outcome(state, view, status)
        phase = self._phase(view)
        return Record(
            view=view,
            phase=phase,
            unsettled=phase is Phase.DONE and not settled,
            unmerged=phase is Phase.DONE
            and settled
            and not merged
            and has_work(view)
            and not state.queued(view.meta.name),
            stalled=phase is not Phase.DONE and condition_status(status, reasons.STALLED) == "True",
            usage=tuple(int(usage.get(k) or 0) for k in ("tokensIn", "tokensOut", "modelCalls")),  # type: ignore[arg-type]
            place=(view.priority, view.meta.created, view.meta.name),
        )

    def _phase(self, view: TaskView) -> Phase:
        if view.state in ACTIVE or view.attempt_open:
            return Phase.ACTIVE
        if view.state in TERMINAL:
            return Phase.DONE
        if view.meta.deleting:
            return Phase.LEAVING
        if view.state == GATING:
            return Phase.GATING
        if view.desired_state == "Cancelled":
            return Phase.CANCELLING
        if not all(self._satisfied(view.meta.namespace, dep, until) for dep, until in view.depends_on):
            return Phase.WAITING
        return Phase.DELAYED if view.next_attempt_time else Phase.READY

    def _satisfied(self, namespace: str, task: str, until: str) -> bool:
        view: TaskView | None = self._cache.get(Key("AgentTask", namespace, task))
        if view is None:
            return False
        if view.merged or (until == "Complete" and view.state == "Complete"):
            return True
        uid = self._home.get((namespace, task))
        return uid is not None and self._state_of(uid).merged(task)

    def _wake_dependents(self, place: tuple[str, str], touched: dict[tuple[str, str], None]) -> None:
        for dependent in list(self._dependents.get(place, ())):
            self._again(dependent, touched)

    def _again(self, place: tuple[str, str], touched: dict[tuple[str, str], None]) -> None:
        uid = self._home.get(place)
        if uid is None:
            return
        state = self._state_of(uid)
        record = state.drop(place[1])
        if record is not None:
            state.add(self._record(state, record.view))
            touched[(place[0], record.view.build)] = None

    def _count_job(self, name: str, view: MergeJobView, by: int) -> None:
        state = self._state_of(view.meta.owner_uid)
        if by < 0:
            job = state.jobs.pop(name, None)
            if job is None:
                return
            state.jobs_merged -= job.merged
            state.jobs_open.pop(name, None)
            for task in job.tasks:
                held = state.jobs_of.get(task, {})
                held.pop(name, None)
                if not held:
                    state.jobs_of.pop(task, None)
            self._tidy(view.meta.owner_uid)
            return
        succeeded = view.condition_status(reasons.SUCCEEDED)
        merged = view.condition_status(reasons.MERGED) == "True" or succeeded == "True"
        job = Job(view, tasks_of(view), succeeded in ("True", "False"), merged)
        state.jobs[name] = job
        for task in job.tasks:
            state.jobs_of.setdefault(task, {})[name] = None
        state.jobs_merged += job.merged
        if not job.ended:
            state.jobs_open[name] = None
        if merged and view.status.get("mergedCommit"):
            landing = (str(view.status.get("completionTime") or ""), str(view.status["mergedCommit"]))
            state.landed = max(state.landed, landing)

    def _alive_outside(self, uid: str, view: TaskView, dep: str, finished: frozenset[str]) -> bool:
        other = self._home.get((view.meta.namespace, dep), "")
        if other == uid or other in finished:
            return False
        found: TaskView | None = self._cache.get(Key("AgentTask", view.meta.namespace, dep))
        if found is None or found.merged:
            return False
        if found.state not in TERMINAL:
            return True
        return found.state == "Complete" and bool(found.commit) and not said_unmerged(found.status())


def _deps(state: BuildState, name: str) -> tuple[tuple[str, str], ...]:
    return state.records[name].view.depends_on


def _satisfaction(view: TaskView | None) -> tuple[bool, bool, bool]:
    return (False, False, False) if view is None else (True, view.merged, view.state == "Complete")
