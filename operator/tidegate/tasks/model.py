"""What a decision about a task is made from, and what it may ask for. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from tidegate.api.gates import Definition
from tidegate.api.views import BuildView, ClassView, GateRunView, MergeJobView, PodView, TaskView
from tidegate.tasks.outcome import FoundRefs

INFRASTRUCTURE_LIMIT = 6  # attempts, or runs of one of its own gates, that the cluster may end before the task fails


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits that hold for a task: its own, its build's, the operator's. Times in seconds."""

    retry_limit: int = 2
    backoff_seconds: int = 10
    max_backoff_seconds: int = 300
    start_timeout_seconds: int = 600
    pull_grace_seconds: int = 120  # for an image that can't be pulled: registries have bad minutes
    pod_retention_seconds: int = 300
    brief_seconds: float = 5.0  # an attempt that ends sooner is recorded when it has ended, and not as running before
    quiet_seconds: float = 5.0  # a wait shorter than this isn't worth a condition
    stall_recheck_seconds: int = 60  # of what is read, not watched: Secrets, names
    refused_recheck_seconds: int = 300  # of a Pod that was refused: limits and labels of the namespace aren't watched


@dataclass(frozen=True, slots=True)
class Dependency:
    """A task that must come first, as it is now."""

    name: str
    until: str  # Merged | Complete
    met: bool
    dead: str = ""  # why it can never be met as things are: a terminal state, `missing`; empty while it may be


@dataclass(frozen=True, slots=True)
class Lane:
    """The lane that a task's change will land through."""

    name: str
    exists: bool = False
    ready: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why no attempt can start until somebody changes something."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class OwnGates:
    """The gates that the task's change must pass before the task is complete. `problem`: why they can't be run."""

    profile: str
    max_continuations: int = 2
    gates: tuple[Definition, ...] = ()  # without services
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The world around a task at one moment.

    `pods`: those of this task's UID. `newest_pod_gone`: a live read said that the newest attempt's Pod isn't there.
    `preflight`: None until looked at; then the Problem that was found, or a Problem without a reason for none.
    """

    now: datetime
    task: TaskView
    policy: Policy
    build: BuildView | None = None
    agent_class_name: str = ""
    agent_class: ClassView | None = None
    dependencies: tuple[Dependency, ...] = ()
    lane: Lane | None = None
    pods: tuple[PodView, ...] = ()
    last_seen: PodView | None = None  # the newest attempt's Pod as it was when it vanished, if it had ended
    newest_pod_gone: bool = False
    foreign_pod: bool = False  # an object of that name is there that isn't this attempt's
    refusal: Problem | None = None  # how the API server refused the newest attempt's Pod
    refs: FoundRefs | None = None
    jobs: tuple[MergeJobView, ...] = ()
    foreign_job: bool = False  # a MergeJob of that name is there that isn't this task's
    own_gates: OwnGates | None = None
    runs: tuple[GateRunView, ...] = ()  # of the task's own gates
    foreign_run: str = ""  # a GateRun of that name is there that isn't this task's
    full: bool = False  # the namespace has as many Pods as the platform allows
    preflight: Problem | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the task, or its whole build, is to end."""
        return self.task.desired_state == "Cancelled" or (
            self.build is not None and self.build.desired_state == "Cancelled"
        )


@dataclass(frozen=True, slots=True)
class PodDeletion:
    """A Pod to delete, only if it still has that UID."""

    name: str
    uid: str
    tidying: bool = False  # it has ended, and its removal waits for its turn


@dataclass(frozen=True, slots=True)
class RunStart:
    """A GateRun to create."""

    name: str
    gate: Definition
    number: int


@dataclass(frozen=True, slots=True)
class RunDeletion:
    """A GateRun to delete, only if it still has that UID."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Note:
    """An Event to record."""

    type: str  # Normal | Warning
    reason: str
    text: str


class Notice(Enum):
    """What only people read, and may read late when there is much of it."""

    WAITS = "what the task waits for"
    RUNS = "that its Pod runs"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, carried out in the order of the fields. An empty one: nothing.

    `status` is a merge patch of the status, written with the resourceVersion that was observed: if the task has moved,
    nothing of the decision happens. `needs` asks for a closer look (`pod`, `refs`, `preflight`) and a new decision.
    """

    needs: frozenset[str] = frozenset()
    ensure_lane: bool = False
    status: Mapping[str, Any] | None = None
    create_pod: int | None = None  # number of the attempt
    delete_pods: tuple[PodDeletion, ...] = ()
    create_runs: tuple[RunStart, ...] = ()
    delete_runs: tuple[RunDeletion, ...] = ()
    create_job: bool = False
    cancel_jobs: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    notice: Notice | None = None  # `status` says nothing else: it waits for its turn
    again_after: float | None = None  # seconds after which the task is looked at again

    @property
    def acts(self) -> bool:
        """Whether anything is to be done now."""
        return bool(
            self.needs or self.ensure_lane or self.status or self.create_pod or self.delete_pods or self.create_job
            or self.create_runs or self.delete_runs or self.cancel_jobs or self.notes
        )  # fmt: skip


NOTHING = Decision()
NO_PROBLEM = Problem("", "")


@dataclass(slots=True)
class Timer:
    """The earliest of several moments."""

    seconds: float | None = field(default=None)

    def within(self, seconds: float) -> None:
        """Come back in at most so many seconds."""
        wanted = max(seconds, 0.1)
        self.seconds = wanted if self.seconds is None else min(self.seconds, wanted)
