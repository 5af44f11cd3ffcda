"""The init container `workspace`: claims the attempt, lays the base's files, the entry script and the prompt."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tidegate.api import reasons
from tidegate.api.wire import AgentInput, WorkspaceReport
from tidegate.clients.git import Credentials, GitError
from tidegate.errors import PermanentError, TidegateError
from tidegate.runner.base import Base, Blobs, empty_directory, lay
from tidegate.runner.change import fetch_change, write_change
from tidegate.runner.conflict import merged_tree
from tidegate.runner.entry import entry_script, prompt_file, settings
from tidegate.runner.places import Places
from tidegate.runner.repository import Claim, FencedError, claim, fetch_target, open_repository
from tidegate.runner.text import clean
from tidegate.runner.walk import open_root

_LAY_SECONDS = 600


def prepare(given: AgentInput, places: Places, pod: str) -> WorkspaceReport:
    """Do the container's work; what went wrong is in the report."""
    try:
        return WorkspaceReport(base=_prepare(given, places, pod))
    except FencedError as error:
        return WorkspaceReport(error=reasons.FENCED, message=clean(str(error), 500))
    except PermanentError as error:
        return WorkspaceReport(error=error.reason, message=clean(error.message, 500))
    except GitError as error:
        return WorkspaceReport(error=reasons.REMOTE_UNREACHABLE, message=clean(str(error), 500))
    except (TidegateError, OSError, ValueError, LookupError) as error:
        return WorkspaceReport(error=reasons.WORKSPACE_FAILED, message=clean(f"{type(error).__name__}: {error}", 500))


def _prepare(given: AgentInput, places: Places, pod: str) -> str:
    git = open_repository(places.git, given, Credentials.from_files(places.credentials))
    value = claim(git, given, pod, int(time.time()))
    commit = fetch_change(git, given) if given.review_commit else fetch_target(git, given.target_branch)
    base = Base.read(git, commit)
    shown = Base.read(git, merged_tree(git, base.commit, given)) if given.merge_commit else base
    root = open_root(places.workspace)
    try:
        empty_directory(root)
        with Blobs.open(git, timeout=_LAY_SECONDS) as blobs:
            lay(shown, blobs, root)
    finally:
        os.close(root)
    _lay_tools(given, places)
    if given.review_commit:
        write_change(git, given, places.input / "change")
    Claim(base.commit, value).save(places.claim)
    return base.commit


def _lay_tools(given: AgentInput, places: Places) -> None:
    prompt = places.input / "prompt"
    text, mode = prompt_file(given)
    _write(prompt, text, mode)
    _write(places.tools / "entry", entry_script(), 0o555)
    paths = {"workspace": places.workspace, "output": places.output, "token": places.token, "prompt": prompt}
    (places.tools / "ready").unlink(missing_ok=True)
    paths["ready"] = places.tools / "ready"
    _write(places.tools / "settings", settings(given, **{name: str(path) for name, path in paths.items()}), 0o444)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
