"""One cluster a machine, several checkouts: who brought it up, and a lock while a command changes it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cluster import processes
from dev.cluster.errors import ClusterError
from dev.cluster.progress import say
from dev.cluster.settings import CHECKOUT, RUN, STATE

SHARE_VARIABLE = "TIDEGATE_CLUSTER_SHARE"
LOCK_SECONDS = 900


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the machine-wide lock; waits for another command that holds it, and says so."""
    RUN.mkdir(parents=True, exist_ok=True)
    path = RUN.parent / f"{RUN.name}.lock"  # beside the directory, which teardown deletes
    with path.open("a+") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        announced = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not announced:
                    say(f"Waiting for another cluster command on this machine (lock {path})")
                    announced = True
                if time.monotonic() > deadline:
                    raise ClusterError(f"another cluster command has held {path} for {LOCK_SECONDS} s") from None
                time.sleep(0.2)
        yield


def _record() -> Path:
    return STATE / "owner.json"


def current() -> Path | None:
    """The checkout that the cluster's state belongs to; None where there is no state."""
    try:
        return Path(json.loads(_record().read_text())["checkout"])
    except (OSError, ValueError, KeyError):
        return None


def sharing() -> bool:
    """Whether the user agreed to use another checkout's cluster."""
    return os.environ.get(SHARE_VARIABLE) == "1"


def is_ours() -> bool:
    """Whether this checkout owns the state, or nobody does."""
    return current() in (None, CHECKOUT)


def anything_runs() -> bool:
    """Whether any recorded process of the cluster is alive."""
    return any(processes.running(name) for name in processes.names())


def is_abandoned() -> bool:
    """Whether the state is another checkout's that runs nothing and that nobody agreed to share."""
    return not is_ours() and not sharing() and not anything_runs()


def claim() -> bool:
    """Make this checkout the owner; False where it shares another's. Raises ClusterError on an unwanted meeting."""
    other = current()
    if other is not None and other != CHECKOUT:
        if sharing():
            say(f"Sharing the cluster of {other}")
            return False
        raise ClusterError(
            f"this machine's local cluster runs and belongs to the checkout {other}. "
            f"Cure: set {SHARE_VARIABLE}=1 to share it, or end it with `make cluster-down` in {other}, "
            "or bring your own (TIDEGATE_CLUSTER=given and KUBECONFIG)"
        )
    STATE.mkdir(parents=True, exist_ok=True)
    _record().write_text(json.dumps({"checkout": str(CHECKOUT)}))
    return True
