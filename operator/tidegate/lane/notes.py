"""Git notes on what landed: for people, never read back. That they can't be written changes nothing about a landing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.api import reasons
from tidegate.api.views import MergeJobView, condition
from tidegate.clients.git import Credentials, Git, GitError, Limits, init_bare
from tidegate.errors import NotLeaderError, TidegateError
from tidegate.lane.bypass import was_bypassed
from tidegate.lane.candidate import COMMITTER
from tidegate.lane.messages import clean_name
from tidegate.lane.state import LaneState

log = logging.getLogger(__name__)

LOCAL = "refs/notes/lane"
TIMEOUT = 30.0  # seconds of one git process
MAX_BYTES = 256 * 1024 * 1024  # of one file of the notes' repository
TRIES = 4  # others write notes of their own lanes to the same ref
MAX_WAITING = 100  # notes of one lane that wait to be written; more are left out


@dataclass(frozen=True, slots=True)
class Note:
    """What is told of one commit."""

    commit: str
    text: str


def note_of(job: MergeJobView, commit: str) -> Note:
    """The note on a job's commit: who brought it and what was checked. Pure."""
    spec, status = job.spec, job.status
    rows = [("Job", f"{job.meta.namespace}/{job.meta.name}")]
    rows += [(word, spec[key]["name"]) for word, key in (("Task", "taskRef"), ("Build", "buildRef")) if spec.get(key)]
    rows.append(("Source", spec["sourceCommit"]))
    if was_bypassed(job):
        rows.append(("Gates", "bypassed"))
        rows.append(("Bypassed-By", str((spec.get("bypass") or {}).get("by") or "unknown")))
    else:
        for gate in status.get("gates") or ():
            flaked = ", failed once before" if gate.get("flaked") else ""
            rows.append(("Gate", f"{gate.get('name')} {gate.get('verdict')} ({gate.get('run')}{flaked})"))
    approved = condition(status, reasons.APPROVED)
    if approved is not None and approved.get("status") == "True":
        rows.append(("Approved", str(approved.get("message") or approved.get("reason"))))
    return Note(commit, "".join(f"{word}: {clean_name(value)}\n" for word, value in rows))


@dataclass
class Notebook:
    """A repository of its own for the notes of one remote: a hung remote or a spoilt ref touches no mirror. Blocks."""

    directory: Path
    url: str
    protocols: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, ref: str, notes: list[Note], credentials: Credentials | None) -> None:
        """Add notes to a ref of the remote, beside what others put there. Raises GitError."""
        with self.lock:
            if not (self.directory / "HEAD").is_file():
                init_bare(self.directory)
            limits = Limits(file_bytes=MAX_BYTES)
            git = Git(self.directory, self.url, credentials, self.protocols, timeout=TIMEOUT, limits=limits)
            for left in range(TRIES - 1, -1, -1):
                value = self._fetch(git, ref)
                self._add(git, notes)
                lease = f"--force-with-lease={ref}:{value}"
                words = ("push", "--quiet", "--no-verify", lease, "--", self.url, f"{LOCAL}:{ref}")
                done = git.run(*words, remote=True, ok=None)
                if done.code == 0:
                    return
                if not left:
                    raise GitError(words, done.code, done.err)

    def _fetch(self, git: Git, ref: str) -> str:
        value = git.ls_remote(ref).get(ref, "")
        if value:
            git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", self.url, f"+{ref}:{LOCAL}", remote=True)
        else:
            git.run("update-ref", "-d", LOCAL)
        return value

    def _add(self, git: Git, notes: list[Note]) -> None:
        who = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
               for part, value in (("NAME", COMMITTER.name), ("EMAIL", COMMITTER.email))}  # fmt: skip
        for note in notes:
            words = ("notes", f"--ref={LOCAL}", "add", "-f", "-F", "-", note.commit)
            git.run(*words, input=note.text.encode("utf-8", "replace"), env=who)


class NoteWriter:
    """Writes notes in threads of its own, beside the lanes' work."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` raises NotLeaderError where this process may write no more."""
        self._check = check
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="notes")
        self._lock = threading.Lock()
        self._books: dict[Path, Notebook] = {}
        self._waiting: dict[Path, list[Note]] = {}
        self._failed: set[Path] = set()

    def add(self, state: LaneState, notes: list[Note]) -> None:
        """Have notes written soon, together with those that wait already."""
        mirror, place = state.mirror, _place(state)
        with self._lock:
            book = self._books.setdefault(place, Notebook(place, mirror.url, mirror.git.protocols))
            waiting = self._waiting.setdefault(place, [])
            idle = not waiting
            waiting += notes[: max(MAX_WAITING - len(waiting), 0)]
        if idle:
            self._pool.submit(self._write, book, state.refs.notes, mirror.credentials)

    def problem(self, state: LaneState) -> str:
        """Why the newest notes of a lane are missing, empty when they are not."""
        if _place(state) not in self._failed:
            return ""
        return f"what landed has no git notes: {state.refs.notes} at the remote can't be written"

    def _write(self, book: Notebook, ref: str, credentials: Credentials | None) -> None:
        while True:
            with self._lock:
                notes = list(self._waiting[book.directory])
            if not notes:
                return
            try:
                self._check()
                book.write(ref, notes, credentials)
                self._failed.discard(book.directory)
            except NotLeaderError:
                log.info("notes are left to nobody: another replica leads", extra={"ref": ref})
            except (TidegateError, OSError, ValueError) as error:
                log.warning("notes could not be written", extra={"ref": ref, "error": str(error)})
                self._failed.add(book.directory)
            with self._lock:
                del self._waiting[book.directory][: len(notes)]


def _place(state: LaneState) -> Path:
    directory = state.mirror.directory
    return directory.with_name(f"{directory.name}.notes.{state.refs.lane_id}")
