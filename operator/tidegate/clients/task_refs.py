"""The refs of tasks on the remote: removed with a build, and some time after a review."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from tidegate import names
from tidegate.clients.git import Credentials, Git, init_bare

_OWN = ("tasks", "wip", "attempts", "handoffs")  # folders below REF_PREFIX with a task's UID as next part
_AT_ONCE = 500


def is_own(ref: str, task_uids: frozenset[str]) -> bool:
    """Whether a ref was made by an attempt of one of these tasks."""
    parts = ref.removeprefix(f"{names.REF_PREFIX}/").split("/")
    return ref.startswith(f"{names.REF_PREFIX}/") and len(parts) > 1 and parts[0] in _OWN and parts[1] in task_uids


def delete_refs(
    url: str, credentials: Credentials | None, task_uids: Iterable[str], *, protocols: str, timeout: float = 60.0
) -> int:
    """Delete the tasks' refs at the remote; returns how many there were. Blocks; raises GitError."""
    uids = frozenset(task_uids)
    if not uids:
        return 0
    with tempfile.TemporaryDirectory(prefix="tidegate-refs-") as name:
        init_bare(Path(name))
        git = Git(Path(name), url, credentials, protocols, timeout)
        own = sorted(ref for ref in git.ls_remote(f"{names.REF_PREFIX}/*") if is_own(ref, uids))
        for start in range(0, len(own), _AT_ONCE):
            refspecs = [f":{ref}" for ref in own[start : start + _AT_ONCE]]
            git.run("push", "--quiet", "--", url, *refspecs, remote=True)
    return len(own)
