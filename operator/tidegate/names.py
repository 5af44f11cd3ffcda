"""Names, labels, annotations, refs and paths: the only place that spells them."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit, urlunsplit

GROUP = "tidegate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "tidegate"
OPERATOR = "tidegate"

# Labels on every child object
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_COMPONENT = "tidegate.dev/component"  # agent | gate
LABEL_BUILD = "tidegate.dev/build"
LABEL_BUILD_UID = "tidegate.dev/build-uid"  # on what outlives a build: GateRuns of its sweeps
LABEL_TASK = "tidegate.dev/task"
LABEL_ATTEMPT = "tidegate.dev/attempt"
LABEL_ROLE = "tidegate.dev/role"
LABEL_CLASS = "tidegate.dev/agent-class"
LABEL_LANE = "tidegate.dev/lane"
LABEL_GATE = "tidegate.dev/gate"
LABEL_EGRESS = "tidegate.dev/egress"  # on gate Pods: stands for what they may reach
LABEL_RESOLVES = "tidegate.dev/resolves"  # on a Fixer: the task whose change conflicts
LABEL_GATE_RUN = "tidegate.dev/gate-run"
LABEL_PURPOSE = "tidegate.dev/purpose"  # of a GateRun: candidate | sweep

COMPONENT_AGENT = "agent"
COMPONENT_GATE = "gate"
MANAGED_PODS_SELECTOR = f"{LABEL_MANAGED_BY}={OPERATOR}"

# Annotations
ANNOTATION_SLOT_RELEASED = "tidegate.dev/slot-released"  # on an AgentTask: when its build last took the slot back
ANNOTATION_GATE_HOLDER = "tidegate.dev/gate-holder"  # on a gate's Pod: the operator process that made it
ANNOTATION_GIT_URL = "tidegate.dev/git-url"  # on a Secret: the URL prefix its credentials are for

FINALIZER_BUILD = f"{GROUP}/stop-work"
FINALIZER_LANDING = f"{GROUP}/landing"

# Containers of an agent Pod and of a gate Pod
CONTAINER_WORKSPACE = "workspace"
CONTAINER_AGENT = "agent"
CONTAINER_PUBLISHER = "publisher"
CONTAINER_CHECKOUT = "checkout"
CONTAINER_GATE = "gate"
CONTAINER_JUDGE = "judge"  # only where the gate leaves reports

GATEWAY_AUDIENCE = "tidegate-gateway"

# Paths inside Pods
PATH_WORKSPACE = "/workspace"  # the working tree: the agent's current directory
PATH_TOOLS = "/tidegate/tools"  # written by `workspace`, read-only for the agent: the entry script
PATH_INPUT = "/tidegate/input"  # written by `workspace`, read-only for the agent: the prompt
PATH_OUTPUT = "/tidegate/output"  # written by the agent: handoff, exit record, log
PATH_STATE = "/tidegate/state"  # ours alone: the publisher's git directory
PATH_HOME = "/tidegate/home"
PATH_TMP = "/tmp"  # noqa: S108 - a mount point inside the Pod
PATH_GIT_CREDENTIALS = "/var/run/secrets/tidegate/git"
PATH_TOKEN = "/var/run/secrets/tidegate/gateway/token"  # noqa: S105 - a path
FILE_ENTRY = f"{PATH_TOOLS}/entry"
FILE_READY = f"{PATH_TOOLS}/ready"  # made by `publisher` once a SIGTERM can't be lost; the entry script waits for it
FILE_PROMPT = f"{PATH_INPUT}/prompt"
FILE_CHANGE = f"{PATH_INPUT}/change"  # of a review: the change as text
FILE_HANDOFF = f"{PATH_OUTPUT}/handoff.json"
FILE_EXIT = f"{PATH_OUTPUT}/exit"
FILE_LOG = f"{PATH_OUTPUT}/log"

MAX_NAME = 63


def bounded_name(*parts: str, limit: int = MAX_NAME) -> str:
    """Join parts with `-`; where that is longer than `limit`, cut it and end with a hash of the whole."""
    name = "-".join(parts)
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"


def task_name(build: str, iteration: int, name: str) -> str:
    """The name of a build's task; leaves room for the attempt number in the Pod's name."""
    return bounded_name(build, str(iteration), name, limit=57)


def resolver_name(build: str, task: str) -> str:
    """The name of the one Fixer for a task's change that conflicts."""
    return bounded_name(build, "resolve", task, limit=57)


def pod_name(task: str, attempt: int) -> str:
    """The name of the Pod that runs an attempt."""
    return bounded_name(task, str(attempt))


def merge_job_name(task: str, attempt: int, requeue: int = 0) -> str:
    """The name of the MergeJob for the result of an attempt; `requeue` counts finalization's new tries."""
    return bounded_name(task, str(attempt), *([f"r{requeue}"] if requeue else []))


def normalise_url(url: str) -> str:
    """A git URL in the form that decides whether two name the same repository: lower-case scheme and host, no
    trailing slash, no `.git`, no user part."""
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    netloc = f"{host}:{parts.port}" if parts.port else host
    path = re.sub(r"(\.git)?/*$", "", parts.path)
    return urlunsplit((parts.scheme.lower(), netloc, path, "", ""))


def lane_name(url: str, branch: str) -> str:
    """The name of the MergeLane for a repository's branch: its last path segment and branch for people, and a hash."""
    key = f"{normalise_url(url)} {branch}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    words = re.sub(r"[^a-z0-9]+", "-", f"{normalise_url(url).rsplit('/', 1)[-1]}-{branch}".lower()).strip("-")
    return f"{words[:40].strip('-') or 'lane'}-{digest}"


# Refs in the target repository
REF_PREFIX = "refs/tidegate"


def task_ref(task_uid: str) -> str:
    """Where the good result of a task's newest attempt stands."""
    return f"{REF_PREFIX}/tasks/{task_uid}"


def wip_ref(task_uid: str, attempt: int) -> str:
    """Where the work of an attempt without a good handoff stands."""
    return f"{REF_PREFIX}/wip/{task_uid}/{attempt}"


def attempt_ref(task_uid: str) -> str:
    """The ref that fences a task's attempts."""
    return f"{REF_PREFIX}/attempts/{task_uid}"


def handoff_ref(task_uid: str, attempt: int) -> str:
    """A commit with `handoff.json` and `log`: the whole handoff of an attempt."""
    return f"{REF_PREFIX}/handoffs/{task_uid}/{attempt}"


def lane_ref(lane_id: str, *path: str, prefix: str = REF_PREFIX) -> str:
    """A ref of a lane: `ledger`, `candidates/<sha>`, `sources/<job uid>`, `probe/...`."""
    return "/".join((prefix, "lanes", lane_id, *path))
